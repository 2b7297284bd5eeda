package issuer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/safedial"
	"github.com/warder-mcp/warder/internal/state"
)

// publisher serves metadata documents over TLS, under a public name.
type publisher struct {
	mu      sync.Mutex
	answer  http.HandlerFunc
	fetches atomic.Int64
	client  *http.Client
}

const (
	docID = "https://client.example/agent.json"
)

func (p *publisher) set(h http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = h
}

// doc answers with a document; changes are pairs.
func (p *publisher) doc(pairs ...any) {
	body, err := json.Marshal(claimsWith(map[string]any{
		"client_id": docID, "client_name": "Agent", "redirect_uris": []string{back}, "token_endpoint_auth_method": "none",
		"grant_types": []string{"authorization_code", "refresh_token"}, "jti": "x",
	}, pairs...))
	if err != nil {
		panic(err)
	}
	p.set(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = w.Write(body)
	})
}

func newPublisher(t *testing.T) *publisher {
	t.Helper()
	p := &publisher{}
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.fetches.Add(1)
		p.mu.Lock()
		h := p.answer
		p.mu.Unlock()
		h(w, r)
	}))
	t.Cleanup(srv.Close)
	address := srv.Listener.Addr().String()
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	p.client = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
		TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "example.com"}, // the test's own server, under another name
	}}
	p.doc()
	return p
}

func documents(t *testing.T, change ...func(*Config, *Deps)) (*world, *publisher) {
	t.Helper()
	p := newPublisher(t)
	return newWorld(t, append([]func(*Config, *Deps){func(_ *Config, d *Deps) { d.HTTP = p.client }}, change...)...), p
}

