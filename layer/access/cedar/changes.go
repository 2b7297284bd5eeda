package cedar

import (
	"fmt"
	"slices"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/layer/access"
)

// principalChanges are trials with another login, another key, another client.
func principalChanges(p *warder.Principal, now time.Time, w *words) []change {
	alter := func(set func(*warder.Principal)) func(*access.Request) {
		return func(r *access.Request) {
			with := *r.Principal
			set(&with)
			r.Principal = &with
		}
	}
	var out []change
	text := func(name, have string, optional bool, set func(*warder.Principal, string)) {
		out = append(out, textChanges(name, "principal."+name, have, optional, w, func(r *access.Request, v string) {
			alter(func(p *warder.Principal) { set(p, v) })(r)
		})...)
	}
	text("acr", p.ACR, true, func(p *warder.Principal, v string) { p.ACR = v })
	text("tenant", p.Tenant, true, func(p *warder.Principal, v string) { p.Tenant = v })
	text("client", p.Client, true, func(p *warder.Principal, v string) { p.Client = v })
	text("agent", p.Agent, true, func(p *warder.Principal, v string) { p.Agent = v })
	text("transport", p.Transport, false, func(p *warder.Principal, v string) { p.Transport = v })
	if w.asked["principal.amr"] {
		out = append(out, listChanges("login method", p.AMR, w.texts["principal.amr"], func(r *access.Request, list []string) {
			alter(func(p *warder.Principal) { p.AMR = list })(r)
		})...)
	}
	if w.asked["principal.actors"] {
		out = append(out, listChanges("actor", p.Actors, w.texts["principal.actors"], func(r *access.Request, list []string) {
			alter(func(p *warder.Principal) { p.Actors = list })(r)
		})...)
	}
	if w.asked["principal.bound"] {
		what, key := "with a credential bound to a key", "key"
		if p.Binding != "" {
			what, key = "with a credential not bound to a key", ""
		}
		out = append(out, change{what, alter(func(p *warder.Principal) { p.Binding = key })})
	}
	if w.asked["principal.auth_time"] {
		out = append(out, change{"with a login a moment ago", alter(func(p *warder.Principal) { p.AuthTime = now })})
		if !p.AuthTime.IsZero() {
			out = append(out,
				change{"with a login a day earlier", alter(func(p *warder.Principal) { p.AuthTime = p.AuthTime.Add(-24 * time.Hour) })},
				change{"without the time of the login", alter(func(p *warder.Principal) { p.AuthTime = time.Time{} })})
		}
	}
	return out
}

// surroundingChanges are trials in other circumstances (control JIT-02).
func surroundingChanges(c *access.Context, w *words) []change {
	var out []change
	text := func(name, have string, optional bool, set func(*access.Context, string)) {
		out = append(out, textChanges(name, "context."+name, have, optional, w, func(r *access.Request, v string) { set(&r.Context, v) })...)
	}
	number := func(name string, have, most int, set func(*access.Context, int)) {
		out = append(out, numberChanges(name, have, most, w, func(r *access.Request, n int) { set(&r.Context, n) })...)
	}
	text("zone", c.Zone, true, func(c *access.Context, v string) { c.Zone = v })
	text("country", c.Country, true, func(c *access.Context, v string) { c.Country = v })
	text("posture", c.Posture, true, func(c *access.Context, v string) { c.Posture = v })
	text("weekday", c.Weekday, false, func(c *access.Context, v string) { c.Weekday = v })
	text("purpose", c.Purpose, true, func(c *access.Context, v string) { c.Purpose = v })
	text("door", string(c.Door), false, func(c *access.Context, v string) { c.Door = warder.Door(v) })
	text("revision", string(c.Revision), false, func(c *access.Context, v string) { c.Revision = warder.Revision(v) })
	text("endpoint", c.Endpoint, false, func(c *access.Context, v string) { c.Endpoint = v })
	number("hour", c.Hour, 23, func(c *access.Context, n int) { c.Hour = n })
	number("risk", c.Risk, 100, func(c *access.Context, n int) { c.Risk = n })
	number("trust", c.Trust, 100, func(c *access.Context, n int) { c.Trust = n })
	if w.asked["context.hours"] {
		out = append(out, listChanges("hours", c.Hours, w.texts["context.hours"], func(r *access.Request, list []string) {
			r.Context.Hours = list
		})...)
	}
	out = append(out, grantChanges(c, w)...)
	return append(out, agentChanges(c, w)...)
}

