package identity

import (
	"context"
	"net/url"
	"strings"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/jose"
)

// challenge refuses an HTTP exchange without exactly one token in the Authorization header, under the
// scheme Bearer or DPoP, and tells the client where the server's metadata is and which scopes to ask for. A
// client that IAM-01 let in by its certificate needs no token.
// Control AUT-01; RFC 6750 sections 2 and 3, RFC 9449 section 7, RFC 9728 section 5.1, MCP authorization.
// Phase Connect.
type challenge struct{ ask asker }

var _ warder.Interceptor = (*challenge)(nil)

// Control returns AUT-01.
func (*challenge) Control() warder.ControlID { return "AUT-01" }

// Intercept judges only where the token stands; IAM-05 judges the token.
func (c *challenge) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	if x.Door == warder.DoorStdio {
		return warder.Continue(), nil
	}
	if x.Conn.Query != "" && tokenInQuery(x.Conn.Query) {
		return c.ask.refuse(x, warder.CodeInvalidRequest, "invalid_request", "token_in_query",
			"access tokens in the query are logged by everything on the way"), nil
	}
	switch values := x.Conn.Header["Authorization"]; len(values) {
	case 0:
		if x.Principal != nil {
			return warder.Continue(), nil
		}
		// RFC 6750 section 3.1: no error code when no credentials were sent.
		return c.ask.refuse(x, warder.CodeUnauthenticated, "", "token_missing", ""), nil
	case 1:
		if _, ok := readCredential(values[0]); !ok {
			return c.ask.refuse(x, warder.CodeUnauthenticated, "invalid_request", "token_not_bearer", ""), nil
		}
		return warder.Continue(), nil
	default:
		return c.ask.refuse(x, warder.CodeInvalidRequest, "invalid_request", "token_ambiguous",
			"more than one Authorization header"), nil
	}
}

// tokenInQuery reports whether the query carries an access token (RFC 6750 section 2.3), or cannot be
// read, in which case it might.
func tokenInQuery(query string) bool {
	values, err := url.ParseQuery(query)
	if err != nil {
		return true
	}
	for name := range values {
		if strings.EqualFold(name, "access_token") {
			return true
		}
	}
	return false
}

// A credential is the token of a request and the scheme it stands under.
type credential struct {
	token string // empty: there is none, or not exactly one
	dpop  bool   // the scheme is DPoP (RFC 9449 section 7.1), not Bearer
}

// shownBy reads the one credential of the exchange.
func shownBy(x *warder.Exchange) credential {
	values := x.Conn.Header["Authorization"]
	if len(values) != 1 {
		return credential{}
	}
	c, _ := readCredential(values[0])
	return c
}

// readCredential cuts the scheme and returns the token if it has the form of RFC 6750 section 2.1, which
// RFC 9449 section 7.1 shares.
func readCredential(header string) (credential, bool) {
	scheme, rest, ok := strings.Cut(header, " ")
	dpop := strings.EqualFold(scheme, "DPoP")
	if !ok || !dpop && !strings.EqualFold(scheme, "Bearer") {
		return credential{}, false
	}
	token := strings.TrimLeft(rest, " ")
	for i := range len(token) {
		switch c := token[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '-', c == '.', c == '_', c == '~', c == '+', c == '/', c == '=':
		default:
			return credential{}, false
		}
	}
	if token == "" {
		return credential{}, false
	}
	return credential{token: token, dpop: dpop}, true
}

// asker makes challenges: one shape for every refusal of this layer.
type asker struct{ cfg Config }

// refuse returns a challenge. oauthError is the RFC 6750 section 3.1 error code. Where only bound tokens are
// accepted, or the client tried one, the challenge names the algorithms of proofs too (RFC 9449 section 7.1).
func (a asker) refuse(x *warder.Exchange, code warder.Code, oauthError string, reason warder.Reason, detail string) warder.Decision {
	d := warder.Decision{
		Verdict: warder.Challenge, Code: code, Reason: reason, Detail: detail,
		Ask: &warder.Ask{
			Scheme: "Bearer", Error: oauthError,
			Scopes: a.cfg.ScopesSupported, ResourceMetadata: a.cfg.MetadataURL(x.Endpoint),
		},
	}
	switch {
	case shownBy(x).dpop:
		d.Ask.Scheme, d.Ask.Algorithms = "DPoP", a.algorithms()
	case a.cfg.boundOnly(x.Endpoint):
		d.Ask.Algorithms = a.algorithms()
	}
	return d
}

// algorithms lists the signature algorithms of proofs.
func (a asker) algorithms() []string {
	if len(a.cfg.DPoP.Algorithms) > 0 {
		return a.cfg.DPoP.Algorithms
	}
	return jose.ProofAlgorithms()
}
