package app

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"

	"github.com/warder-mcp/warder/config"
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
