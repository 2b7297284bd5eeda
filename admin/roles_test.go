package admin

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/warder-mcp/warder"
)

// groupOf is the group of the rig that has a role.
func groupOf(r Role) string {
	return map[Role]string{RoleViewer: "staff", RoleApprover: "leads", RoleOperator: "ops", RoleSecurityAdmin: "sec", RoleOwner: "owners"}[r]
}

// want is the table of least privilege written a second time, by what each role is for. A line that
// differs from roles.go is a change of who may do what, and must be made here too.
func want() map[string]string {
	return map[string]string{
		"status.get": "v a o s w", "me.get": "v a o s w",
		"grants.list": "v a o s w", "grants.get": "v a o s w", "grants.request": "a o s w", "grants.approve": "a w", "grants.deny": "a w", "grants.revoke": "a o s w",
		"holds.list": "v a o s w", "holds.get": "a o s w", "holds.approve": "a w", "holds.deny": "a w",
		"plans.list": "v a o s w", "plans.get": "v a o s w", "plans.request": "a o s w", "plans.approve": "a w", "plans.deny": "a w", "plans.revoke": "o s w",
		"revocations.list": "v a o s w", "revocations.create": "o s w", "revocations.lift": "s w",
		"agents.list": "v a o s w", "agents.get": "v a o s w", "agents.register": "o w", "agents.disable": "o s w", "agents.enable": "o w",
		"tools.list": "v a o s w", "tools.approve": "o w", "tools.revoke": "o s w",
		"sessions.list": "a o s w", "sessions.end": "o s w", "consents.list": "a o s w", "consents.revoke": "o s w",
		"keys.list": "v a o s w", "keys.rotate": "s w", "keys.emergency": "s w",
		"credentials.list": "a o s w", "credentials.remove": "s w",
		"links.create": "w", "recovery_codes.create": "w", "break_glass.end": "s w",
	}
}

func letter(r Role) string {
	return map[Role]string{RoleViewer: "v", RoleApprover: "a", RoleOperator: "o", RoleSecurityAdmin: "s", RoleOwner: "w"}[r]
}

// bodies are acceptable bodies of operations that need one.
func bodies() map[string]string {
	digest := strings.Repeat("ab", 32)
	return map[string]string{
		"grants.request": `{"server":"s","ttl_seconds":60}`, "holds.approve": `{"nonce":"n"}`, "holds.deny": `{"nonce":"n"}`,
		"plans.request": `{"steps":[],"ttl_seconds":60}`, "revocations.create": `{"kind":"agent","value":"a"}`, "revocations.lift": `{"kind":"agent","value":"a"}`,
		"agents.register": `{"owner":"o"}`, "links.create": `{"user":"u"}`,
		"tools.approve": `{"server":"s","kind":"tool","name":"n","digest":"` + digest + `"}`, "tools.revoke": `{"server":"s","kind":"tool","name":"n","digest":"` + digest + `"}`,
	}
}

// TestEveryRouteAndRole asks for every operation in every role, in none, and without a login.
func TestEveryRouteAndRole(t *testing.T) {
	c := newClock()
	table := newRig(t, c).api.operations
	for i := range table {
		o := &table[i]
		if o.open {
			if o.id != "break_glass.open" {
				t.Errorf("%s needs no login", o.id)
			}
			continue
		}
		letters, ok := want()[o.id]
		if !ok {
			t.Errorf("%s has no row in want(): say who may", o.id)
		}
		path := strings.NewReplacer("{id}", "other", "{name}", "bot").Replace(o.path)
		for _, role := range append(AllRoles(), "") {
			rig := newRig(t, c)
			rig.login("t", []string{groupOf(role)}, func(p *warder.Principal) { p.ACR, p.AuthTime = "phr", c.now() })
			code, p := ask(rig.api, as("t", o.method, path, bodies()[o.id]))
			allowed := role != "" && slices.Contains(strings.Fields(letters), letter(role))
			switch {
			case allowed && code >= 300:
				t.Errorf("%s as %s: %d %s %s, want it done", o.id, role, code, p.Code, p.Detail)
			case !allowed && (code != http.StatusForbidden || p.Code != codeForbidden):
				t.Errorf("%s as %q: %d %s, want 403 forbidden", o.id, role, code, p.Code)
			case !allowed && len(rig.services.done()) != 0:
				t.Errorf("%s as %q: refused, and yet %v", o.id, role, rig.services.done())
			}
			if !allowed {
				if e := rig.trail.last(t); e.Type != warder.EventAdmin || e.Reason != codeForbidden || e.Method != o.id {
					t.Errorf("%s as %q: recorded %+v, want the refusal", o.id, role, e)
				}
			} else if o.method != http.MethodGet {
				if e := rig.trail.last(t); !strings.Contains(e.Detail, "roles="+string(role)) || !strings.Contains(e.Detail, "factor=acr:phr") {
					t.Errorf("%s as %s: recorded %q, want role and factor", o.id, role, e.Detail)
				}
			}
		}
		rig := newRig(t, c)
		if code, p := ask(rig.api, request0(o.method, path, bodies()[o.id])); code != http.StatusUnauthorized || p.Code != codeLogin {
			t.Errorf("%s without a login: %d %s, want 401", o.id, code, p.Code)
		}
	}
}

// TestARouteWithoutARowIsRefused proves that a forgotten row opens nothing.
func TestARouteWithoutARowIsRefused(t *testing.T) {
	rig := newRig(t, newClock())
	rig.login("t", []string{"owners"}, func(*warder.Principal) {})
	delete(rig.api.rules, "grants.list")
	if code, p := ask(rig.api, as("t", http.MethodGet, "/grants", "")); code != http.StatusForbidden {
		t.Errorf("%d %s, want 403", code, p.Code)
	}
	row := rule{roles: AllRoles()}
	if !needed(&row, false, nil) {
		t.Error("a row that does not say whether it needs the second factor does not need it")
	}
}

func TestRolesOfGroups(t *testing.T) {
	r := Roles{Viewer: []string{"a", ""}, Owner: []string{"b"}}
	for name, tc := range map[string]struct {
		groups []string
		want   []Role
	}{
		"none":        {nil, nil},
		"empty group": {[]string{""}, nil},
		"other":       {[]string{"A", "bb"}, nil},
		"two":         {[]string{"b", "a"}, []Role{RoleViewer, RoleOwner}},
	} {
		if got := r.of(tc.groups); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func TestViewersDoNotSeeParameters(t *testing.T) {
	rig := newRig(t, newClock())
	rig.login("v", []string{"staff"}, func(*warder.Principal) {})
	_, body, _ := send(rig.api, as("v", http.MethodGet, "/approvals", ""))
	if strings.Contains(body, "secret") || strings.Contains(body, "nonce") {
		t.Errorf("the list shows parameters or nonce: %s", body)
	}
	var page Page[Hold]
	if err := json.Unmarshal([]byte(body), &page); err != nil || len(page.Items) != 1 {
		t.Errorf("list: %s", body)
	}
}