func TestAUT02(t *testing.T) {
	t.Parallel()
	t.Run("pass/document", func(t *testing.T) {
		t.Parallel()
		w, p := documents(t)
		r := w.post("token", redeemForm(w.code("client_id", docID), "client_id", docID))
		if r.status != 200 || w.claims(r.text("access_token"))["client_id"] != docID {
			t.Fatalf("%d %s", r.status, r.body)
		}
		q := w.who.asked[0]
		if q.Client.Source != SourceDocument || q.Client.Loopback || q.Client.Name != "Agent" {
			t.Errorf("question about %+v", q.Client)
		}
		if n := p.fetches.Load(); n != 1 {
			t.Errorf("the document was fetched %d times within its lifetime", n)
		}
		w.clock.move(61 * time.Second)
		_ = w.code("client_id", docID)
		if n := p.fetches.Load(); n != 2 {
			t.Errorf("the document was fetched %d times after its lifetime", n)
		}
	})
	t.Run("pass/private_key_jwt", func(t *testing.T) {
		t.Parallel()
		w, p := documents(t)
		key, jwks := newSigner(t)
		p.doc("token_endpoint_auth_method", "private_key_jwt", "jwks", json.RawMessage(jwks))
		code := w.code("client_id", docID)
		w.wants("without the key", w.post("token", redeemForm(code, "client_id", docID)), 401, "invalid_client", "auth_method")
		if r := w.post("token", asserted(t, w, key, docID, w.url, redeemForm(code, "client_id", ""))); r.status != 200 {
			t.Errorf("%d %s", r.status, r.body)
		}
	})
	t.Run("pass/jwks_uri", func(t *testing.T) {
		t.Parallel()
		w, p := documents(t)
		key, jwks := newSigner(t)
		p.doc("token_endpoint_auth_method", "private_key_jwt", "jwks_uri", "https://client.example/keys")
		document := p.answer
		p.set(func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/keys" {
				_, _ = rw.Write([]byte(jwks))
				return
			}
			document(rw, r)
		})
		form := redeemForm(w.code("client_id", docID), "client_id", "")
		if r := w.post("token", asserted(t, w, key, docID, w.url, form)); r.status != 200 {
			t.Errorf("%d %s", r.status, r.body)
		}
		w, p = documents(t)
		p.doc("token_endpoint_auth_method", "private_key_jwt", "jwks_uri", "https://client.example/keys")
		document = p.answer
		p.set(func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/keys" {
				rw.WriteHeader(http.StatusBadGateway)
				return
			}
			document(rw, r)
		})
		form = redeemForm(w.code("client_id", docID), "client_id", "")
		w.wants("keys cannot be had", w.post("token", asserted(t, w, key, docID, w.url, form)), 503, "temporarily_unavailable", "unavailable")
	})
	t.Run("pass/dynamic", testDynamic)
	t.Run("near_miss/loopback", func(t *testing.T) {
		t.Parallel()
		w, p := documents(t)
		p.doc("redirect_uris", []string{"http://127.0.0.1/cb"})
		if q := w.authorize(authRequest("client_id", docID, "redirect_uri", "http://127.0.0.1:5555/cb")); q.Get("code") == "" {
			t.Fatalf("%v", q)
		}
		if !w.who.asked[0].Client.Loopback {
			t.Error("the person is not warned that any program of this computer could pass for the client")
		}
	})
	t.Run("near_miss/cache", func(t *testing.T) {
		t.Parallel()
		w, p := documents(t)
		p.set(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Cache-Control", "no-store")
			fmt.Fprintf(w, `{"client_id":%q,"redirect_uris":[%q]}`, docID, back)
		})
		_ = w.code("client_id", docID)
		w.clock.move(minFresh)
		_ = w.code("client_id", docID)
		if n := p.fetches.Load(); n != 2 {
			t.Errorf("a document that must not be kept was fetched %d times for two logins", n)
		}
	})
	t.Run("deny/documents", denyDocuments)
	t.Run("deny/unusable", denyUnusable)
	t.Run("deny/ssrf", denySSRF)
	t.Run("deny/other_issuer", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		body := fmt.Sprintf(`{"redirect_uris":[%q]}`, back)
		put := func(id, owner string) {
			_, err := w.store.Put(t.Context(), state.Doc{Kind: kindClient, ID: id, Owner: owner, NotAfter: w.clock.now().Add(time.Hour), Body: []byte(body)})
			if err != nil {
				t.Fatal(err)
			}
		}
		put("c_old", "https://former.example")
		put("c_new", w.url)
		if w.code("client_id", "c_new") == "" {
			t.Fatal("a client of ours is refused")
		}
		w.refusedBy(t, "c_old", "client_of_another_issuer")
	})
	t.Run("dependency_killed", func(t *testing.T) {
		t.Parallel()
		w, p := documents(t)
		w.store.fail(errors.New("gone"))
		w.wants("store", w.post("token", redeemForm("x", "client_id", "c_x")), 503, "temporarily_unavailable", "unavailable")
		w.store.fail(nil)
		p.set(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
		w.wants("publisher", w.post("token", redeemForm("x", "client_id", docID)), 401, "invalid_client", "document_unusable")
	})
}

// refusedBy reports when a client is let through, or refused for another reason than this; and when it
// is not let through with the control off or in monitor mode (mutation check).
func (w *world) refusedBy(t *testing.T, client string, reason warder.Reason) {
	t.Helper()
	at := w.url + "/authorize?" + authRequest("client_id", client).Encode()
	if r := w.get(at); r.status != 400 || r.header.Get("Location") != "" {
		t.Errorf("%s: status %d, location %q", reason, r.status, r.header.Get("Location"))
	}
	if e := w.log.last(); e.Reason != reason || e.Control != aut02 {
		t.Errorf("the trail says %q of %q, want %q", e.Reason, e.Control, reason)
	}
	w.mode(aut02, Monitor)
	if r := w.get(at); r.status != http.StatusSeeOther || !w.log.has(reason) {
		t.Errorf("%s: monitored: status %d", reason, r.status)
	}
	w.mode(aut02, Off)
	if r := w.get(at); r.status != http.StatusSeeOther {
		t.Errorf("%s: without the control: status %d: something else refuses: %q", reason, r.status, w.log.last().Detail)
	}
	w.mode(aut02, Enforce)
}

