package identity

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/secret"
)

// An idp is an identity provider: metadata, keys, and answers about tokens.
type idp struct {
	t      testing.TB
	url    string // of the server
	issuer string
	signer *jose.Signer

	mu      sync.Mutex
	down    bool
	place   string         // path of the metadata
	meta    map[string]any // over the metadata
	asked   int            // questions about tokens
	answers map[string]map[string]any
	fetched []string // paths
}

func newIDP(tb testing.TB, path string) *idp {
	tb.Helper()
	p := &idp{t: tb, place: "/.well-known/oauth-authorization-server" + path, answers: map[string]map[string]any{}}
	var err error
	if p.signer, err = jose.NewSigner(); err != nil {
		tb.Fatal(err)
	}
	ts := httptest.NewServer(p)
	tb.Cleanup(ts.Close)
	p.url, p.issuer = ts.URL, ts.URL+path
	return p
}

func (p *idp) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// ServeHTTP implements http.Handler.
func (p *idp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fetched = append(p.fetched, r.URL.Path)
	switch {
	case p.down:
		http.Error(w, "down", http.StatusBadGateway)
	case r.URL.Path == p.place:
		doc := map[string]any{"issuer": p.issuer, "jwks_uri": p.url + "/keys", "introspection_endpoint": p.url + "/introspect"}
		maps.Copy(doc, p.meta)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(doc) // the client may be gone
	case r.URL.Path == "/keys":
		doc, _ := p.signer.KeySet()
		_, _ = w.Write(doc)
	case r.URL.Path == "/introspect":
		p.introspect(w, r)
	default:
		http.NotFound(w, r)
	}
}

// introspect answers as RFC 7662 says.
func (p *idp) introspect(w http.ResponseWriter, r *http.Request) {
	p.asked++
	user, pass, _ := r.BasicAuth()
	asserted, _ := jose.AssertionClient(r.PostFormValue("client_assertion"))
	if (user != "war%3Ader" || pass != "s%3Acret") && asserted != "war:der" {
		http.Error(w, "who are you", http.StatusUnauthorized)
		return
	}
	answer, ok := p.answers[r.PostFormValue("token")]
	if !ok {
		answer = map[string]any{"active": false}
	}
	w.Header().Set("Content-Type", "application/json;charset=utf-8")
	_ = json.NewEncoder(w).Encode(answer) // the client may be gone
}

// bench is a layer that knows nothing of the provider but its address.
func (p *idp) bench(change func(*Config, *Deps)) *bench {
	return newBench(p.t, func(c *Config, d *Deps) {
		c.Issuers = []Issuer{{URL: p.issuer}}
		d.HTTP, d.Keys = http.DefaultClient, nil
		if change != nil {
			change(c, d)
		}
	})
}

func (p *idp) token(b *bench, change map[string]any) string {
	p.t.Helper()
	if change == nil {
		change = map[string]any{}
	}
	change["iss"] = p.issuer
	token, err := p.signer.Sign("at+jwt", b.claims(change))
	if err != nil {
		p.t.Fatal(err)
	}
	return token
}

func TestDiscovery(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ path, place string }{
		{"", "/.well-known/oauth-authorization-server"},
		{"", "/.well-known/openid-configuration"},
		{"/", "/.well-known/openid-configuration"},
		{"/tenant", "/.well-known/oauth-authorization-server/tenant"},
		{"/tenant", "/.well-known/openid-configuration/tenant"},
		{"/tenant", "/tenant/.well-known/openid-configuration"},
	} {
		t.Run(tt.path+" "+tt.place, func(t *testing.T) {
			t.Parallel()
			p := newIDP(t, tt.path)
			p.place = tt.place
			b := p.bench(nil)
			if d := b.connect(exchange("Bearer " + p.token(b, nil))); d.Verdict != warder.Pass {
				t.Error(d)
			}
		})
	}
	for name, meta := range map[string]map[string]any{
		"another issuer":               {"issuer": "https://evil.example"},
		"issuer with a trailing slash": {"issuer": "SLASH"},
		"no issuer":                    {"issuer": nil},
		"keys over plain http":         {"jwks_uri": "http://idp.example/keys"},
		"keys in a file":               {"jwks_uri": "file:///etc/passwd"},
		"no keys":                      {"jwks_uri": nil},
		"keys with a user":             {"jwks_uri": "https://u:p@idp.example/keys"},
		"keys of another type":         {"jwks_uri": 7},
	} {
		t.Run("deny "+name, func(t *testing.T) {
			t.Parallel()
			p := newIDP(t, "/tenant")
			if meta["issuer"] == "SLASH" {
				meta["issuer"] = p.issuer + "/"
			}
			p.meta = meta
			b := p.bench(nil)
			want := outcome{Control: "IAM-05", Code: warder.CodeUnavailable, Reason: "issuer_unavailable"}
			if diff := cmp.Diff(want, outcomeOf(b.connect(exchange("Bearer "+p.token(b, nil))))); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
		})
	}
}

