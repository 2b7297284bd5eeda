package safedial

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
)

// TestAUT08 fetches URLs that servers, clients and documents name, the way they have been written to
// reach the inside.
func TestAUT08(t *testing.T) {
	t.Parallel()
	inner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away" {
			http.Redirect(w, r, "http://169.254.169.254/latest/meta-data/", http.StatusFound)
			return
		}
		_, _ = io.WriteString(w, "inside")
	}))
	t.Cleanup(inner.Close)
	const metadata = "https://169.254.169.254/latest/meta-data/"
	tests := []struct {
		name, url string
		rules     []Rule
		reason    warder.Reason // empty: fetched
	}{
		{name: "pass", url: inner.URL, rules: []Rule{{Host: "127.0.0.1", Loopback: true}}},
		{name: "pass public", url: "https://public.example/"},
		{name: "near_miss public address in v6 form", url: "https://[::ffff:93.184.216.34]/"},
		{name: "near_miss nat64 of a public address", url: "https://[64:ff9b::5db8:d822]/"},
		{name: "deny plain http to a public host", url: "http://public.example/", reason: "network_refused"},
		{name: "deny loopback", url: "https://127.0.0.1/", reason: "address_refused"},
		{name: "deny metadata service", url: metadata, reason: "address_refused"},
		{name: "deny metadata service, all private allowed", url: metadata, rules: []Rule{{Host: "*", Private: true}}, reason: "address_refused"},
		{name: "deny private", url: "https://10.0.0.1/", reason: "address_refused"},
		{name: "deny shared space", url: "https://100.64.0.1/", reason: "address_refused"},
		{name: "deny octal", url: "https://0177.0.0.1/", reason: "host_refused"},
		{name: "deny octal long", url: "https://00000177.0000000.0.1/", reason: "host_refused"},
		{name: "deny hex", url: "https://0x7f.0x0.0x0.0x1/", reason: "host_refused"},
		{name: "deny hex one number", url: "https://0x7f000001/", reason: "host_refused"},
		{name: "deny decimal", url: "https://2130706433/", reason: "host_refused"},
		{name: "deny decimal of metadata", url: "https://2852039166/", reason: "host_refused"},
		{name: "deny short", url: "https://127.1/", reason: "host_refused"},
		{name: "deny mixed", url: "https://169.254.0xa9fe/", reason: "host_refused"},
		{name: "deny mapped", url: "https://[::ffff:169.254.169.254]/", reason: "address_refused"},
		{name: "deny mapped hex", url: "https://[::ffff:a9fe:a9fe]/", reason: "address_refused"},
		{name: "deny compatible", url: "https://[::127.0.0.1]/", reason: "address_refused"},
		{name: "deny nat64", url: "https://[64:ff9b::a9fe:a9fe]/", reason: "address_refused"},
		{name: "deny nat64 local", url: "https://[64:ff9b:1::a9fe:a9fe]/", reason: "address_refused"},
		{name: "deny 6to4", url: "https://[2002:7f00:1::]/", reason: "address_refused"},
		{name: "deny teredo", url: "https://[2001:0:a9fe:a9fe::]/", reason: "address_refused"},
		{name: "deny isatap", url: "https://[2001:db9::5efe:a9fe:a9fe]/", reason: "address_refused"},
		{name: "deny unique-local metadata", url: "https://[fd00:ec2::254]/", rules: []Rule{{Host: "*", Private: true}}, reason: "address_refused"},
		{name: "deny unspecified", url: "https://0.0.0.0/", reason: "address_refused"},
		{name: "deny unspecified v6", url: "https://[::]/", reason: "address_refused"},
		{name: "deny name of the inside", url: "https://inside.example/", reason: "address_refused"},
		{name: "deny one of several addresses", url: "https://both.example/", reason: "address_refused"},
		{name: "deny localhost with a dot", url: "https://localhost./", reason: "address_refused"},
		{name: "deny userinfo", url: "https://public.example@127.0.0.1/", reason: "host_refused"},
		{name: "deny enclosed digits", url: "https://①②⑦.⓪.⓪.①/", reason: "address_refused"},
		{name: "deny scheme file", url: "file:///etc/passwd", reason: "network_refused"},
		{name: "deny scheme gopher", url: "gopher://127.0.0.1:6379/_x", reason: "network_refused"},
		{name: "deny redirect to metadata", url: inner.URL + "/away", rules: []Rule{{Host: "127.0.0.1", Loopback: true}}, reason: "redirect_refused"},
		{name: "deny port zero", url: "https://127.0.0.1:0/", reason: "-"},
		{name: "deny port too large", url: "https://public.example:65536/", reason: "-"},
	}
	resolver := &names{answers: map[string][][]string{
		"public.example": {{"93.184.216.34"}}, "inside.example": {{"10.1.2.3"}}, "both.example": {{"93.184.216.34", "127.0.0.1"}},
		"localhost.": {{"127.0.0.1"}}, "localhost": {{"127.0.0.1"}},
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var told []Refusal
			reached := errors.New("reached")
			client := New(Config{
				Allow: tt.rules, Resolver: &names{answers: resolver.answers},
				Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
					if strings.HasPrefix(address, "127.0.0.1:") && strings.HasSuffix(address, inner.URL[strings.LastIndexByte(inner.URL, ':'):]) {
						return (&net.Dialer{}).DialContext(ctx, network, address)
					}
					return nil, reached
				},
				Refused: func(_ context.Context, r Refusal) {
					mu.Lock()
					defer mu.Unlock()
					told = append(told, r)
				},
			}).Client(5 * time.Second)
			t.Cleanup(client.CloseIdleConnections)
			u, err := url.Parse(tt.url)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := client.Do((&http.Request{Method: http.MethodGet, URL: u, Header: http.Header{}}).WithContext(t.Context()))
			if err == nil {
				_ = resp.Body.Close()
			}
			fetched := err == nil || errors.Is(err, reached)
			if fetched != (tt.reason == "") {
				t.Fatalf("fetched %t: %v", fetched, err)
			}
			if tt.reason != "" && tt.reason != "-" && (len(told) != 1 || told[0].Reason != tt.reason) {
				t.Errorf("told %v, want %s", told, tt.reason)
			}
		})
	}
	t.Run("dependency_killed resolver", func(t *testing.T) {
		t.Parallel()
		d := New(Config{Resolver: &names{}})
		if _, err := d.DialContext(t.Context(), "tcp", "public.example:443"); err == nil {
			t.Error("dialled a name that cannot be resolved")
		}
	})
	t.Run("deny rebinding", func(t *testing.T) {
		t.Parallel()
		var dialled []string
		d := New(Config{
			Resolver: &names{answers: map[string][][]string{"turn.example": {{"93.184.216.34"}, {"127.0.0.1"}}}},
			Dial: func(_ context.Context, _, address string) (net.Conn, error) {
				dialled = append(dialled, address)
				return nil, errors.New("unreachable")
			},
		})
		_, _ = d.DialContext(t.Context(), "tcp", "turn.example:443")
		if _, err := d.DialContext(t.Context(), "tcp", "turn.example:443"); !errors.Is(err, ErrForbiddenAddress) {
			t.Errorf("the second answer: %v", err)
		}
		if len(dialled) != 1 || dialled[0] != "93.184.216.34:443" {
			t.Errorf("dialled %v", dialled)
		}
	})
}
