package attacks

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/broker"
	"github.com/warder-mcp/warder/issuer"
)

// A held is a call that waits, as the admin API shows it.
type held struct {
	ID         string          `json:"id"`
	Nonce      string          `json:"nonce"`
	Server     string          `json:"server"`
	Parameters json.RawMessage `json:"parameters"`
}

// waiting are the calls that wait for somebody.
func (w *world) waiting() []held {
	w.t.Helper()
	var page struct{ Items []held }
	got := w.manage(w.operator("abe", "approvers", true), http.MethodGet, "/approvals?status=pending", nil)
	if err := json.Unmarshal([]byte(got.text), &page); err != nil {
		w.t.Fatalf("%v %s", err, got)
	}
	return page.Items
}

// hold puts a call to people and returns it as the approver sees it.
func (w *world) hold(c call) held {
	w.t.Helper()
	if got := w.send(c); got.passed() {
		w.t.Fatalf("nobody is asked: %s", got)
	}
	list := w.waiting()
	if len(list) != 1 {
		w.t.Fatalf("%d calls wait, want 1", len(list))
	}
	var h held
	got := w.manage(w.operator("abe", "approvers", true), http.MethodGet, "/approvals/"+list[0].ID, nil)
	if err := json.Unmarshal([]byte(got.text), &h); err != nil || h.Nonce == "" {
		w.t.Fatalf("%v %s", err, got)
	}
	return h
}

// decide decides on a call as an operator.
func (w *world) decide(token string, h held, word string) answer {
	w.t.Helper()
	return w.manage(token, http.MethodPost, "/approvals/"+h.ID+"/"+word, map[string]any{"nonce": h.Nonce})
}

func (w *world) abe() string { return w.operator("abe", "approvers", true) }

// testApprovals attacks calls that wait for a person.
func testApprovals(t *testing.T, n *tally) {
	t.Helper()
	w := newWorld(t, n, setup{More: operators + `access:
  approval: {tools: ["a/pay"], wait: 10ms, rate: {per_hour: 1000}}
  inline: |
    @id("all") permit(principal, action, resource);
`})
	ada := w.mint(claimsOf("ada"))
	pay := func(text string) call { return call{token: ada, tool: "pay", text: text} }
	var last int
	fresh := func() string { last++; return fmt.Sprintf("invoice %d", last) }
	approved := func(text string) {
		w.t.Helper()
		if got := w.decide(w.abe(), w.hold(pay(text)), "approve"); !got.done() {
			w.t.Fatalf("approve: %s", got)
		}
	}
	pending := step{"HIL-01", "approval_pending"}
	after := func(name string, want step, other func(text string) call) attack {
		return attack{name, func(w *world) answer {
			text := fresh()
			approved(text)
			got := w.send(other(text))
			w.clear()
			return got
		}, want, string(want.reason)}
	}
	w.try(func(w *world) answer {
		text := fresh()
		approved(text)
		return w.send(pay(text))
	}, answer.passed, []attack{
		after("another amount", pending, func(text string) call { return pay(text + "0") }),
		after("a further parameter", pending, func(text string) call { return call{token: ada, tool: "pay", text: text, to: "mallory"} }),
		after("another caller", pending, func(text string) call { return call{token: w.mint(claimsOf("bob")), tool: "pay", text: text} }),
		after("another client of the caller", pending, func(text string) call {
			return call{token: w.mint(issuer.Claims{Client: "evil"}), tool: "pay", text: text}
		}),
		after("another agent of the caller", pending, func(text string) call {
			return call{token: w.mint(issuer.Claims{Agent: "evil"}), tool: "pay", text: text}
		}),
		{"approval used twice", func(w *world) answer {
			text := fresh()
			approved(text)
			if got := w.send(pay(text)); !got.passed() {
				w.t.Fatalf("near miss: %s", got)
			}
			w.calls.Add(-1)
			got := w.send(pay(text))
			w.clear()
			return got
		}, pending, ""},
		{"a call that was refused", func(w *world) answer {
			text := fresh()
			if got := w.decide(w.abe(), w.hold(pay(text)), "deny"); !got.done() {
				w.t.Fatalf("deny: %s", got)
			}
			return w.send(pay(text))
		}, step{"HIL-01", "approval_denied"}, ""},
	})
	w.deciders(pay, fresh)
	w.race(pay, fresh, approved)
}