// TestIssuerDown lives through an outage: refused until keys are had, found soon, kept through the next one.
func TestIssuerDown(t *testing.T) {
	t.Parallel()
	p := newIDP(t, "/tenant")
	p.down = true
	b := p.bench(func(c *Config, _ *Deps) { c.Issuers[0].MaxLifetime, c.CacheTTL = 24*time.Hour, time.Second })
	now := b.clock.now()
	token := p.token(b, map[string]any{"iat": now.Unix(), "exp": now.Add(24 * time.Hour).Unix()})
	step := func(name string, wait time.Duration, down bool, want warder.Reason) {
		t.Helper()
		b.clock.advance(wait)
		p.set(func() { p.down = down })
		if d := b.connect(exchange("Bearer " + token)); d.Reason != want {
			t.Errorf("%s: %+v, want %q", name, d, want)
		}
	}
	step("down at the start", 0, true, "issuer_unavailable")
	step("still down", time.Second, true, "issuer_unavailable")
	step("up, but just asked", 0, false, "issuer_unavailable")
	step("up", 2*time.Second, false, "")
	step("down again for hours", 12*time.Hour, true, "")
	step("up again", time.Hour, false, "")
	if n := len(p.fetched); n > 13 {
		t.Errorf("the issuer was asked %d times: %v", n, p.fetched)
	}
}

func TestMaxStale(t *testing.T) {
	t.Parallel()
	p := newIDP(t, "")
	b := p.bench(func(c *Config, _ *Deps) {
		c.Issuers[0].MaxLifetime, c.Issuers[0].JWKS.MaxStale, c.CacheTTL = 24*time.Hour, time.Hour, time.Second
	})
	now := b.clock.now()
	token := p.token(b, map[string]any{"iat": now.Unix(), "exp": now.Add(24 * time.Hour).Unix()})
	for _, step := range []struct {
		wait time.Duration
		want warder.Reason
	}{{0, ""}, {59 * time.Minute, ""}, {2 * time.Minute, "issuer_unavailable"}} {
		b.clock.advance(step.wait)
		if d := b.connect(exchange("Bearer " + token)); d.Reason != step.want {
			t.Errorf("after %v: %+v, want %q", step.wait, d, step.want)
		}
		p.set(func() { p.down = true })
	}
}

