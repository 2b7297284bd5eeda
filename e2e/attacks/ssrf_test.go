package attacks

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// inside are the names of an address in this machine or network, as attackers write them. %PORT% is that of
// a server on loopback that must not be asked.
func inside() map[string]string {
	return map[string]string{
		"decimal": "2130706433:%PORT%", "octal": "0177.0.0.1:%PORT%", "hex": "0x7f000001:%PORT%", "hex parts": "0x7f.0.0.1:%PORT%", "short": "127.1:%PORT%",
		"zero": "0.0.0.0:%PORT%", "zero alone": "0:%PORT%", "other loopback": "127.0.0.2:%PORT%", "localhost": "localhost:%PORT%", "localhost with a dot": "localhost.:%PORT%",
		"trailing dot": "127.0.0.1.:%PORT%", "IPv6 loopback": "[::1]:%PORT%", "IPv6 unspecified": "[::]:%PORT%", "IPv4-mapped": "[::ffff:127.0.0.1]:%PORT%",
		"IPv4-mapped hex": "[::ffff:7f00:1]:%PORT%", "IPv4-compatible": "[::7f00:1]:%PORT%", "IPv4-translated": "[::ffff:0:7f00:1]:%PORT%", "NAT64": "[64:ff9b::7f00:1]:%PORT%",
		"NAT64 local": "[64:ff9b:1::7f00:1]:%PORT%", "6to4": "[2002:7f00:1::]:%PORT%", "Teredo": "[2001:0:7f00:1::80ff:fffe]:%PORT%", "ISATAP": "[fe80::5efe:7f00:1]:%PORT%",
		"link-local": "169.254.1.1", "metadata": "169.254.169.254", "metadata decimal": "2852039166", "metadata IPv6": "[fd00:ec2::254]", "metadata name": "metadata.google.internal",
		"zone id": "[fe80::1%25lo]:%PORT%", "unique local": "[fc00::1]", "private 10": "10.0.0.1", "private 172": "172.16.0.1", "private 192": "192.168.0.1",
		"carrier": "100.64.0.1", "multicast": "224.0.0.1", "broadcast": "255.255.255.255", "benchmark": "198.18.0.1", "documentation": "192.0.2.1",
		"full-width digits": "１２７.0.0.1:%PORT%", "circled digits": "①②⑦.⓪.⓪.①:%PORT%", "ideographic stop": "127。0。0。1:%PORT%", "percent": "127%2e0%2e0%2e1:%PORT%",
		"userinfo": "example.com@127.0.0.1:%PORT%", "backslash": `example.com\@127.0.0.1:%PORT%`, "upper case": "LOCALHOST:%PORT%",
	}
}

// A victim is a server on loopback, over TLS, that serves client metadata and counts who asks.
type victim struct {
	*httptest.Server
	asked atomic.Int64
	serve func(w http.ResponseWriter, r *http.Request)
}

func newVictim(t *testing.T) *victim {
	t.Helper()
	v := &victim{}
	v.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v.asked.Add(1)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		v.serve(w, r)
	}))
	t.Cleanup(v.Close)
	return v
}

// testSSRF has the gateway fetch what attackers name: client metadata documents, and key sets that clients
// register (AUT-08).
func testSSRF(t *testing.T, n *tally) {
	t.Helper()
	v := newVictim(t)
	v.serve = func(http.ResponseWriter, *http.Request) {}
	encodings(t, n, v)
	documents(t, n, v)
	if got := v.asked.Load(); got != 0 {
		t.Errorf("the server inside was asked %d times", got)
	}
}

// encodings name the server inside in every way.
func encodings(t *testing.T, n *tally, v *victim) {
	t.Helper()
	w := newWorld(t, n, setup{Issuer: interactive + `
  cimd: {allow: ["*"], deny: ["evil.example"]}`, More: everything})
	ada := w.login("ada")
	port := v.URL[strings.LastIndexByte(v.URL, ':')+1:]
	unusable := step{"", "document_unusable"}
	at := func(name, address string, want step) attack {
		return attack{"metadata document: " + name, func(w *world) answer {
			return ada.get(w.flow(address+"/client.json", "https://app.example/callback").address(w))
		}, want, `location ""`}
	}
	hosts := inside()
	hosts["the address itself"], hosts["another port"] = "127.0.0.1:%PORT%", "127.0.0.1:22"
	var attacks []attack
	for name, host := range hosts {
		want := unusable
		switch name {
		case "userinfo", "backslash", "upper case", "percent":
			want = step{"", "client_id_malformed"}
		}
		attacks = append(attacks, at(name, "https://"+strings.ReplaceAll(host, "%PORT%", port), want))
	}
	attacks = append(attacks, at("a denied host", "https://evil.example", step{"AUT-02", "client_host_denied"}))
	w.try(func(w *world) answer { return ada.get(w.flow("web", webBack).address(w)) }, answer.granted, attacks)
	keys := w.keySets(hosts, port)
	w.try(func(w *world) answer { return ada.get(w.flow("web", webBack).address(w)) }, answer.granted, keys)
	w.logos(v)
}

