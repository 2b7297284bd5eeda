package attacks

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/warder-mcp/warder/internal/jose"
)

const (
	webBack    = "https://app.example/callback"
	nativeBack = "http://127.0.0.1/cb"
)

// interactive are clients and logins for code flows, in which no consent is asked of the operator's clients.
const interactive = `  clients:
    - {id: web, redirect_uris: ["https://app.example/callback"]}
    - {id: other, redirect_uris: ["https://other.example/callback"]}
    - {id: native, native: true, redirect_uris: ["http://127.0.0.1/cb"]}
  dcr: {mode: open}
  login: {local: {enabled: true}, consent: {trusted: [web, other, native]}}`

// testCodes attacks the authorization endpoint, codes and refresh tokens (OAuth 2.1, RFC 7636, RFC 9700).
func testCodes(t *testing.T, n *tally) {
	t.Helper()
	w := newWorld(t, n, setup{Issuer: interactive, More: everything})
	ada := w.login("ada")
	w.try(func(w *world) answer { return ada.get(w.flow("web", webBack).address(w)) }, answer.granted, requests(ada))
	if got := ada.get(w.flow("native", "http://127.0.0.1:51234/cb").address(w)); got.code() == "" {
		t.Errorf("near miss: a native client on another port: %s", got)
	}
	w.try(func(w *world) answer {
		f := w.flow("web", webBack)
		return w.redeem(f, ada.get(f.address(w)).code(), nil)
	}, answer.granted, codes(ada))
	w.try(func(w *world) answer { return w.refresh(w.family(ada, nil), "web", nil) }, answer.granted, refreshes(ada))
	w.dead(ada)
}

// requests are authorization requests that must not lead to a code, nor anywhere else.
func requests(ada *browser) []attack {
	with := func(name, reason, key string, values ...string) attack {
		return attack{name, func(w *world) answer {
			f := w.flow("web", webBack)
			if f.ask[key] = values; len(values) == 0 {
				f.ask.Del(key)
			}
			got := ada.get(f.address(w))
			if to := got.header.Get("Location"); to != "" && !strings.HasPrefix(to, webBack+"?") {
				w.t.Errorf("sent to %q", to)
			}
			return got
		}, step{"", reasonOf(reason)}, ""}
	}
	native := func(name, to string) attack {
		return attack{"native client: " + name, func(w *world) answer { return ada.get(w.flow("native", to).address(w)) }, step{"", "redirect_mismatch"}, "location \"\""}
	}
	out := []attack{
		with("no PKCE", "pkce_method", "code_challenge_method"),
		with("PKCE plain", "pkce_method", "code_challenge_method", "plain"),
		with("no challenge", "pkce_challenge", "code_challenge"),
		with("short challenge", "pkce_challenge", "code_challenge", "abc"),
		with("implicit grant", "unsupported_response_type", "response_type", "token"),
		with("hybrid grant", "unsupported_response_type", "response_type", "code id_token"),
		with("fragment mode", "invalid_request", "response_mode", "fragment"),
		with("request object", "request_not_supported", "request", "e30.e30.e30"),
		with("request_uri at another host", "request_uri_foreign", "request_uri", "https://evil.example/request"),
		with("request_uri that was guessed", "request_unknown", "request_uri", "urn:ietf:params:oauth:request_uri:AAAA"),
		with("no resource", "resource_missing", "resource"),
		with("resource of nobody", "resource_unknown", "resource", "https://evil.example/mcp"),
		with("client repeated", "parameter_repeated", "client_id", "web", "other"),
		with("redirect repeated", "parameter_repeated", "redirect_uri", webBack, "https://evil.example/"),
		with("unknown client", "client_unknown", "client_id", "evil"),
		with("redirect of another client", "redirect_mismatch", "redirect_uri", "https://other.example/callback"),
		with("no redirect", "redirect_missing", "redirect_uri"),
		native("other path", "http://127.0.0.1:1/cb2"),
		native("other loopback name", "http://localhost:1/cb"),
		native("userinfo", "http://127.0.0.1:1@evil.example/cb"),
		native("longer host", "http://127.0.0.1.evil.example/cb"),
		native("backslash", `http://127.0.0.1:1\@evil.example/cb`),
		native("query", "http://127.0.0.1:1/cb?x=y"),
		native("fragment", "http://127.0.0.1:1/cb#x"),
		native("https", "https://127.0.0.1/cb"),
	}
	for name, uri := range map[string]string{
		"prefix": webBack + ".evil.example", "longer path": webBack + "/x", "path above": "https://app.example/", "dot segments": "https://app.example/x/../callback",
		"percent": "https://app.example/%63allback", "port": "https://app.example:8443/callback", "default port": "https://app.example:443/callback",
		"userinfo": "https://app.example@evil.example/callback", "upper case": "https://APP.example/callback", "query": webBack + "?next=https://evil.example",
		"fragment": webBack + "#", "http": "http://app.example/callback", "javascript": "javascript:alert(1)//app.example/callback", "data": "data:text/html,x",
		"protocol relative": "//evil.example/callback", "backslash": `https://app.example\@evil.example/callback`, "trailing dot": "https://app.example./callback",
		"space": webBack + " ", "line end": webBack + "\r\nLocation: https://evil.example", "NUL": webBack + "\x00",
	} {
		a := with("redirect: "+name, "redirect_mismatch", "redirect_uri", uri)
		a.shows = `location ""`
		out = append(out, a)
	}
	return out
}

