package tools

import (
	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

// observe remembers a page of a list that a client asked for. A page judges calls once the list is
// complete; until then what it shows of known names counts at once, so that a change that a client
// was shown cannot hide behind an older list.
func (d *Definitions) observe(x *warder.Exchange, kind string, items []item) {
	v := d.views.get(keyOf(x, kind), d.announced)
	cursor, _ := wire.At(x.Request, x.Request.Params.Get("cursor")).Text()
	next, _ := wire.At(x.Response, x.Response.Result.Get("nextCursor")).Text()
	asOf := min(d.clock(x.Received), d.clock(d.now()))
	v.mu.Lock()
	defer v.mu.Unlock()
	if cursor == "" {
		v.page = &pages{asOf: asOf, byName: make(map[string]offer, len(items))}
	} else if v.page == nil || v.page.next != cursor {
		v.page = nil // not the list we followed
	}
	if v.page != nil {
		gather(v.page.byName, items)
		v.page.next = next
	}
	switch {
	case v.page == nil || len(v.page.byName) > maxPaged:
		v.page = nil
		v.overlay(items)
	case next != "":
		v.overlay(items)
	default:
		v.put(&listing{names: d.share(v.page.byName), asOf: v.page.asOf})
		v.page = nil
	}
}

// maxPaged bounds the names of a list that a client pages through.
const maxPaged = 100_000

// overlay marks the kept list as out of date if the page contradicts it.
func (v *view) overlay(items []item) {
	list := v.latest.Load()
	for i := range items {
		have, ok := list.byName[items[i].name]
		if items[i].name != "" && (!ok || have != items[i].offer()) {
			v.latest.CompareAndSwap(list, &listing{names: list.names, asOf: never})
			return
		}
	}
}
