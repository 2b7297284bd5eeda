package forwarded_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/warder-mcp/warder/internal/forwarded"
)

// from is a request from an address with values of a header.
func from(remote, header string, values ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/mcp/x", http.NoBody)
	r.RemoteAddr = remote
	for _, v := range values {
		r.Header.Add(header, v)
	}
	return r
}

func TestRequest(t *testing.T) {
	t.Parallel()
	const xff, fwd = "X-Forwarded-For", "Forwarded"
	const proxy, stranger = "10.0.0.7:1234", "203.0.113.5:999"
	tests := []struct {
		name, remote, header string
		values               []string
		want                 string
	}{
		{"a stranger says what it likes", stranger, xff, []string{"10.1.1.1"}, stranger},
		{"the proxy names its client", proxy, xff, []string{"198.51.100.2"}, "198.51.100.2:0"},
		{"the proxy itself", proxy, xff, nil, proxy},
		{"a client put addresses before", proxy, xff, []string{"10.1.1.1, 127.0.0.1, 198.51.100.2"}, "198.51.100.2:0"},
		{"a client put a header before", proxy, xff, []string{"10.1.1.1", "198.51.100.2"}, "198.51.100.2:0"},
		{"two proxies", proxy, xff, []string{"198.51.100.2, 10.0.0.9"}, "198.51.100.2:0"},
		{"only proxies", proxy, xff, []string{"10.0.0.8,10.0.0.9"}, "10.0.0.8:0"},
		{"with a port", proxy, xff, []string{"198.51.100.2:4711"}, "198.51.100.2:0"},
		{"IPv6", proxy, xff, []string{"2001:db8::1"}, "[2001:db8::1]:0"},
		{"IPv6 in brackets", proxy, xff, []string{"[2001:db8::1]"}, "[2001:db8::1]:0"},
		{"IPv6 with a port", proxy, xff, []string{"[2001:db8::1]:80"}, "[2001:db8::1]:0"},
		{"IPv4 in IPv6 is IPv4", proxy, xff, []string{"::ffff:198.51.100.2"}, "198.51.100.2:0"},
		{"the connection is IPv4 in IPv6", "[::ffff:10.0.0.7]:1", xff, []string{"198.51.100.2"}, "198.51.100.2:0"},
		{"garbage where the proxy writes", proxy, xff, []string{"198.51.100.2, nobody"}, "unknown"},
		{"garbage before what the proxy writes", proxy, xff, []string{"nobody, \", 198.51.100.2"}, "198.51.100.2:0"},
		{"empty", proxy, xff, []string{""}, "unknown"},
		{"a zone", proxy, xff, []string{"fe80::1%eth0"}, "unknown"},
		{"leading zeros", proxy, xff, []string{"198.051.100.002"}, "unknown"},
		{"too long", proxy, xff, []string{strings.Repeat("1", 5000) + ", 198.51.100.2"}, "unknown"},
		{"too many proxies", proxy, xff, []string{"198.51.100.2" + strings.Repeat(",10.0.0.9", 40)}, "unknown"},
		{"the other header is not read", proxy, fwd, []string{"for=198.51.100.2"}, proxy},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, err := forwarded.New([]string{"10.0.0.0/24", "2001:db8:ffff::1"}, "")
			if err != nil {
				t.Fatal(err)
			}
			r := from(tt.remote, tt.header, tt.values...)
			got := p.Request(r)
			if got.RemoteAddr != tt.want {
				t.Errorf("RemoteAddr = %q, want %q", got.RemoteAddr, tt.want)
			}
			if r.RemoteAddr != tt.remote {
				t.Errorf("the request itself was changed to %q", r.RemoteAddr)
			}
			hop, through := forwarded.Hop(got.Context())
			if through != (tt.want != tt.remote) || through && hop != netip.MustParseAddrPort(tt.remote) {
				t.Errorf("hop = %v %t", hop, through)
			}
		})
	}
}

func TestForwarded(t *testing.T) {
	t.Parallel()
	p, err := forwarded.New([]string{"10.0.0.0/24"}, forwarded.Forwarded)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ value, want string }{
		"plain":               {`for=198.51.100.2`, "198.51.100.2:0"},
		"other pairs":         {`proto=https;by=10.0.0.7; For="198.51.100.2:80" ;host="a,b"`, "198.51.100.2:0"},
		"IPv6":                {`for="[2001:db8::1]:4711"`, "[2001:db8::1]:0"},
		"a client before":     {`for=10.1.1.1, for=198.51.100.2`, "198.51.100.2:0"},
		"two proxies":         {`for=198.51.100.2,for=10.0.0.9;proto=http`, "198.51.100.2:0"},
		"hidden":              {`for=198.51.100.2, for=_secret`, "unknown"},
		"unknown":             {`for=unknown`, "unknown"},
		"no for":              {`for=198.51.100.2, proto=https`, "unknown"},
		"two fors":            {`for=198.51.100.2;for=198.51.100.3`, "unknown"},
		"quote swallows":      {`for="198.51.100.9, for=198.51.100.2`, "unknown"},
		"escaped":             {`for="198.51.100\.2"`, "198.51.100.2:0"},
		"garbage":             {`;;`, "unknown"},
		"bare IPv6":           {`for=2001:db8::1`, "unknown"},
		"control character":   {"for=\"198.51.100.2\x01\"", "unknown"},
		"text after a string": {`for="198.51.100.2"x`, "unknown"},
	} {
		if got := p.Request(from("10.0.0.7:1", "Forwarded", tt.value)); got.RemoteAddr != tt.want {
			t.Errorf("%s: %q, want %q", name, got.RemoteAddr, tt.want)
		}
	}
	if got := p.Request(from("10.0.0.7:1", "X-Forwarded-For", "198.51.100.2")); got.RemoteAddr != "10.0.0.7:1" {
		t.Errorf("the other header was read: %q", got.RemoteAddr)
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "proxy.example.com", "10.0.0.1/24", "0.0.0.0/0", "::/0", "fe80::1%eth0", "10.0.0.0/33"} {
		if _, err := forwarded.New([]string{bad}, ""); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if _, err := forwarded.New([]string{"10.0.0.1"}, "x-real-ip"); err == nil {
		t.Error("an unknown header was taken")
	}
	none, err := forwarded.New(nil, "")
	if err != nil || none != nil {
		t.Errorf("no proxies: %v, %v", none, err)
	}
	if r := from("127.0.0.1:1", "X-Forwarded-For", "10.0.0.1"); none.Request(r) != r {
		t.Error("a header was read where no proxy is listed")
	}
}

// FuzzRequest proves that whatever a client writes, the address is the one that the proxy wrote.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{"", "10.0.0.9", `for="[::1]"`, `for="`, "a,b,,", "198.51.100.9", strings.Repeat("10.0.0.9,", 40)} {
		f.Add(seed)
	}
	x, err1 := forwarded.New([]string{"10.0.0.0/24"}, "")
	fw, err2 := forwarded.New([]string{"10.0.0.0/24"}, forwarded.Forwarded)
	if err1 != nil || err2 != nil {
		f.Fatal(err1, err2)
	}
	f.Fuzz(func(t *testing.T, by string) {
		for _, r := range []*http.Request{
			x.Request(from("10.0.0.7:1", "X-Forwarded-For", by, "198.51.100.2")),
			fw.Request(from("10.0.0.7:1", "Forwarded", by, "for=198.51.100.2")),
		} {
			if r.RemoteAddr != "198.51.100.2:0" && r.RemoteAddr != "unknown" {
				t.Errorf("after %q: %q", by, r.RemoteAddr)
			}
		}
	})
}
