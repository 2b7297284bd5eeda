package app

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/warder-mcp/warder/broker"
	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/internal/safedial"
	"github.com/warder-mcp/warder/revocation"
	"github.com/warder-mcp/warder/revocation/signals"
)

// signalsPath is where identity providers push what was revoked there.
const signalsPath = "/signals"

// openInbox makes the door for signals; nil if nobody may send any.
func (a *App) openInbox(ctx context.Context, cfg *config.Config, in *instance) (http.Handler, error) {
	if len(cfg.Signals.Transmitters) == 0 {
		return nil, nil
	}
	s := a.services
	inbox, err := signals.NewInbox(ctx, cfg.Signals.Transmitters, signals.Deps{
		Revocations: &remote{Set: s.revoked, in: in}, State: s.db.State(), Record: s.trail.Append, Now: a.opt.Now,
		HTTP: s.client("signals.transmitters", a.opt, loopbackRules(jwksOf(cfg.Signals.Transmitters))...),
		Device: func(ctx context.Context, d signals.Device) error {
			for _, subject := range []string{d.Principal, d.ID} {
				if subject == "" {
					continue
				}
				if err := s.broker.Posture.Report(ctx, broker.Posture{Subject: subject, Compliant: d.Compliant, At: d.At, Source: d.Issuer}); err != nil {
					return err
				}
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	return http.StripPrefix(signalsPath, inbox.Handler()), nil
}

// remote revokes what an identity provider speaks of, and ends the logins here that came from there.
type remote struct {
	*revocation.Set
	in *instance
}

// Revoke implements signals.Revocations.
func (r *remote) Revoke(ctx context.Context, e revocation.Entry) error {
	if err := r.Set.Revoke(ctx, e); err != nil {
		return err
	}
	if r.in.authority == nil || r.in.authority.pages == nil {
		return nil
	}
	at := strings.LastIndexByte(e.Value, '|')
	if at < 0 {
		return nil
	}
	issuer, name := e.Value[:at], e.Value[at+1:]
	switch e.Kind {
	case revocation.KindPrincipal:
		return r.in.authority.pages.EndRemote(ctx, issuer, name, "", e.Reason)
	case revocation.KindSession:
		return r.in.authority.pages.EndRemote(ctx, issuer, "", name, e.Reason)
	default:
		return nil
	}
}

func jwksOf(list []signals.Transmitter) []string {
	out := make([]string, len(list))
	for i := range list {
		out[i] = list[i].JWKSURL
	}
	return out
}

// loopbackRules lets a client reach those of the addresses that are on this machine.
func loopbackRules(addresses []string) []safedial.Rule {
	var rules []safedial.Rule
	for _, address := range addresses {
		if u, err := url.Parse(address); err == nil && config.IsLoopback(u.Hostname()) {
			rules = append(rules, safedial.Rule{Host: u.Hostname(), Loopback: true})
		}
	}
	return rules
}

// openOutbox prepares to tell others what is revoked here; nil if nobody is to be told.
func openOutbox(ctx context.Context, cfg *config.Config, s *services, opt Options) (*signals.Outbox, error) {
	if len(cfg.Signals.Receivers) == 0 {
		return nil, nil
	}
	if cfg.Issuer.URL == "" {
		return nil, fmt.Errorf("signals.receivers: %w, which signs what they are told", ErrNoIssuer)
	}
	addresses := make([]string, len(cfg.Signals.Receivers))
	for i := range cfg.Signals.Receivers {
		addresses[i] = cfg.Signals.Receivers[i].URL
	}
	return signals.NewOutbox(ctx, cfg.Signals.Receivers, signals.OutboxDeps{
		Issuer: cfg.Issuer.URL, Signer: &s.signs, State: s.db.State(), Now: opt.Now, Log: opt.Log,
		HTTP: s.client("signals.receivers", opt, loopbackRules(addresses)...),
	})
}

// A signer signs with the keys of the authorization server in force.
type signer struct{ live atomic.Pointer[authority] }

// Sign implements signals.Signer.
func (s *signer) Sign(typ string, claims any) (string, error) {
	o := s.live.Load()
	if o == nil {
		return "", ErrNoIssuer
	}
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	defer cancel()
	return o.Sign(ctx, typ, claims)
}
