// Package issuer is Warder's own authorization server: OAuth 2.1 for agents, with every token good
// for exactly one MCP server.
package issuer