func TestDialRules(t *testing.T) {
	t.Parallel()
	cfg := Config{LocalIssuer: "http://127.0.0.1:1/issuer", Issuers: []Issuer{
		{URL: "https://idp.example"},
		{URL: "https://keycloak.corp/realms/a", PrivateNetwork: true, JWKS: JWKS{URL: "https://keys.corp/a"}},
		{URL: "http://localhost:5556/dex"},
		{URL: "spiffe://example.org", JWKS: JWKS{File: "a"}},
	}}
	var got []string
	for _, r := range cfg.DialRules() {
		kind := ""
		if r.Private {
			kind += " private"
		}
		if r.Loopback {
			kind += " loopback"
		}
		got = append(got, r.Host+kind)
	}
	want := []string{"keycloak.corp private", "keys.corp private", "localhost loopback", "127.0.0.1 loopback"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
}

const opaque = "ory_at_opaque-token-without-dots"

// introspected turns introspection on.
func introspected(t *testing.T, tokens string, cache time.Duration) func(*Config, *Deps) {
	t.Helper()
	path := file(t, "secret", []byte("s:cret\n"))
	return func(c *Config, _ *Deps) {
		c.Issuers[0].Introspection = Introspection{
			ClientID: "war:der", ClientSecret: secret.Ref{File: path}, Tokens: tokens, Cache: cache,
		}
	}
}

func TestIntrospection(t *testing.T) {
	t.Parallel()
	now := newClock().now()
	good := func(change map[string]any) map[string]any {
		c := map[string]any{
			"active": true, "sub": "bob", "aud": filesURI, "client_id": "app", "scope": "a b", "exp": now.Unix() + 600, "iat": now.Unix(),
		}
		for k, v := range change {
			if c[k] = v; v == nil {
				delete(c, k)
			}
		}
		return c
	}
	jkt := map[string]any{"jkt": thumb}
	for _, tt := range []struct {
		name   string
		answer map[string]any
		want   warder.Reason
	}{
		{"pass", good(nil), ""},
		{"pass with the issuer's name", good(map[string]any{"iss": "ISSUER"}), ""},
		{"deny inactive", map[string]any{"active": false}, "token_inactive"},
		{"deny unknown", nil, "token_inactive"},
		{"deny another audience", good(map[string]any{"aud": mailURI}), "audience_mismatch"},
		{"deny no audience", good(map[string]any{"aud": nil}), "audience_mismatch"},
		{"deny another issuer", good(map[string]any{"iss": "https://evil.example"}), "issuer_unknown"},
		{"deny expired", good(map[string]any{"exp": now.Unix() - 1}), "token_expired"},
		{"deny no end", good(map[string]any{"exp": nil}), "claim_invalid"},
		{"deny no subject", good(map[string]any{"sub": nil}), "subject_missing"},
		{"deny bound, as bearer", good(map[string]any{"cnf": jkt, "token_type": "DPoP"}), "proof_required"},
		{"deny bound, but not to which key", good(map[string]any{"token_type": "DPoP"}), "confirmation_missing"},
		{"deny two hours", good(map[string]any{"exp": now.Unix() + 7200}), "token_lifetime"},
		{"deny active as text", good(map[string]any{"active": "true"}), "issuer_unavailable"},
		{"deny no answer", map[string]any{}, "issuer_unavailable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newIDP(t, "")
			if tt.answer["iss"] == "ISSUER" {
				tt.answer["iss"] = p.issuer
			}
			if tt.answer != nil {
				p.answers[opaque] = tt.answer
			}
			b := p.bench(introspected(t, "", 0))
			x := exchange("Bearer " + opaque)
			d := b.connect(x)
			if d.Reason != tt.want {
				t.Fatalf("%+v, want %q", d, tt.want)
			}
			if tt.want != "" {
				return
			}
			want := &warder.Principal{
				Issuer: p.issuer, Subject: "bob", Client: "app", Scopes: []string{"a", "b"}, TokenID: tokenDigest(jose.TokenSum(opaque)),
				IssuedAt: now, NotAfter: now.Add(10 * time.Minute), Transport: "bearer",
			}
			got := *x.Principal
			got.IssuedAt, got.NotAfter = got.IssuedAt.UTC(), got.NotAfter.UTC()
			if diff := cmp.Diff(want, &got); diff != "" {
				t.Errorf("principal (-want +got):\n%s", diff)
			}
		})
	}
}

