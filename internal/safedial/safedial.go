// Package safedial opens outgoing connections that cannot be turned against the inside: a name is
// resolved first, every address it resolved to is judged, and the connection goes to exactly the
// address that was judged, so a name that changes its answer between check and use (DNS rebinding)
// gains nothing.
//
// An address is public when it lies in the globally routable unicast space and in none of the
// special-purpose blocks of the IANA registries (RFC 6890); IPv4 addresses hidden in IPv6 (mapped,
// compatible, NAT64, 6to4, ISATAP) are judged as what they hide. Anything else is refused unless
// the configuration allows it for that host; addresses of cloud metadata services are refused even
// then.
//
// Every outgoing fetch of Warder goes through a [Dialer]: connections to upstream servers, key
// sets, metadata documents.
//
//	d := safedial.New(safedial.Config{Allow: []safedial.Rule{{Host: "mcp.internal", Private: true}}})
//	client := d.Client(10 * time.Second)
package safedial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Sentinels of refusals. Errors of [Dialer.DialContext] wrap one of them when the dialer refused;
// other errors come from the network.
var (
	ErrForbiddenAddress = errors.New("address is not allowed")
	ErrForbiddenHost    = errors.New("host name is not allowed")
	ErrForbiddenNetwork = errors.New("network is not allowed")
)

// A Rule widens what is allowed for one host. The zero rule allows nothing.
type Rule struct {
	Host     string // host name or literal address, compared without case; "*" means every host
	Loopback bool   // loopback addresses may be dialed
	Private  bool   // private, unique-local and shared (CGNAT) addresses may be dialed, and loopback
}

// Resolver finds the addresses of a name. [net.Resolver] is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Config sets up a dialer. The zero value allows public addresses only.
type Config struct {
	Allow    []Rule        // exceptions, by host
	Resolver Resolver      // nil: net.DefaultResolver
	Timeout  time.Duration // for resolving and connecting together; 0 means 10 s
	// Dial connects to a literal address that was judged; nil: net.Dialer, which judges the address
	// once more just before connect(2).
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Refused is told of everything that was not dialled, for the trail; nil: nobody.
	Refused func(ctx context.Context, r Refusal)
}

// A Dialer opens connections to judged addresses. It is safe for concurrent use.
type Dialer struct {
	rules    []Rule
	resolver Resolver
	timeout  time.Duration
	dial     func(ctx context.Context, network, address string) (net.Conn, error)
	egress   egress
}

// New returns a dialer for the configuration.
func New(cfg Config) *Dialer {
	d := &Dialer{resolver: cfg.Resolver, timeout: cfg.Timeout, dial: cfg.Dial, egress: egress{cfg.Refused}}
	for _, r := range cfg.Allow {
		r.Host = fold(r.Host)
		d.rules = append(d.rules, r)
	}
	if d.resolver == nil {
		d.resolver = net.DefaultResolver
	}
	if d.timeout <= 0 {
		d.timeout = 10 * time.Second
	}
	return d
}

// DialContext connects to the host and port of address over "tcp", "tcp4" or "tcp6". It refuses
// when any address of the host is forbidden: a name that answers with public and inner addresses
// together is an attempt at rebinding, not a choice.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	addrs, rule, err := d.resolve(ctx, network, address)
	if err != nil {
		return nil, d.egress.tell(ctx, fmt.Errorf("dial %s: %w", quote(address), err))
	}
	conn, err := d.connect(ctx, network, addrs, rule)
	if err != nil {
		return nil, d.egress.tell(ctx, fmt.Errorf("dial %s: %w", quote(address), err))
	}
	return conn, nil
}

// resolve returns the judged addresses of the host in the order in which they are tried.
func (d *Dialer) resolve(ctx context.Context, network, address string) ([]netip.AddrPort, Rule, error) {
	ipNetwork, ok := map[string]string{"tcp": "ip", "tcp4": "ip4", "tcp6": "ip6"}[network]
	if !ok {
		return nil, Rule{}, fmt.Errorf("%w: %s", ErrForbiddenNetwork, quote(network))
	}
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, Rule{}, err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port == 0 {
		return nil, Rule{}, fmt.Errorf("port %s: want 1 to 65535", quote(portText))
	}
	rule := d.rule(host)
	ips, err := d.lookup(ctx, ipNetwork, host)
	if err != nil {
		return nil, Rule{}, err
	}
	out := make([]netip.AddrPort, 0, len(ips))
	for _, ip := range ips {
		if err := rule.judge(ip); err != nil {
			return nil, Rule{}, err
		}
		out = append(out, netip.AddrPortFrom(ip.Unmap(), uint16(port)))
	}
	return out, rule, nil
}

