package issuer

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/warder-mcp/warder/internal/jose"
)

// Longest lifetimes of foreign assertions without a word from the operator.
const (
	defaultAssertion = time.Hour
	defaultIDJAG     = 10 * time.Minute
)

// A foreign is a trusted issuer with its keys.
type foreign struct {
	Trust

	keys jose.Keyring
	self string // our issuer identifier, the audience unless configured otherwise
}

// openForeign prepares the trusted issuers.
func (is *Issuer) openForeign() error {
	is.foreign = make(map[string]*foreign, len(is.cfg.Trust))
	for _, t := range is.cfg.Trust {
		f := &foreign{Trust: t, self: is.cfg.URL}
		if t.JWKSFile != "" {
			f.keys = jose.NewSource(jose.FromFile(t.JWKSFile), jose.Refresh{}, is.deps.Now)
		} else {
			if is.deps.HTTP == nil {
				return errors.New("trust: jwks_uri needs an HTTP client")
			}
			fetch, err := jose.FromURL(is.deps.HTTP, t.JWKSURI)
			if err != nil {
				return err
			}
			f.keys = jose.NewSource(fetch, jose.Refresh{}, is.deps.Now)
		}
		if len(f.Algorithms) == 0 {
			f.Algorithms = assertionAlgorithms()
		}
		is.foreign[t.Issuer] = f
	}
	return nil
}

// used reports whether the operator trusts the issuer for a use.
func (f *foreign) used(use string) bool { return f != nil && slices.Contains(f.Use, use) }

// aimed reports whether an audience is this server alone.
func (f *foreign) aimed(audience []string) bool {
	want := f.Audience
	if want == "" {
		want = f.self
	}
	return len(audience) == 1 && audience[0] == want
}

// verify checks that an assertion is signed by the issuer and is current. What it says is for the caller.
func (f *foreign) verify(ctx context.Context, raw string, now time.Time) (*jose.Token, *fault) {
	bad := func(err error) *fault {
		return refuse(errGrant, "The assertion is not acceptable.").because("assertion_refused", err.Error())
	}
	token, err := jose.Parse(raw)
	if err != nil {
		return nil, bad(err)
	}
	issuer, err := token.Claims.Text("iss")
	if err != nil || issuer != f.Issuer {
		return nil, bad(errors.New("iss is another issuer"))
	}
	key, err := f.keys.Key(ctx, token.Header.KeyID)
	switch {
	case errors.Is(err, jose.ErrUnknownKey):
		return nil, bad(err)
	case err != nil:
		return nil, undecided(err)
	}
	if err := token.Verify(key, f.Algorithms); err != nil {
		return nil, bad(err)
	}
	longest := f.MaxLifetime
	if longest == 0 {
		longest = defaultAssertion
		if token.Header.Type == typeIDJAG {
			longest = defaultIDJAG
		}
	}
	if err := token.Claims.CheckTimes(now, jose.Times{Leeway: 30 * time.Second, MaxLifetime: longest}); err != nil {
		return nil, bad(err)
	}
	return token, nil
}

// groups maps the claim that holds groups.
func (f *foreign) groups(c jose.Claims) ([]string, error) {
	name := f.GroupsClaim
	switch name {
	case "-":
		return nil, nil
	case "":
		name = "groups"
	}
	list, err := c.List(name)
	if err != nil {
		return nil, err
	}
	out := make([]string, len(list))
	for i, g := range list {
		out[i] = f.GroupPrefix + g
	}
	return out, nil
}

// subject is the sub of our tokens for a subject of the issuer.
func (f *foreign) subject(sub string) string {
	if f.SubjectPrefix != "" {
		return f.SubjectPrefix + sub
	}
	return f.Issuer + "|" + sub
}
