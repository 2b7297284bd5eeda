package signals

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/warder-mcp/warder/internal/jose"
)

// A subject is what an event is about.
type subject struct {
	principals []string // "issuer|subject"
	person     bool     // a person is named, who may have no principal here
	session    string   // "issuer|sid"
	token      string   // "issuer|jti"
	device     string   // as the transmitter names it
}

// errFormat says that the subject cannot be understood. It is refused: a revocation that is
// acknowledged without effect is lost.
var errFormat = errors.New("subject is not understood")

// subject reads a subject identifier of RFC 9493. bare is what an identifier that says only an id names:
// "session" or "user". Members that are not known are refused, as is everything of other issuers.
func (r *Inbox) subject(ctx context.Context, t *transmitter, c jose.Claims, bare string) (*subject, error) {
	s := &subject{}
	format, err := c.Text("format")
	if err != nil {
		return nil, err
	}
	if format != "complex" {
		return s, r.simple(ctx, t, s, c, bare)
	}
	named := 0
	for name := range c {
		if name == "format" {
			continue
		}
		part, err := c.Object(name)
		if err != nil {
			return nil, err
		}
		switch name {
		case "user", "session", "device":
			if err := r.simple(ctx, t, s, part, name); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			named++
		default: // narrower than what we could revoke, or another matter altogether
			return nil, fmt.Errorf("%w: member %.40q", errFormat, name)
		}
	}
	if named == 0 {
		return nil, fmt.Errorf("%w: it names nothing", errFormat)
	}
	return s, nil
}

// simple adds what a simple identifier names. as is what it names if its format does not say.
func (r *Inbox) simple(ctx context.Context, t *transmitter, s *subject, c jose.Claims, as string) error {
	format, err := c.Text("format")
	if err != nil {
		return err
	}
	switch format {
	case "iss_sub": // RFC 9493 section 3.2.3
		m, err := members(c, "iss", "sub")
		if err != nil {
			return err
		}
		if as == "device" {
			s.device = m["sub"]
			return nil
		}
		if !t.speaksOf(m["iss"]) {
			return fmt.Errorf("%w: issuer %.80q is not the transmitter's", errFormat, m["iss"])
		}
		return r.person(ctx, s, m["iss"], m["sub"])
	case "email": // section 3.2.2
		m, err := members(c, "email")
		if err != nil {
			return err
		}
		return r.email(ctx, t, s, m["email"])
	case "opaque": // section 3.2.4
		m, err := members(c, "id")
		if err != nil {
			return err
		}
		switch as {
		case "session":
			s.session = t.Issuer + "|" + m["id"]
			return nil
		case "device":
			s.device = m["id"]
			return nil
		default:
			return r.person(ctx, s, t.Issuer, m["id"])
		}
	case "jwt_id": // Shared Signals Framework 1.0 section 3.3.1
		m, err := members(c, "iss", "jti")
		if err != nil {
			return err
		}
		if !t.speaksOf(m["iss"]) {
			return fmt.Errorf("%w: issuer %.80q is not the transmitter's", errFormat, m["iss"])
		}
		s.token = m["iss"] + "|" + m["jti"]
		return nil
	default:
		return fmt.Errorf("%w: format %.40q", errFormat, format)
	}
}

func (r *Inbox) email(ctx context.Context, t *transmitter, s *subject, email string) error {
	if r.deps.ByEmail == nil {
		return fmt.Errorf("%w: people are not known by email here", errFormat)
	}
	subjects, err := r.deps.ByEmail(ctx, t.Issuer, email)
	if err != nil {
		return &failureError{err}
	}
	s.person = true
	for _, sub := range subjects {
		if err := r.person(ctx, s, t.Issuer, sub); err != nil {
			return err
		}
	}
	return nil
}

// person adds the principals of a person.
func (r *Inbox) person(ctx context.Context, s *subject, issuer, sub string) error {
	s.person = true
	if r.deps.Principals == nil {
		s.principals = append(s.principals, issuer+"|"+sub)
		return nil
	}
	more, err := r.deps.Principals(ctx, issuer, sub)
	if err != nil {
		return &failureError{err}
	}
	s.principals = append(s.principals, more...)
	return nil
}

// members returns the members of an identifier: exactly these besides format, none empty.
func members(c jose.Claims, names ...string) (map[string]string, error) {
	for name := range c {
		if name != "format" && !slices.Contains(names, name) {
			return nil, fmt.Errorf("%w: member %.40q", errFormat, name)
		}
	}
	m := make(map[string]string, len(names))
	for _, name := range names {
		value, err := c.Text(name)
		if err != nil {
			return nil, err
		}
		if value == "" || len(value) > 1024 {
			return nil, fmt.Errorf("%w: %s is missing or too long", errFormat, name)
		}
		m[name] = value
	}
	return m, nil
}