func denyDocuments(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		pairs  []any
		reason warder.Reason
	}{
		"of another":        {[]any{"client_id", "https://client.example/other.json"}, "document_of_another"},
		"of another, slash": {[]any{"client_id", docID + "/"}, "document_of_another"},
		"of nobody":         {[]any{"client_id", nil}, "document_of_another"},
		"with a secret":     {[]any{"client_secret", "s"}, "document_has_secret"},
		"wants a secret":    {[]any{"token_endpoint_auth_method", "client_secret_basic"}, "document_auth_method"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, p := documents(t)
			p.doc(c.pairs...)
			w.refusedBy(t, docID, c.reason)
		})
	}
	for name, c := range map[string]struct {
		policy CIMD
		reason warder.Reason
	}{
		"host not allowed": {CIMD{Allow: []string{"other.example", "*.client.example"}}, "client_host_not_allowed"},
		"host denied":      {CIMD{Allow: []string{"*"}, Deny: []string{"*.example"}}, "client_host_denied"},
		"nobody allowed":   {CIMD{}, "client_host_not_allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, _ := documents(t, func(cfg *Config, _ *Deps) { cfg.CIMD = c.policy })
			w.refusedBy(t, docID, c.reason)
		})
	}
}

// denyUnusable holds documents that no mode of the control makes usable.
func denyUnusable(t *testing.T) {
	t.Parallel()
	w, p := documents(t)
	ask := func(name, id string) {
		t.Helper()
		r := w.get(w.url + "/authorize?" + authRequest("client_id", id).Encode())
		if r.status != 400 || r.header.Get("Location") != "" {
			t.Errorf("%s: status %d, location %q", name, r.status, r.header.Get("Location"))
		}
	}
	page := func(contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			_, _ = w.Write([]byte(body))
		}
	}
	good := fmt.Sprintf(`{"client_id":%q,"redirect_uris":[%q]}`, docID, back)
	for name, h := range map[string]http.HandlerFunc{
		"redirect to metadata": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://169.254.169.254/latest/meta-data/", http.StatusFound)
		},
		"redirect to itself": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/agent.json" {
				http.Redirect(w, r, "/real.json", http.StatusFound)
				return
			}
			page("application/json", good)(w, r)
		},
		"huge":              page("application/json", good[:len(good)-1]+`,"x":"`+strings.Repeat("x", maxDocument)+`"}`),
		"not JSON":          page("text/html", good),
		"two documents":     page("application/json", good+good),
		"repeated member":   page("application/json", `{"client_id":"https://evil.example/x",`+good[1:]),
		"no redirects":      page("application/json", fmt.Sprintf(`{"client_id":%q}`, docID)),
		"javascript":        page("application/json", fmt.Sprintf(`{"client_id":%q,"redirect_uris":["javascript:alert(1)"]}`, docID)),
		"plain http":        page("application/json", fmt.Sprintf(`{"client_id":%q,"redirect_uris":["http://app.example/cb"]}`, docID)),
		"private key in it": page("application/json", fmt.Sprintf(`{"client_id":%q,"redirect_uris":[%q],"jwks":{"keys":[{"kty":"EC","d":"x"}]}}`, docID, back)),
		"slow": func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-time.After(documentTimeout + 2*time.Second):
			}
		},
	} {
		p.set(h)
		start := time.Now()
		ask(name, docID)
		if took := time.Since(start); took > documentTimeout+time.Second {
			t.Errorf("%s: took %v", name, took)
		}
	}
	p.doc()
	before := p.fetches.Load()
	for _, id := range []string{
		"https://client.example", "https://client.example/", "https://user@client.example/agent.json", "https://client.example/agent.json#x",
		"https://client.example/a/../agent.json", "https://client.example/%2e%2e/agent.json", "https://CLIENT.example/agent.json", "http://client.example/agent.json",
	} {
		ask(id, id)
	}
	if n := p.fetches.Load(); n != before {
		t.Errorf("%d documents were fetched for ids that are no document addresses", n-before)
	}
}

// denySSRF fetches with the real dialer: documents that point inside are never asked for.
func denySSRF(t *testing.T) {
	t.Parallel()
	var touched atomic.Int64
	inside := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { touched.Add(1) }))
	t.Cleanup(inside.Close)
	_, port, err := net.SplitHostPort(inside.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	dialer := safedial.New(safedial.Config{Resolver: insider{}})
	w := newWorld(t, func(_ *Config, d *Deps) { d.HTTP = dialer.Client(time.Second) })
	for _, host := range []string{
		"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "10.0.0.1", "169.254.169.254", "[fd00:ec2::254]", "2130706433", "0x7f.1", "inside.example",
	} {
		r := w.get(w.url + "/authorize?" + authRequest("client_id", "https://"+host+":"+port+"/agent.json").Encode())
		if r.status != 400 || r.header.Get("Location") != "" || w.log.last().Reason != "document_unusable" {
			t.Errorf("%s: status %d, reason %q", host, r.status, w.log.last().Reason)
		}
	}
	if touched.Load() != 0 {
		t.Error("a server inside was asked")
	}
}

