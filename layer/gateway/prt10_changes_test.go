package gateway

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

func TestPRT10(t *testing.T) {
	t.Parallel()
	cfg := Config{Changes: Changes{Rate: Rate{1, 3}, Streams: 2, Resources: 3}}
	listen := func(tb testing.TB, uris ...string) *warder.Exchange {
		tb.Helper()
		for i, u := range uris {
			uris[i] = `"` + u + `"`
		}
		return exchange(tb, warder.Revision20260728, `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true,"resourceSubscriptions":[`+
			strings.Join(uris, ",")+`]},`+modernMeta+`}}`)
	}
	notify := func(t *testing.T, method string) *warder.Exchange {
		t.Helper()
		return answer(t, listen(t), `{"jsonrpc":"2.0","method":"`+method+`","params":{"uri":"file:///a"}}`)
	}
	t.Run("pass/changes lead to verification", func(t *testing.T) {
		t.Parallel()
		f := newFakes()
		c := changeResponses{f.layer(t, cfg).changes}
		for _, m := range []string{wire.NotifyToolsChanged, wire.NotifyPromptsChanged, wire.NotifyResourcesChanged, wire.NotifyResourceUpdated, wire.NotifyProgress} {
			pass(t, c, notify(t, m))
		}
		if diff := cmp.Diff([]string{"files/tool", "files/prompt", "files/resource"}, f.refreshed); diff != "" {
			t.Errorf("verified again (-want +got):\n%s", diff)
		}
	})
	t.Run("deny/flood", func(t *testing.T) {
		t.Parallel()
		for _, m := range []string{wire.NotifyToolsChanged, wire.NotifyPromptsChanged, wire.NotifyResourcesChanged, wire.NotifyResourceUpdated} {
			f := newFakes()
			c := changeResponses{f.layer(t, cfg).changes}
			if n, d := burst(t, c, notify(t, m), 1000); n != 3 || d.Reason != "change_flood" || d.Code != warder.CodeRateLimited {
				t.Errorf("%s: %d passed, then %s %s; want 3, then rate_limited change_flood", m, n, d.Code, d.Reason)
			}
			if len(f.refreshed) > 3 {
				t.Errorf("%s: a flood led to %d verifications", m, len(f.refreshed))
			}
			f.wait(2 * time.Second)
			if n, _ := burst(t, c, notify(t, m), 1000); n != 2 {
				t.Errorf("%s: after 2s %d passed, want 2", m, n)
			}
		}
	})
	t.Run("near_miss/kinds, servers and callers are apart", func(t *testing.T) {
		t.Parallel()
		c := changeResponses{newFakes().layer(t, cfg).changes}
		burst(t, c, notify(t, wire.NotifyToolsChanged), 1000)
		pass(t, c, notify(t, wire.NotifyPromptsChanged))
		x := notify(t, wire.NotifyToolsChanged)
		x.Server = &warder.Server{Name: "mail"}
		pass(t, c, x)
		x = notify(t, wire.NotifyToolsChanged)
		x.Principal = mallory()
		pass(t, c, x)
	})
	t.Run("dependency_killed/definitions cannot be verified", func(t *testing.T) {
		t.Parallel()
		f := newFakes()
		f.refreshErr = errKilled
		c := changeResponses{f.layer(t, cfg).changes}
		fails(t, c, notify(t, wire.NotifyToolsChanged))
		pass(t, c, notify(t, wire.NotifyResourceUpdated)) // nothing to verify
	})
	t.Run("deny/too many streams, until one ends", func(t *testing.T) {
		t.Parallel()
		c := subscriptions{newFakes().layer(t, cfg).changes}
		first, second, third := listen(t), listen(t), listen(t)
		pass(t, c, first)
		pass(t, c, second)
		verdict(t, c, third, warder.CodeRateLimited, "streams_too_many")
		if err := c.Record(t.Context(), third); err != nil { // a refused one frees nothing
			t.Fatal(err)
		}
		verdict(t, c, listen(t), warder.CodeRateLimited, "streams_too_many")
		other := listen(t)
		other.Principal = mallory()
		pass(t, c, other)
		for range 2 { // recorded twice, counted once
			if err := c.Record(t.Context(), first); err != nil {
				t.Fatal(err)
			}
		}
		pass(t, c, listen(t))
		verdict(t, c, listen(t), warder.CodeRateLimited, "streams_too_many")
	})
	t.Run("pass/a stream over a group counts once", func(t *testing.T) {
		t.Parallel()
		c := subscriptions{newFakes().layer(t, cfg).changes}
		part := func(root *warder.Exchange) *warder.Exchange {
			x := listen(t)
			x.Parent = root
			return x
		}
		root := listen(t)
		parts := []*warder.Exchange{part(root), part(root), part(root), part(root)}
		for _, x := range parts {
			pass(t, c, x)
		}
		pass(t, c, part(listen(t)))
		verdict(t, c, part(listen(t)), warder.CodeRateLimited, "streams_too_many")
		for i, x := range append(parts, root) {
			if i < len(parts) {
				verdict(t, c, listen(t), warder.CodeRateLimited, "streams_too_many") // until the last part ends
			}
			if err := c.Record(t.Context(), x); err != nil {
				t.Fatal(err)
			}
		}
		pass(t, c, listen(t))
	})
	t.Run("deny/too many resources", func(t *testing.T) {
		t.Parallel()
		c := subscriptions{newFakes().layer(t, cfg).changes}
		pass(t, c, listen(t, "a:1", "a:2", "a:3"))
		verdict(t, c, listen(t, "a:1", "a:2", "a:3", "a:4"), warder.CodeRateLimited, "subscriptions_too_many")
	})
	t.Run("pass/nothing is kept after the streams end", func(t *testing.T) {
		t.Parallel()
		c := subscriptions{newFakes().layer(t, cfg).changes}
		for range 100 {
			x := listen(t)
			pass(t, c, x)
			if err := c.Record(t.Context(), x); err != nil {
				t.Fatal(err)
			}
		}
		if len(c.open) != 0 || len(c.roots) != 0 || len(c.count) != 0 {
			t.Errorf("%d streams and %d callers are still counted", len(c.open), len(c.count))
		}
	})
}
