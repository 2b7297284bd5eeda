package attacks

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/issuer"
)

// operators is an admin API with one group for each role.
const operators = `admin:
  api:
    audience: "%ADMIN%/admin/v1"
    roles: {viewer: [viewers], approver: [approvers], operator: [operators], security_admin: [admins], owner: [owners]}
`

// operator is a token for the admin API.
func (w *world) operator(subject, group string, strong bool) string {
	c := issuer.Claims{Subject: subject, Audience: w.admin + "/admin/v1", Groups: []string{group}, ACR: "pwd", AuthTime: time.Now()}
	if strong {
		c.ACR = "phr"
	}
	return w.mint(c)
}

// manage sends a request to the admin API; body may be nil.
func (w *world) manage(token, method, path string, body any) answer {
	w.t.Helper()
	return w.do(w.managing(token, method, path, body))
}

func (w *world) managing(token, method, path string, body any) *http.Request {
	w.t.Helper()
	text := ""
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			w.t.Fatal(err)
		}
		text = string(b)
	}
	req := w.request(method, w.admin+"/admin/v1"+path, text)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req
}

func (a answer) done() bool { return a.status >= 200 && a.status < 300 }

// testAdmin attacks the admin plane.
func testAdmin(t *testing.T, n *tally) {
	t.Helper()
	f := newForger(t)
	w := newWorld(t, n, setup{Issuer: interactive, More: everything + operators, Identity: foreignIdentity, Files: map[string][]byte{"keys.json": f.keySet()}})
	audience := w.admin + "/admin/v1"
	get := func(name, reason, control string, token func() string) attack {
		return attack{name, func(w *world) answer { return w.manage(token(), http.MethodGet, "/status", nil) }, step{warder.ControlID(control), reasonOf(reason)}, ""}
	}
	w.try(func(w *world) answer {
		return w.manage(w.operator("vera", "viewers", false), http.MethodGet, "/status", nil)
	}, answer.done, []attack{
		get("nobody", "unauthenticated", "", func() string { return "" }),
		get("a token of an MCP server", "audience_mismatch", "IAM-05", func() string { return w.mint(issuer.Claims{Groups: []string{"owners"}}) }),
		get("a token for the host", "audience_mismatch", "IAM-05", func() string { return w.mint(issuer.Claims{Audience: w.admin, Groups: []string{"owners"}}) }),
		get("a token with a slash", "audience_mismatch", "IAM-05", func() string { return w.mint(issuer.Claims{Audience: audience + "/", Groups: []string{"owners"}}) }),
		get("a forged token", "key_unknown", "IAM-05", func() string {
			return f.sign(object{"typ": "at+jwt", "alg": "ES256", "kid": "ec"}, f.claims(w.base+"/issuer", audience).with(object{"groups": []string{"owners"}}), f.ec)
		}),
		get("nobody's groups", "forbidden", "", func() string { return w.operator("eve", "nobody", true) }),
		get("a role as a group", "forbidden", "", func() string { return w.operator("eve", "owner", true) }),
		get("groups of a foreign issuer", "forbidden", "", func() string {
			return f.sign(object{"typ": "at+jwt", "alg": "ES256", "kid": "ec"}, f.claims(foreignIssuer, audience).with(object{"groups": []string{"owners"}}), f.ec)
		}),
		get("a break-glass token that was guessed", "unauthenticated", "", func() string { return "warder_bg_" + strings.Repeat("A", 26) }),
		{"a token in the query", func(w *world) answer {
			return w.manage("", http.MethodGet, "/status?access_token="+w.operator("vera", "viewers", false), nil)
		}, step{"", "unauthenticated"}, ""},
		{"headers of a proxy", func(w *world) answer {
			req := w.managing("", http.MethodGet, "/status", nil)
			req.Header = identityHeaders()
			return w.do(req)
		}, step{"", "unauthenticated"}, ""},
		{"two tokens", func(w *world) answer {
			req := w.managing(w.operator("vera", "viewers", false), http.MethodGet, "/status", nil)
			req.Header.Add("Authorization", "Bearer "+w.operator("root", "owners", true))
			return w.do(req)
		}, step{"", "unauthenticated"}, ""},
		{"a revoked operator", func(w *world) answer {
			w.revoke("principal", w.base+"/issuer|gone")
			return w.manage(w.operator("gone", "owners", true), http.MethodGet, "/status", nil)
		}, step{"", "revoked"}, ""},
	})
	if got := w.send(call{token: w.operator("root", "owners", true)}); got.passed() || !strings.Contains(got.text, "audience_mismatch") {
		t.Errorf("an admin token at an MCP server: %s", got)
	}
	w.escalate()
	w.glass()
	w.foreignPages()
}

