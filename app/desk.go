package app

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/warder-mcp/warder/broker"
	"github.com/warder-mcp/warder/broker/webhook"
	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/internal/safedial"
	"github.com/warder-mcp/warder/layer/access"
)

// deskPath is where another system leaves its decisions about calls that wait.
const deskPath = "/approvals/webhook"

// openBroker opens the broker, and the way to another system that is told of calls that wait.
func (s *services) openBroker(ctx context.Context, cfg *config.Config, opt Options) error {
	deps := broker.Deps{State: s.db.State(), Box: s.box, Record: s.trail.AppendWait, Note: s.trail.Append, Now: opt.Now, Log: opt.Log}
	w := cfg.Access.Approval.Webhook
	var key webhook.Key
	if w.URL != "" || w.Issuer != "" {
		value, err := w.Secret.Read(ctx)
		if err != nil {
			return fmt.Errorf("access.approval.webhook: %w", err)
		}
		key.Secret = value.Bytes()
	}
	if w.URL != "" {
		client, err := s.deskClient(w, opt)
		if err != nil {
			return err
		}
		s.desk, err = webhook.NewSender(webhook.SenderConfig{URL: w.URL, Key: key}, webhook.SenderDeps{HTTP: client, ApprovalURL: s.approvalURL, Now: opt.Now, Log: opt.Log})
		if err != nil {
			return fmt.Errorf("access.approval.webhook: %w", err)
		}
		deps.Notify = s.desk.Notify
	}
	var err error
	if s.broker, err = broker.New(ctx, brokerConfig(cfg), deps); err != nil {
		return err
	}
	if w.Issuer == "" {
		return nil
	}
	s.decisions, err = webhook.NewReceiver(webhook.ReceiverConfig{Keys: []webhook.Key{key}, Issuer: w.Issuer}, webhook.ReceiverDeps{
		Decide: s.broker.Holds.Decide, Replays: s.db.Replays(), Now: opt.Now, Log: opt.Log,
	})
	if err != nil {
		return fmt.Errorf("access.approval.webhook: %w", err)
	}
	return nil
}

// approvalURL is the page on which a person decides, at the authorization server in force; empty if it has no
// pages.
func (s *services) approvalURL(hold string) string {
	o := s.signs.live.Load()
	if o == nil || o.pages == nil {
		return ""
	}
	return o.pages.ApprovalURL(hold)
}

func (s *services) deskClient(w access.ApprovalWebhook, opt Options) (*http.Client, error) {
	u, err := url.Parse(w.URL)
	if err != nil {
		return nil, fmt.Errorf("access.approval.webhook: %w", err)
	}
	rule := safedial.Rule{Host: u.Hostname(), Loopback: true, Private: w.Private}
	return s.client("approval.webhook", opt, rule), nil
}
