package attacks

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
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
	w := newWorld(t, n, setup{Issuer: interactive, More: everything})
	v := newVictim(t)
	v.serve = func(http.ResponseWriter, *http.Request) {}
	ada := w.login("ada")
	port := v.URL[strings.LastIndexByte(v.URL, ':')+1:]
	unusable := step{"", "document_unusable"}
	var documents, keys []attack
	for name, host := range inside() {
		host = strings.ReplaceAll(host, "%PORT%", port)
		want := unusable
		switch name {
		case "userinfo", "backslash", "upper case", "percent":
			want = step{"", "client_id_malformed"}
		}
		documents = append(documents, attack{"metadata document: " + name, func(w *world) answer {
			return ada.get(w.flow("https://"+host+"/client.json", "https://app.example/callback").address(w))
		}, want, `location ""`})
		keys = append(keys, attack{"key set: " + name, func(w *world) answer { return w.keySetAt(host) }, step{}, ""})
	}
	documents = append(documents,
		attack{"metadata document: the address itself", func(w *world) answer {
			return ada.get(w.flow(v.URL+"/client.json", "https://app.example/callback").address(w))
		}, unusable, ""},
		attack{"metadata document: another port", func(w *world) answer {
			return ada.get(w.flow("https://127.0.0.1:22/client.json", "https://app.example/callback").address(w))
		}, unusable, ""},
	)
	w.try(func(w *world) answer { return ada.get(w.flow("web", webBack).address(w)) }, answer.granted, documents)
	for _, a := range keys {
		w.tally.tried++
		w.peers.Add(1)
		if got := a.do(w); got.granted() {
			t.Errorf("%s: %s", a.name, got)
			continue
		}
		w.tally.refused++
	}
	if got := v.asked.Load(); got != 0 {
		t.Errorf("the server inside was asked %d times", got)
	}
	w.logos(v)
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
	return s.token(map[string][]string{"grant_type": {"authorization_code"}, "code": {"x"}}, s.assertion(nil), nil)
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