func TestIntrospectionIsFresh(t *testing.T) {
	t.Parallel()
	p := newIDP(t, "")
	answer := map[string]any{"active": true, "sub": "bob", "aud": filesURI, "exp": newClock().now().Unix() + 600}
	p.answers[opaque] = answer
	for _, tt := range []struct {
		name  string
		cache time.Duration
		asked []int
		want  []warder.Reason // now, at once after the removal, 31 seconds later
	}{
		{"every message asks", 0, []int{1, 2, 2}, []warder.Reason{"", "token_inactive", "token_inactive"}},
		{"answers are good for a while", 30 * time.Second, []int{1, 1, 2}, []warder.Reason{"", "", "token_inactive"}},
	} {
		b := p.bench(introspected(t, "", tt.cache))
		p.set(func() { p.answers[opaque], p.asked = answer, 0 })
		for i, wait := range []time.Duration{0, 0, 31 * time.Second} {
			b.clock.advance(wait)
			if i == 2 && tt.cache == 0 {
				b.clock.advance(-31 * time.Second) // within the memory of tokens that are not active
			}
			d := b.connect(exchange("Bearer " + opaque))
			if d.Reason != tt.want[i] || p.asked != tt.asked[i] {
				t.Errorf("%s, step %d: %q after %d questions, want %q after %d", tt.name, i, d.Reason, p.asked, tt.want[i], tt.asked[i])
			}
			p.set(func() { delete(p.answers, opaque) })
		}
	}
}

func TestIntrospectionOfJWTs(t *testing.T) {
	t.Parallel()
	p := newIDP(t, "")
	b := p.bench(introspected(t, TokensJWT, 0))
	token := p.token(b, nil)
	p.answers[token] = map[string]any{"active": true, "sub": "bob"}
	step := func(name string, answer map[string]any, down bool, want warder.Reason) {
		t.Helper()
		b.clock.advance(inactiveTTL)
		p.set(func() { p.answers[token], p.down = answer, down })
		if d := b.connect(exchange("Bearer " + token)); d.Reason != want {
			t.Errorf("%s: %+v, want %q", name, d, want)
		}
	}
	step("active", map[string]any{"active": true, "sub": "bob"}, false, "")
	step("removed at the issuer", map[string]any{"active": false}, false, "token_inactive")
	step("about somebody else", map[string]any{"active": true, "sub": "eve"}, false, "token_inactive")
	step("the issuer does not answer", nil, true, "issuer_unavailable")
	step("back", map[string]any{"active": true}, false, "")
	asked := p.asked
	if d := b.connect(exchange("Bearer " + opaque)); d.Reason != "token_malformed" || p.asked != asked {
		t.Errorf("opaque token: %+v after %d questions: it was shown to the issuer", d, p.asked-asked)
	}
	forged := strings.TrimSuffix(token, token[len(token)-4:]) + "AAAA"
	if d := b.connect(exchange("Bearer " + forged)); d.Verdict == warder.Pass || p.asked != asked {
		t.Errorf("forged token: %+v after %d questions", d, p.asked-asked)
	}
}

func TestIntrospectionClients(t *testing.T) {
	t.Parallel()
	p := newIDP(t, "")
	p.answers[opaque] = map[string]any{"active": true, "sub": "bob", "aud": filesURI, "exp": newClock().now().Unix() + 600}
	key := file(t, "key.pem", nil)
	root := key[:len(key)-len("key.pem")]
	for name, tt := range map[string]struct {
		in   Introspection
		want warder.Reason
	}{
		"wrong secret":      {Introspection{ClientID: "war:der", ClientSecret: secret.Ref{File: file(t, "s", []byte("wrong"))}}, "issuer_unavailable"},
		"secret is gone":    {Introspection{ClientID: "war:der", ClientSecret: secret.Ref{File: root + "gone"}}, "issuer_unavailable"},
		"private_key_jwt":   {Introspection{ClientID: "war:der", Key: root + "client.pem"}, ""},
		"endpoint is given": {Introspection{ClientID: "war:der", Key: root + "client.pem", URL: p.url + "/introspect"}, ""},
		"endpoint is not":   {Introspection{ClientID: "war:der", Key: root + "client.pem", URL: p.url + "/nothing"}, "issuer_unavailable"},
	} {
		b := p.bench(func(c *Config, _ *Deps) { c.Issuers[0].Introspection = tt.in })
		if d := b.connect(exchange("Bearer " + opaque)); d.Reason != tt.want {
			t.Errorf("%s: %+v, want %q", name, d, tt.want)
		}
	}
}