// clear refuses what waits, so that the next attack is about its own call.
func (w *world) clear() {
	w.t.Helper()
	holds := w.app.Broker().Holds
	list, err := holds.List(w.t.Context(), broker.HoldPending)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range list {
		_, err := holds.Decide(w.t.Context(), broker.HoldDecision{
			Hold: list[i].ID, Nonce: list[i].Nonce, By: broker.Person{Issuer: "test", Subject: "boss", Groups: []string{"ops"}, Operator: true}, Channel: "test",
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// deciders are people who decide on what is not theirs to decide.
func (w *world) deciders(pay func(string) call, fresh func() string) {
	w.t.Helper()
	on := func(name string, want step, decide func(w *world, h held) answer) attack {
		return attack{name, func(w *world) answer {
			text := fresh()
			got := decide(w, w.hold(pay(text)))
			if again := w.send(pay(text)); again.passed() {
				w.t.Errorf("the call passes: %s", again)
			}
			w.clear()
			return got
		}, want, ""}
	}
	w.try(func(w *world) answer { return w.decide(w.abe(), w.hold(pay(fresh())), "approve") }, answer.done, []attack{
		on("approved by who asked", step{"", "refused"}, func(w *world, h held) answer { return w.decide(w.operator("ada", "approvers", true), h, "approve") }),
		on("approved by who asked, without factor", step{"PUB-08", "insufficient_user_authentication"}, func(w *world, h held) answer { return w.decide(w.operator("ada", "approvers", false), h, "approve") }),
		on("approved by a viewer", step{"", "forbidden"}, func(w *world, h held) answer { return w.decide(w.operator("vera", "viewers", true), h, "approve") }),
		on("approved with a guessed nonce", step{"", "refused"}, func(w *world, h held) answer {
			h.Nonce = strings.Repeat("A", len(h.Nonce))
			return w.decide(w.abe(), h, "approve")
		}),
		on("approved after it was refused", step{"", "refused"}, func(w *world, h held) answer {
			w.decide(w.abe(), h, "deny")
			return w.decide(w.operator("amy", "approvers", true), h, "approve")
		}),
		on("nonce of another call", step{"", "refused"}, func(w *world, h held) answer {
			w.decide(w.abe(), h, "deny")
			other := w.hold(pay(fresh()))
			other.Nonce = h.Nonce
			return w.decide(w.abe(), other, "approve")
		}),
	})
}

// race uses one approval many times at once.
func (w *world) race(pay func(string) call, fresh func() string, approved func(string)) {
	w.t.Helper()
	text := fresh()
	approved(text)
	if n := w.together(8, pay(text)); n != 1 {
		w.t.Errorf("one approval let %d calls through", n)
	}
	w.clear()
}

// together sends a call many times at once and counts those that pass.
func (w *world) together(n int, c call) int {
	var all sync.WaitGroup
	var mu sync.Mutex
	passed := 0
	for range n {
		all.Go(func() {
			if w.send(c).passed() {
				mu.Lock()
				passed++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return passed
}

// testFlood wears approvers out (HIL-02): the critical call must not drown.
func testFlood(t *testing.T, n *tally) {
	t.Helper()
	w := newWorld(t, n, setup{More: operators + `access:
  approval: {tools: ["a/pay", "b/pay"], wait: 1ms, rate: {pending: 3, per_hour: 100, queue: 10, critical: 50}}
  inline: |
    @id("all") permit(principal, action, resource);
`})
	flood := w.mint(claimsOf("eve"))
	for i := range 3 {
		w.send(call{token: flood, tool: "pay", text: fmt.Sprint(i)})
	}
	held := func(a answer) bool { return strings.Contains(a.text, "approve") && !strings.Contains(a.text, "HIL-02") }
	w.try(func(w *world) answer { return w.send(call{token: w.mint(claimsOf("ada")), tool: "pay", text: "mine"}) }, held, []attack{
		{"one caller too many prompts", func(w *world) answer { return w.send(call{token: flood, tool: "pay", text: "more"}) }, step{"HIL-02", "approval_flood"}, ""},
		{"the same caller as another client", func(w *world) answer {
			return w.send(call{token: w.mint(issuer.Claims{Subject: "eve", Client: "x"}), tool: "pay", text: "more"})
		}, step{"HIL-02", "approval_flood"}, ""},
	})
}

// grant asks for a grant and has somebody else approve it.
func (w *world) grant(q broker.GrantRequest) string {
	w.t.Helper()
	q.By = broker.Person{Issuer: "test", Subject: "asker"}
	if q.Principal == "" {
		q.Principal = w.base + "/issuer|ada"
	}
	made, err := w.app.Broker().Grants.Request(w.t.Context(), q)
	if err == nil {
		_, err = w.app.Broker().Grants.Approve(w.t.Context(), made.ID, broker.Person{Issuer: "test", Subject: "boss", Operator: true}, "test")
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return made.ID
}

// testGrants attacks access that was granted for a while.
func testGrants(t *testing.T, n *tally) {
	t.Helper()
	w := newWorld(t, n, setup{More: operators + `access:
  grants: {require: [read, write, destructive, unknown]}
  inline: |
    @id("all") permit(principal, action, resource);
`})
	c := func(subject, tool string) call { return call{token: w.mint(claimsOf(subject)), tool: tool} }
	w.grant(broker.GrantRequest{Server: "a", Tools: []string{"echo"}, TTL: time.Minute})
	none := step{"JIT-01", "grant_required"}
	of := func(name string, want step, q broker.GrantRequest, c func() call) attack {
		return attack{name, func(w *world) answer { w.grant(q); return w.send(c()) }, want, ""}
	}
	name := func(subject string) string { return w.base + "/issuer|" + subject }
	w.try(func(w *world) answer { return w.send(c("ada", "echo")) }, answer.passed, []attack{
		{"without a grant", func(w *world) answer { return w.send(c("bob", "echo")) }, none, ""},
		{"another tool", func(w *world) answer { return w.send(c("ada", "pay")) }, none, ""},
		{"another server", func(w *world) answer {
			return w.send(call{server: "b", token: w.mint(issuer.Claims{Audience: w.resource("b")})})
		}, none, ""},
		of("a grant of another agent", none, broker.GrantRequest{Principal: name("carl"), Agent: "good", Server: "a", TTL: time.Minute},
			func() call { return call{token: w.mint(issuer.Claims{Subject: "carl", Agent: "evil"})} }),
		of("a grant for another purpose", none, broker.GrantRequest{Principal: name("dora"), Purpose: "audit", Server: "a", TTL: time.Minute},
			func() call { return call{token: w.mint(issuer.Claims{Subject: "dora", Purpose: "fun"})} }),
		{"a grant that is used up", func(w *world) answer {
			w.grant(broker.GrantRequest{Principal: name("emma"), Server: "a", TTL: time.Minute, Uses: 1})
			if got := w.send(c("emma", "echo")); !got.passed() {
				w.t.Errorf("near miss: %s", got)
			}
			w.calls.Add(-1)
			return w.send(c("emma", "echo"))
		}, none, ""},
		{"a grant that has ended", func(w *world) answer {
			w.grant(broker.GrantRequest{Principal: name("fred"), Server: "a", TTL: time.Second})
			time.Sleep(1100 * time.Millisecond)
			return w.send(c("fred", "echo"))
		}, none, ""},
		{"a grant that was revoked", func(w *world) answer {
			id := w.grant(broker.GrantRequest{Principal: name("gus"), Server: "a", TTL: time.Minute})
			if _, err := w.app.Broker().Grants.Revoke(w.t.Context(), id, broker.Person{Issuer: "test", Subject: "boss", Operator: true}, "test"); err != nil {
				w.t.Fatal(err)
			}
			return w.send(c("gus", "echo"))
		}, none, ""},
		{"a grant that nobody approved", func(w *world) answer {
			q := broker.GrantRequest{Principal: name("hal"), Server: "a", TTL: time.Minute, By: broker.Person{Issuer: w.base + "/issuer", Subject: "hal"}}
			if _, err := w.app.Broker().Grants.Request(w.t.Context(), q); err != nil {
				w.t.Fatal(err)
			}
			return w.send(c("hal", "echo"))
		}, none, ""},
	})
	w.grant(broker.GrantRequest{Principal: name("ivy"), Server: "a", TTL: time.Minute, Uses: 3})
	if n := w.together(12, c("ivy", "echo")); n != 3 {
		t.Errorf("a grant for 3 calls let %d through", n)
	}
	w.steps(name("kim"))
	w.ownGrant()
}

// steps leaves the order of a plan.
func (w *world) steps(principal string) {
	w.t.Helper()
	plan := func(subject string) {
		w.t.Helper()
		q := broker.PlanRequest{Principal: strings.Replace(principal, "kim", subject, 1), TTL: time.Minute, By: broker.Person{Issuer: "test", Subject: "asker"}, Steps: []broker.Step{
			{Server: "a", Tools: []string{"echo"}}, {Server: "a", Tools: []string{"other"}}, {Server: "a", Tools: []string{"pay"}},
		}}
		made, err := w.app.Broker().Plans.Request(w.t.Context(), q)
		if err == nil {
			_, err = w.app.Broker().Plans.Approve(w.t.Context(), made.ID, broker.Person{Issuer: "test", Subject: "boss", Operator: true}, "test")
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
	as := func(subject, tool string) answer { return w.send(call{token: w.mint(claimsOf(subject)), tool: tool}) }
	skipped := step{"JIT-05", "plan_step_not_reached"}
	runs := 0
	w.try(func(*world) answer {
		runs++
		who := fmt.Sprintf("kim%d", runs)
		plan(who)
		as(who, "echo")
		as(who, "other")
		return as(who, "pay")
	}, answer.passed, []attack{
		{"the last step first", func(*world) answer { plan("lea"); return as("lea", "pay") }, skipped, ""},
		{"the second step first", func(*world) answer { plan("max"); return as("max", "other") }, skipped, ""},
		{"the first step again", func(w *world) answer {
			plan("ned")
			as("ned", "echo")
			w.calls.Add(-1)
			return as("ned", "echo")
		}, step{"JIT-05", "plan_step_not_reached"}, ""},
	})
}

// ownGrant asks for access and approves it oneself.
func (w *world) ownGrant() {
	w.t.Helper()
	ask := func(subject string) string {
		got := w.manage(w.operator(subject, "approvers", true), http.MethodPost, "/grants", map[string]any{"server": "a", "ttl_seconds": 60})
		if got.member("id") == "" {
			w.t.Fatalf("ask: %s", got)
		}
		return got.member("id")
	}
	approve := func(subject, id string) answer {
		return w.manage(w.operator(subject, "approvers", true), http.MethodPost, "/grants/"+url.PathEscape(id)+"/approve", map[string]any{})
	}
	w.try(func(*world) answer { return approve("abe", ask("ola")) }, answer.done, []attack{
		{"a grant approved by who asked", func(*world) answer { return approve("ola", ask("ola")) }, step{"", "refused"}, ""},
		{"a grant approved by whom it is for", func(w *world) answer {
			got := w.manage(w.operator("abe", "approvers", true), http.MethodPost, "/grants", map[string]any{"principal": w.base + "/issuer|ola", "server": "a", "ttl_seconds": 60})
			return approve("ola", got.member("id"))
		}, step{"", "refused"}, ""},
	})
}

// testRevoked uses what was taken away, and agents that nobody registered.
func testRevoked(t *testing.T, n *tally) {
	t.Helper()
	w := newWorld(t, n, setup{Identity: "  agents: required\n", More: everything + operators})
	reg := func(name, client string, tools ...string) {
		if _, err := w.app.Broker().Agents.Register(t.Context(), warder.Agent{Name: name, Owner: "ops", Clients: []string{client}, Tools: tools}, broker.Person{Issuer: "test", Subject: "boss"}); err != nil {
			t.Fatal(err)
		}
	}
	reg("good", "good", "*/*")
	reg("doomed", "doomed", "*/*")
	reg("narrow", "narrow", "a/echo")
	as := func(subject, client, tool string) answer {
		return w.send(call{token: w.mint(issuer.Claims{Subject: subject, Client: client}), tool: tool})
	}
	gone := func(name, kind, value string, c func(w *world) call) attack {
		return attack{name, func(w *world) answer {
			shown := c(w)
			if got := w.send(shown); !got.passed() {
				w.t.Errorf("near miss: %s", got)
			}
			w.calls.Add(-1)
			w.revoke(kind, strings.ReplaceAll(value, "%ISS%", w.base+"/issuer"))
			return w.send(shown)
		}, step{"JIT-04", "revoked"}, ""}
	}
	with := func(c issuer.Claims) func(*world) call {
		c.Client = or(c.Client, "good")
		return func(w *world) call { return call{token: w.mint(c)} }
	}
	w.try(func(*world) answer { return as("ada", "good", "echo") }, answer.passed, []attack{
		{"an agent that nobody registered", func(*world) answer { return as("ada", "evil", "echo") }, step{"REG-01", "agent_unregistered"}, ""},
		{"a registered agent at another tool", func(*world) answer { return as("ada", "narrow", "pay") }, step{"REG-01", "agent_tool"}, ""},
		gone("a revoked principal", "principal", "%ISS%|bob", with(issuer.Claims{Subject: "bob"})),
		gone("a revoked agent", "agent", "doomed", with(issuer.Claims{Subject: "cat", Client: "doomed"})),
		gone("a revoked session", "session", "%ISS%|s1", with(issuer.Claims{Subject: "dan", Session: "s1"})),
		gone("a revoked tenant", "tenant", "t1", with(issuer.Claims{Subject: "eli", Tenant: "t1"})),
		gone("a revoked tool", "tool", "a/other", func(w *world) call {
			return call{token: w.mint(issuer.Claims{Subject: "ada", Client: "good"}), tool: "other"}
		}),
		gone("a revoked server", "server", "b", func(w *world) call {
			return call{server: "b", token: w.mint(issuer.Claims{Subject: "ada", Client: "good", Audience: w.resource("b")})}
		}),
	})
	w.revoke("all", "*")
	if got := as("ada", "good", "echo"); got.passed() {
		t.Errorf("everything is revoked: %s", got)
	}
}
