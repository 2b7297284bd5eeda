package attacks

import (
	"crypto/rand"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/warder-mcp/warder/internal/oauth/oauthtest"
)

// linked is a gateway whose server a wants a credential of each person, from an authorization server.
func linked(t *testing.T, n *tally) (*world, *oauthtest.Server) {
	t.Helper()
	w := newWorld(t, n, setup{Issuer: interactive, More: everything, Server: `, credentials: {oauth: {}}`})
	as := oauthtest.New(t)
	w.as.Store(&as.URL)
	return w, as
}

// link is the link at which a person authorizes the gateway at server a.
func (w *world) link(subject string) string {
	w.t.Helper()
	got := w.send(call{token: w.mint(claimsOf(subject))})
	link := regexp.MustCompile(`/issuer/oauth/connect/a\?hold=[A-Z0-9]+`).FindString(got.text)
	if link == "" {
		w.t.Fatalf("no link: %s", got)
	}
	return link
}

// through follows every redirect, to other servers too; change sees each address before it is opened.
func (b *browser) through(address string, change func(address string) string) answer {
	b.w.t.Helper()
	got := answer{}
	for next, i := address, 0; next != "" && i < 6; i++ {
		if next = b.absolute(next); change != nil {
			next = change(next)
		}
		got = b.do(b.w.request(http.MethodGet, next, ""))
		next = got.header.Get("Location")
	}
	return got
}

func linkDone(a answer) bool {
	return a.status == http.StatusOK && strings.Contains(a.text, "<h1>Done")
}

// atCallback changes a parameter of the answer of the authorization server.
func atCallback(change func(url.Values)) func(string) string {
	return func(address string) string {
		before, query, ok := strings.Cut(address, "/oauth/callback?")
		if !ok {
			return address
		}
		q, err := url.ParseQuery(query)
		if err != nil {
			return address
		}
		change(q)
		return before + "/oauth/callback?" + q.Encode()
	}
}

// testMixUp puts hostile authorization servers, and other people, between a person and server a (AUT-03, AUT-04).
func testMixUp(t *testing.T, n *tally) {
	t.Helper()
	w, as := linked(t, n)
	evil := oauthtest.New(t)
	ada, eve := w.login("ada"), w.login("eve")
	run := 0
	// Each run is another account, as one that is linked is not asked again.
	fresh := func() (*browser, string) { run++; name := "p" + rand.Text()[:6]; return w.login(name), "local:" + name }
	with := func(name, reason string, change func(url.Values)) attack {
		return attack{name, func(w *world) answer {
			b, subject := fresh()
			before := len(as.Seen("/token"))
			got := b.through(w.link(subject), atCallback(change))
			if len(as.Seen("/token")) != before {
				w.t.Error("the code was used")
			}
			return got
		}, step{"AUT-03", reasonOf(reason)}, ""}
	}
	another := step{"AUT-04", "link_of_another"}
	w.try(func(w *world) answer {
		b, subject := fresh()
		got := b.through(w.link(subject), nil)
		if call := w.send(call{token: w.mint(claimsOf(subject))}); !call.passed() {
			return call
		}
		return got
	}, linkDone, []attack{
		with("iss of another server", "iss_mismatch", func(q url.Values) { q.Set("iss", evil.URL) }),
		with("iss with a slash", "iss_mismatch", func(q url.Values) { q.Set("iss", as.URL+"/") }),
		with("iss missing", "iss_missing", func(q url.Values) { q.Del("iss") }),
		with("iss twice", "parameter_repeated", func(q url.Values) { q.Add("iss", evil.URL) }),
		with("an error from another server", "iss_mismatch", func(q url.Values) { q.Set("error", "access_denied"); q.Set("iss", evil.URL) }),
		{"another person opens the link", func(w *world) answer { return eve.through(w.link("local:ada"), nil) }, another, "link_of_another"},
		{"another person opens the answer", func(w *world) answer {
			stop := ""
			ada.through(w.link("local:ada"), func(address string) string {
				if strings.Contains(address, "/oauth/callback?") {
					stop = address
					return w.base + "/issuer/nothing"
				}
				return address
			})
			return eve.through(stop, nil)
		}, another, ""},
		{"the answer opened twice", func(w *world) answer {
			b, subject := fresh()
			last := ""
			b.through(w.link(subject), func(address string) string {
				if strings.Contains(address, "/oauth/callback?") {
					last = address
				}
				return address
			})
			return b.through(last, nil)
		}, step{"AUT-04", "link_ended"}, "link_ended"},
		{"an answer that nobody asked for", func(*world) answer {
			return ada.through("/issuer/oauth/callback?code=x&state=y&iss="+url.QueryEscape(as.URL), nil)
		}, step{"AUT-04", "link_ended"}, "link_ended"},
		{"a link that was guessed", func(*world) answer { return ada.through("/issuer/oauth/connect/a?hold=AAAA", nil) }, step{"AUT-04", "link_ended"}, ""},
		{"the authorization server switched meanwhile", func(w *world) answer {
			b, subject := fresh()
			defer w.as.Store(&as.URL)
			got := b.through(w.link(subject), func(address string) string {
				if strings.Contains(address, "/authorize?") { // the answer of the honest server ends at the hostile one
					return strings.Replace(address, as.URL, evil.URL, 1)
				}
				return address
			})
			return got
		}, step{"AUT-03", "iss_mismatch"}, ""},
	})
	if len(evil.Seen("/token")) != 0 {
		t.Error("the hostile server was shown a code")
	}
	lies(t, n)
}

