package app

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"

	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/internal/jose"
)

// nonceKey derives the key of DPoP nonces from the one that seals state, so that gateways which share that key
// know each other's nonces.
func nonceKey(ctx context.Context, cfg *config.Config) ([]byte, error) {
	key, err := sealKeyOf(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("nonce key: %w", err)
	}
	defer clear(key)
	return hkdf.Key(sha256.New, key, nil, "warder dpop nonces 1", sha256.Size)
}

// issuerNonces are those that proofs must carry at the authorization server: the same as at the servers, where
// the configuration asks for nonces, else nil.
func (a *App) issuerNonces(cfg *config.Config) (*jose.Nonces, error) {
	if !cfg.Identity.DPoP.Nonce {
		return nil, nil
	}
	return jose.NewNonces(a.services.nonces)
}
