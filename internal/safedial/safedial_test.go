package safedial

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestClassify(t *testing.T) {
	t.Parallel()
	for class, list := range map[Class][]string{
		Public: {
			"1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.1", "192.167.255.255",
			"198.17.255.255", "198.20.0.0", "223.255.255.255", "::ffff:8.8.8.8", "2606:4700::1111", "2a00:1450::1", "2001:200::1",
			"64:ff9b::808:808", "2002:808:808::1", "3ffe::1",
		},
		Loopback: {"127.0.0.1", "127.1.2.3", "127.255.255.255", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"},
		Private: {
			"10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "fc00::1", "fdff:ffff::1",
			"::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::1", "2a00::5efe:10.0.0.1", "2a00::200:5efe:192.168.1.1",
		},
		Shared:    {"100.64.0.0", "100.127.255.255", "::ffff:100.64.0.1", "64:ff9b::100.64.0.1"},
		LinkLocal: {"169.254.0.1", "169.254.255.255", "fe80::1", "febf::1", "64:ff9b::169.254.1.1"},
		Multicast: {"224.0.0.1", "239.255.255.255", "255.255.255.255", "ff02::1", "ff0e::1"},
		Metadata: {
			"169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254",
			"fd20:ce::254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "64:ff9b::168.63.129.16",
		},
		Reserved: {
			"0.0.0.0", "0.1.2.3", "192.0.0.1", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.19.255.255", "198.51.100.1",
			"203.0.113.1", "240.0.0.1", "255.255.255.254", "::", "::2", "::127.0.0.1", "::10.0.0.1", "64:ff9b:1::1",
			"100::1", "2001::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1", "3fff::1", "fec0::1", "4000::1", "5f00::1",
			"fe80::1%eth0", "2a00::1%1",
		},
	} {
		for _, s := range list {
			if got := Classify(netip.MustParseAddr(s)); got != class {
				t.Errorf("%s is %s, want %s", s, got, class)
			}
		}
	}
	if got := Classify(netip.Addr{}); got != Reserved {
		t.Errorf("the zero address is %s", got)
	}
}

func TestCheckHost(t *testing.T) {
	t.Parallel()
	for _, ok := range []string{"example.com", "EXAMPLE.com.", "a-b_c.example", "xn--bcher-kva.example", "localhost", "1.example", "0x.example"} {
		if err := CheckHost(ok); err != nil {
			t.Errorf("%q: %v", ok, err)
		}
	}
	for _, bad := range []string{
		"", ".", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0x7f.1", "1.2.3", "a.0x0", "foo.1", "127.0.0.1.", "0x",
		"ex ample", "a\x00b", "a/b", "a@b", "a:b", "[::1]", "①②⑦.⓪.⓪.①", "a..", "ex%61mple", strings.Repeat("a", 254),
	} {
		if err := CheckHost(bad); !errors.Is(err, ErrForbiddenHost) {
			t.Errorf("%q: %v, want ErrForbiddenHost", bad, err)
		}
	}
}

// names resolves from a map; a name may have several answers, one for each look-up.
type names struct {
	answers map[string][][]string
	calls   atomic.Int32
}

func (n *names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	list, ok := n.answers[host]
	if !ok {
		return nil, errors.New("no such host")
	}
	i := min(int(n.calls.Add(1))-1, len(list)-1)
	var out []netip.Addr
	for _, s := range list[i] {
		out = append(out, netip.MustParseAddr(s))
	}
	return out, nil
}

func TestDialContext(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		rules   []Rule
		network string
		address string
		dialed  []string
		err     error
	}{
		{name: "public name", address: "good.example:443", dialed: []string{"93.184.216.34:443"}},
		{name: "public literal", address: "93.184.216.34:443", dialed: []string{"93.184.216.34:443"}},
		{name: "public literal v6", address: "[2606:4700::1111]:443", dialed: []string{"[2606:4700::1111]:443"}},
		{name: "mapped literal", address: "[::ffff:8.8.8.8]:443", dialed: []string{"8.8.8.8:443"}},
		{name: "second address is tried", address: "two.example:443", dialed: []string{"1.1.1.9:443", "93.184.216.34:443"}},
		{name: "loopback name", address: "loop.example:80", err: ErrForbiddenAddress},
		{name: "mixed answers", address: "mixed.example:80", err: ErrForbiddenAddress},
		{name: "mapped loopback", address: "[::ffff:127.0.0.1]:80", err: ErrForbiddenAddress},
		{name: "metadata", address: "169.254.169.254:80", err: ErrForbiddenAddress},
		{name: "octal", address: "0177.0.0.1:80", err: ErrForbiddenHost},
		{name: "decimal", address: "2130706433:80", err: ErrForbiddenHost},
		{name: "hexadecimal", address: "0x7f000001:80", err: ErrForbiddenHost},
		{name: "zone", address: "[fe80::1%25eth0]:80", err: ErrForbiddenAddress},
		{name: "unspecified", address: "0.0.0.0:80", err: ErrForbiddenAddress},
		{name: "unspecified v6", address: "[::]:80", err: ErrForbiddenAddress},
		{name: "unix socket", network: "unix", address: "/run/docker.sock", err: ErrForbiddenNetwork},
		{name: "udp", network: "udp", address: "8.8.8.8:53", err: ErrForbiddenNetwork},
		{name: "loopback allowed", rules: []Rule{{Host: "LOOP.example.", Loopback: true}}, address: "loop.example:80", dialed: []string{"127.0.0.1:80"}},
		{name: "loopback allowed for another", rules: []Rule{{Host: "x.example", Loopback: true}}, address: "loop.example:80", err: ErrForbiddenAddress},
		{name: "loopback rule, private address", rules: []Rule{{Host: "inner.example", Loopback: true}}, address: "inner.example:80", err: ErrForbiddenAddress},
		{name: "private allowed", rules: []Rule{{Host: "inner.example", Private: true}}, address: "inner.example:80", dialed: []string{"10.1.2.3:80"}},
		{name: "private allowed for all", rules: []Rule{{Host: "*", Private: true}}, address: "inner.example:80", dialed: []string{"10.1.2.3:80"}},
		{name: "literal allowed, written otherwise", rules: []Rule{{Host: "::ffff:127.0.0.1", Loopback: true}}, address: "127.0.0.1:80", dialed: []string{"127.0.0.1:80"}},
		{name: "metadata stays forbidden", rules: []Rule{{Host: "*", Private: true}}, address: "meta.example:80", err: ErrForbiddenAddress},
		{name: "link-local stays forbidden", rules: []Rule{{Host: "*", Private: true}}, address: "169.254.3.4:80", err: ErrForbiddenAddress},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var dialed []string
			d := New(Config{
				Allow: tc.rules,
				Resolver: &names{answers: map[string][][]string{
					"good.example": {{"93.184.216.34"}}, "loop.example": {{"127.0.0.1"}}, "inner.example": {{"10.1.2.3"}},
					"mixed.example": {{"93.184.216.34", "127.0.0.1"}}, "meta.example": {{"169.254.169.254"}},
					"two.example": {{"1.1.1.9", "93.184.216.34"}},
				}},
				Dial: func(_ context.Context, _, address string) (net.Conn, error) {
					dialed = append(dialed, address)
					if address == "1.1.1.9:443" {
						return nil, errors.New("refused")
					}
					c, _ := net.Pipe()
					return c, nil
				},
			})
			network := tc.network
			if network == "" {
				network = "tcp"
			}
			_, err := d.DialContext(t.Context(), network, tc.address)
			if !errors.Is(err, tc.err) || tc.err == nil && err != nil {
				t.Errorf("error %v, want %v", err, tc.err)
			}
			if diff := cmp.Diff(tc.dialed, dialed); diff != "" {
				t.Errorf("dialed (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRebinding proves that a name is resolved once and that the judged address is the one dialed.
func TestRebinding(t *testing.T) {
	t.Parallel()
	resolver := &names{answers: map[string][][]string{"evil.example": {{"93.184.216.34"}, {"127.0.0.1"}}}}
	var dialed string
	d := New(Config{Resolver: resolver, Dial: func(_ context.Context, _, address string) (net.Conn, error) {
		dialed = address
		return nil, errors.New("refused")
	}})
	_, _ = d.DialContext(t.Context(), "tcp", "evil.example:80")
	if dialed != "93.184.216.34:80" || resolver.calls.Load() != 1 {
		t.Errorf("dialed %s after %d look-ups", dialed, resolver.calls.Load())
	}
	if _, err := d.DialContext(t.Context(), "tcp", "evil.example:80"); !errors.Is(err, ErrForbiddenAddress) {
		t.Errorf("after the rebinding: %v", err)
	}
}

// TestControl proves the last check, just before connect.
func TestControl(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]error{
		"8.8.8.8:443": nil, "127.0.0.1:80": ErrForbiddenAddress, "[::1]:80": ErrForbiddenAddress, "nonsense": ErrForbiddenAddress,
	} {
		if err := (Rule{}).control(t.Context(), "tcp4", address, nil); !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("%s: %v, want %v", address, err, want)
		}
	}
	if err := (Rule{}).control(t.Context(), "unixgram", "8.8.8.8:443", nil); !errors.Is(err, ErrForbiddenNetwork) {
		t.Errorf("unixgram: %v", err)
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	d := New(Config{Timeout: 50 * time.Millisecond, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	start := time.Now()
	_, err := d.DialContext(t.Context(), "tcp", "8.8.8.8:443")
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > time.Second {
		t.Errorf("error %v after %s", err, time.Since(start))
	}
}

func TestClient(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/redirect":
			http.Redirect(w, r, "/ok", http.StatusFound)
		case "/slow":
			time.Sleep(time.Second)
		default:
			_, _ = io.WriteString(w, "hello")
		}
	}))
	defer srv.Close()
	get := func(c *http.Client, path string) (string, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+path, nil)
		if err != nil {
			return "", err
		}
		resp, err := c.Do(req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		b, err := ReadAll(resp.Body, 5)
		return string(b), err
	}
	if _, err := get(New(Config{}).Client(time.Second), "/ok"); !errors.Is(err, ErrForbiddenNetwork) {
		t.Errorf("plain http: %v", err)
	}
	c := New(Config{Allow: []Rule{{Host: "127.0.0.1", Loopback: true}}}).Client(300 * time.Millisecond)
	defer c.CloseIdleConnections()
	if got, err := get(c, "/ok"); got != "hello" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := get(c, "/redirect"); !errors.Is(err, ErrRedirect) {
		t.Errorf("redirect: %v", err)
	}
	if _, err := get(c, "/slow"); err == nil {
		t.Error("a slow server was waited for")
	}
	if _, err := ReadAll(strings.NewReader("123456"), 5); err == nil {
		t.Error("six bytes passed a bound of five")
	}
}
