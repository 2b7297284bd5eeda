package login

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/issuer"
)

// event makes an entry of the audit trail about a person at a browser.
func (s *Service) event(r *http.Request, u *issuer.User, outcome warder.Outcome, reason warder.Reason, detail string) warder.Event {
	e := warder.Event{
		Type: warder.EventLogin, Time: s.deps.Now().UTC(), Door: warder.DoorHTTP, Peer: s.deps.Peer(r),
		Outcome: outcome, Reason: reason, Detail: cut(detail, 512),
	}
	e.ID = warder.NewID(e.Time)
	if u != nil {
		e.Principal = &warder.EventPrincipal{Issuer: s.deps.URL, Subject: u.Subject, Tenant: u.Tenant, Groups: u.Groups}
	}
	return e
}

// allowed records what a person did. What cannot be recorded does not happen: the caller stops on error.
func (s *Service) allowed(r *http.Request, u *issuer.User, reason warder.Reason, detail string) error {
	return s.deps.Record(r.Context(), s.event(r, u, warder.OutcomeAllowed, reason, detail))
}

// refused records what was refused. The answer is a refusal already, so a trail that fails is only logged.
func (s *Service) refused(r *http.Request, u *issuer.User, reason warder.Reason, detail string) {
	s.tell(r.Context(), s.event(r, u, warder.OutcomeRefused, reason, detail))
}

// tell records what has happened in any case.
func (s *Service) tell(ctx context.Context, e warder.Event) {
	if err := s.deps.Record(ctx, e); err != nil {
		s.deps.Log.ErrorContext(ctx, "the audit trail cannot be written", slog.Any("error", err))
	}
}

func reasonOf(code string) warder.Reason { return warder.Reason(code) }

func attrProvider(p *provider) slog.Attr { return slog.String("provider", p.cfg.Name) }

func attrError(err error) slog.Attr { return slog.Any("error", err) }
