package login

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/safedial"
)

const (
	// discoverEvery is how long a discovery document is believed, and retryDiscovery how long a provider
	// that could not be asked is left alone.
	discoverEvery  = time.Hour
	retryDiscovery = 5 * time.Second
	// maxAnswer bounds an answer of a provider, in bytes.
	maxAnswer = 1 << 20
	// providerTimeout bounds one exchange with a provider.
	providerTimeout = 10 * time.Second
)

// errGone means that the provider said no: the grant is over. Any other error means that nobody knows.
var errGone = errors.New("the provider ended the login")

// A provider is one configured identity provider.
type provider struct {
	cfg    Provider
	s      *Service
	client *http.Client

	mu      sync.Mutex
	found   *discovered
	asked   time.Time
	failure error
}

// discovered is what a provider says of itself (OpenID Connect Discovery 1.0 section 3).
type discovered struct {
	oidc     *oidc.Provider
	verifier *oidc.IDTokenVerifier

	Authorization string   `json:"authorization_endpoint"`
	Token         string   `json:"token_endpoint"`
	UserInfo      string   `json:"userinfo_endpoint"`
	EndSession    string   `json:"end_session_endpoint"`
	Iss           bool     `json:"authorization_response_iss_parameter_supported"`
	Scopes        []string `json:"scopes_supported"`
	AuthMethods   []string `json:"token_endpoint_auth_methods_supported"`
	Challenges    []string `json:"code_challenge_methods_supported"`
}

func newProvider(cfg Provider, s *Service) *provider {
	c := *s.deps.HTTP
	next := c.Transport
	if next == nil {
		next = safedial.New(safedial.Config{}).Client(providerTimeout).Transport // public addresses only
	}
	c.Transport = bounder{next}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if c.Timeout == 0 || c.Timeout > providerTimeout {
		c.Timeout = providerTimeout
	}
	return &provider{cfg: cfg, s: s, client: &c}
}

// bounder cuts answers off that are too long, so that they fail to parse.
type bounder struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounder) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	return resp, nil
}

// provider returns the provider of a name; nil if there is none.
func (s *Service) provider(name string) *provider {
	for _, p := range s.providers {
		if p.cfg.Name == name {
			return p
		}
	}
	return nil
}

// discover returns what the provider says of itself, asking at most once an hour.
func (p *provider) discover(ctx context.Context) (*discovered, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.s.deps.Now()
	switch age := now.Sub(p.asked); {
	case p.found != nil && age < discoverEvery:
		return p.found, nil
	case p.failure != nil && age < retryDiscovery:
		return nil, p.failure
	}
	d, err := p.fetch(ctx)
	p.asked, p.failure = now, err
	if err != nil {
		if p.found != nil { // what it said before still holds: keys are fetched on their own
			return p.found, nil
		}
		return nil, err
	}
	p.found = d
	return d, nil
}

func (p *provider) fetch(ctx context.Context) (*discovered, error) {
	ctx, cancel := context.WithTimeout(oidc.ClientContext(context.WithoutCancel(ctx), p.client), providerTimeout)
	defer cancel()
	op, err := oidc.NewProvider(ctx, p.cfg.Issuer) // compares the issuer, byte for byte
	if err != nil {
		return nil, fmt.Errorf("discover %s: %w", p.cfg.Issuer, err)
	}
	d := &discovered{oidc: op}
	if err := op.Claims(d); err != nil {
		return nil, fmt.Errorf("discover %s: %w", p.cfg.Issuer, err)
	}
	addresses := map[string]string{"authorization_endpoint": d.Authorization, "token_endpoint": d.Token}
	if d.UserInfo != "" {
		addresses["userinfo_endpoint"] = d.UserInfo
	}
	for name, address := range addresses {
		u, err := url.Parse(address)
		if err != nil || u.Host == "" || u.Fragment != "" || !jose.SecureURL(u) {
			return nil, fmt.Errorf("discover %s: %s %q is not an https address", p.cfg.Issuer, name, address)
		}
	}
	if len(d.Challenges) > 0 && !slices.Contains(d.Challenges, "S256") {
		return nil, fmt.Errorf("discover %s: the provider does not know PKCE with S256", p.cfg.Issuer)
	}
	d.verifier = op.VerifierContext(oidc.ClientContext(context.Background(), p.client), &oidc.Config{
		ClientID: p.cfg.ClientID, Now: p.s.deps.Now, SupportedSigningAlgs: idAlgorithms(),
	})
	return d, nil
}

// idAlgorithms are the signatures of ID tokens that are believed: asymmetric ones.
func idAlgorithms() []string {
	return []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA}
}

