// Package forwarded tells who is at the other end of a request that came through a reverse proxy.
//
// A proxy that ends connections for Warder writes the address of its client into a header. Anybody can
// write such a header, so that it is read only in requests that come from addresses which the operator
// lists, and in it only what those wrote: from the right, up to the first address that is not listed.
// Exactly one header is read; a proxy that writes one passes the other on as its client sent it.
//
//	proxies, err := forwarded.New([]string{"10.0.0.0/24"}, "")
//	r = proxies.Request(r) // r.RemoteAddr is now the client's
package forwarded

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
)

// The headers in which proxies name their clients.
const (
	XForwardedFor = "x_forwarded_for" // X-Forwarded-For: addresses with commas between them
	Forwarded     = "forwarded"       // Forwarded: for=… (RFC 7239)
)

// Bounds of a header.
const (
	maxBytes = 4 << 10
	maxHops  = 32
)

// unknown is the RemoteAddr of a client that cannot be told: no address, which nothing allows anything.
const unknown = "unknown"

// Proxies are those that are believed. It is immutable; a nil one believes nobody.
type Proxies struct {
	nets   []netip.Prefix
	header string // as it is spelled in HTTP
}

// New takes networks or single addresses and which of the two headers the proxies write; "" is
// [XForwardedFor]. Without networks it returns nil.
func New(nets []string, header string) (*Proxies, error) {
	p := &Proxies{}
	switch header {
	case "", XForwardedFor:
		p.header = "X-Forwarded-For"
	case Forwarded:
		p.header = "Forwarded"
	default:
		return nil, fmt.Errorf("header %q is neither %s nor %s", header, XForwardedFor, Forwarded)
	}
	for _, text := range nets {
		n, err := prefix(text)
		if err != nil {
			return nil, err
		}
		if n.Bits() == 0 {
			return nil, fmt.Errorf("%s: everybody is no proxy", text)
		}
		p.nets = append(p.nets, n)
	}
	if len(p.nets) == 0 {
		return nil, nil
	}
	return p, nil
}

// prefix reads a network, or a single address.
func prefix(text string) (netip.Prefix, error) {
	if n, err := netip.ParsePrefix(text); err == nil {
		if n.Masked() != n {
			return netip.Prefix{}, fmt.Errorf("%s: the network is %s", text, n.Masked())
		}
		return n, nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a network such as 10.0.0.0/24", text)
	}
	return a.Prefix(a.BitLen())
}

// trusts reports whether an address is one of the proxies'.
func (p *Proxies) trusts(a netip.Addr) bool {
	for _, n := range p.nets {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// hopKey is the context key under which [Proxies.Request] leaves the address of the proxy.
type hopKey struct{}

// Hop returns the address of the proxy that a request came through; false if it came directly.
func Hop(ctx context.Context) (netip.AddrPort, bool) {
	a, ok := ctx.Value(hopKey{}).(netip.AddrPort)
	return a, ok
}

// Request returns the request with the client's address as its RemoteAddr if it came through a proxy that
// is believed, else the request itself. Where the header cannot be read, the client has no address: it must
// not pass for the proxy.
func (p *Proxies) Request(r *http.Request) *http.Request {
	if p == nil {
		return r
	}
	hop, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !p.trusts(hop.Addr().Unmap().WithZone("")) {
		return r
	}
	values := r.Header[p.header]
	if len(values) == 0 {
		return r // the proxy itself asks
	}
	out := r.WithContext(context.WithValue(r.Context(), hopKey{}, hop))
	out.RemoteAddr = unknown
	if client, err := p.client(values); err == nil {
		out.RemoteAddr = netip.AddrPortFrom(client, 0).String()
	}
	return out
}

var (
	errMalformed = errors.New("malformed header")
	errUnknown   = errors.New("a proxy does not say who its client is")
)

// client finds the right-most address that is not a proxy's; if all are, the left-most.
func (p *Proxies) client(values []string) (netip.Addr, error) {
	text := strings.Join(values, ",")
	if len(text) > maxBytes {
		return netip.Addr{}, errMalformed
	}
	list := strings.Split(text, ",")
	if p.header == "Forwarded" {
		var err error
		if list, err = elements(text); err != nil {
			return netip.Addr{}, err
		}
	}
	var last netip.Addr
	for i := len(list) - 1; i >= 0 && len(list)-i <= maxHops; i-- {
		a, err := node(strings.Trim(list[i], " \t"))
		if err != nil || !p.trusts(a) {
			return a, err
		}
		last = a
	}
	if !last.IsValid() || len(list) > maxHops {
		return netip.Addr{}, errMalformed
	}
	return last, nil
}

// node reads an address with or without a port: 192.0.2.1, 192.0.2.1:80, 2001:db8::1, [2001:db8::1]:80.
func node(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil {
		if inner, ok := strings.CutPrefix(text, "["); ok && strings.HasSuffix(inner, "]") {
			a, err = netip.ParseAddr(strings.TrimSuffix(inner, "]"))
			if err == nil && !a.Is6() {
				return netip.Addr{}, errMalformed
			}
		} else {
			var ap netip.AddrPort
			ap, err = netip.ParseAddrPort(text)
			a = ap.Addr()
		}
	}
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, errUnknown
	}
	return a.Unmap(), nil
}

// elements reads the for= of every element of a Forwarded header (RFC 7239 section 4). An element without
// one is "".
func elements(text string) ([]string, error) {
	var out []string
	for {
		text = strings.TrimLeft(text, " \t")
		element, rest, err := element(text)
		if err != nil {
			return nil, err
		}
		out = append(out, element)
		if rest == "" {
			return out, nil
		}
		text = rest[1:]
	}
}

// element reads pairs with semicolons between them up to a comma or the end, where rest begins.
func element(text string) (node, rest string, err error) {
	seen := false
	for {
		name, after, ok := strings.Cut(text, "=")
		if !ok || !isToken(name) {
			return "", "", errMalformed
		}
		var value string
		if value, text, err = pairValue(after); err != nil {
			return "", "", err
		}
		if strings.EqualFold(name, "for") {
			if seen {
				return "", "", errMalformed
			}
			node, seen = value, true
		}
		text = strings.TrimLeft(text, " \t")
		switch {
		case text == "" || text[0] == ',':
			return node, text, nil
		case text[0] != ';':
			return "", "", errMalformed
		}
		text = strings.TrimLeft(text[1:], " \t")
	}
}

// pairValue reads a token or a quoted string.
func pairValue(text string) (value, rest string, err error) {
	if !strings.HasPrefix(text, `"`) {
		end := strings.IndexAny(text, "; \t,")
		if end < 0 {
			end = len(text)
		}
		if !isToken(text[:end]) {
			return "", "", errMalformed
		}
		return text[:end], text[end:], nil
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			return b.String(), text[i+1:], nil
		case c == '\\' && i+1 < len(text):
			i++
			b.WriteByte(text[i])
		case c < ' ' && c != '\t' || c == 0x7f:
			return "", "", errMalformed
		default:
			b.WriteByte(c)
		}
	}
	return "", "", errMalformed
}

// isToken reports whether s is a token (RFC 9110 section 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}
