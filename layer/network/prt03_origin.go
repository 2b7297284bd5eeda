package network

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/warder-mcp/warder"
)

// origins refuses requests for names that are not ours and requests that a foreign web page made.
// Control PRT-03; MCP 2026-07-28 transports, "Security & Attacks" (Origin must be validated, 403);
// RFC 9110 section 7.2 (Host), RFC 6454 section 7 (Origin). Phase Connect.
//
// A page that rebinds its own DNS name to this gateway still sends its own name in Host and in
// Origin; an allow-list of names is what stops it.
type origins struct {
	hosts map[authority]bool // allowed names; port 0 stands for any port
	sites map[string]bool    // allowed origins in normal form
}

var _ warder.Interceptor = (*origins)(nil)

// newOrigins reads the lists.
func newOrigins(hosts, sites []string) (*origins, error) {
	o := &origins{hosts: make(map[authority]bool), sites: make(map[string]bool)}
	for _, text := range hosts {
		a, ok := parseAuthority(text)
		if !ok {
			return nil, fmt.Errorf("network.allowed_hosts: %q is not a host or host:port", text)
		}
		o.hosts[a] = true
	}
	for _, text := range sites {
		site, ok := parseOrigin(text)
		if !ok {
			return nil, fmt.Errorf("network.allowed_origins: %q is not scheme://host or scheme://host:port", text)
		}
		o.sites[site.String()] = true
	}
	return o, nil
}

// Control returns "PRT-03".
func (*origins) Control() warder.ControlID { return "PRT-03" }

// Intercept checks Host, then Origin, then what the browser says about where the request began.
func (o *origins) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	if x.Door == warder.DoorStdio {
		return warder.Continue(), nil
	}
	host, ok := o.host(&x.Conn)
	if !ok {
		return warder.Refuse(warder.CodeForbiddenOrigin, "host_not_allowed", "Host "+quote(x.Conn.Host)), nil
	}
	origin := x.Conn.Header["Origin"]
	switch {
	case len(origin) > 1:
		return warder.Refuse(warder.CodeForbiddenOrigin, "origin_repeated", "more than one Origin header"), nil
	case len(origin) == 1 && !o.site(origin[0], host, x.Conn.TLS != nil):
		return warder.Refuse(warder.CodeForbiddenOrigin, "origin_not_allowed", "Origin "+quote(origin[0])), nil
	case len(origin) == 0 && crossSite(x.Conn.Header):
		return warder.Refuse(warder.CodeForbiddenOrigin, "cross_site", "Sec-Fetch-Site without Origin"), nil
	default:
		return warder.Continue(), nil
	}
}

// host reports whether the request names us, and by which name.
func (o *origins) host(c *warder.Conn) (authority, bool) {
	if repeated := c.Header["Host"]; len(repeated) > 1 || len(repeated) == 1 && repeated[0] != c.Host {
		return authority{}, false
	}
	a, ok := parseAuthority(c.Host)
	switch {
	case !ok:
		return authority{}, false
	case c.Local.Addr().Unmap().IsLoopback() && loopbackName(a.host):
		return a, true // only this machine can have meant itself
	default:
		return a, o.hosts[a] || o.hosts[authority{host: a.host}]
	}
}

// site reports whether an origin may call: it is listed, or it is the origin of the allowed Host.
// "null", the origin of sandboxed and local pages, is nobody's and never allowed.
func (o *origins) site(text string, host authority, secure bool) bool {
	if o.sites[text] {
		return true // listed, and written in normal form as browsers do
	}
	site, ok := parseOrigin(text)
	if !ok {
		return false
	}
	own := authority{host.host, host.port}
	scheme, standard := "http", uint16(80)
	if secure {
		scheme, standard = "https", 443
	}
	if own.port == 0 {
		own.port = standard
	}
	return site.scheme == scheme && site.authority == own || o.sites[site.String()]
}

// crossSite reports whether a browser says that a foreign page made the request. Browsers leave
// Origin out of some cross-site GET requests, but not Sec-Fetch-Site (W3C Fetch Metadata).
func crossSite(h http.Header) bool {
	for _, v := range h["Sec-Fetch-Site"] {
		if v != "same-origin" && v != "none" {
			return true
		}
	}
	return false
}