// escalate tries what a role may not do, and what needs a stronger login.
func (w *world) escalate() {
	w.t.Helper()
	all := map[string]any{"kind": "all", "value": "*", "reason": "attack"}
	lift := map[string]any{"kind": "principal", "value": "x|y"}
	revoke := map[string]any{"kind": "principal", "value": "x|y", "reason": "test"}
	agent := map[string]any{"owner": "ops", "clients": []string{"c"}}
	try := func(name, group string, strong bool, method, path string, body any, want step) attack {
		return attack{name, func(w *world) answer { return w.manage(w.operator("eve", group, strong), method, path, body) }, want, ""}
	}
	role, factor, post := step{"", "forbidden"}, step{"PUB-08", "insufficient_user_authentication"}, http.MethodPost
	w.try(func(w *world) answer {
		return w.manage(w.operator("olga", "operators", false), post, "/revocations", revoke)
	}, answer.done, []attack{
		try("viewer revokes", "viewers", true, post, "/revocations", revoke, role),
		try("approver revokes", "approvers", true, post, "/revocations", revoke, role),
		try("operator lifts", "operators", true, post, "/revocations/lift", lift, role),
		try("operator rotates keys", "operators", true, post, "/keys/rotate", map[string]any{"reason": "x"}, role),
		try("admin makes links", "admins", true, post, "/links", map[string]any{"user": "eve"}, role),
		try("viewer approves", "viewers", true, post, "/approvals/x/approve", map[string]any{"nonce": "x"}, role),
		try("operator approves a grant", "operators", true, post, "/grants/x/approve", map[string]any{}, role),
		try("viewer registers an agent", "viewers", true, http.MethodPut, "/agents/evil", agent, role),
		try("operator without factor revokes all", "operators", false, post, "/revocations", all, factor),
		try("admin without factor lifts", "admins", false, post, "/revocations/lift", lift, factor),
		try("admin without factor declares an emergency", "admins", false, post, "/keys/emergency", map[string]any{"reason": "x"}, factor),
		try("owner without factor makes a link", "owners", false, post, "/links", map[string]any{"user": "eve"}, factor),
		try("owner without factor makes recovery codes", "owners", false, post, "/recovery-codes", map[string]any{}, factor),
		{"a strong login of an hour ago", func(w *world) answer {
			old := w.mint(issuer.Claims{Subject: "root", Audience: w.admin + "/admin/v1", Groups: []string{"owners"}, ACR: "phr", AuthTime: time.Now().Add(-time.Hour)})
			return w.manage(old, post, "/recovery-codes", map[string]any{})
		}, factor, ""},
		{"a strong login of tomorrow", func(w *world) answer {
			next := w.mint(issuer.Claims{Subject: "root", Audience: w.admin + "/admin/v1", Groups: []string{"owners"}, ACR: "phr", AuthTime: time.Now().Add(24 * time.Hour)})
			return w.manage(next, post, "/recovery-codes", map[string]any{})
		}, factor, ""},
		{"method override", func(w *world) answer {
			req := w.managing(w.operator("eve", "viewers", true), post, "/revocations", revoke)
			req.Header.Set("X-Http-Method-Override", "GET")
			return w.do(req)
		}, role, ""},
	})
}

// glass tries recovery codes that are not good, or not good any more.
func (w *world) glass() {
	w.t.Helper()
	made := w.manage(w.operator("root", "owners", true), http.MethodPost, "/recovery-codes", map[string]any{})
	var codes struct{ Codes []string }
	if err := json.Unmarshal([]byte(made.text), &codes); err != nil || len(codes.Codes) < 3 {
		w.t.Fatalf("recovery codes: %v %s", err, made)
	}
	open := func(w *world, code string) answer {
		return w.manage("", http.MethodPost, "/break-glass", map[string]any{"code": code, "reason": "the identity provider is down"})
	}
	next := 0
	fresh := func() string { next++; return codes.Codes[next-1] }
	unknown := step{"", "recovery_code_unknown"}
	var used string
	w.try(func(w *world) answer { used = fresh(); return open(w, used) }, answer.done, []attack{
		{"code used again", func(w *world) answer { return open(w, used) }, unknown, ""},
		{"code that was guessed", func(w *world) answer { return open(w, "AAAA-AAAA-AAAA-AAAA") }, unknown, ""},
		{"part of a code", func(w *world) answer { c := codes.Codes[2]; return open(w, c[:len(c)-1]) }, unknown, ""},
	})
}

// foreignPages has pages of other origins, and whoever made a name point here, ask.
func (w *world) foreignPages() {
	w.t.Helper()
	token := w.operator("root", "owners", true)
	for name, h := range map[string]http.Header{
		"Origin":           {"Origin": {"https://evil.example"}},
		"null origin":      {"Origin": {"null"}},
		"cross-site fetch": {"Sec-Fetch-Site": {"cross-site"}},
		"same-site fetch":  {"Sec-Fetch-Site": {"same-site"}},
	} {
		req := w.managing(token, http.MethodGet, "/status", nil)
		maps.Copy(req.Header, h)
		if got := w.do(req); got.status != http.StatusForbidden || bytes.Contains([]byte(got.text), []byte("version")) {
			w.t.Errorf("%s: %s", name, got)
		}
	}
	got := w.manage(token, http.MethodGet, "/status", nil)
	for name, want := range map[string]string{
		"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
		"Cross-Origin-Resource-Policy": "same-origin", "Access-Control-Allow-Origin": "", "Set-Cookie": "",
	} {
		if got.header.Get(name) != want {
			w.t.Errorf("%s: %q, want %q", name, got.header.Get(name), want)
		}
	}
}
