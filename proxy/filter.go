package proxy

import (
	"slices"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// A filter is what a stateless client wants to hear of (2026-07-28, SubscriptionFilter). Every kind
// of notification is opt-in.
type filter struct {
	tools, prompts, list bool
	resources            []string
}

func parseFilter(v wire.Value) filter {
	on := func(key string) bool {
		b, ok := v.Get(key).Bool()
		return ok && b
	}
	f := filter{tools: on("toolsListChanged"), prompts: on("promptsListChanged"), list: on("resourcesListChanged")}
	for _, e := range v.Get("resourceSubscriptions").Elements() {
		if uri, ok := e.Text(); ok && len(f.resources) < maxSubscriptions {
			f.resources = append(f.resources, uri)
		}
	}
	return f
}

// covers reports whether the client asked for this notification.
func (f filter) covers(n *warder.Message) bool {
	switch n.Method {
	case wire.NotifyToolsChanged:
		return f.tools
	case wire.NotifyPromptsChanged:
		return f.prompts
	case wire.NotifyResourcesChanged:
		return f.list
	case wire.NotifyResourceUpdated:
		uri, _ := wire.At(n, n.Params.Get("uri")).Text()
		return slices.Contains(f.resources, uri)
	default:
		return false
	}
}

// json renders the filter as the wire has it.
func (f filter) json() []byte {
	b := []byte{'{'}
	for _, k := range []struct {
		on  bool
		key string
	}{{f.tools, `"toolsListChanged":true`}, {f.prompts, `"promptsListChanged":true`}, {f.list, `"resourcesListChanged":true`}} {
		if k.on {
			b = append(comma(b), k.key...)
		}
	}
	if len(f.resources) > 0 {
		b = append(comma(b), `"resourceSubscriptions":[`...)
		for i, uri := range f.resources {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, wire.Quote(uri)...)
		}
		b = append(b, ']')
	}
	return append(b, '}')
}

// comma separates members of an object or elements of an array under construction.
func comma(b []byte) []byte {
	if c := b[len(b)-1]; c != '{' && c != '[' {
		return append(b, ',')
	}
	return b
}

// acknowledged is the first message of a listen stream.
func acknowledged(id []byte, f filter) []byte {
	params := append([]byte(`{"_meta":{"`+wire.MetaSubscription+`":`), id...)
	params = append(params, `},"notifications":`...)
	params = append(append(params, f.json()...), '}')
	return wire.Notification(wire.NotifySubscribed, params)
}

// withSubscription marks a notification with the stream it is delivered on.
func withSubscription(n *warder.Message, id []byte, lim wire.Limits) (*warder.Message, error) {
	if !n.ParamsSpan.Present() {
		params := append(append([]byte(`{"_meta":{"`+wire.MetaSubscription+`":`), id...), "}}"...)
		return wire.Decode(wire.Notification(n.Method, params), lim)
	}
	meta := n.Params.Get("_meta")
	if !meta.Present() {
		value := append(append([]byte(`{"`+wire.MetaSubscription+`":`), id...), '}')
		return wire.Splice(n, lim, wire.SetMember(n, n.ParamsSpan, n.Params, "_meta", value))
	}
	return wire.Splice(n, lim, wire.SetMember(n, meta, n.Meta, wire.MetaSubscription, id))
}

// withoutSubscription takes the mark away for a client that knows no subscriptions.
func withoutSubscription(n *warder.Message, lim wire.Limits) (*warder.Message, error) {
	meta := n.Params.Get("_meta")
	if !meta.Present() {
		return n, nil
	}
	return wire.Splice(n, lim, wire.RemoveMembers(n, n.Meta, meta, wire.MetaSubscription)...)
}

// isInputRequired reports whether a result asks the client for input (2026-07-28).
func isInputRequired(m *warder.Message) bool {
	return wire.At(m, m.Result.Get("resultType")).Equals(wire.ResultInputRequired)
}