// An authority is a host in normal form and a port; port 0 means none was written.
type authority struct {
	host string
	port uint16
}

// A site is a web origin in normal form.
type site struct {
	scheme string
	authority
}

// String writes the origin with its port left out when it is the scheme's.
func (s site) String() string {
	host := s.host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if s.scheme == "http" && s.port == 80 || s.scheme == "https" && s.port == 443 {
		return s.scheme + "://" + host
	}
	return s.scheme + "://" + host + ":" + strconv.Itoa(int(s.port))
}

// parseOrigin reads scheme://host[:port] and nothing else: no user, path or trailing dot, which
// would be another origin to a browser. The port is filled in.
func parseOrigin(text string) (site, bool) {
	scheme, rest, ok := strings.Cut(text, "://")
	scheme = strings.ToLower(scheme)
	if !ok || scheme != "http" && scheme != "https" {
		return site{}, false
	}
	a, ok := parseAuthority(rest)
	if !ok || dotted(rest) {
		return site{}, false
	}
	if a.port == 0 {
		a.port = 80
		if scheme == "https" {
			a.port = 443
		}
	}
	return site{scheme, a}, true
}

// dotted reports whether the host part ends in a dot.
func dotted(text string) bool {
	if i := strings.LastIndexByte(text, ':'); i >= 0 {
		text = text[:i]
	}
	return strings.HasSuffix(text, ".")
}

// parseAuthority reads host or host:port into normal form: lower case, one trailing dot cut (the
// same DNS name), IP addresses as netip writes them, a port of 1 to 65535 without leading zeros.
// Anything else is refused: user names, zones, percent encoding, other than ASCII. It does not
// allocate for names that are in normal form already.
func parseAuthority(text string) (authority, bool) {
	if len(text) == 0 || len(text) > 255 {
		return authority{}, false
	}
	if text[0] == '[' {
		return parseBracketed(text)
	}
	host, port, ok := cutPort(text)
	if !ok {
		return authority{}, false
	}
	host = strings.TrimSuffix(host, ".")
	if !hostName(host) {
		return authority{}, false
	}
	return authority{strings.ToLower(host), port}, true
}

func parseBracketed(text string) (authority, bool) {
	end := strings.IndexByte(text, ']')
	if end < 0 {
		return authority{}, false
	}
	addr, err := netip.ParseAddr(text[1:end])
	if err != nil || addr.Zone() != "" || !addr.Is6() {
		return authority{}, false
	}
	host, port, ok := cutPort(text[end+1:])
	if !ok || host != "" {
		return authority{}, false
	}
	if addr == netip.IPv6Loopback() {
		return authority{"::1", port}, true // the common case, without allocating
	}
	return authority{addr.Unmap().String(), port}, true
}

// cutPort splits off ":port"; an empty port is refused.
func cutPort(text string) (host string, port uint16, ok bool) {
	host, digits, ok := strings.Cut(text, ":")
	if !ok {
		return text, 0, true
	}
	if len(digits) == 0 || len(digits) > 5 || digits[0] == '0' {
		return "", 0, false
	}
	n := 0
	for _, c := range []byte(digits) {
		if c < '0' || c > '9' {
			return "", 0, false
		}
		n = n*10 + int(c-'0')
	}
	if n > 65535 {
		return "", 0, false
	}
	return host, uint16(n), true
}

// hostName reports whether text consists of non-empty labels of letters, digits, '-' and '_'.
func hostName(text string) bool {
	label := 0
	for _, c := range []byte(text) {
		switch {
		case c == '.' && label == 0:
			return false
		case c == '.':
			label = 0
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_':
			label++
		default:
			return false
		}
	}
	return label > 0
}

// loopbackName reports whether the host in normal form can only mean this machine. RFC 6761 section
// 6.3 reserves localhost; "127.1" and other odd spellings are not accepted.
func loopbackName(host string) bool {
	if host == "localhost" || host == "::1" {
		return true
	}
	if !strings.HasPrefix(host, "127.") {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// quote cuts and quotes what a peer sent, for operators.
func quote(s string) string {
	if len(s) > 100 {
		s = s[:100] + "…"
	}
	return strconv.QuoteToASCII(s)
}
