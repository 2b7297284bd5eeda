// Package identity runs Warder against identity providers that other people wrote (npm's oidc-provider,
// dex, hydra), real MCP clients and a real browser, and against attackers who know the specifications.
package identity
