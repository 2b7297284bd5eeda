package network

import (
	"crypto/tls"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/warder-mcp/warder"
)

func TestPRT03(t *testing.T) {
	t.Parallel()
	const loop, public = "127.0.0.1:8080", "198.51.100.1:443"
	own := []string{"gate.example.com", "alias.example.com:8443", "[2001:db8::1]"}
	sites := []string{"https://console.example.com", "http://[2001:db8::2]:3000", "http://localhost:6274"}
	tests := []struct {
		name   string
		local  string
		host   string
		origin []string
		header map[string][]string
		secure bool
		want   warder.Reason
	}{
		{"pass/no origin", loop, "localhost:8080", nil, nil, false, ""},
		{"pass/loopback address", loop, "127.0.0.1:8080", nil, nil, false, ""},
		{"pass/loopback IPv6", "[::1]:8080", "[::1]:8080", nil, nil, false, ""},
		{"pass/forwarded port", loop, "localhost:9999", nil, nil, false, ""},
		{"pass/own origin", loop, "localhost:8080", []string{"http://localhost:8080"}, nil, false, ""},
		{"pass/own origin behind tls", public, "gate.example.com", []string{"https://gate.example.com"}, nil, true, ""},
		{"pass/listed host, any port", public, "gate.example.com:8443", nil, nil, true, ""},
		{"pass/listed host and port", public, "alias.example.com:8443", nil, nil, true, ""},
		{"pass/listed IPv6", public, "[2001:DB8:0::1]:443", nil, nil, true, ""},
		{"pass/listed origin", public, "gate.example.com", []string{"https://console.example.com"}, nil, true, ""},
		{"pass/listed origin with the scheme's port", public, "gate.example.com", []string{"https://console.example.com:443"}, nil, true, ""},
		{"pass/listed IPv6 origin", public, "gate.example.com", []string{"http://[2001:db8::2]:3000"}, nil, true, ""},
		{"pass/same-origin fetch", loop, "localhost:8080", nil, map[string][]string{"Sec-Fetch-Site": {"same-origin"}}, false, ""},
		{"near_miss/upper case host", public, "GATE.Example.com", nil, nil, true, ""},
		{"near_miss/trailing dot in host", public, "gate.example.com.:443", nil, nil, true, ""},
		{"near_miss/upper case origin", public, "gate.example.com", []string{"HTTPS://Console.example.com"}, nil, true, ""},

		{"deny/rebound name", loop, "attacker.example:8080", nil, nil, false, "host_not_allowed"},
		{"deny/rebound name with its origin", loop, "attacker.example:8080", []string{"http://attacker.example:8080"}, nil, false, "host_not_allowed"},
		{"deny/loopback name from outside", public, "localhost", nil, nil, true, "host_not_allowed"},
		{"deny/name that begins with localhost", loop, "localhost.attacker.example:8080", nil, nil, false, "host_not_allowed"},
		{"deny/name that ends in ours", public, "evilgate.example.com", nil, nil, true, "host_not_allowed"},
		{"deny/subdomain of ours", public, "x.gate.example.com", nil, nil, true, "host_not_allowed"},
		{"deny/listed host, other port", public, "alias.example.com", nil, nil, true, "host_not_allowed"},
		{"deny/empty host", loop, "", nil, nil, false, "host_not_allowed"},
		{"deny/user in host", loop, "localhost@attacker.example", nil, nil, false, "host_not_allowed"},
		{"deny/user before our host", loop, "x@localhost:8080", nil, nil, false, "host_not_allowed"},
		{"deny/two dots", public, "gate.example.com..", nil, nil, true, "host_not_allowed"},
		{"deny/port zero", loop, "localhost:0", nil, nil, false, "host_not_allowed"},
		{"deny/port with leading zero", loop, "localhost:08080", nil, nil, false, "host_not_allowed"},
		{"deny/port too large", loop, "localhost:65536", nil, nil, false, "host_not_allowed"},
		{"deny/two ports", loop, "localhost:80:80", nil, nil, false, "host_not_allowed"},
		{"deny/IPv6 zone", "[::1]:8080", "[::1%25lo]:8080", nil, nil, false, "host_not_allowed"},
		{"deny/IPv6 without brackets", "[::1]:8080", "::1", nil, nil, false, "host_not_allowed"},
		{"deny/text after bracket", "[::1]:8080", "[::1]x:80", nil, nil, false, "host_not_allowed"},
		{"deny/short IPv4", loop, "127.1:8080", nil, nil, false, "host_not_allowed"},
		{"deny/decimal IPv4", loop, "2130706433:8080", nil, nil, false, "host_not_allowed"},
		{"deny/any address", loop, "0.0.0.0:8080", nil, nil, false, "host_not_allowed"},
		{"deny/kelvin sign", public, "\u212aate.example.com", nil, nil, true, "host_not_allowed"},
		{"deny/white space", loop, "localhost:8080 ", nil, nil, false, "host_not_allowed"},
		{"deny/second host header", loop, "localhost:8080", nil, map[string][]string{"Host": {"attacker.example"}}, false, "host_not_allowed"},
		{"deny/host header twice", loop, "localhost:8080", nil, map[string][]string{"Host": {"localhost:8080", "localhost:8080"}}, false, "host_not_allowed"},

		{"deny/foreign origin", loop, "localhost:8080", []string{"http://attacker.example"}, nil, false, "origin_not_allowed"},
		{"deny/null origin", loop, "localhost:8080", []string{"null"}, nil, false, "origin_not_allowed"},
		{"deny/empty origin", loop, "localhost:8080", []string{""}, nil, false, "origin_not_allowed"},
		{"deny/another local port", loop, "localhost:8080", []string{"http://localhost:3000"}, nil, false, "origin_not_allowed"},
		{"deny/another loopback name", loop, "localhost:8080", []string{"http://127.0.0.1:8080"}, nil, false, "origin_not_allowed"},
		{"deny/other scheme", public, "gate.example.com", []string{"http://gate.example.com"}, nil, true, "origin_not_allowed"},
		{"deny/listed host, other scheme", public, "gate.example.com", []string{"http://console.example.com"}, nil, true, "origin_not_allowed"},
		{"deny/listed host, other port", public, "gate.example.com", []string{"https://console.example.com:8443"}, nil, true, "origin_not_allowed"},
		{"deny/trailing dot", public, "gate.example.com", []string{"https://console.example.com."}, nil, true, "origin_not_allowed"},
		{"deny/trailing dot before port", public, "gate.example.com", []string{"https://console.example.com.:443"}, nil, true, "origin_not_allowed"},
		{"deny/user in origin", public, "gate.example.com", []string{"https://console.example.com@attacker.example"}, nil, true, "origin_not_allowed"},
		{"deny/path", public, "gate.example.com", []string{"https://console.example.com/"}, nil, true, "origin_not_allowed"},
		{"deny/list of origins", public, "gate.example.com", []string{"https://console.example.com https://attacker.example"}, nil, true, "origin_not_allowed"},
		{"deny/extension scheme", public, "gate.example.com", []string{"chrome-extension://console.example.com"}, nil, true, "origin_not_allowed"},
		{"deny/two origin headers", public, "gate.example.com", []string{"https://console.example.com", "https://attacker.example"}, nil, true, "origin_repeated"},
		{"deny/cross-site without origin", loop, "localhost:8080", nil, map[string][]string{"Sec-Fetch-Site": {"cross-site"}}, false, "cross_site"},
		{"deny/same-site without origin", loop, "localhost:8080", nil, map[string][]string{"Sec-Fetch-Site": {"none", "same-site"}}, false, "cross_site"},
		{"dependency_killed/unknown local address", "0.0.0.0:0", "localhost:8080", nil, nil, false, "host_not_allowed"},
	}
	c, err := newOrigins(own, sites)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := overTCP("127.0.0.1:40000", tt.local)
			x.Conn.Host = tt.host
			if tt.secure {
				x.Conn.TLS = &tls.ConnectionState{}
			}
			maps.Copy(x.Conn.Header, tt.header)
			if tt.origin != nil {
				x.Conn.Header["Origin"] = tt.origin
			}
			check(t, c, x, warder.CodeForbiddenOrigin, tt.want)
		})
	}
	t.Run("pass/stdio has no host", func(t *testing.T) {
		t.Parallel()
		check(t, c, &warder.Exchange{Door: warder.DoorStdio}, "", "")
	})
}