// redeem shows a code at the token endpoint, with parameters changed.
func (w *world) redeem(f *flow, code string, more url.Values) answer {
	w.t.Helper()
	p := url.Values{
		"grant_type": {"authorization_code"}, "client_id": {f.ask.Get("client_id")}, "code": {code}, "code_verifier": {f.verifier},
		"redirect_uri": {f.ask.Get("redirect_uri")}, "resource": {f.ask.Get("resource")},
	}
	for k, v := range more {
		if p[k] = v; len(v) == 0 {
			p.Del(k)
		}
	}
	return w.post("token", p, nil)
}

// codes are codes in the wrong hands.
func codes(ada *browser) []attack {
	with := func(name, reason string, more url.Values) attack {
		return attack{name, func(w *world) answer {
			f := w.flow("web", webBack)
			return w.redeem(f, ada.get(f.address(w)).code(), more)
		}, step{"", reasonOf(reason)}, ""}
	}
	long := strings.Repeat("v", 43)
	return []attack{
		with("intercepted code without verifier", "pkce_mismatch", url.Values{"code_verifier": nil}),
		with("intercepted code with another verifier", "pkce_mismatch", url.Values{"code_verifier": {long}}),
		with("verifier too short", "pkce_mismatch", url.Values{"code_verifier": {"v"}}),
		with("code shown by another client", "code_of_another", url.Values{"client_id": {"other"}}),
		with("code with another redirect", "redirect_mismatch", url.Values{"redirect_uri": {"https://other.example/callback"}}),
		with("code for another resource", "resource_mismatch", url.Values{"resource": {"https://evil.example"}}),
		with("guessed code", "code_unknown", url.Values{"code": {"AAAAAAAAAAAAAAAAAAAAAAAAAA"}}),
		with("empty code", "code_unknown", url.Values{"code": {""}}),
		{"challenge as verifier", func(w *world) answer {
			f := w.flow("web", webBack)
			return w.redeem(f, ada.get(f.address(w)).code(), url.Values{"code_verifier": {challenge(f.verifier)}})
		}, step{"", "pkce_mismatch"}, ""},
		{"code used again", func(w *world) answer {
			f := w.flow("web", webBack)
			code := ada.get(f.address(w)).code()
			first := w.redeem(f, code, nil)
			got := w.redeem(f, code, nil)
			w.refused(first.member("access_token"), step{"JIT-04", "revoked"})
			if again := w.refresh(first.member("refresh_token"), "web", nil); again.granted() {
				w.t.Errorf("the refresh token of a replayed code lives: %s", again)
			}
			return got
		}, step{"", "code_reused"}, ""},
		{"code of a downgraded verifier stays used", func(w *world) answer {
			f := w.flow("web", webBack)
			code := ada.get(f.address(w)).code()
			w.redeem(f, code, url.Values{"code_verifier": {long}})
			return w.redeem(f, code, nil)
		}, step{"", "code_reused"}, ""},
		{"parameters in the query", func(w *world) answer {
			f := w.flow("web", webBack)
			code := ada.get(f.address(w)).code()
			return w.post("token?grant_type=authorization_code&code="+code, url.Values{}, nil)
		}, step{"", "invalid_request"}, ""},
		{"code bound to a key, shown without it", func(w *world) answer {
			f := w.flow("web", webBack)
			key, err := jose.NewSigner()
			if err != nil {
				w.t.Fatal(err)
			}
			f.ask.Set("dpop_jkt", key.KeyID())
			return w.redeem(f, ada.get(f.address(w)).code(), nil)
		}, step{"", "key_mismatch"}, ""},
	}
}

// member is a text member of a JSON answer.
func (a answer) member(name string) string {
	var m map[string]any
	if json.Unmarshal([]byte(a.text), &m) != nil {
		return ""
	}
	s, _ := m[name].(string)
	return s
}

