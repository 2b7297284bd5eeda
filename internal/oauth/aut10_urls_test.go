package oauth_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/oauth"
)

// TestAUT10 holds the guard of URLs against what has been used against it elsewhere.
func TestAUT10(t *testing.T) {
	tests := []struct {
		name, raw string
		want      warder.Reason // empty: accepted
	}{
		{"pass", "https://login.example.com/authorize?tenant=a&x=%20", ""},
		{"pass port", "https://login.example.com:8443/authorize", ""},
		{"pass loopback", "http://127.0.0.1:8080/cb", ""},
		{"pass loopback v6", "http://[::1]:8080/cb", ""},
		{"pass configured idn", "https://xn--bcher-kva.example/authorize", ""},
		{"near_miss localhost name", "http://localhost:8080/cb", ""},
		{"near_miss percent sign", "https://login.example.com/a?b=100%25", ""},
		{"near_miss encoded quote", "https://login.example.com/a?b=%22%27", ""},
		{"deny javascript", "javascript:alert(1)", "url_characters"},
		{"deny javascript plain", "javascript:alert", "url_scheme"},
		{"deny data", "data:text/html,x", "url_scheme"},
		{"deny file", "file:///etc/passwd", "url_scheme"},
		{"deny vbscript", "vbscript:x", "url_scheme"},
		{"deny app scheme", "ms-msdt:/id", "url_scheme"},
		{"deny no scheme", "//login.example.com/a", "url_scheme"},
		{"deny option", "--help", "url_scheme"},
		{"deny empty", "", "url_length"},
		{"deny long", "https://login.example.com/" + strings.Repeat("a", 5000), "url_length"},
		{"deny shell and", "https://login.example.com/a;id", "url_characters"},
		{"deny shell substitution", "https://login.example.com/$(id)", "url_characters"},
		{"deny backtick", "https://login.example.com/`id`", "url_characters"},
		{"deny pipe", "https://login.example.com/a|id", "url_characters"},
		{"deny quote", `https://login.example.com/"a`, "url_characters"},
		{"deny angle", "https://login.example.com/<script>", "url_characters"},
		{"deny space", "https://login.example.com/a b", "url_characters"},
		{"deny newline", "https://login.example.com/a\nb", "url_characters"},
		{"deny encoded newline", "https://login.example.com/a%0d%0aSet-Cookie:x", "url_characters"},
		{"deny twice encoded newline", "https://login.example.com/a%250ab", "url_characters"},
		{"deny encoded zero", "https://login.example.com/a%00", "url_characters"},
		{"deny broken escape", "https://login.example.com/%zz", "url_malformed"},
		{"deny backslash", `https://login.example.com\@evil.example.com/`, "url_characters"},
		{"deny userinfo", "https://login.example.com@evil.example.com/", "url_userinfo"},
		{"deny password", "https://a:b@evil.example.com/", "url_userinfo"},
		{"deny fragment", "https://login.example.com/#a", "url_fragment"},
		{"deny plain http", "http://login.example.com/", "url_plain_http"},
		{"deny http to a private address", "http://10.0.0.1/", "url_plain_http"},
		{"deny cyrillic", "https://l\u043egin.example.com/", "url_characters"},
		{"deny punycode", "https://xn--lgin-55d.example.com/", "url_homograph"},
		{"deny fullwidth", "https://login.example\uff0ecom/", "url_characters"},
		{"deny octal", "https://0177.0.0.1/", "url_host"},
		{"deny hex", "https://0x7f000001/", "url_host"},
		{"deny decimal", "https://2130706433/", "url_host"},
		{"deny mapped", "https://[::ffff:127.0.0.1]/", "url_host"},
		{"deny zone", "https://[fe80::1%25eth0]/", "url_host"},
		{"deny trailing dot", "https://login.example.com./", "url_host"},
		{"deny port zero", "https://login.example.com:0/", "url_port"},
		{"deny empty port", "https://login.example.com:/", "url_port"},
		{"deny no host", "https:///a", "url_host"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var told warder.Reason
			g := &oauth.URLs{Loopback: true, Hosts: []string{"xn--bcher-kva.example"}, Refused: func(_ context.Context, id warder.ControlID, r warder.Reason, _ string) {
				told = r
				if id != "AUT-10" {
					t.Errorf("told by %s", id)
				}
			}}
			_, err := g.Check(t.Context(), "url", tt.raw)
			if told != tt.want || (tt.want == "") != (err == nil) || err != nil && !errors.Is(err, oauth.ErrURL) {
				t.Errorf("got %q, %v; want %q", told, err, tt.want)
			}
			if _, err := g.Opener(t.Context(), tt.raw); (err == nil) != (tt.want == "") {
				t.Errorf("opener: %v", err)
			}
		})
	}
	t.Run("deny endpoints of metadata", func(t *testing.T) {
		for _, name := range []string{"authorization_endpoint", "token_endpoint", "registration_endpoint", "pushed_authorization_request_endpoint"} {
			r := newRig(t, nil)
			r.as.Metadata = map[string]any{name: "javascript:alert"}
			if _, _, _, err := r.authorize(t); !errors.Is(err, oauth.ErrURL) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	t.Run("dependency_killed opener", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		if err := (&oauth.URLs{}).Open(t.Context(), "https://login.example.com/"); err == nil {
			t.Error("nothing could open the browser, and no error")
		}
	})
}

// TestOpenerHasNoShell proves that the URL is one argument and no option.
func TestOpenerHasNoShell(t *testing.T) {
	t.Parallel()
	argv, err := (&oauth.URLs{}).Opener(t.Context(), "https://login.example.com/authorize?a=b&c=d")
	if err != nil {
		t.Fatal(err)
	}
	last := argv[len(argv)-1]
	if !strings.HasPrefix(last, "https://") || !strings.Contains(last, "&c=d") || strings.Contains(strings.Join(argv[:len(argv)-1], " "), "sh") && argv[0] == "sh" {
		t.Errorf("argv %q", argv)
	}
}