// scopes to ask for.
func (p *provider) scopes(d *discovered) []string {
	if len(p.cfg.Scopes) > 0 {
		if slices.Contains(p.cfg.Scopes, oidc.ScopeOpenID) {
			return p.cfg.Scopes
		}
		return append([]string{oidc.ScopeOpenID}, p.cfg.Scopes...)
	}
	scopes := []string{oidc.ScopeOpenID, oidc.ScopeProfile, oidc.ScopeEmail}
	if slices.Contains(d.Scopes, oidc.ScopeOfflineAccess) {
		scopes = append(scopes, oidc.ScopeOfflineAccess)
	}
	return scopes
}

// redirectURI is where this provider, and no other, sends its answers: an answer that arrives at the
// address of another provider is a mix-up (RFC 9700 section 4.4).
func (p *provider) redirectURI() string {
	return p.s.origin + p.s.path + "/login/callback/" + p.cfg.Name
}

// authorization is the URL that begins a login (OpenID Connect Core 1.0 section 3.1.2.1).
func (p *provider) authorization(d *discovered, f *flow, state string) string {
	u, _ := url.Parse(d.Authorization) // was parsed when it was discovered
	q := u.Query()
	for name, value := range p.cfg.Parameters {
		q.Set(name, value)
	}
	for name, value := range map[string]string{
		"client_id": p.cfg.ClientID, "redirect_uri": p.redirectURI(), "response_type": "code",
		"scope": strings.Join(p.scopes(d), " "), "state": state, "nonce": f.Nonce,
		"code_challenge": oauth2.S256ChallengeFromVerifier(f.Verifier), "code_challenge_method": "S256",
	} {
		q.Set(name, value)
	}
	if len(f.Need.ACR) > 0 {
		q.Set("acr_values", strings.Join(f.Need.ACR, " "))
	}
	if f.Need.MaxAge != nil {
		q.Set("max_age", strconv.Itoa(int(f.Need.MaxAge.Seconds())))
	}
	if f.Need.Prompt == "login" || f.Need.Prompt == "select_account" {
		q.Set("prompt", f.Need.Prompt)
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// tokens are what a token endpoint answers (OpenID Connect Core 1.0 section 3.1.3.3).
type tokens struct {
	Access  string `json:"access_token"`
	Type    string `json:"token_type"`
	Refresh string `json:"refresh_token"`
	ID      string `json:"id_token"`
	Expires int64  `json:"expires_in"`

	until time.Time // exp of the ID token, once it is verified
}

// token asks the token endpoint. The error is errGone when the endpoint says that the grant is over.
func (p *provider) token(ctx context.Context, d *discovered, form url.Values) (*tokens, error) {
	req, err := p.request(ctx, d, form)
	if err != nil {
		return nil, err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("token endpoint: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("token endpoint: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		var e struct {
			Error string `json:"error"`
		}
		if json.Unmarshal(body, &e) == nil && e.Error == "invalid_grant" {
			return nil, fmt.Errorf("token endpoint: %w", errGone)
		}
		return nil, fmt.Errorf("token endpoint: status %d, error %.64q", resp.StatusCode, e.Error)
	}
	var t tokens
	if err := json.Unmarshal(body, &t); err != nil {
		return nil, fmt.Errorf("token endpoint: %w", err)
	}
	if t.Access == "" {
		return nil, errors.New("token endpoint: no access token")
	}
	return &t, nil
}

// request authenticates the client: by an assertion it signs (RFC 7523 section 2.2) or by its secret.
func (p *provider) request(ctx context.Context, d *discovered, form url.Values) (*http.Request, error) {
	basic := false
	secretRef := p.cfg.ClientSecret
	if !p.cfg.PrivateKey.IsZero() {
		secretRef = p.cfg.PrivateKey
	}
	value, err := secretRef.Read(ctx) // each time: it may have been renewed
	if err != nil {
		return nil, fmt.Errorf("credential of the client: %w", err)
	}
	form.Set("client_id", p.cfg.ClientID)
	switch {
	case !p.cfg.PrivateKey.IsZero():
		signer, err := jose.ParseSigner(value.Bytes())
		if err != nil {
			return nil, fmt.Errorf("private key of the client: %w", err)
		}
		assertion, err := signer.Assert(p.cfg.ClientID, d.Token, p.s.deps.Now())
		if err != nil {
			return nil, err
		}
		form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		form.Set("client_assertion", assertion)
	case len(d.AuthMethods) > 0 && !slices.Contains(d.AuthMethods, "client_secret_basic") && slices.Contains(d.AuthMethods, "client_secret_post"):
		form.Set("client_secret", string(value.Bytes()))
	default:
		basic = true
		form.Del("client_id")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.Token, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	if basic { // RFC 6749 section 2.3.1: both are form-encoded first
		req.SetBasicAuth(url.QueryEscape(p.cfg.ClientID), url.QueryEscape(string(value.Bytes())))
	}
	return req, nil
}
