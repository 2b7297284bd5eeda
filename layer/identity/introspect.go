package identity

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/warder-mcp/warder/internal/bounded"
	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/safedial"
	"github.com/warder-mcp/warder/internal/secret"
)

// Bounds of introspection.
const (
	maxAnswer      = 256 << 10        // bytes of one answer
	maxAsking      = 32               // questions to one issuer at a time
	askTimeout     = 5 * time.Second  // of one question, waiting for a turn included
	secretTTL      = time.Minute      // a secret is read again after this
	inactiveTTL    = 10 * time.Second // a token that is not active is not asked about again
	inactiveTokens = 4096
)

// errIntrospection reports that the issuer could not be asked, so nobody knows whether the token is good.
var errIntrospection = errors.New("introspection is unavailable")

// An introspector asks one issuer about tokens (RFC 7662). It is safe for concurrent use.
type introspector struct {
	cfg      Introspection
	issuer   string
	endpoint func(ctx context.Context) (string, error)
	client   *http.Client
	now      func() time.Time
	signer   *jose.Signer  // for private_key_jwt; nil with a secret
	turns    chan struct{} // one for each question under way
	inactive *bounded.Cache[[32]byte, time.Time]

	mu     sync.Mutex
	secret secret.Value
	read   time.Time // when the secret was read
}

func newIntrospector(is Issuer, p *provider, deps Deps) (*introspector, error) {
	if deps.HTTP == nil {
		return nil, errors.New("introspection: no HTTP client to ask with")
	}
	client := *deps.HTTP
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	in := &introspector{
		cfg: is.Introspection, issuer: is.URL, client: &client, now: deps.Now, endpoint: p.introspection,
		turns: make(chan struct{}, maxAsking), inactive: bounded.New[[32]byte, time.Time](inactiveTokens),
	}
	if is.Introspection.URL != "" {
		in.endpoint = func(context.Context) (string, error) { return is.Introspection.URL, nil }
	}
	if is.Introspection.Key == "" {
		return in, nil
	}
	root, err := os.OpenRoot(filepath.Dir(is.Introspection.Key))
	if err != nil {
		return nil, fmt.Errorf("introspection key: %w", err)
	}
	defer root.Close()
	if in.signer, err = jose.OpenSigner(root, filepath.Base(is.Introspection.Key)); err != nil {
		return nil, fmt.Errorf("introspection key: %w", err)
	}
	return in, nil
}

// ask returns what the issuer says of an active token, nil if it is not active. The error means that the
// issuer did not say.
func (in *introspector) ask(ctx context.Context, token string, sum [32]byte) (jose.Claims, error) {
	if until, ok := in.inactive.Get(sum); ok && in.now().Before(until) {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	select {
	case in.turns <- struct{}{}:
		defer func() { <-in.turns }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: too many questions at a time", errIntrospection)
	}
	body, err := in.post(ctx, token)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errIntrospection, err)
	}
	claims, err := jose.ParseClaims(body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errIntrospection, err)
	}
	switch active := claims["active"].(type) {
	case bool:
		if active {
			return claims, nil
		}
		in.inactive.Put(sum, in.now().Add(inactiveTTL))
		return nil, nil
	default:
		return nil, fmt.Errorf("%w: the answer does not say whether the token is active", errIntrospection)
	}
}

// post sends the question (RFC 7662 section 2.1) and returns the answer's body.
func (in *introspector) post(ctx context.Context, token string) ([]byte, error) {
	endpoint, err := in.endpoint(ctx)
	if err != nil {
		return nil, err
	}
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	basic := ""
	if in.signer != nil {
		assertion, err := in.signer.Assert(in.cfg.ClientID, in.issuer, in.now())
		if err != nil {
			return nil, err
		}
		form.Set("client_id", in.cfg.ClientID)
		form.Set("client_assertion_type", jose.AssertionType)
		form.Set("client_assertion", assertion)
	} else if basic, err = in.basic(ctx); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	if basic != "" {
		req.Header.Set("Authorization", basic)
	}
	resp, err := in.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the issuer answered status %d", resp.StatusCode)
	}
	if kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, fmt.Errorf("the answer is %.80q, want application/json", resp.Header.Get("Content-Type"))
	}
	return safedial.ReadAll(resp.Body, maxAnswer)
}

// basic renders client_secret_basic: both parts are form-encoded first (RFC 6749 section 2.3.1).
func (in *introspector) basic(ctx context.Context) (string, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if now := in.now(); in.read.IsZero() || now.Sub(in.read) >= secretTTL {
		v, err := in.cfg.ClientSecret.Read(ctx)
		if err != nil {
			return "", err
		}
		in.secret, in.read = v, now
	}
	pair := url.QueryEscape(in.cfg.ClientID) + ":" + url.QueryEscape(string(in.secret.Bytes()))
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(pair)), nil
}