// refused checks that a token is refused at server a at once, by a step.
func (w *world) refused(token string, want step) {
	w.t.Helper()
	got := w.send(call{token: token})
	if token == "" || got.passed() || !strings.Contains(got.text, string(want.reason)) || !strings.Contains(got.text, string(want.control)) {
		w.t.Errorf("want %s: %s", want, got)
	}
}

// family is a fresh refresh token of the client web.
func (w *world) family(ada *browser, header http.Header) string {
	w.t.Helper()
	f := w.flow("web", webBack)
	code := ada.get(f.address(w)).code()
	got := w.post("token", url.Values{"grant_type": {"authorization_code"}, "client_id": {"web"}, "code": {code}, "code_verifier": {f.verifier}}, header)
	if got.member("refresh_token") == "" {
		w.t.Fatalf("no refresh token: %s", got)
	}
	return got.member("refresh_token")
}

func (w *world) refresh(token, client string, header http.Header) answer {
	w.t.Helper()
	return w.post("token", url.Values{"grant_type": {"refresh_token"}, "client_id": {client}, "refresh_token": {token}}, header)
}

// bound is the proof of a key at the token endpoint.
func (w *world) bound(key *jose.Signer) http.Header {
	w.t.Helper()
	p, err := jose.ProverOf(key, nil).Proof(http.MethodPost, w.base+"/issuer/token", "", "")
	if err != nil {
		w.t.Fatal(err)
	}
	return http.Header{"Dpop": {p}}
}

// refreshes are refresh tokens in the wrong hands.
func refreshes(ada *browser) []attack {
	none := func(reason string) step { return step{"", reasonOf(reason)} }
	keyed := func(name string, header func(w *world) http.Header) attack {
		return attack{name, func(w *world) answer {
			key, err := jose.NewSigner()
			if err != nil {
				w.t.Fatal(err)
			}
			token := w.family(ada, w.bound(key))
			got := w.refresh(token, "web", header(w))
			if honest := w.refresh(token, "web", w.bound(key)); !honest.granted() {
				w.t.Errorf("near miss: with its own key: %s", honest)
			}
			return got
		}, none("key_mismatch"), ""}
	}
	return []attack{
		{"used twice", func(w *world) answer {
			old := w.family(ada, nil)
			next := w.refresh(old, "web", nil)
			got := w.refresh(old, "web", nil)
			w.refused(next.member("access_token"), step{"JIT-04", "revoked"})
			if young := w.refresh(next.member("refresh_token"), "web", nil); young.granted() {
				w.t.Errorf("the youngest of the family lives: %s", young)
			}
			return got
		}, none("refresh_dead"), ""},
		{"by another client", func(w *world) answer { return w.refresh(w.family(ada, nil), "other", nil) }, none("refresh_dead"), ""},
		{"guessed secret", func(w *world) answer {
			id, _, _ := strings.Cut(w.family(ada, nil), ".")
			return w.refresh(id+".AAAAAAAAAAAAAAAAAAAAAAAAAA", "web", nil)
		}, none("refresh_dead"), ""},
		{"unknown", func(w *world) answer { return w.refresh("wr_AAAA.BBBB", "web", nil) }, none("refresh_unknown"), ""},
		{"an access token as one", func(w *world) answer { return w.refresh(w.mint(claimsOf("ada")), "web", nil) }, none("refresh_unknown"), ""},
		{"wider scope", func(w *world) answer {
			return w.post("token", url.Values{"grant_type": {"refresh_token"}, "client_id": {"web"}, "refresh_token": {w.family(ada, nil)}, "scope": {"admin"}}, nil)
		}, none("scope_wider"), ""},
		{"other resource", func(w *world) answer {
			return w.post("token", url.Values{"grant_type": {"refresh_token"}, "client_id": {"web"}, "refresh_token": {w.family(ada, nil)}, "resource": {w.resource("b")}}, nil)
		}, none("resource_mismatch"), ""},
		keyed("without the key it is bound to", func(*world) http.Header { return nil }),
		keyed("with another key", func(w *world) http.Header {
			key, err := jose.NewSigner()
			if err != nil {
				w.t.Fatal(err)
			}
			return w.bound(key)
		}),
	}
}

// dead checks that a login that ended takes its refresh tokens and access tokens along.
func (w *world) dead(ada *browser) {
	w.t.Helper()
	f := w.flow("web", webBack)
	got := w.redeem(f, ada.get(f.address(w)).code(), nil)
	ada.get("/issuer/logout")
	ada.submit("/logout", nil)
	w.refused(got.member("access_token"), step{"JIT-04", "revoked"})
	if again := w.refresh(got.member("refresh_token"), "web", nil); again.granted() {
		w.t.Errorf("the refresh token outlives the login: %s", again)
	}
}
