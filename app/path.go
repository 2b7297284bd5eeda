package app

import (
	"errors"
	"fmt"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/layer/access"
	"github.com/warder-mcp/warder/layer/gateway"
	"github.com/warder-mcp/warder/layer/identity"
	"github.com/warder-mcp/warder/layer/input"
	"github.com/warder-mcp/warder/layer/network"
	"github.com/warder-mcp/warder/layer/output"
	"github.com/warder-mcp/warder/layer/record"
	"github.com/warder-mcp/warder/layer/tools"
	"github.com/warder-mcp/warder/layer/upstream"
	"github.com/warder-mcp/warder/wire"
)

// path is THE ORDER: requests run down this list, answers run up it.
//
//	signer    what goes out is signed     last on the way out; nothing changes what it signed
//	network   who may connect             TLS, Host, Origin
//	trace     which trace it belongs to   W3C context, baggage
//	revision  is it spoken here           the floor and the sunsets
//	gateway   is it proper MCP            rates, headers, sessions, forms, state
//	identity  who is it                   bearer tokens, the user of a local pipe
//	tools     is this the vetted tool     approval by digest, visibility
//	input     is the question harmless    schema, caps, unknown members
//	authority does the credential cover it  scopes, details, the agent's tools, the login's strength
//	access    may they, now, for this     policy decides last; nothing rewrites after it
//	upstream  what the server is shown    credentials of its own, never the caller's
//	uses      one call less               of a credential that is good for a number of them
//	record    write it down               durable before the effect, complete at the end
//	output    is the answer harmless      size, error hygiene, cache scope: first on the way up
func path(cfg *config.Config, d *deps) ([]warder.Layer, error) {
	var p list
	p.add(identity.NewSigner(cfg.Identity, identity.SignerDeps{Limits: d.trace.Limits}))
	p.add(network.New(cfg.Network))
	p.add(record.NewTrace(cfg.Record, d.trace))
	p.add(warder.Layer{Name: "revision", Request: []warder.Interceptor{d.floor}}, nil)
	p.add(gateway.New(cfg.Gateway, d.gateway))
	p.add(identity.New(cfg.Identity, d.identity))
	p.add(tools.New(cfg.Tools, d.tools))
	p.add(input.New(cfg.Input, d.input))
	p.add(identity.NewAuthority(cfg.Identity, d.authority))
	p.add(access.New(cfg.Access, d.access))
	credentials, err := upstream.New(d.upstream)
	p.add(holding(d.held, credentials, err))
	p.add(identity.NewUseLimit(d.authority.Uses), nil)
	p.add(record.New(cfg.Record, d.record))
	p.add(output.New(cfg.Output, d.output))
	return p.layers, p.err
}

// deps is what the layers need from outside, gathered in deps.go.
type deps struct {
	trace     record.TraceDeps
	floor     *wire.Floor
	gateway   gateway.Deps
	identity  identity.Deps
	tools     tools.Deps
	input     input.Deps
	authority identity.AuthorityDeps
	access    access.Deps
	upstream  *upstream.Keeper
	held      func(server string) warder.Credential // credentials that the program holds; may be nil
	record    record.Deps
	output    output.Deps
}

// list collects layers and every error of their constructors.
type list struct {
	layers []warder.Layer
	err    error
}

func (l *list) add(layer warder.Layer, err error) {
	if err != nil {
		l.err = errors.Join(l.err, fmt.Errorf("layer %d: %w", len(l.layers)+1, err))
	}
	l.layers = append(l.layers, layer)
}
