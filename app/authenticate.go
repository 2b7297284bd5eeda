package app

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/layer/identity"
)

// adminEndpoint is the name of the admin API where identity asks for the name of an endpoint. No server
// can have it.
const adminEndpoint = "admin/v1"

// operatorIdentity verifies the credentials of operators with the controls that verify those of callers,
// for the audience of the admin API alone: a token for an MCP server is refused. Modes and exceptions of
// controls do not apply here. It is nil when the API has no audience.
func (a *App) operatorIdentity(cfg *config.Config, in *instance) (func(*http.Request) (*warder.Principal, error), error) {
	audience := cfg.Admin.API.Audience
	if audience == "" {
		return nil, nil
	}
	deps := a.identityDeps(cfg, in)
	deps.Resource = func(string) (string, bool) { return audience, true }
	own, err := adminIdentity(cfg.Identity, audience)
	if err != nil {
		return nil, err
	}
	layer, err := identity.New(own, deps)
	if err != nil {
		return nil, fmt.Errorf("admin plane: %w", err)
	}
	server := &warder.Server{Name: adminEndpoint, Resource: audience}
	return func(r *http.Request) (*warder.Principal, error) {
		x := &warder.Exchange{
			ID: warder.NewID(a.opt.Now()), Received: a.opt.Now(), Door: warder.DoorHTTP, Endpoint: adminEndpoint, Server: server,
			Conn: warder.Conn{Peer: addressOf(r.RemoteAddr), Local: localOf(r), TLS: r.TLS, Method: r.Method, Host: r.Host, Path: r.URL.Path, Query: r.URL.RawQuery, Header: r.Header},
		}
		if err := a.admitted(r, layer, x); err != nil {
			return nil, err
		}
		return x.Principal, nil
	}, nil
}

// admitted runs the controls of identity, and looks whether what they found is revoked.
func (a *App) admitted(r *http.Request, layer warder.Layer, x *warder.Exchange) error {
	for _, control := range layer.Connect {
		d, err := control.Intercept(r.Context(), x)
		if err != nil {
			return warder.Fail(warder.CodeUnavailable, "identity_unavailable", err)
		}
		if d.Verdict != warder.Pass {
			code := d.Code
			if code == "" {
				code = warder.CodeDenied
			}
			return &warder.Error{Code: code, Reason: d.Reason, Control: control.Control(), Ask: d.Ask, Err: errors.New(d.Detail)}
		}
	}
	if x.Principal == nil {
		return warder.Fail(warder.CodeUnauthenticated, "principal_missing", nil)
	}
	if e, revoked := a.services.revoked.Check(x.Principal, "", "", nil); revoked {
		return warder.Fail(warder.CodeUnauthenticated, "revoked", fmt.Errorf("%s %s is revoked", e.Kind, e.Value))
	}
	return nil
}

// adminIdentity is the configuration of identity for operators: the same issuers and bindings, addressed
// at the admin API, without what lets one token be good for several audiences.
func adminIdentity(cfg identity.Config, audience string) (identity.Config, error) {
	u, err := url.Parse(audience)
	if err != nil {
		return cfg, fmt.Errorf("admin plane: audience: %w", err)
	}
	cfg.BaseURL = u.Scheme + "://" + u.Host
	cfg.Issuers = slices.Clone(cfg.Issuers)
	for i := range cfg.Issuers {
		cfg.Issuers[i].Audience.AllowOthers = false
		cfg.Issuers[i].Audience.SharedUnsafe = ""
	}
	cfg.DPoP.ContentDigest = false
	cfg.Signatures = identity.Signatures{}
	return cfg, nil
}

func addressOf(s string) netip.AddrPort {
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.AddrPort{}
	}
	return ap
}

func localOf(r *http.Request) netip.AddrPort {
	if l, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		return addressOf(l.String())
	}
	return netip.AddrPort{}
}