// TestTokenTricks has what attackers write into headers of tokens.
func TestTokenTricks(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	public, err := b.signer.KeySet()
	if err != nil {
		t.Fatal(err)
	}
	for name, header := range map[string]string{
		"key id with a path":       `{"alg":"ES256","typ":"JWT","kid":"../../../dev/null"}`,
		"key id with a query":      `{"alg":"ES256","typ":"JWT","kid":"x' UNION SELECT 'secret"}`,
		"key id of nothing":        `{"alg":"ES256","typ":"JWT","kid":"nothing"}`,
		"key id that is a number":  `{"alg":"ES256","typ":"JWT","kid":1}`,
		"keys from elsewhere":      `{"alg":"ES256","typ":"JWT","jku":"https://evil.example/keys","kid":"evil"}`,
		"certificate elsewhere":    `{"alg":"ES256","typ":"JWT","x5u":"https://evil.example/cert","kid":"evil"}`,
		"key inside":               `{"alg":"ES256","typ":"JWT","jwk":` + string(public) + `}`,
		"critical":                 `{"alg":"ES256","typ":"JWT","crit":["x"],"x":1}`,
		"none":                     `{"alg":"none","typ":"JWT"}`,
		"None":                     `{"alg":"None","typ":"JWT"}`,
		"algorithm in lower case":  `{"alg":"es256","typ":"JWT"}`,
		"the public key as secret": `{"alg":"HS256","typ":"JWT"}`,
		"another curve":            `{"alg":"ES384","typ":"JWT"}`,
		"RSA":                      `{"alg":"RS256","typ":"JWT"}`,
		"encrypted":                `{"alg":"dir","enc":"A128GCM","typ":"JWT"}`,
		"compressed":               `{"alg":"ES256","zip":"DEF","typ":"JWT"}`,
		"algorithm twice":          `{"alg":"ES256","alg":"none","typ":"JWT"}`,
		"proof":                    `{"alg":"ES256","typ":"dpop+jwt"}`,
		"logout token":             `{"alg":"ES256","typ":"logout+jwt"}`,
	} {
		x := exchange("Bearer " + forged(header)(b))
		if d := b.connect(x); d.Verdict == warder.Pass || x.Principal != nil || d.Control != "IAM-05" {
			t.Errorf("%s: %+v", name, d)
		}
	}
	good := with(nil)(b)
	parts := strings.Split(good, ".")
	for name, token := range map[string]string{
		"claims twice":        parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"`+otherIDP+`","iss":"x"}`)) + "." + parts[2],
		"no signature":        parts[0] + "." + parts[1] + ".",
		"signature twice":     good + "." + parts[2],
		"padded":              good + "=",
		"oversized":           parts[0] + "." + strings.Repeat("a", jose.MaxToken) + "." + parts[2],
		"signature of zeros":  parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(make([]byte, 64)),
		"claims of no object": parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`[]`)) + "." + parts[2],
	} {
		x := exchange("Bearer " + token)
		if d := b.connect(x); d.Verdict == warder.Pass || x.Principal != nil {
			t.Errorf("%s: %+v", name, d)
		}
	}
	for name, aud := range map[string]string{
		"percent-encoded":        base + "/mcp/%66iles",
		"default port":           "https://gate.example:443/mcp/files",
		"dots":                   base + "/mcp/x/../files",
		"query":                  filesURI + "?",
		"fragment":               filesURI + "#",
		"user":                   "https://x@gate.example/mcp/files",
		"dot at the end":         "https://gate.example./mcp/files",
		"punycode of a twin":     "https://xn--gte-8oa.example/mcp/files",
		"a letter that looks so": "https://g\u0430te.example/mcp/files",
		"full-width letters":     "https://gate.example/mcp/\uff46iles",
		"white space":            " " + filesURI,
		"a null byte":            filesURI + "\x00",
	} {
		if d := b.connect(exchange("Bearer " + with(map[string]any{"aud": aud})(b))); d.Reason != "audience_mismatch" {
			t.Errorf("audience, %s: %+v, want audience_mismatch", name, d)
		}
	}
}
