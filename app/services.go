package app

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/broker"
	"github.com/warder-mcp/warder/broker/webhook"
	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/internal/seal"
	"github.com/warder-mcp/warder/layer/access"
	"github.com/warder-mcp/warder/layer/gateway"
	"github.com/warder-mcp/warder/layer/record"
	"github.com/warder-mcp/warder/proxy"
	"github.com/warder-mcp/warder/registry"
	"github.com/warder-mcp/warder/revocation"
	"github.com/warder-mcp/warder/revocation/signals"
	"github.com/warder-mcp/warder/store"
)

// services outlive every reload of the configuration.
type services struct {
	db     *store.DB
	broker *broker.Broker

	desk      *webhook.Sender   // tells another system of calls that wait; nil if none is configured
	decisions *webhook.Receiver // takes its decisions; nil if none is configured

	revoked  *revocation.Set
	outbox   *signals.Outbox // nil unless somebody is told of revocations
	signs    signer
	beside   context.CancelFunc // ends what runs beside; nil until then
	work     sync.WaitGroup
	registry *registry.Registry
	trail    *record.Log
	sessions *proxy.Sessions
	box      *seal.Box
	nonces   []byte        // key of DPoP nonces
	used     *gateway.Used // states of box that came back
}

// openServices opens the data folder and everything in it.
func openServices(ctx context.Context, cfg *config.Config, opt Options) (_ *services, err error) {
	if err := ownFolder(cfg.Data); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	s := &services{sessions: proxy.NewSessions(cfg.Limits.Sessions, opt.Now), used: gateway.NewUsed(opt.Now)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close(ctx))
		}
	}()
	if s.box, err = openBox(ctx, cfg); err != nil {
		return nil, err
	}
	if s.nonces, err = nonceKey(ctx, cfg); err != nil {
		return nil, err
	}
	if s.trail, err = record.OpenLog(ctx, auditFolder(cfg), cfg.Record, opt.Log); err != nil {
		return nil, fmt.Errorf("audit trail: %w", err)
	}
	if s.db, err = store.OpenConfig(ctx, cfg.State.Config, filepath.Join(cfg.Data, "warder.db"), store.WithClock(opt.Now), store.WithLog(opt.Log)); err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	s.registry, err = registry.New(ctx, registry.Config{MaxStale: staleRead(cfg)}, registry.Deps{
		Store: s.db.Registry(), Record: s.recordDecision, Log: opt.Log, Now: opt.Now,
	})
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	if err = s.openBroker(ctx, cfg, opt); err != nil {
		return nil, err
	}
	if err = s.openRevocations(ctx, cfg, opt); err != nil {
		return nil, err
	}
	return s, nil
}

// staleRead is how long reads go on without the store. Approvals of tools are as old then as revocations are,
// which stop calls with effect sooner.
func staleRead(cfg *config.Config) time.Duration {
	return cmp.Or(cfg.Access.Freshness.StaleRead, access.DefaultStaleRead)
}

// openRevocations follows what is revoked, and tells others of it.
func (s *services) openRevocations(ctx context.Context, cfg *config.Config, opt Options) (err error) {
	deps := revocation.Deps{State: s.db.State(), Record: s.trail.Append, Now: opt.Now, Log: opt.Log}
	if s.outbox, err = openOutbox(ctx, cfg, s, opt); err != nil {
		return err
	}
	if s.outbox != nil {
		deps.Attach = s.outbox.Attach
	}
	if s.revoked, err = revocation.New(ctx, deps); err != nil {
		return err
	}
	if s.outbox != nil {
		var run context.Context
		run, s.beside = context.WithCancel(context.WithoutCancel(ctx))
		s.work.Go(func() { s.outbox.Run(run) })
	}
	return nil
}

// ownFolder makes a folder, or refuses one that other users may write to: they could put keys, approvals and
// a trail of their own in the place of ours.
func ownFolder(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if others := info.Mode().Perm() & 0o022; others != 0 && runtime.GOOS != "windows" {
		return fmt.Errorf("%s has mode %04o: other users may write to it; run chmod go-w on it", path, info.Mode().Perm())
	}
	return nil
}

// recordDecision writes what the registry has to say to the trail. A person's decision waits until it is
// part of the signed tree. A pin at first sight is durable, which is what a call with effect gets too, and
// does not hold up the first call of a server with many tools. What was only seen follows shortly.
func (s *services) recordDecision(ctx context.Context, e warder.Event) error {
	switch {
	case e.Type != warder.EventApproval:
		return s.trail.Emit(e)
	case e.Principal != nil && e.Principal.Subject == registry.FirstUse:
		return s.trail.Append(ctx, e)
	default:
		return s.trail.AppendWait(ctx, e)
	}
}

// close releases what was opened, in reverse order.
func (s *services) close(ctx context.Context) error {
	var errs []error
	if s.beside != nil {
		s.beside()
		s.work.Wait()
	}
	if s.revoked != nil {
		errs = append(errs, s.revoked.Close())
	}
	if s.desk != nil {
		errs = append(errs, s.desk.Close())
	}
	if s.broker != nil {
		errs = append(errs, s.broker.Close())
	}
	if s.registry != nil {
		errs = append(errs, s.registry.Close())
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	if s.trail != nil {
		errs = append(errs, s.trail.Close(ctx))
	}
	return errors.Join(errs...)
}

// sealKey is the size of the key that seals continuation state.
const sealKey = 32

// openBox reads the key of sealed state: the configured one, or that of the data folder, which is made on
// first use.
func openBox(ctx context.Context, cfg *config.Config) (*seal.Box, error) {
	key, err := sealKeyOf(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("seal key: %w", err)
	}
	defer clear(key)
	box, err := seal.New(key)
	if err != nil {
		return nil, fmt.Errorf("seal key: %w", err)
	}
	return box, nil
}

func sealKeyOf(ctx context.Context, cfg *config.Config) ([]byte, error) {
	if !cfg.State.Key.IsZero() {
		v, err := cfg.State.Key.Read(ctx)
		if err != nil {
			return nil, err
		}
		key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(v.Bytes())))
		if err != nil || len(key) != sealKey {
			return nil, fmt.Errorf("state.key: want %d bytes in base64", sealKey)
		}
		return key, nil
	}
	root, err := os.OpenRoot(cfg.Data)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	key, err := root.ReadFile("seal.key")
	if errors.Is(err, fs.ErrNotExist) {
		key = make([]byte, sealKey)
		_, _ = rand.Read(key) // never fails since Go 1.24
		err = root.WriteFile("seal.key", key, 0o600)
	}
	return key, err
}
