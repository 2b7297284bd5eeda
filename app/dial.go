package app

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/safedial"
)

// refused records the connections that are not opened for one use (control AUT-08).
func (s *services) refused(use, server string, opt Options) func(context.Context, safedial.Refusal) {
	return func(ctx context.Context, r safedial.Refusal) {
		now := opt.Now()
		e := warder.Event{
			ID: warder.NewID(now), Time: now.UTC(), Type: warder.EventEgress, Control: "AUT-08", Method: use, Server: server,
			Outcome: warder.OutcomeRefused, Reason: r.Reason, Detail: r.Detail,
		}
		if err := s.trail.Emit(e); err != nil {
			opt.Log.ErrorContext(ctx, "record event", slog.String("use", use), slog.Any("error", err))
		}
	}
}

// client fetches for one use of Warder's own, and records what it refuses to. rules widen what is allowed for
// the hosts that the configuration names.
func (s *services) client(use string, opt Options, rules ...safedial.Rule) *http.Client {
	return safedial.New(safedial.Config{Allow: rules, Refused: s.refused(use, "", opt)}).Client(fetchTimeout)
}