// A browser page rebinds its name to the loopback listener: a real connection to 127.0.0.1 that
// bears the attacker's name. The same connection with our name passes.
func TestPRT03Rebinding(t *testing.T) {
	t.Parallel()
	c, err := newOrigins(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		local, _ := r.Context().Value(http.LocalAddrContextKey).(interface{ String() string })
		x := &warder.Exchange{Door: warder.DoorHTTP, Conn: warder.Conn{
			Peer: netip.MustParseAddrPort(r.RemoteAddr), Local: netip.MustParseAddrPort(local.String()),
			Host: r.Host, Header: r.Header,
		}}
		d, err := c.Intercept(r.Context(), x)
		if err != nil || d.Verdict != warder.Pass {
			w.WriteHeader(d.Code.Face().Status)
		}
	}))
	t.Cleanup(srv.Close)
	addr := srv.Listener.Addr().String()
	for _, tt := range []struct {
		host, origin string
		want         int
	}{
		{addr, "", http.StatusOK},
		{addr, "http://" + addr, http.StatusOK},
		{"rebound.attacker.example", "", http.StatusForbidden},
		{"rebound.attacker.example", "http://rebound.attacker.example", http.StatusForbidden},
		{addr, "http://rebound.attacker.example", http.StatusForbidden},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = tt.host
		if tt.origin != "" {
			req.Header.Set("Origin", tt.origin)
		}
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != tt.want {
			t.Errorf("Host %q, Origin %q: status %d, want %d", tt.host, tt.origin, resp.StatusCode, tt.want)
		}
	}
}

func FuzzAuthority(f *testing.F) {
	for _, s := range []string{"localhost:8080", "[::1]:80", "a.b.:1", "x@y", "[::ffff:127.0.0.1]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, ok := parseAuthority(s)
		if !ok {
			return
		}
		text := site{"x", a}.String()[len("x://"):]
		if a.port == 0 {
			text = strings.TrimSuffix(text, ":0")
		}
		if again, ok := parseAuthority(text); !ok || again != a {
			t.Errorf("normal form of %q is %+v, read again from %q %+v", s, a, text, again)
		}
	})
}

func BenchmarkConnect(b *testing.B) {
	l, err := New(Config{AllowedHosts: []string{"gate.example.com"}, AllowedOrigins: []string{"https://console.example.com"}})
	if err != nil {
		b.Fatal(err)
	}
	x := overTCP("192.0.2.7:40000", "198.51.100.1:443")
	x.Conn.TLS = &tls.ConnectionState{HandshakeComplete: true, Version: tls.VersionTLS13}
	x.Conn.Host = "gate.example.com"
	x.Conn.Header["Origin"] = []string{"https://console.example.com"}
	b.ReportAllocs()
	for b.Loop() {
		for _, c := range l.Connect {
			if d, err := c.Intercept(b.Context(), x); err != nil || d.Verdict != warder.Pass {
				b.Fatal(d, err)
			}
		}
	}
}