// grantChanges are trials without the grant, with one, and with another.
func grantChanges(c *access.Context, w *words) []change {
	if !w.asked["context.grant"] {
		return nil
	}
	with := func(set func(*warder.Grant)) func(*access.Request) {
		return func(r *access.Request) {
			g := warder.Grant{ID: "grant", NotAfter: r.Context.Now.Add(time.Hour)}
			if r.Context.Grant != nil {
				g = *r.Context.Grant
			}
			set(&g)
			r.Context.Grant = &g
		}
	}
	var out []change
	article := "a grant"
	if c.Grant != nil {
		article = "the grant"
		out = append(out, change{"without the grant", func(r *access.Request) { r.Context.Grant = nil }})
	} else {
		out = append(out, change{"with a grant", with(func(*warder.Grant) {})})
	}
	for _, purpose := range w.texts["context.grant.purpose"] {
		if c.Grant == nil || c.Grant.Purpose != purpose {
			out = append(out, change{fmt.Sprintf("with %s for purpose %q", article, purpose), with(func(g *warder.Grant) { g.Purpose = purpose })})
		}
	}
	for _, plan := range w.texts["context.grant.plan"] {
		if c.Grant == nil || c.Grant.Plan != plan {
			out = append(out, change{fmt.Sprintf("with %s of plan %q", article, plan), with(func(g *warder.Grant) { g.Plan = plan })})
		}
	}
	for _, step := range around(w.longs["context.grant.step"], 64) {
		if c.Grant == nil || c.Grant.Step != step {
			out = append(out, change{fmt.Sprintf("with %s of step %d", article, step), with(func(g *warder.Grant) { g.Step = step })})
		}
	}
	return out
}

// agentChanges are trials without the registered agent, with one, and with another.
func agentChanges(c *access.Context, w *words) []change {
	if !w.asked["context.agent"] {
		return nil
	}
	with := func(set func(*warder.Agent)) func(*access.Request) {
		return func(r *access.Request) {
			a := warder.Agent{Name: "agent"}
			if r.Context.Agent != nil {
				a = *r.Context.Agent
			}
			set(&a)
			r.Context.Agent = &a
		}
	}
	var name, owner string
	var roles []string
	var out []change
	if a := c.Agent; a != nil {
		name, owner, roles = a.Name, a.Owner, a.Roles
		out = append(out, change{"without a registered agent", func(r *access.Request) { r.Context.Agent = nil }})
	} else {
		out = append(out, change{"with a registered agent", with(func(*warder.Agent) {})})
	}
	out = append(out, textChanges("registered agent", "context.agent.name", name, false, w, func(r *access.Request, v string) {
		with(func(a *warder.Agent) { a.Name = v })(r)
	})...)
	out = append(out, textChanges("agent owned by", "context.agent.owner", owner, false, w, func(r *access.Request, v string) {
		with(func(a *warder.Agent) { a.Owner = v })(r)
	})...)
	return append(out, listChanges("agent role", roles, w.texts["context.agent.roles"], func(r *access.Request, list []string) {
		with(func(a *warder.Agent) { a.Roles = list })(r)
	})...)
}

// textChanges tries each text that policies compare an attribute with, something else if there is only
// what it has, and nothing if it may be absent.
func textChanges(name, path, have string, optional bool, w *words, set func(*access.Request, string)) []change {
	if !w.asked[path] {
		return nil
	}
	var out []change
	wanted := w.texts[path]
	for _, v := range wanted {
		if v != have {
			out = append(out, change{fmt.Sprintf("with %s %q", name, v), func(r *access.Request) { set(r, v) }})
		}
	}
	const other = "another"
	if have != "" && slices.Contains(wanted, have) || have == "" && !optional {
		out = append(out, change{"with another " + name, func(r *access.Request) { set(r, other) }})
	}
	if optional && have != "" {
		out = append(out, change{"without " + name, func(r *access.Request) { set(r, "") }})
	}
	if optional && have == "" && len(wanted) == 0 {
		out = append(out, change{"with a " + name, func(r *access.Request) { set(r, other) }})
	}
	return out
}

// numberChanges tries the numbers that policies compare an attribute with, and those beside them.
func numberChanges(name string, have, most int, w *words, set func(*access.Request, int)) []change {
	var out []change
	for _, n := range around(w.longs["context."+name], most) {
		if n != have {
			out = append(out, change{fmt.Sprintf("with %s %d", name, n), func(r *access.Request) { set(r, n) }})
		}
	}
	return out
}

// around lists numbers with their neighbours, from 0 to most.
func around(list []int64, most int) []int {
	var out []int
	for _, n := range list {
		for _, v := range [...]int64{n - 1, n, n + 1} {
			if v >= 0 && v <= int64(most) && !slices.Contains(out, int(v)) {
				out = append(out, int(v))
			}
		}
	}
	slices.Sort(out)
	return out
}
