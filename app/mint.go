package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/issuer"
	"github.com/warder-mcp/warder/layer/record"
	"github.com/warder-mcp/warder/store"
)

// ErrNoIssuer says that the configuration names no authorization server of its own.
var ErrNoIssuer = errors.New("the configuration has no issuer")

// MintToken signs a token of Warder's own authorization server with the keys of the data folder, whether
// or not a gateway is running on it.
func MintToken(ctx context.Context, cfg *config.Config, claims issuer.Claims) (_ string, err error) {
	if cfg.Issuer.URL == "" {
		return "", ErrNoIssuer
	}
	if err := ownFolder(cfg.Data); err != nil {
		return "", fmt.Errorf("data folder: %w", err)
	}
	box, err := openBox(ctx, cfg)
	if err != nil {
		return "", err
	}
	db, err := store.OpenConfig(ctx, cfg.State.Config, filepath.Join(cfg.Data, "warder.db"))
	if err != nil {
		return "", fmt.Errorf("database: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	is, err := issuer.New(ctx, cfg.Issuer.Config, issuer.Deps{
		State: db.State(), Replays: db.Replays(), Box: box, Record: appendOnce(cfg), Now: time.Now,
	})
	if err != nil {
		return "", err
	}
	return is.Mint(ctx, claims)
}

// appendOnce writes an event to a trail that nobody has open, such as that the first signing key was made.
func appendOnce(cfg *config.Config) func(context.Context, warder.Event) error {
	return func(ctx context.Context, e warder.Event) (err error) {
		trail, err := record.OpenLog(ctx, auditFolder(cfg), cfg.Record, slog.New(slog.DiscardHandler))
		if err != nil {
			return fmt.Errorf("audit trail: %w", err)
		}
		defer func() { err = errors.Join(err, trail.Close(ctx)) }()
		return trail.AppendWait(ctx, e)
	}
}

// auditFolder is where the trail is.
func auditFolder(cfg *config.Config) string {
	if cfg.Record.Dir != "" {
		return cfg.Record.Dir
	}
	return filepath.Join(cfg.Data, "audit")
}