// lies are authorization servers that say something wrong of themselves, each before a gateway of its own.
func lies(t *testing.T, n *tally) {
	t.Helper()
	honest := oauthtest.New(t)
	for name, of := range map[string]struct {
		metadata map[string]any
		want     step
	}{
		"metadata of another issuer":    {map[string]any{"issuer": honest.URL}, step{"AUT-03", "issuer_mismatch"}},
		"issuer with a slash":           {map[string]any{"issuer": honest.URL + "/"}, step{"AUT-03", "issuer_mismatch"}},
		"no PKCE":                       {map[string]any{"code_challenge_methods_supported": nil}, step{"AUT-03", "pkce_not_promised"}},
		"PKCE plain":                    {map[string]any{"code_challenge_methods_supported": []string{"plain"}}, step{"AUT-03", "pkce_not_promised"}},
		"javascript as endpoint":        {map[string]any{"authorization_endpoint": "javascript:alert(1)"}, step{"AUT-10", "url_characters"}},
		"token endpoint in the network": {map[string]any{"token_endpoint": "http://169.254.169.254/token"}, step{"AUT-10", "url_plain_http"}},
	} {
		w, as := linked(t, n)
		as.Metadata = of.metadata
		b := w.login("ada")
		w.attackOnce(name, of.want, func(w *world) answer { return b.through(w.send2link("local:ada"), nil) }, linkDone)
	}
}

// send2link is the link of a held call, or the page of the person's own account where the call is refused before.
func (w *world) send2link(subject string) string {
	got := w.send(call{token: w.mint(claimsOf(subject))})
	if link := regexp.MustCompile(`/issuer/oauth/connect/a\?hold=[A-Z0-9]+`).FindString(got.text); link != "" {
		return link
	}
	return "/issuer/oauth/connect/a"
}

// attackOnce is an attack whose near miss is the flow of another world.
func (w *world) attackOnce(name string, want step, do func(w *world) answer, passed func(answer) bool) {
	w.t.Helper()
	if tr, ok := w.attack(attack{name, do, want, ""}, passed); ok {
		w.recorded([]trace{tr})
	}
}

// A provider is a small OpenID Connect provider that says what an attacker wants.
type provider struct {
	*httptest.Server
	f      *forger
	mu     sync.Mutex
	nonce  string
	iss    string // of answers; empty: the address
	claims object // changes those of ID tokens
	header object // changes the header
	key    any    // that signs; nil: the published one
}

