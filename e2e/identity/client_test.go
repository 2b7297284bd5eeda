package identity

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
	"golang.org/x/oauth2"
)

// callback is where clients want the browser to be sent; nothing listens there, since the person reads the
// address.
const callback = "http://127.0.0.1:33418/callback"

// A walker brings a browser from an authorization request to the callback and returns its query.
type walker func(ctx context.Context, address string) (url.Values, error)

func (p *person) walker() walker {
	return func(ctx context.Context, address string) (url.Values, error) {
		q, _, err := p.walk(ctx, address, callback)
		return q, err
	}
}

// An authorizer is the OAuth part of the go-sdk client. It adds what RFC 9470 asks of clients: it repeats
// the classes of a challenge in the authorization request.
type authorizer struct {
	*auth.AuthorizationCodeHandler
	walk walker

	mu       sync.Mutex
	classes  string
	tokens   []*oauth2.Token // as the authorization server gave them, refreshed ones not among them
	requests []url.Values    // authorization requests that were made
	endpoint oauth2.Endpoint
	clientID string
}

// A registration says how the client is known to the authorization server.
type registration struct {
	document string // address of a metadata document
	id       string // registered by the operator
	redirect string // empty: callback
}

var acrValues = regexp.MustCompile(`acr_values="([^"]+)"`)

func newAuthorizer(t *testing.T, walk walker, r registration, h *http.Client) *authorizer {
	t.Helper()
	a := &authorizer{walk: walk}
	redirect := cmp.Or(r.redirect, callback)
	cfg := &auth.AuthorizationCodeHandlerConfig{RedirectURL: redirect, Client: h, AuthorizationCodeFetcher: a.fetch, NewTokenSource: a.keep, RequestRefreshToken: true}
	switch {
	case r.document != "":
		cfg.ClientIDMetadataDocumentConfig = &auth.ClientIDMetadataDocumentConfig{URL: r.document}
	case r.id != "":
		cfg.PreregisteredClient = &oauthex.ClientCredentials{ClientID: r.id}
	default:
		cfg.DynamicClientRegistrationConfig = &auth.DynamicClientRegistrationConfig{Metadata: &oauthex.ClientRegistrationMetadata{
			ClientName: "go-sdk", RedirectURIs: []string{redirect}, TokenEndpointAuthMethod: "none",
			GrantTypes: []string{"authorization_code", "refresh_token"}, ResponseTypes: []string{"code"},
		}}
	}
	var err error
	if a.AuthorizationCodeHandler, err = auth.NewAuthorizationCodeHandler(cfg); err != nil {
		t.Fatal(err)
	}
	return a
}

// Authorize implements auth.OAuthHandler.
func (a *authorizer) Authorize(ctx context.Context, req *http.Request, resp *http.Response) error {
	a.mu.Lock()
	a.classes = ""
	if m := acrValues.FindStringSubmatch(strings.Join(resp.Header.Values("WWW-Authenticate"), ", ")); m != nil {
		a.classes = m[1]
	}
	a.mu.Unlock()
	return a.AuthorizationCodeHandler.Authorize(ctx, req, resp)
}

func (a *authorizer) fetch(ctx context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
	u, err := url.Parse(args.URL)
	if err != nil {
		return nil, err
	}
	q := u.Query()
	a.mu.Lock()
	if a.classes != "" {
		q.Set("acr_values", a.classes)
	}
	a.requests = append(a.requests, q)
	a.mu.Unlock()
	u.RawQuery = q.Encode()
	back, err := a.walk(ctx, u.String())
	if err != nil {
		return nil, err
	}
	if e := back.Get("error"); e != "" {
		return nil, fmt.Errorf("authorization server: %s: %s", e, back.Get("error_description"))
	}
	return &auth.AuthorizationResult{Code: back.Get("code"), State: back.Get("state"), Iss: back.Get("iss")}, nil
}