// insider resolves every name to this computer, as a hostile name server does.
type insider struct{}

func (insider) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
}

func testDynamic(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("initial"), 0o600); err != nil {
		t.Fatal(err)
	}
	guarded := newWorld(t, func(c *Config, _ *Deps) { c.DCR.Mode, c.DCR.Token.File = "token", file })
	open := newWorld(t, func(c *Config, _ *Deps) { c.DCR.Mode, c.DCR.TTL, c.Limits.Register = "open", time.Hour, 30 })
	register := func(w *world, body string, header ...string) reply {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+"/register", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		for i := 0; i+1 < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		return w.do(req)
	}
	good := fmt.Sprintf(`{"client_name":"Tool","redirect_uris":[%q],"grant_types":["authorization_code","refresh_token","client_credentials"]}`, back)
	if r := register(newWorld(t), good); r.status != http.StatusNotFound {
		t.Errorf("registration is off by default: %d", r.status)
	}
	guarded.wants("no initial token", register(guarded, good), 401, "invalid_token", "initial_token")
	guarded.wants("wrong initial token", register(guarded, good, "Authorization", "Bearer nope"), 401, "invalid_token", "initial_token")
	if r := register(guarded, good, "Authorization", "Bearer initial"); r.status != http.StatusCreated {
		t.Errorf("%d %s", r.status, r.body)
	}
	r := register(open, good)
	id := r.text("client_id")
	if r.status != http.StatusCreated || id == "" || r.text("client_secret") != "" || strings.Contains(r.body, "client_credentials") {
		t.Fatalf("%d %s", r.status, r.body)
	}
	if open.code("client_id", id) == "" || open.who.asked[0].Client.Source != SourceDynamic {
		t.Error("the registered client cannot be used")
	}
	open.wants("secrets are not given", register(open, strings.Replace(good, "{", `{"token_endpoint_auth_method":"client_secret_post",`, 1)), 400, "invalid_client_metadata", "secret_asked")
	open.wants("bad redirect", register(open, `{"redirect_uris":["http://app.example/"]}`), 400, "invalid_redirect_uri", "metadata_unusable")
	open.wants("repeated member", register(open, `{"redirect_uris":[],"redirect_uris":[]}`), 400, "invalid_client_metadata", "metadata_unusable")
	open.clock.move(time.Hour)
	if r := open.get(open.url + "/authorize?" + authRequest("client_id", id).Encode()); r.status != 400 || open.log.last().Reason != "client_unknown" {
		t.Errorf("an expired registration: %d %q", r.status, open.log.last().Reason)
	}
	limited := false
	for range 40 {
		limited = limited || register(open, good).status == http.StatusTooManyRequests
	}
	if !limited {
		t.Error("forty registrations at once were let through")
	}
	legacy := newWorld(t, func(c *Config, _ *Deps) { c.DCR.Mode, c.LegacySecrets = "open", true })
	r = register(legacy, strings.Replace(good, "{", `{"token_endpoint_auth_method":"client_secret_post",`, 1))
	secret := r.text("client_secret")
	if r.status != http.StatusCreated || len(secret) < 40 || r.json["client_secret_expires_at"] == nil {
		t.Fatalf("%d %s", r.status, r.body)
	}
	d, err := legacy.store.Get(t.Context(), kindClient, r.text("client_id"))
	if err != nil || strings.Contains(string(d.Body), secret) {
		t.Errorf("the secret is in the store (%v)", err)
	}
	form := redeemForm(legacy.code("client_id", r.text("client_id")), "client_id", r.text("client_id"))
	legacy.wants("wrong secret", legacy.post("token", with(form, "client_secret", "x")), 401, "invalid_client", "secret_refused")
	if r := legacy.post("token", with(form, "client_secret", secret)); r.status != 200 {
		t.Errorf("%d %s", r.status, r.body)
	}
}
