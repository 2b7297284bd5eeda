package issuer

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/rar"
)

// Bounds of an authorization request.
const (
	maxState  = 2048 // bytes
	maxScopes = 64
	maxACR    = 8
)

// A request is an authorization request whose client and redirect URI are known to be right.
type request struct {
	Client    string          `json:"client"`
	Redirect  string          `json:"redirect"`
	State     string          `json:"state,omitempty"`
	Challenge string          `json:"challenge"` // PKCE S256 (RFC 7636 section 4.2)
	Resource  string          `json:"resource"`
	Scopes    []string        `json:"scopes,omitempty"`
	Details   json.RawMessage `json:"details,omitempty"`
	Key       string          `json:"key,omitempty"` // thumbprint of the key the code is bound to (RFC 9449 section 10)
	Prompts   []string        `json:"prompts,omitempty"`
	MaxAge    *int64          `json:"max_age,omitempty"` // seconds
	ACR       []string        `json:"acr,omitempty"`
	Started   time.Time       `json:"started"`

	// known says that the browser may be sent to the redirect URI without a person having agreed to it.
	known bool
}

// redirectOf checks the two parameters without which no error may be redirected.
func (c *Client) redirectOf(p parameters) (string, *fault) {
	uri, given := p["redirect_uri"]
	switch {
	case !given:
		return "", refuse(errRequest, "The request has no redirect_uri.").because("redirect_missing", "")
	case !c.redirect(uri):
		return "", refuse(errRequest, "The redirect_uri is not registered for this client.").because("redirect_mismatch", cut(uri, 200))
	}
	return uri, nil
}

// read judges the parameters of an authorization request. Client and redirect URI are right already, so
// the client may be told what is wrong.
func (is *Issuer) read(p parameters, c *Client, redirect string) (*request, *fault) {
	q := &request{Client: c.ID, Redirect: redirect, State: p["state"], Challenge: p["code_challenge"], Started: is.deps.Now()}
	if len(q.State) > maxState {
		q.State = ""
		return q, refuse(errRequest, "The state is too long.")
	}
	switch {
	case p["response_type"] != "code":
		return q, refuse(errResponseType, "Only response_type code is supported.")
	case p["response_mode"] != "" && p["response_mode"] != "query":
		return q, refuse(errRequest, "Only response_mode query is supported.")
	case p["request"] != "":
		return q, refuse("request_not_supported", "Request objects are not supported.")
	case p["code_challenge_method"] != "S256":
		return q, refuse(errRequest, "PKCE with S256 is required.").because("pkce_method", "")
	case !thumbprint(q.Challenge):
		return q, refuse(errRequest, "PKCE with S256 is required.").because("pkce_challenge", "")
	case !c.may(grantCode):
		return q, refuse(errUnauthorized, "The client may not use the authorization code grant.")
	}
	resource, f := is.target(p["resource"])
	if f != nil {
		return q, f
	}
	q.Resource = resource.URI
	if q.Scopes, f = is.scopes(p["scope"], resource); f != nil {
		return q, f
	}
	if f := c.narrow(resource, q.Scopes); f != nil {
		return q, f
	}
	if q.Details, f = details(p["authorization_details"], resource); f != nil {
		return q, f
	}
	if key, given := p["dpop_jkt"]; given {
		if !thumbprint(key) {
			return q, refuse(errRequest, "The dpop_jkt is malformed.")
		}
		q.Key = key
	}
	return q, q.readLogin(p)
}

// readLogin reads what the request wants of the login (OpenID Connect Core section 3.1.2.1).
func (q *request) readLogin(p parameters) *fault {
	q.Prompts = strings.Fields(p["prompt"])
	for _, word := range q.Prompts {
		if !slices.Contains([]string{"none", "login", "consent", "select_account"}, word) || word == "none" && len(q.Prompts) > 1 {
			return refuse(errRequest, "The prompt is not supported.")
		}
	}
	q.ACR = strings.Fields(p["acr_values"])
	if len(q.ACR) > maxACR {
		return refuse(errRequest, "Too many acr_values.")
	}
	if text, given := p["max_age"]; given {
		seconds, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return refuse(errRequest, "The max_age is malformed.")
		}
		q.MaxAge = new(int64(seconds))
	}
	return nil
}

// thumbprint reports whether the text is a SHA-256 in base64url, as challenges and key thumbprints are.
func thumbprint(text string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	return err == nil && len(b) == 32 && !strings.ContainsAny(text, "\r\n")
}

// target finds the one server a token is asked for (RFC 8707 section 2). URIs are compared byte by byte.
func (is *Issuer) target(uri string) (Resource, *fault) {
	if uri == "" {
		return Resource{}, refuse(errTarget, "The resource is missing: a token is for exactly one server.").because("resource_missing", "")
	}
	all := is.deps.Resources()
	i := slices.IndexFunc(all, func(r Resource) bool { return r.URI == uri })
	if i < 0 {
		return Resource{}, refuse(errTarget, "The resource is not known here.").because("resource_unknown", cut(uri, 200))
	}
	return all[i], nil
}

// scopes reads a scope parameter. openid and offline_access are left out: no id tokens are issued, and
// who gets a refresh token is not a matter of scope (MCP authorization, "Refresh Tokens").
func (is *Issuer) scopes(text string, r Resource) ([]string, *fault) {
	var out []string
	for s := range strings.FieldsSeq(text) {
		switch {
		case s == "openid", s == "offline_access", slices.Contains(out, s):
			continue
		case !scopeToken(s) || len(r.Scopes) > 0 && !slices.Contains(r.Scopes, s):
			return nil, refuse(errScope, "A scope is not known for this resource.").because("scope_unknown", cut(s, 80))
		}
		if out = append(out, s); len(out) > maxScopes {
			return nil, refuse(errScope, "Too many scopes.")
		}
	}
	return out, nil
}

// details reads authorization details (RFC 9396 section 2). All must be about the server of the resource.
func details(text string, r Resource) (json.RawMessage, *fault) {
	if text == "" {
		return nil, nil
	}
	list, err := rar.Parse([]byte(text))
	if err != nil {
		return nil, refuse(errDetails, "The authorization details cannot be accepted.").because("details_malformed", err.Error())
	}
	for i := range list {
		if list[i].Server == "" {
			list[i].Server = r.Server
		}
		if list[i].Server != r.Server {
			return nil, refuse(errDetails, "The authorization details are about another server than the resource.").
				because("details_of_another", fmt.Sprintf("detail %d is about %.80q", i, list[i].Server))
		}
	}
	return rar.Encode(list), nil
}

// parseDetails reads stored authorization details.
func parseDetails(raw json.RawMessage) ([]warder.Detail, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	return rar.Parse(raw)
}
