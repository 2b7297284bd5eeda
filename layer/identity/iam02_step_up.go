package identity

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
)

// A StepUp says which login certain calls need. Every rule that fits a call must be met.
type StepUp struct {
	Issuers []string      `yaml:"issuers"` // issuers it is for; empty: every caller, the local user included
	Servers []string      `yaml:"servers"` // server names; empty: every server
	Tools   []string      `yaml:"tools"`   // tool names, a star at the end fits the rest; empty: every tool
	Effects []string      `yaml:"effects"` // effects of tools: read, write, destructive; an unknown effect counts as destructive; empty: every effect
	ACR     []string      `yaml:"acr"`     // one of these authentication context classes
	AMR     []string      `yaml:"amr"`     // all of these authentication methods (RFC 8176)
	MaxAge  time.Duration `yaml:"max_age"` // longest time since the person logged in; zero: any
}

func (s StepUp) check() error {
	err := errors.Join(checkPatterns("servers", s.Servers), checkPatterns("tools", s.Tools))
	if len(s.ACR) == 0 && len(s.AMR) == 0 && s.MaxAge == 0 {
		err = errors.Join(err, errors.New("set acr, amr or max_age"))
	}
	if s.MaxAge < 0 {
		err = errors.Join(err, errors.New("max_age: negative"))
	}
	for _, e := range s.Effects {
		if !slices.Contains([]string{"read", "write", "destructive"}, e) {
			err = errors.Join(err, fmt.Errorf("effects: %q: want read, write or destructive", e))
		}
	}
	for _, v := range append(slices.Clone(s.ACR), s.AMR...) {
		if v == "" || strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r == '"' || r == '\\' || r > '~' }) {
			err = errors.Join(err, fmt.Errorf("acr, amr: %q is not a value", v))
		}
	}
	return err
}

// loginSkew is how far an issuer's clock may be ahead in auth_time.
const loginSkew = time.Minute

// stepUp refuses a call for which the login of the person is too weak or too old, and says which one
// is needed. An attribute that the token lacks is not good enough.
// Control IAM-02; RFC 9470 sections 3 and 4, RFC 8176. Phase Request.
type stepUp struct {
	ask   asker
	rules []StepUp
	now   func() time.Time
}

var _ warder.Interceptor = (*stepUp)(nil)

func newStepUp(cfg Config, now func() time.Time) *stepUp {
	return &stepUp{ask: asker{cfg: cfg}, rules: cfg.StepUp, now: now}
}

// Control returns IAM-02.
func (*stepUp) Control() warder.ControlID { return "IAM-02" }

// Intercept checks every rule that fits.
func (s *stepUp) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	if len(s.rules) == 0 {
		return warder.Continue(), nil
	}
	if x.Principal == nil {
		return warder.Refuse(warder.CodeUnauthenticated, "principal_missing", ""), nil
	}
	subject := judged(x)
	kind, name := actsOn(subject.Request)
	if kind == onNothing {
		return warder.Continue(), nil
	}
	for i := range s.rules {
		r := &s.rules[i]
		if !r.fits(x.Principal, subject, kind, name) {
			continue
		}
		if reason := r.lacks(x.Principal, s.now()); reason != "" {
			return s.refuse(x, r, reason), nil
		}
	}
	return warder.Continue(), nil
}

// fits reports whether the rule is for this call. A rule with tools or effects is for calls of tools.
func (s *StepUp) fits(p *warder.Principal, x *warder.Exchange, kind, name string) bool {
	if len(s.Issuers) > 0 && !slices.Contains(s.Issuers, p.Issuer) || !anyMatches(s.Servers, serverName(x)) {
		return false
	}
	if len(s.Tools) == 0 && len(s.Effects) == 0 {
		return true
	}
	if kind != onTool || !anyMatches(s.Tools, name) {
		return false
	}
	return len(s.Effects) == 0 || slices.Contains(s.Effects, effectOf(x.Tool))
}

func effectOf(t *warder.Tool) string {
	if t == nil || t.Effect == warder.EffectUnknown {
		return warder.EffectDestructive.String()
	}
	return t.Effect.String()
}

// lacks says what is missing of the login, empty if it is good enough.
func (s *StepUp) lacks(p *warder.Principal, now time.Time) warder.Reason {
	switch {
	case len(s.ACR) > 0 && !slices.Contains(s.ACR, p.ACR):
		return "acr_insufficient"
	case !contains(p.AMR, s.AMR...):
		return "amr_insufficient"
	case s.MaxAge == 0:
		return ""
	case p.AuthTime.IsZero() || p.AuthTime.After(now.Add(loginSkew)):
		return "auth_time_unknown"
	case now.Sub(p.AuthTime) > s.MaxAge:
		return "login_too_old"
	}
	return ""
}

// refuse challenges for a stronger login, in words too, for clients that do not know RFC 9470.
func (s *stepUp) refuse(x *warder.Exchange, r *StepUp, reason warder.Reason) warder.Decision {
	d := s.ask.refuse(x, warder.CodeUnauthenticated, "insufficient_user_authentication", reason, "the call needs a stronger or fresher login")
	d.Public, d.Ask.ACR, d.Ask.MaxAge = r.words(), r.ACR, r.MaxAge
	if len(x.Principal.Scopes) > 0 {
		d.Ask.Scopes = x.Principal.Scopes // the new token should not have fewer
	}
	return d
}

func (s *StepUp) words() string {
	text := "This call needs a stronger or fresher login. Log in again"
	if len(s.ACR) > 0 {
		text += " with authentication class " + strings.Join(s.ACR, " or ")
	}
	if len(s.AMR) > 0 {
		text += " by " + strings.Join(s.AMR, " and ")
	}
	if s.MaxAge > 0 {
		text += ", at most " + s.MaxAge.String() + " ago"
	}
	return text + ", and repeat the call with the new token."
}