// keySets are clients that say that their keys are inside.
func (w *world) keySets(hosts map[string]string, port string) []attack {
	var out []attack
	for name, host := range hosts {
		want := step{"", "unavailable"}
		switch name {
		case "backslash", "percent", "userinfo":
			want = step{"AUT-02", "metadata_unusable"}
		}
		out = append(out, attack{"key set: " + name, func(w *world) answer { return w.keySetAt(strings.ReplaceAll(host, "%PORT%", port)) }, want, ""})
	}
	return out
}

// documents has the gateway fetch documents that are not what they should be, from a host that it may ask.
func documents(t *testing.T, n *tally, v *victim) {
	t.Helper()
	w := newWorld(t, n, setup{Issuer: interactive + `
  cimd: {allow: ["127.0.0.1"]}`, More: everything})
	honest := newVictim(t)
	honest.serve = documentsOf(v.URL)
	ada := w.login("ada")
	at := func(path string) func(w *world) answer {
		return func(w *world) answer {
			ada.get(w.flow(honest.URL+path, "https://app.example/callback").address(w))
			if len(ada.fields("/consent")) == 0 {
				return ada.last
			}
			return ada.submit("/consent", url.Values{"decision": {"allow"}})
		}
	}
	unusable := step{"", "document_unusable"}
	var attacks []attack
	for path, want := range map[string]step{
		"/redirect": unusable, "/huge": unusable, "/slow": unusable, "/html": unusable, "/twice": unusable, "/list": unusable, "/gone": unusable, "/flood": unusable,
		"/other": {"AUT-02", "document_of_another"}, "/slash": {"AUT-02", "document_of_another"}, "/secret": {"AUT-02", "document_has_secret"},
		"/basic": {"AUT-02", "document_auth_method"}, "/keyless": {"AUT-02", "document_without_keys"}, "/evil": {"", "redirect_mismatch"}, "/javascript": unusable,
	} {
		attacks = append(attacks, attack{"metadata document that is " + path[1:], at(path), want, `location ""`})
	}
	w.try(at("/good"), answer.granted, attacks)
}

// documentsOf serves metadata documents, good and bad, by path; inside is where bad ones lead.
func documentsOf(inside string) func(w http.ResponseWriter, r *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		self := "https://" + r.Host + r.URL.Path
		document := func(id, more string) string {
			return `{"client_id":"` + id + `","client_name":"x","redirect_uris":["https://app.example/callback"]` + more + `}`
		}
		text := document(self, "")
		switch r.URL.Path {
		case "/redirect":
			http.Redirect(w, r, inside+"/client.json", http.StatusFound)
			return
		case "/gone":
			w.WriteHeader(http.StatusNotFound)
			return
		case "/huge":
			text = document(self, `,"x":"`+strings.Repeat("x", 1<<20)+`"`)
		case "/flood":
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat(" ", 1<<16)); err != nil {
					return
				}
			}
		case "/slow":
			select {
			case <-r.Context().Done():
			case <-time.After(8 * time.Second):
			}
		case "/html":
			w.Header().Set("Content-Type", "text/html")
		case "/twice":
			text = document(self, `,"client_id":"`+self+`"`)
		case "/list":
			text = "[" + text + "]"
		case "/other":
			text = document("https://"+r.Host+"/good", "")
		case "/slash":
			text = document(self+"/", "")
		case "/secret":
			text = document(self, `,"client_secret":"x"`)
		case "/basic":
			text = document(self, `,"token_endpoint_auth_method":"client_secret_basic"`)
		case "/keyless":
			text = document(self, `,"token_endpoint_auth_method":"private_key_jwt"`)
		case "/evil":
			text = strings.Replace(text, "app.example", "evil.example", 1)
		case "/javascript":
			text = strings.Replace(text, "https://app.example/callback", "javascript:alert(1)", 1)
		}
		_, _ = io.WriteString(w, text) // the gateway may be gone
	}
}

// keySetAt registers a client whose keys are at an address inside, and authenticates as it.
func (w *world) keySetAt(host string) answer {
	w.t.Helper()
	body, err := json.Marshal(map[string]any{
		"redirect_uris": []string{"https://app.example/callback"}, "token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://" + host + "/jwks.json",
	})
	if err != nil {
		w.t.Fatal(err)
	}
	req := w.request(http.MethodPost, w.base+"/issuer/register", string(body))
	req.Header.Set("Content-Type", "application/json")
	got := w.do(req)
	id := got.member("client_id")
	if id == "" {
		return got // refused at once
	}
	s := &service{w, newForger(w.t), id}
	return s.token(map[string][]string{"grant_type": {"authorization_code"}, "code": {"x"}}, s.assertion(nil))
}

// logos registers a client whose logo and pages are inside: nobody fetches them.
func (w *world) logos(v *victim) {
	w.t.Helper()
	req := w.request(http.MethodPost, w.base+"/issuer/register", `{"redirect_uris":["https://app.example/callback"],"logo_uri":"`+v.URL+`/l","client_uri":"`+v.URL+`/c","policy_uri":"`+v.URL+`/p","tos_uri":"`+v.URL+`/t"}`)
	req.Header.Set("Content-Type", "application/json")
	id := w.do(req).member("client_id")
	bob := w.login("bob")
	got := bob.get(w.flow(id, "https://app.example/callback").address(w))
	if !strings.Contains(got.text, `action="/issuer/consent"`) || strings.Contains(got.text, "<img") || v.asked.Load() != 0 {
		w.t.Errorf("logo: asked %d times: %s", v.asked.Load(), got)
	}
}
