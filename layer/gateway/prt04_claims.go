package gateway

import (
	"context"
	"slices"
	"strconv"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// claims treats what a client says of itself as a claim: its name must not contradict its
// credentials, and capabilities that configuration forbids are taken away before a server sees them.
// Control PRT-04; MCP 2026-07-28 schema, clientInfo ("not verified", not for security decisions).
// Phase Request.
type claims struct {
	names  map[string][]string // by OAuth client id
	cut    features
	limits wire.Limits
}

// features says which client features configuration allows servers to use.
type features struct{ sampling, roots, form, url bool }

func (c Config) features() features {
	return features{c.Deprecated.Sampling, c.Deprecated.Roots, c.Elicitation.Form, c.Elicitation.URL}
}

func newClaims(cfg Config, lim wire.Limits) *claims {
	return &claims{names: cfg.Clients, cut: cfg.features(), limits: lim}
}

var _ warder.Interceptor = (*claims)(nil)

// Control returns "PRT-04".
func (*claims) Control() warder.ControlID { return "PRT-04" }

// Intercept reconciles name and capabilities.
func (c *claims) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	if p := x.Principal; p == nil {
		return warder.Decision{}, errNoPrincipal
	} else if names, ok := c.names[p.Client]; ok && p.Client != "" && x.Client.Name != "" && !slices.Contains(names, x.Client.Name) {
		d := warder.Refuse(warder.CodeDenied, "client_claim_conflict", "client "+quote(p.Client)+" calls itself "+quote(x.Client.Name)).
			Tell("The client is not the one it says it is.")
		d.Findings = []warder.Finding{{Rule: "client_info_conflict", Severity: warder.High, Pointer: infoPointer(x), Evidence: quote(x.Client.Name)}}
		return d, nil
	}
	caps := declared(x.Request)
	if caps.Kind() != '{' {
		return passed()
	}
	if err := rewrite(x, c.limits, c.cut.forbidden(x.Request, caps)); err != nil {
		return warder.Decision{}, err
	}
	return passed()
}

func infoPointer(x *warder.Exchange) string {
	if x.Revision.Modern() {
		return "/params/_meta/io.modelcontextprotocol~1clientInfo"
	}
	return "/params/clientInfo"
}

// declared finds the capabilities that a request declares: in _meta of a stateless request, in the
// params of initialize.
func declared(m *warder.Message) wire.Value {
	if m.Method == wire.MethodInitialize {
		return wire.At(m, m.Params.Get("capabilities"))
	}
	return wire.At(m, m.Meta.Get(wire.MetaCapabilities))
}

// forbidden returns the edits that take away what is not allowed.
func (f features) forbidden(m *warder.Message, caps wire.Value) []wire.Edit {
	elicitation := caps.Get("elicitation")
	url, form := elicitation.Get("url"), elicitation.Get("form")
	// Without members the capability means forms (2025-11-25 client/elicitation, "Capabilities").
	none := !f.form && (!f.url || !url.Exists())
	drop := func(k wire.Key) bool {
		return !f.sampling && k.Is("sampling") || !f.roots && k.Is("roots") || none && k.Is("elicitation")
	}
	var edits []wire.Edit
	for k := range caps.Members() {
		if drop(k) {
			edits = remove(m, caps, drop)
			break
		}
	}
	if !none && (!f.url && url.Exists() || !f.form && form.Exists()) {
		edits = append(edits, remove(m, elicitation, func(k wire.Key) bool {
			return !f.url && k.Is("url") || !f.form && k.Is("form")
		})...)
	}
	return edits
}

// quote cuts and quotes what a peer sent, for operators.
func quote(s string) string {
	if len(s) > 100 {
		s = s[:100] + "…"
	}
	return strconv.QuoteToASCII(s)
}
