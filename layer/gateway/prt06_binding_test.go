package gateway

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

func TestPRT06(t *testing.T) {
	t.Parallel()
	session := func(t *testing.T, p *warder.Principal) *warder.Exchange {
		t.Helper()
		x := exchange(t, warder.Revision20251125, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
		x.Session, x.Principal = "s1", p
		return x
	}
	withOwner := func() *fakes {
		f := newFakes()
		f.owners["s1"] = alice().Key()
		return f
	}
	t.Run("pass/own session", func(t *testing.T) {
		t.Parallel()
		pass(t, ownRequests{withOwner().layer(t, Config{}).binding}, session(t, alice()))
	})
	t.Run("pass/no session", func(t *testing.T) {
		t.Parallel()
		pass(t, ownRequests{newFakes().layer(t, Config{}).binding}, call2026(t, `{}`))
	})
	t.Run("deny/stolen session", func(t *testing.T) {
		t.Parallel()
		c := ownRequests{withOwner().layer(t, Config{}).binding}
		thieves := map[string]func(*warder.Principal){
			"subject": func(p *warder.Principal) { p.Subject = "mallory" },
			"issuer":  func(p *warder.Principal) { p.Issuer = "https://evil.example" },
			"client":  func(p *warder.Principal) { p.Client = "other" },
			"agent":   func(p *warder.Principal) { p.Agent = "other" },
			"tenant":  func(p *warder.Principal) { p.Tenant = "other" },
			"prefix":  func(p *warder.Principal) { p.Subject = "alic"; p.Client = "edesktop" },
		}
		for name, change := range thieves {
			p := alice()
			change(p)
			t.Run(name, func(t *testing.T) {
				verdict(t, c, session(t, p), warder.CodeNoSession, "session_of_another")
			})
		}
	})
	t.Run("near_miss/the same caller with a fresh token", func(t *testing.T) {
		t.Parallel()
		p := alice()
		p.TokenID, p.Scopes = "another", []string{"more"}
		pass(t, ownRequests{withOwner().layer(t, Config{}).binding}, session(t, p))
	})
	t.Run("dependency_killed/session store lost it, no principal", func(t *testing.T) {
		t.Parallel()
		c := ownRequests{newFakes().layer(t, Config{}).binding}
		verdict(t, c, session(t, alice()), warder.CodeNoSession, "session_unknown")
		fails(t, c, session(t, nil))
	})

	task := func(t *testing.T, method, id string) *warder.Exchange {
		t.Helper()
		return exchange(t, warder.Revision20251125, `{"jsonrpc":"2.0","id":1,"method":"`+method+`","params":{"taskId":"`+id+`"}}`)
	}
	start := func(t *testing.T, b *binding, p *warder.Principal, body string) {
		t.Helper()
		x := result(t, call2026(t, `{}`), body)
		x.Principal = p
		pass(t, ownResponses{b}, x)
	}
	t.Run("deny/task of another, in every method and both forms", func(t *testing.T) {
		t.Parallel()
		b := newFakes().layer(t, Config{}).binding
		start(t, b, alice(), `{"task":{"taskId":"t1","status":"working"}}`)
		start(t, b, alice(), `{"resultType":"task","taskId":"t2"}`)
		start(t, b, alice(), `{"resultType":"task","task":{"taskId":"t3"}}`)
		for _, id := range []string{"t1", "t2", "t3"} {
			for _, method := range []string{wire.MethodTasksGet, wire.MethodTasksResult, wire.MethodTasksCancel, wire.MethodTasksUpdate} {
				pass(t, ownRequests{b}, task(t, method, id))
				x := task(t, method, id)
				x.Principal = mallory()
				d := verdict(t, ownRequests{b}, x, warder.CodeNotFound, "task_not_found")
				unknown := verdict(t, ownRequests{b}, task(t, method, "nobody's"), warder.CodeNotFound, "task_not_found")
				if d.Public != unknown.Public {
					t.Errorf("another's task answers %q, an unknown one %q", d.Public, unknown.Public)
				}
			}
		}
		x := task(t, wire.MethodTasksGet, "t1")
		x.Server = &warder.Server{Name: "mail"}
		verdict(t, ownRequests{b}, x, warder.CodeNotFound, "task_not_found") // ids are the server's own
	})
	t.Run("deny/a server hands one caller the task of another", func(t *testing.T) {
		t.Parallel()
		b := newFakes().layer(t, Config{}).binding
		start(t, b, alice(), `{"task":{"taskId":"t1"}}`)
		x := result(t, call2026(t, `{}`), `{"task":{"taskId":"t1"}}`)
		x.Principal = mallory()
		verdict(t, ownResponses{b}, x, warder.CodeUpstreamFailed, "task_of_another")
		verdict(t, ownResponses{b}, result(t, call2026(t, `{}`), `{"task":{"taskId":7}}`), warder.CodeUpstreamFailed, "task_id_malformed")
	})
	t.Run("deny/a task that was not used for long", func(t *testing.T) {
		t.Parallel()
		f := newFakes()
		b := f.layer(t, Config{Tasks: Tasks{Keep: time.Hour}}).binding
		start(t, b, alice(), `{"task":{"taskId":"t1"}}`)
		f.wait(59 * time.Minute)
		pass(t, ownRequests{b}, task(t, wire.MethodTasksGet, "t1")) // use keeps it
		f.wait(59 * time.Minute)
		pass(t, ownRequests{b}, task(t, wire.MethodTasksGet, "t1"))
		f.wait(61 * time.Minute)
		verdict(t, ownRequests{b}, task(t, wire.MethodTasksGet, "t1"), warder.CodeNotFound, "task_not_found")
	})
	t.Run("pass/lists hold own tasks alone", func(t *testing.T) {
		t.Parallel()
		b := newFakes().layer(t, Config{}).binding
		start(t, b, alice(), `{"task":{"taskId":"t1"}}`)
		start(t, b, mallory(), `{"task":{"taskId":"t2"}}`)
		x := result(t, exchange(t, warder.Revision20251125, `{"jsonrpc":"2.0","id":1,"method":"tasks/list"}`),
			`{"tasks":[{"taskId":"t2"}, {"taskId":"t1"},{"taskId":"t3"},{}],"nextCursor":"c"}`)
		pass(t, ownResponses{b}, x)
		if diff := cmp.Diff(`{"tasks":[{"taskId":"t1"}],"nextCursor":"c"}`, string(x.Response.At(x.Response.ResultSpan))); diff != "" {
			t.Errorf("list (-want +got):\n%s", diff)
		}
	})
	t.Run("deny/notification about a task of another", func(t *testing.T) {
		t.Parallel()
		b := newFakes().layer(t, Config{}).binding
		start(t, b, alice(), `{"task":{"taskId":"t1"}}`)
		x := answer(t, call2026(t, `{}`), `{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{"taskId":"t1"}}`)
		pass(t, ownResponses{b}, x)
		x.Principal = mallory()
		verdict(t, ownResponses{b}, x, warder.CodeInvalidParams, "task_of_another")
	})
}

// isKey agrees with Principal.Key for every principal, separators included.
func TestIsKey(t *testing.T) {
	t.Parallel()
	part := rapid.StringOfN(rapid.RuneFrom([]rune("ab\x1f")), 0, 3, -1)
	rapid.Check(t, func(t *rapid.T) {
		draw := func() *warder.Principal {
			return &warder.Principal{
				Tenant: part.Draw(t, "tenant"), Issuer: part.Draw(t, "issuer"), Subject: part.Draw(t, "subject"),
				Client: part.Draw(t, "client"), Agent: part.Draw(t, "agent"),
			}
		}
		p, q := draw(), draw()
		if got, want := isKey(q.Key(), p), q.Key() == p.Key(); got != want {
			t.Fatalf("isKey(%q, %q) = %t, want %t", q.Key(), p.Key(), got, want)
		}
		if !isKey(p.Key(), p) {
			t.Fatalf("isKey(%q) of its own principal = false", p.Key())
		}
	})
}