func (d *Dialer) lookup(ctx context.Context, ipNetwork, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	if err := CheckHost(host); err != nil {
		return nil, err
	}
	ips, err := d.resolver.LookupNetIP(ctx, ipNetwork, host)
	if err != nil {
		return nil, err
	}
	if len(ips) == 0 {
		return nil, fmt.Errorf("host %s has no address", quote(host))
	}
	return ips, nil
}

// connect tries the addresses in order and gives each a fair share of the remaining time.
func (d *Dialer) connect(ctx context.Context, network string, addrs []netip.AddrPort, rule Rule) (net.Conn, error) {
	dial := d.dial
	if dial == nil {
		nd := net.Dialer{KeepAlive: 30 * time.Second, ControlContext: rule.control}
		dial = nd.DialContext
	}
	var errs []error
	for i, addr := range addrs {
		conn, err := d.try(ctx, dial, network, addr, len(addrs)-i)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

func (d *Dialer) try(ctx context.Context, dial func(context.Context, string, string) (net.Conn, error),
	network string, addr netip.AddrPort, left int,
) (net.Conn, error) {
	if deadline, ok := ctx.Deadline(); ok && left > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, max(time.Until(deadline)/time.Duration(left), time.Second))
		defer cancel()
	}
	return dial(ctx, network, addr.String())
}

// rule merges the rules that name the host.
func (d *Dialer) rule(host string) Rule {
	host = fold(host)
	merged := Rule{Host: host}
	for _, r := range d.rules {
		if r.Host == "*" || r.Host == host {
			merged.Loopback = merged.Loopback || r.Loopback
			merged.Private = merged.Private || r.Private
		}
	}
	return merged
}

// judge refuses an address that the rule does not allow.
func (r Rule) judge(ip netip.Addr) error {
	class := Classify(ip)
	switch class {
	case Public:
		return nil
	case Loopback:
		if r.Loopback || r.Private {
			return nil
		}
	case Private, Shared:
		if r.Private {
			return nil
		}
	case Metadata, LinkLocal, Multicast, Reserved:
	}
	return fmt.Errorf("%w: %s is %s", ErrForbiddenAddress, ip, class)
}

// control judges the address that the kernel is about to connect to.
func (r Rule) control(_ context.Context, network, address string, _ syscall.RawConn) error {
	if !strings.HasPrefix(network, "tcp") {
		return fmt.Errorf("%w: %s", ErrForbiddenNetwork, quote(network))
	}
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %s", ErrForbiddenAddress, quote(address))
	}
	return r.judge(ap.Addr())
}

// CheckHost refuses names that no resolver should see: empty or overlong ones, names with control
// or separator bytes, and names whose last label is a number, which some resolvers read as an IPv4
// address in octal, hexadecimal or short form (WHATWG URL, "ends in a number").
func CheckHost(host string) error {
	name := strings.TrimSuffix(host, ".")
	if name == "" || len(name) > 253 {
		return fmt.Errorf("%w: %s", ErrForbiddenHost, quote(host))
	}
	for i := range len(name) {
		c := name[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_' {
			return fmt.Errorf("%w: %s", ErrForbiddenHost, quote(host))
		}
	}
	last := name[strings.LastIndexByte(name, '.')+1:]
	if last == "" || number(last) {
		return fmt.Errorf("%w: %s ends in a number", ErrForbiddenHost, quote(host))
	}
	return nil
}

func number(label string) bool {
	if rest, ok := strings.CutPrefix(strings.ToLower(label), "0x"); ok {
		return strings.Trim(rest, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

// fold is the form in which hosts are compared.
func fold(host string) string {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if ip, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return ip.Unmap().String()
	}
	return host
}

// quote cuts and quotes foreign text for an error message.
func quote(s string) string {
	if len(s) > 100 {
		s = s[:100]
	}
	return strconv.Quote(s)
}
