package tools

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

const mst01 warder.ControlID = "MST-01"

// absent is the one answer for what is not there and for what the principal may not see.
func absent(detail string) warder.Decision {
	return warder.Refuse(warder.CodeNotFound, "not_found", detail)
}

// visibleTarget refuses what the principal may not see in the same way as what does not exist.
// Control MST-01, phase Request.
type visibleTarget struct {
	definitions *Definitions
	visibility  Visibility
}

var _ warder.Interceptor = (*visibleTarget)(nil)

// Control returns MST-01.
func (*visibleTarget) Control() warder.ControlID { return mst01 }

// Intercept judges the tool, prompt or resource that the request names.
func (c *visibleTarget) Intercept(ctx context.Context, x *warder.Exchange) (warder.Decision, error) {
	if x.Request != nil && x.Request.Method == wire.MethodListen {
		return c.subscriptions(ctx, x)
	}
	kind, name, ok := targetOf(x)
	if !ok {
		return warder.Continue(), nil
	}
	if kind == kindResource || kind == kindTemplate {
		return c.resource(ctx, x, kind, name)
	}
	return c.definition(ctx, x, kind, name)
}

// definition judges a tool or prompt. A hidden name and a missing one take the same way: look up,
// make sure that the list is recent, look up again.
func (c *visibleTarget) definition(ctx context.Context, x *warder.Exchange, kind, name string) (warder.Decision, error) {
	if _, visible, err := c.see(ctx, x, kind, name); err != nil {
		return undecided(err)
	} else if visible {
		return warder.Continue(), nil
	}
	if _, err := c.definitions.recent(ctx, x, kind); err != nil {
		return undecided(err)
	}
	found, visible, err := c.see(ctx, x, kind, name)
	if err != nil {
		return undecided(err)
	}
	switch {
	case visible:
		return warder.Continue(), nil
	case found:
		return absent("policy hides the " + kind + " " + quoted(name)), nil
	default:
		return absent("the server offers no " + kind + " " + quoted(name)), nil
	}
}

func (c *visibleTarget) see(ctx context.Context, x *warder.Exchange, kind, name string) (found, visible bool, err error) {
	offered, found, err := c.definitions.find(ctx, x, kind, name, false)
	if err != nil || !found {
		return false, false, err
	}
	tool, _, err := c.definitions.registry.Current(x.Server.Name, kind, name, offered.digest)
	if err != nil {
		return true, false, fmt.Errorf("look up definition: %w", err)
	}
	visible, err = c.visibility.Visible(ctx, x, tool)
	if err != nil {
		return true, false, fmt.Errorf("ask for visibility: %w", err)
	}
	return true, visible, nil
}

func (c *visibleTarget) resource(ctx context.Context, x *warder.Exchange, kind, uri string) (warder.Decision, error) {
	if x.Server == nil {
		return undecided(errNoServer)
	}
	visible, err := c.visibility.Visible(ctx, x, &warder.Tool{Kind: kind, Server: x.Server.Name, Name: uri})
	if err != nil {
		return undecided(fmt.Errorf("ask for visibility: %w", err))
	}
	if !visible {
		return absent("policy hides the " + kind + " " + quoted(uri)), nil
	}
	return warder.Continue(), nil
}

// subscriptions judges every resource that subscriptions/listen (2026-07-28) names.
func (c *visibleTarget) subscriptions(ctx context.Context, x *warder.Exchange) (warder.Decision, error) {
	wanted := wire.At(x.Request, x.Request.Params.Get("notifications")).Get("resourceSubscriptions")
	for _, v := range wanted.Elements() {
		uri, ok := v.Text()
		if !ok {
			return absent("a resource subscription is not a URI"), nil
		}
		if decision, err := c.resource(ctx, x, kindResource, uri); err != nil || decision.Verdict != warder.Pass {
			return decision, err
		}
	}
	return warder.Continue(), nil
}

// targetOf tells what kind of thing a request acts on, and its name.
func targetOf(x *warder.Exchange) (kind, name string, ok bool) {
	if x.Request == nil || x.Request.Kind != warder.KindRequest {
		return "", "", false
	}
	switch x.Request.Method {
	case wire.MethodToolsCall:
		return kindTool, x.Request.Target, true
	case wire.MethodPromptsGet:
		return kindPrompt, x.Request.Target, true
	case wire.MethodResourcesRead, wire.MethodResourcesSubscribe, wire.MethodResourcesUnsubscribe:
		return kindResource, x.Request.Target, true
	case wire.MethodComplete:
		ref := wire.At(x.Request, x.Request.Params.Get("ref"))
		if ref.Get("type").Equals("ref/prompt") {
			name, _ = ref.Get("name").Text()
			return kindPrompt, name, true
		}
		name, _ = ref.Get("uri").Text()
		return kindTemplate, name, true
	default:
		return "", "", false
	}
}

