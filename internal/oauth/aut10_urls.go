package oauth

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/safedial"
)

// maxURL bounds a URL that another party gave us.
const maxURL = 4096

// A Refused is told of every refusal of a control of this package, for the audit trail. detail is quoted
// and cut.
type Refused func(ctx context.Context, control warder.ControlID, reason warder.Reason, detail string)

// URLs judges URLs that other parties name, before one is fetched, opened in a browser or shown to a
// person: https only (http only to loopback, and only where Loopback is set), a host that cannot be read
// in two ways, no credentials in it, and no byte that a shell, a terminal, a header or a page would take
// for something else. The zero value is the strict one. It is safe for concurrent use.
//
// Control AUT-10; MCP 2026-07-28 "Security best practices" (OAuth authorization URL validation), RFC 9700
// section 4.
type URLs struct {
	Loopback bool     // plain http to loopback is accepted
	Hosts    []string // hosts that the operator configured; only these may be internationalised names
	Refused  Refused  // may be nil
}

// Control returns "AUT-10".
func (*URLs) Control() warder.ControlID { return "AUT-10" }

// Check returns the URL in normal form, or an error that wraps [ErrURL] and quotes at most 100 bytes.
// what names the URL in the error, such as "authorization_endpoint".
func (g *URLs) Check(ctx context.Context, what, raw string) (*url.URL, error) {
	u, reason := g.judge(raw)
	if reason == "" {
		return u, nil
	}
	if g.Refused != nil {
		g.Refused(ctx, g.Control(), reason, what+" "+quote(raw))
	}
	return nil, fmt.Errorf("%w: %s %s: %s", ErrURL, what, quote(raw), reason)
}

func (g *URLs) judge(raw string) (*url.URL, warder.Reason) {
	if raw == "" || len(raw) > maxURL {
		return nil, "url_length"
	}
	if at := strings.IndexFunc(raw, unfit); at >= 0 {
		return nil, "url_characters"
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, "url_malformed"
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, "url_scheme"
	case u.Opaque != "" || u.Host == "":
		return nil, "url_host"
	case u.User != nil || strings.Contains(u.Host, "@"):
		return nil, "url_userinfo"
	case strings.Contains(raw, "#"):
		return nil, "url_fragment"
	case hiddenControl(raw):
		return nil, "url_characters"
	}
	if reason := g.host(u); reason != "" {
		return nil, reason
	}
	if u.Scheme == "http" && (!g.Loopback || !loopback(u.Hostname())) {
		return nil, "url_plain_http"
	}
	return u, ""
}

// unfit reports characters that no URL of ours has. RFC 3986 appendix A allows a few of them; a shell, a
// page or a log would read them as something else, and they can be written with % instead.
func unfit(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune("\"'`<>\\^{}|$;()!*", r)
}

// hiddenControl reports percent-encoded control characters, in one or two layers, and broken escapes.
func hiddenControl(raw string) bool {
	for range 2 {
		for i := range len(raw) {
			if raw[i] != '%' {
				continue
			}
			if i+2 >= len(raw) {
				return true
			}
			n, err := strconv.ParseUint(raw[i+1:i+3], 16, 8)
			if err != nil || n < 0x20 || n == 0x7f {
				return true
			}
		}
		next := strings.ReplaceAll(raw, "%25", "%")
		if next == raw || strings.Contains(raw, "%25%") || strings.HasSuffix(raw, "%25") {
			return false
		}
		if !escapes(next) {
			return false // "100%25" in a query is a percent sign, nothing more
		}
		raw = next
	}
	return false
}

// escapes reports whether every percent sign begins an escape.
func escapes(s string) bool {
	for i := range len(s) {
		if s[i] == '%' && (i+2 >= len(s) || !hex(s[i+1]) || !hex(s[i+2])) {
			return false
		}
	}
	return true
}

func hex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// host judges the host and puts it in normal form.
func (g *URLs) host(u *url.URL) warder.Reason {
	name := u.Hostname()
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "url_port"
		}
	} else if strings.HasSuffix(u.Host, ":") {
		return "url_port"
	}
	if ip, err := netip.ParseAddr(name); err == nil {
		if ip.Zone() != "" || ip.Is4In6() {
			return "url_host"
		}
		return ""
	}
	if strings.ContainsAny(name, "%_") || strings.HasSuffix(name, ".") || safedial.CheckHost(name) != nil {
		return "url_host"
	}
	lower := strings.ToLower(name)
	if (strings.HasPrefix(lower, "xn--") || strings.Contains(lower, ".xn--")) && !contains(g.Hosts, lower) {
		return "url_homograph" // UTS 39: nobody can tell such names apart by eye
	}
	u.Host = strings.ToLower(u.Host)
	return ""
}

// loopback reports whether a host in a URL means this computer. Names that merely resolve to it do not.
func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// Show renders a URL that passed [URLs.Check] for a person: scheme, host and path, without the query,
// which may hold tokens, and at most 200 bytes.
func Show(u *url.URL) string {
	s := u.Scheme + "://" + u.Host + u.EscapedPath()
	if len(s) > 200 {
		s = s[:197] + "..."
	}
	return s
}

// quote cuts and quotes foreign text.
func quote(s string) string {
	if len(s) > 100 {
		s = s[:100]
	}
	return strconv.QuoteToASCII(s)
}