func newProvider(t *testing.T, f *forger) *provider {
	t.Helper()
	p := &provider{f: f}
	mux := http.NewServeMux()
	reply := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(f.json(v)) // the gateway may be gone
	}
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, object{
			"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/jwks",
			"authorization_response_iss_parameter_supported": true, "id_token_signing_alg_values_supported": []string{"ES256"},
			"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
		})
	})
	mux.HandleFunc("/jwks", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(f.keySet()) })
	mux.HandleFunc("/authorize", func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		q := r.URL.Query()
		p.nonce = q.Get("nonce")
		http.Redirect(w, r, q.Get("redirect_uri")+"?"+url.Values{"code": {"c"}, "state": {q.Get("state")}, "iss": {or(p.iss, p.URL)}}.Encode(), http.StatusFound)
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		now := time.Now()
		claims := object{"iss": p.URL, "sub": "ada", "aud": "warder", "nonce": p.nonce, "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(), "auth_time": now.Unix()}
		key := p.key
		if key == nil {
			key = f.ec
		}
		reply(w, object{"access_token": "x", "token_type": "Bearer", "expires_in": 60, "id_token": f.sign(object{"alg": "ES256", "kid": "ec", "typ": "JWT"}.with(p.header), claims.with(p.claims), key)})
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

// testFederation puts hostile providers between a person and the login.
func testFederation(t *testing.T, n *tally) {
	t.Helper()
	f := newForger(t)
	corp, evil := newProvider(t, f), newProvider(t, f)
	w := newWorld(t, n, setup{More: everything, Files: map[string][]byte{"secret": []byte("a-client-secret")}, Issuer: `  clients: [{id: web, redirect_uris: ["https://app.example/callback"]}]
  login:
    consent: {trusted: [web]}
    providers:
      - {name: corp, issuer: "` + corp.URL + `", client_id: warder, client_secret: {file: "%FILE:secret%"}, private: true}
      - {name: evil, issuer: "` + evil.URL + `", client_id: warder, client_secret: {file: "%FILE:secret%"}, private: true}`})
	// login begins at a provider and goes on as change says.
	login := func(w *world, name string, change func(string) string) answer {
		b := w.browser()
		b.get(w.flow("web", webBack).address(w))
		fields := url.Values{}
		for part := range strings.SplitSeq(b.last.text, "<form") {
			if strings.Contains(part, `value="`+name+`"`) {
				b.last.text = "<form" + part
				fields = b.fields("/login/provider")
			}
		}
		got := b.do(b.form("/login/provider", fields))
		m := refresh().FindStringSubmatch(got.text)
		if m == nil {
			w.t.Fatalf("no way to the provider: %s", got)
		}
		b.through(html.UnescapeString(m[1]), change)
		if onward := refresh().FindStringSubmatch(b.last.text); onward != nil {
			return b.get(html.UnescapeString(onward[1]))
		}
		return b.last
	}
	with := func(name, reason string, change func(p *provider)) attack {
		return attack{name, func(w *world) answer {
			corp.mu.Lock()
			change(corp)
			corp.mu.Unlock()
			defer func() { corp.iss, corp.claims, corp.header, corp.key = "", nil, nil, nil }()
			return login(w, "corp", nil)
		}, step{"", reasonOf(reason)}, reason}
	}
	id := func(name string, claims object) attack {
		return with(name, "id_token_refused", func(p *provider) { p.claims = claims })
	}
	back := func(change func(address string) string) func(string) string {
		return func(address string) string {
			if strings.Contains(address, "/login/callback/") {
				return change(address)
			}
			return address
		}
	}
	at := func(name, reason string, change func(address string) string) attack {
		return attack{name, func(w *world) answer { return login(w, "corp", back(change)) }, step{"", reasonOf(reason)}, reason}
	}
	w.try(func(w *world) answer { return login(w, "corp", nil) }, answer.granted, []attack{
		with("iss of another provider", "provider_mixup", func(p *provider) { p.iss = evil.URL }),
		at("answer at the address of another provider", "provider_mixup", func(a string) string { return strings.Replace(a, "/callback/corp", "/callback/evil", 1) }),
		at("iss left out", "provider_mixup", func(a string) string {
			b, _, _ := strings.Cut(a, "?")
			q, _ := url.Parse(a)
			v := q.Query()
			v.Del("iss")
			return b + "?" + v.Encode()
		}),
		at("state of nobody", "state_unknown", func(a string) string {
			b, _, _ := strings.Cut(a, "?")
			q, _ := url.Parse(a)
			v := q.Query()
			v.Set("state", strings.Repeat("A", 52))
			return b + "?" + v.Encode()
		}),
		{"login begun in another browser", func(w *world) answer {
			stop := ""
			login(w, "corp", back(func(a string) string { stop = a; return w.base + "/issuer/nothing" }))
			return w.browser().through(stop, nil)
		}, step{"", "browser_mismatch"}, "browser_mismatch"},
		id("ID token for another client", object{"aud": "other"}),
		id("ID token for several", object{"aud": []string{"warder", "other"}}),
		id("ID token of another issuer", object{"iss": evil.URL}),
		id("nonce of another login", object{"nonce": "x"}),
		id("no nonce", object{"nonce": nil}),
		id("expired ID token", object{"exp": ago(time.Hour)}),
		id("ID token from the future", object{"iat": ago(-time.Hour), "exp": ago(-2 * time.Hour)}),
		id("no subject", object{"sub": ""}),
		with("unsigned ID token", "id_token_refused", func(p *provider) { p.header = object{"alg": "none"} }),
		with("ID token signed with another key", "id_token_refused", func(p *provider) { p.key = f.mallory }),
		with("ID token signed with the client secret", "id_token_refused", func(p *provider) { p.header, p.key = object{"alg": "HS256"}, []byte("a-client-secret") }),
		with("subject with control characters", "not_allowed", func(p *provider) { p.claims = object{"sub": "ada\x1froot"} }),
	})
}