// visibleList takes what the principal may not see out of a list, puts the rest in the order of
// names, and marks the answer as private to the principal. Control MST-01, phase Response.
type visibleList struct {
	definitions *Definitions
	visibility  Visibility
}

var _ warder.Interceptor = (*visibleList)(nil)

// Control returns MST-01.
func (*visibleList) Control() warder.ControlID { return mst01 }

// Intercept filters a list. The bytes of the definitions that stay are not touched.
func (c *visibleList) Intercept(ctx context.Context, x *warder.Exchange) (warder.Decision, error) {
	m, array, raws, ok := listed(x)
	if !ok {
		return warder.Continue(), nil
	}
	if x.Server == nil {
		return undecided(errNoServer)
	}
	shown := make([]namedRaw, 0, len(raws))
	for _, raw := range raws {
		tool, err := c.tool(x, m, raw)
		if err != nil {
			return undecided(err)
		}
		visible, err := c.visibility.Visible(ctx, x, tool)
		if err != nil {
			return undecided(fmt.Errorf("ask for visibility: %w", err))
		}
		if visible {
			shown = append(shown, namedRaw{tool.Name, raw})
		}
	}
	sorted := slices.IsSortedFunc(shown, byName)
	if !sorted {
		slices.SortStableFunc(shown, byName)
	}
	var edits []wire.Edit
	if !sorted || len(shown) < len(raws) {
		edits = append(edits, wire.Edit{At: array.Span(), New: joined(rawsOf(shown))})
	}
	if x.Revision.Modern() && !wire.At(x.Response, x.Response.Result.Get("cacheScope")).Equals("private") {
		edits = append(edits, wire.SetMember(x.Response, x.Response.ResultSpan, x.Response.Result, "cacheScope", []byte(`"private"`)))
	}
	if len(edits) > 0 {
		changed, err := wire.Splice(x.Response, within(x.Response), edits...)
		if err != nil {
			return undecided(fmt.Errorf("filter the list: %w", err))
		}
		x.Response = changed
	}
	return warder.Observe(lookalikes(m, shown)...), nil
}

type namedRaw struct {
	name string
	raw  []byte
}

func byName(a, b namedRaw) int { return strings.Compare(a.name, b.name) }

func rawsOf(list []namedRaw) [][]byte {
	raws := make([][]byte, len(list))
	for i := range list {
		raws[i] = list[i].raw
	}
	return raws
}

// tool returns what policy is asked about. Of what cannot be read, it sees the name alone.
func (c *visibleList) tool(x *warder.Exchange, m listMethod, raw []byte) (*warder.Tool, error) {
	if m.kind == kindTool || m.kind == kindPrompt {
		if tool, err := c.definitions.registry.Resolve(x.Server.Name, m.kind, raw); err == nil {
			current, _, err := c.definitions.registry.Current(tool.Server, tool.Kind, tool.Name, tool.Digest)
			if err != nil {
				return nil, fmt.Errorf("look up definition: %w", err)
			}
			return current, nil
		}
	}
	name, _ := wire.Parse(raw).Get(m.name).Text()
	return &warder.Tool{Kind: m.kind, Server: x.Server.Name, Name: name, Definition: raw}, nil
}

// sameAbsence answers for a resource that the server does not know as for one that the principal may
// not see. For tools and prompts the gateway knows itself what exists. Control MST-01, phase Response.
type sameAbsence struct{}

var _ warder.Interceptor = (*sameAbsence)(nil)

// Control returns MST-01.
func (*sameAbsence) Control() warder.ControlID { return mst01 }

// Intercept replaces the "not found" of a server.
func (*sameAbsence) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	if x.Response == nil || x.Response.Kind != warder.KindError {
		return warder.Continue(), nil
	}
	switch x.Method() {
	case wire.MethodResourcesRead, wire.MethodResourcesSubscribe, wire.MethodResourcesUnsubscribe:
	default:
		return warder.Continue(), nil
	}
	code, _ := wire.At(x.Response, x.Response.Failure.Get("code")).Int()
	if code != warder.RPCInvalidParams && code != warder.RPCResourceNotFound {
		return warder.Continue(), nil
	}
	return absent("the server knows no resource " + quoted(x.Target())), nil
}
