package tools

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// reasonInvalid is why a definition that cannot be read, or shares its name, is not shown.
const (
	reasonInvalid   warder.Reason = "definition_invalid"
	reasonAmbiguous warder.Reason = "definition_ambiguous"
)

// An item is one definition of a list.
type item struct {
	raw    []byte        // as the server wrote it; aliases the message
	name   string        // empty if it cannot be read
	tool   *warder.Tool  // as it was resolved; nil if it cannot be used at all
	reason warder.Reason // why it may not be used; empty if it may
}

// maxDefinitions bounds the definitions of one list.
const maxDefinitions = 10_000

// judge finds the present state of definitions as a server sent them, in their order. For a server
// that is trusted at first use it pins what nobody decided about. An error says that nothing is known.
func (d *Definitions) judge(ctx context.Context, server, kind string, raws [][]byte) ([]item, error) {
	if len(raws) > maxDefinitions {
		return nil, warder.Fail(warder.CodeUpstreamFailed, "too_many_definitions", nil)
	}
	items := make([]item, len(raws))
	var unknown []*warder.Tool
	for i, raw := range raws {
		if err := d.state(&items[i], server, kind, raw); err != nil {
			return nil, err
		}
		if items[i].reason == reasonUnapproved {
			unknown = append(unknown, items[i].tool)
		}
	}
	ambiguous(items)
	if len(unknown) == 0 || d.trust(server) != TrustFirstUse {
		return items, nil
	}
	if err := d.registry.Pin(ctx, unknown); err != nil {
		return nil, fmt.Errorf("pin definitions: %w", err)
	}
	for i := range items {
		if items[i].reason != reasonUnapproved {
			continue
		}
		if err := d.state(&items[i], server, kind, items[i].raw); err != nil {
			return nil, err
		}
	}
	return items, nil
}

// reasonUnapproved is the reason a registry gives for a name that nobody decided about.
const reasonUnapproved warder.Reason = "definition_unapproved"

func (d *Definitions) state(it *item, server, kind string, raw []byte) error {
	*it = d.resolve(server, kind, raw)
	if it.tool == nil {
		return nil
	}
	var err error
	if _, it.reason, err = d.registry.Current(server, kind, it.name, it.tool.Digest); err != nil {
		return fmt.Errorf("look up definition: %w", err)
	}
	return nil
}

// resolve reads one definition. Of one that is not acceptable only the name is known, if that.
func (d *Definitions) resolve(server, kind string, raw []byte) item {
	tool, err := d.registry.Resolve(server, kind, raw)
	if err != nil {
		name, _ := wire.Parse(raw).Get("name").Text()
		return item{raw: raw, name: name, reason: reasonInvalid}
	}
	return item{raw: raw, name: tool.Name, tool: tool}
}

func (d *Definitions) trust(server string) Trust {
	if t := d.cfg.Servers[server]; t != "" {
		return t
	}
	return d.cfg.Trust
}

// ambiguous marks definitions that share a name: nobody can tell which of them a call would reach.
func ambiguous(items []item) {
	first := make(map[string]int, len(items))
	for i := range items {
		if items[i].name == "" {
			continue
		}
		j, twice := first[items[i].name]
		if !twice {
			first[items[i].name] = i
			continue
		}
		for _, k := range []int{i, j} {
			items[k].tool, items[k].reason = nil, reasonAmbiguous
		}
	}
}

// gather adds the definitions to a map by name. A name that is there already with another content
// becomes unusable.
func gather(byName map[string]offer, items []item) {
	for i := range items {
		name := items[i].name
		if name == "" {
			continue
		}
		o := items[i].offer()
		if have, ok := byName[name]; ok && have != o {
			o = offer{}
		}
		byName[name] = o
	}
}

func (it *item) offer() offer {
	if it.tool == nil {
		return offer{}
	}
	return offer{it.tool.Digest, true}
}

// share returns the one copy of the names of a list, so that ten thousand principals who see the
// same two thousand tools cost one map. When the different lists hold too many names, all views are
// forgotten: a server that invents a list for every principal makes the gateway ask it more often.
func (d *Definitions) share(byName map[string]offer) *names {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		o := byName[name]
		_, _ = h.Write([]byte(name + "\x00")) // a hash never fails
		_, _ = h.Write(o.digest[:])
	}
	var key [sha256.Size]byte
	h.Sum(key[:0])
	if have, ok := d.shared.Get(key); ok {
		return have
	}
	fresh := &names{byName: byName}
	if d.held.Add(int64(len(byName))) > d.limit {
		d.views.forget()
		d.shared.Clear()
	}
	runtime.AddCleanup(fresh, func(n int) { d.held.Add(int64(-n)) }, len(byName))
	return d.shared.Add(key, fresh)
}

// maxHeld bounds the names in all lists that are held, at about 100 bytes each.
const maxHeld = 2_000_000

// A listMethod says where a list is in its result.
type listMethod struct{ kind, member, name string }

// listOf tells what a method lists; ok is false for other methods.
func listOf(method string) (m listMethod, ok bool) {
	switch method {
	case wire.MethodToolsList:
		return listMethod{kindTool, wire.ListMember(method), "name"}, true
	case wire.MethodPromptsList:
		return listMethod{kindPrompt, wire.ListMember(method), "name"}, true
	case wire.MethodResourcesList:
		return listMethod{kindResource, wire.ListMember(method), "uri"}, true
	case wire.MethodResourceTemplates:
		return listMethod{kindTemplate, wire.ListMember(method), "uriTemplate"}, true
	default:
		return m, false
	}
}

// listed returns the definitions in a list answer; ok is false if the exchange is about something
// else, or the message is not its answer.
func listed(x *warder.Exchange) (m listMethod, array wire.Value, raws [][]byte, ok bool) {
	m, ok = listOf(x.Method())
	if !ok || x.Response == nil || x.Response.Kind != warder.KindResult {
		return m, array, nil, false
	}
	array = wire.At(x.Response, x.Response.Result.Get(m.member))
	if array.Kind() != '[' {
		return m, array, nil, false
	}
	for _, v := range array.Elements() {
		raws = append(raws, v.Raw())
	}
	return m, array, raws, true
}

// joined writes an array of the given elements, each as it was.
func joined(raws [][]byte) []byte {
	size := 2
	for _, raw := range raws {
		size += len(raw) + 1
	}
	return append(append(append(make([]byte, 0, size), '['), bytes.Join(raws, []byte{','})...), ']')
}

// within are limits for a message made of parts of a message that was decoded before, and not much
// more: what was let in is not refused here.
func within(m *warder.Message) wire.Limits {
	n := len(m.Raw) + 1<<10
	return wire.Limits{Bytes: int64(n), Depth: 64, Members: n, Nodes: n, StringBytes: n}
}

// pointerTo is the RFC 6901 pointer to an element of a list.
func pointerTo(member string, index int) string {
	return "/result/" + member + "/" + strconv.Itoa(index)
}

// quoted writes a name that a server or client chose so that it can be shown: cut, and with what
// cannot be seen made visible.
func quoted(name string) string {
	const limit = 128
	if len(name) > limit {
		name = name[:limit]
	}
	return strconv.QuoteToGraphic(name)
}