func (a *authorizer) keep(ctx context.Context, cfg *oauth2.Config, token *oauth2.Token) (oauth2.TokenSource, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tokens = append(a.tokens, token)
	a.endpoint, a.clientID = cfg.Endpoint, cfg.ClientID
	return cfg.TokenSource(ctx, token), nil
}

// last is the newest token that an authorization gave.
func (a *authorizer) last(t *testing.T) *oauth2.Token {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.tokens) == 0 {
		t.Fatal("the client got no token")
	}
	return a.tokens[len(a.tokens)-1]
}

// dial connects a go-sdk client. opt may be nil.
func dial(ctx context.Context, t *testing.T, endpoint string, a auth.OAuthHandler, opt *mcp.ClientOptions) (*mcp.ClientSession, error) {
	t.Helper()
	c := mcp.NewClient(&mcp.Implementation{Name: "go-sdk", Version: "1"}, opt)
	s, err := c.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: endpoint, OAuthHandler: a, MaxRetries: -1, DisableStandaloneSSE: true}, nil)
	if err == nil {
		t.Cleanup(func() { _ = s.Close() })
	}
	return s, err
}

// call calls a tool and returns the text it answers.
func call(ctx context.Context, s *mcp.ClientSession, tool string, args map[string]any) (string, error) {
	r, err := s.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: args})
	if err != nil {
		return "", err
	}
	var text strings.Builder
	for _, c := range r.Content {
		if tc, ok := c.(*mcp.TextContent); ok {
			text.WriteString(tc.Text)
		}
	}
	if r.IsError {
		return "", errors.New(text.String())
	}
	return text.String(), nil
}

// wants checks one call.
func wants(ctx context.Context, t *testing.T, s *mcp.ClientSession, tool string, args map[string]any, want string) {
	t.Helper()
	if got, err := call(ctx, s, tool, args); err != nil || got != want {
		t.Fatalf("%s %v: %q, %v; want %q", tool, args, got, err, want)
	}
}

// A reply is what a plain HTTP client sees of one message.
type reply struct {
	status    int
	challenge string // WWW-Authenticate
	nonce     string // DPoP-Nonce
	text      string // of the content
	reason    string // of a refusal
	body      string
}

func (r *reply) String() string {
	return fmt.Sprintf("status %d, reason %q, %.400s", r.status, r.reason, r.body)
}

// post sends one stateless tools/call of 2026-07-28 with the credentials in the header.
func post(ctx context.Context, t *testing.T, endpoint, tool string, args map[string]any, credentials http.Header) *reply {
	t.Helper()
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": map[string]any{
		"name": tool, "arguments": args, "_meta": map[string]any{
			"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": map[string]any{},
			"io.modelcontextprotocol/clientInfo": map[string]string{"name": "plain", "version": "1"},
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = credentials.Clone()
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": tool,
	} {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	r := &reply{status: resp.StatusCode, challenge: strings.Join(resp.Header.Values("WWW-Authenticate"), ", "), nonce: resp.Header.Get("DPoP-Nonce"), body: string(raw)}
	r.read(raw)
	return r
}

// read takes the message out of a JSON body or the last event of a stream.
func (r *reply) read(raw []byte) {
	for line := range bytes.Lines(raw) {
		if data, ok := bytes.CutPrefix(line, []byte("data:")); ok {
			raw = data
		}
	}
	var m struct {
		Result struct {
			IsError bool `json:"isError"`
			Content []struct {
				Text string `json:"text"`
			} `json:"content"`
			Meta map[string]json.RawMessage `json:"_meta"`
		} `json:"result"`
		Error struct {
			Data struct {
				Reason string `json:"reason"`
			} `json:"data"`
		} `json:"error"`
	}
	if json.Unmarshal(raw, &m) != nil {
		return // the status says it
	}
	r.reason = m.Error.Data.Reason
	for _, c := range m.Result.Content {
		r.text += c.Text
	}
}

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }
