package identity

import (
	"context"
	"net/url"
	"strings"

	"github.com/warder-mcp/warder"
)

// challenge refuses an HTTP exchange without exactly one bearer token in the Authorization header, and
// tells the client where the server's metadata is and which scopes to ask for.
// Control AUT-01; RFC 6750 sections 2 and 3, RFC 9728 section 5.1, MCP authorization. Phase Connect.
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
		// RFC 6750 section 3.1: no error code when no credentials were sent.
		return c.ask.refuse(x, warder.CodeUnauthenticated, "", "token_missing", ""), nil
	case 1:
		if _, ok := bearer(values[0]); !ok {
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

// bearer cuts the scheme and returns the token if it has the form of RFC 6750 section 2.1.
func bearer(header string) (string, bool) {
	const scheme = "Bearer "
	if len(header) <= len(scheme) || !strings.EqualFold(header[:len(scheme)], scheme) {
		return "", false
	}
	token := strings.TrimLeft(header[len(scheme):], " ")
	for i := range len(token) {
		switch c := token[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '-', c == '.', c == '_', c == '~', c == '+', c == '/', c == '=':
		default:
			return "", false
		}
	}
	return token, token != ""
}

// asker makes challenges: one shape for every refusal of this layer.
type asker struct{ cfg Config }

// refuse returns a challenge. oauthError is the RFC 6750 section 3.1 error code.
func (a asker) refuse(x *warder.Exchange, code warder.Code, oauthError string, reason warder.Reason, detail string) warder.Decision {
	return warder.Decision{
		Verdict: warder.Challenge, Code: code, Reason: reason, Detail: detail,
		Ask: &warder.Ask{
			Scheme: "Bearer", Error: oauthError,
			Scopes: a.cfg.ScopesSupported, ResourceMetadata: a.cfg.MetadataURL(x.Endpoint),
		},
	}
}
