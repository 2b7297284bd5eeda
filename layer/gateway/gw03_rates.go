package gateway

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/warder-mcp/warder"
)

// A Rate is a token bucket: it fills at PerSecond and holds Burst. A zero field means the default of
// [Default]; there is no "unlimited".
type Rate struct {
	PerSecond float64 `yaml:"per_second"` // sustained messages a second
	Burst     int     `yaml:"burst"`      // messages at once after a pause
}

// Rates are the limits of GW-03. A message counts against every one that applies.
type Rates struct {
	Peer      Rate `yaml:"peer"`      // by network address (IPv6: by /64), before authentication
	Principal Rate `yaml:"principal"` // by caller: tenant, issuer, subject, client and agent together
	Client    Rate `yaml:"client"`    // by OAuth client, over all its users
	Agent     Rate `yaml:"agent"`     // by agent, within its issuer and tenant
	Tenant    Rate `yaml:"tenant"`    // by tenant
	Server    Rate `yaml:"server"`    // by server, over all callers
	Tool      Rate `yaml:"tool"`      // by caller and tool
	MaxKeys   int  `yaml:"max_keys"`  // buckets that are not full at one time; above, new keys are refused; default 131072
}

func defaultRates() Rates {
	return Rates{
		Peer: Rate{200, 400}, Principal: Rate{50, 200}, Client: Rate{200, 800}, Agent: Rate{50, 200},
		Tenant: Rate{1000, 2000}, Server: Rate{1000, 2000}, Tool: Rate{20, 100}, MaxKeys: 1 << 17,
	}
}

// limit checks a rate and fills its zero fields.
func (r Rate) limit(name string, def Rate) (limit, error) {
	if r.PerSecond == 0 {
		r.PerSecond = def.PerSecond
	}
	if r.Burst == 0 {
		r.Burst = def.Burst
	}
	if !(r.PerSecond >= 1e-3 && r.PerSecond <= 1e8) || r.Burst < 1 || r.Burst > 1e9 {
		return limit{}, fmt.Errorf("gateway.rates.%s: want per_second from 0.001 to 1e8 and burst from 1 to 1e9", name)
	}
	interval := max(1, int64(float64(time.Second)/r.PerSecond))
	return limit{interval, interval * int64(r.Burst)}, nil
}

// rates is the state that both phases of GW-03 share.
// Control GW-03; MCP 2026-07-28 server/tools, "Security considerations" (servers must rate limit);
// RFC 6585 section 4 (429).
type rates struct {
	hasher
	clock
	table *buckets

	peer, principal, client, agent, tenant, server, tool limit
}

// Kinds of keys, so that a client named like a tenant does not share its bucket.
const (
	byPeer uint64 = iota + 1
	byPrincipal
	byClient
	byAgent
	byTenant
	byServer
	byTool
)

func newRates(cfg Rates, now func() time.Time) (*rates, error) {
	def := defaultRates()
	r := &rates{hasher: newHasher(), clock: newClock(now)}
	for _, f := range []struct {
		to       *limit
		name     string
		rate, or Rate
	}{
		{&r.peer, "peer", cfg.Peer, def.Peer},
		{&r.principal, "principal", cfg.Principal, def.Principal},
		{&r.client, "client", cfg.Client, def.Client},
		{&r.agent, "agent", cfg.Agent, def.Agent},
		{&r.tenant, "tenant", cfg.Tenant, def.Tenant},
		{&r.server, "server", cfg.Server, def.Server},
		{&r.tool, "tool", cfg.Tool, def.Tool},
	} {
		var err error
		if *f.to, err = f.rate.limit(f.name, f.or); err != nil {
			return nil, err
		}
	}
	if cfg.MaxKeys == 0 {
		cfg.MaxKeys = def.MaxKeys
	}
	if cfg.MaxKeys < ways || cfg.MaxKeys > 1<<24 {
		return nil, fmt.Errorf("gateway.rates.max_keys: want %d to %d", ways, 1<<24)
	}
	r.table = newBuckets(cfg.MaxKeys)
	return r, nil
}

// take takes one token and says no when there is none.
func (r *rates) take(key uint64, l limit, now int64, reason warder.Reason) (warder.Decision, bool) {
	wait, ok := r.table.take(key, l, now)
	if ok {
		return warder.Decision{}, true
	}
	if wait < 0 {
		return tooMany("rate_table_full", "every bucket is in use", time.Second), false
	}
	return tooMany(reason, "bucket empty", wait), false
}

// tooMany refuses with the time after which another try can pass.
func tooMany(reason warder.Reason, detail string, wait time.Duration) warder.Decision {
	seconds := max(1, int64((wait+time.Second-1)/time.Second))
	d := warder.Refuse(warder.CodeRateLimited, reason, detail).
		Tell("Too many requests. Try again in " + strconv.FormatInt(seconds, 10) + " s.")
	d.Ask = &warder.Ask{RetryAfter: time.Duration(seconds) * time.Second}
	return d
}

// peerRates is GW-03 in phase Connect.
type peerRates struct{ *rates }

// callerRates is GW-03 in phase Request.
type callerRates struct{ *rates }

var (
	_ warder.Interceptor = peerRates{}
	_ warder.Interceptor = callerRates{}
)

// Control returns "GW-03".
func (*rates) Control() warder.ControlID { return "GW-03" }

// Intercept counts a connection attempt against its address.
func (r peerRates) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	addr := x.Conn.Peer.Addr()
	if !addr.IsValid() {
		if x.Door == warder.DoorStdio {
			return warder.Continue(), nil
		}
		return warder.Refuse(warder.CodeRateLimited, "peer_unknown", "no peer address"), nil
	}
	if d, ok := r.take(r.peerKey(byPeer, addr), r.peer, r.since(), "rate_peer"); !ok {
		return d, nil
	}
	return warder.Continue(), nil
}

// peerKey names a peer: an IPv4 address, or the /64 that one IPv6 host usually owns.
func (h hasher) peerKey(kind uint64, addr netip.Addr) uint64 {
	raw := addr.As16()
	if addr.Unmap().Is6() {
		return h.bytes(kind, raw[:8])
	}
	return h.bytes(kind, raw[:])
}

// Intercept counts a message against its caller first and against what callers share last, so that
// one who is over his own limit takes nothing from the others.
func (r callerRates) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	p, now := x.Principal, r.since()
	if p == nil {
		return warder.Decision{}, errNoPrincipal
	}
	if d, ok := r.take(r.caller(byPrincipal, p), r.principal, now, "rate_principal"); !ok {
		return d, nil
	}
	server := serverName(x)
	if target := x.Target(); target != "" {
		key := r.add(r.add(r.caller(byTool, p), server), target)
		if d, ok := r.take(key, r.tool, now, "rate_tool"); !ok {
			return d, nil
		}
	}
	if p.Agent != "" {
		key := r.add(r.add(r.add(byAgent, p.Tenant), p.Issuer), p.Agent)
		if d, ok := r.take(key, r.agent, now, "rate_agent"); !ok {
			return d, nil
		}
	}
	if p.Client != "" {
		if d, ok := r.take(r.add(r.add(byClient, p.Issuer), p.Client), r.client, now, "rate_client"); !ok {
			return d, nil
		}
	}
	if p.Tenant != "" {
		if d, ok := r.take(r.add(byTenant, p.Tenant), r.tenant, now, "rate_tenant"); !ok {
			return d, nil
		}
	}
	if d, ok := r.take(r.add(byServer, server), r.server, now, "rate_server"); !ok {
		return d, nil
	}
	return warder.Continue(), nil
}
