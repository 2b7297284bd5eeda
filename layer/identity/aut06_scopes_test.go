package identity

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
)

func TestAUT06(t *testing.T) {
	t.Parallel()
	cfg := Config{BaseURL: base, AuthorityConfig: AuthorityConfig{
		Scopes: []ScopeRule{
			{Server: "files", Tools: []string{"read", "list*"}, Need: []string{"files:read"}},
			{Server: "files", Tools: []string{"write"}, Need: []string{"files:write", "audit"}},
			{Tools: []string{"write"}, Need: []string{"confirmed"}},
			{Server: "files", Methods: []string{"resources/*"}, Need: []string{"files:read"}},
		},
		Implies: map[string][]string{"files:manage": {"files:write"}, "files:write": {"files:read"}, "loop-a": {"loop-b"}, "loop-b": {"loop-a"}},
	}}
	with := func(scopes ...string) *warder.Principal {
		p := human()
		p.Scopes = scopes
		return p
	}
	for _, tt := range []struct {
		name, tool string
		p          *warder.Principal
		want       []string // scopes of the challenge; nil: pass
	}{
		{name: "pass granted", tool: "read", p: with("files:read")},
		{name: "pass by inclusion", tool: "list_all", p: with("files:manage")},
		{name: "pass everything", tool: "write", p: with("files:write", "audit", "confirmed")},
		{name: "near_miss tool without a rule", tool: "stat", p: with()},
		{name: "deny nothing granted", tool: "read", p: with(), want: []string{"files:read"}},
		{name: "deny longer name", tool: "read", p: with("files:readonly"), want: []string{"files:read", "files:readonly"}},
		{name: "deny inclusion is one way", tool: "write", p: with("files:read", "audit", "confirmed"), want: []string{"audit", "confirmed", "files:write", "files:read"}},
		{name: "deny all at once", tool: "write", p: with("profile"), want: []string{"audit", "confirmed", "files:write", "profile"}},
		{name: "deny without offline access", tool: "read", p: with("offline_access"), want: []string{"files:read"}},
		{name: "dependency_killed issuer states no scopes", tool: "read", p: with(), want: []string{"files:read"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := judge(t, newScopeCheck(cfg), callOf(t, tt.p, tt.tool, "{}"))
			if tt.want == nil {
				wantReason(t, d, "")
				return
			}
			wantReason(t, d, "scope_missing")
			if diff := cmp.Diff(&warder.Ask{
				Scheme: "Bearer", Error: "insufficient_scope", Scopes: tt.want, ResourceMetadata: cfg.MetadataURL("files"),
			}, d.Ask); diff != "" || d.Code != warder.CodeInsufficientScope {
				t.Errorf("%s, challenge (-want +got):\n%s", d.Code, diff)
			}
		})
	}
	t.Run("deny other method", func(t *testing.T) {
		t.Parallel()
		wantReason(t, judge(t, newScopeCheck(cfg), asked(t, with(), `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///a"}}`)), "scope_missing")
	})
	t.Run("pass user of a pipe", func(t *testing.T) {
		t.Parallel()
		x := callOf(t, &warder.Principal{Issuer: "local", Subject: "ada"}, "read", "{}")
		x.Door = warder.DoorStdio
		wantReason(t, judge(t, newScopeCheck(cfg), x), "")
	})
	t.Run("pass elevation is remarked once", func(t *testing.T) {
		t.Parallel()
		c := newScopeCheck(cfg)
		wantReason(t, judge(t, c, callOf(t, with("profile"), "read", "{}")), "scope_missing")
		found := 0
		for range 3 {
			d := judge(t, c, callOf(t, with("profile", "files:read"), "read", "{}"))
			wantReason(t, d, "")
			found += len(d.Findings)
		}
		if found != 1 {
			t.Errorf("%d findings, want one", found)
		}
		if c.short.open() {
			t.Error("the caller is remembered though it came back")
		}
	})
	t.Run("shortage is bounded", func(t *testing.T) {
		t.Parallel()
		c := newScopeCheck(cfg)
		for i := range maxShort + 10 {
			p := human()
			p.Subject = string(rune('a'+i%26)) + string(rune('0'+i%10)) + string(rune(0x4e00+i))
			c.short.add(p)
		}
		if n := len(c.short.had); n > maxShort {
			t.Errorf("%d remembered, at most %d", n, maxShort)
		}
	})
}

func TestBroadScopesAreRefused(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"*", "files:*", "files.*", "all", "ALL", "files:all", "admin", "full_access", "owner", "a b", "", `a"b`} {
		c := Config{AuthorityConfig: AuthorityConfig{BroadScopes: []string{"Owner"}, Scopes: []ScopeRule{{Need: []string{s}}}}}
		if err := c.Validate(); err == nil {
			t.Errorf("%q is accepted as a scope that an operation needs", s)
		}
		if s == "" {
			continue
		}
		c = Config{ScopesSupported: []string{s}, AuthorityConfig: AuthorityConfig{BroadScopes: []string{"Owner"}}}
		if err := c.Validate(); err == nil {
			t.Errorf("%q is accepted in scopes_supported", s)
		}
		c = Config{AuthorityConfig: AuthorityConfig{BroadScopes: []string{"Owner"}, Implies: map[string][]string{"x": {s}}}}
		if err := c.Validate(); err == nil {
			t.Errorf("%q may be included", s)
		}
	}
	for _, s := range []string{"files:read", "allocate", "files:admin", "call"} {
		c := Config{AuthorityConfig: AuthorityConfig{Scopes: []ScopeRule{{Need: []string{s}}}}}
		if err := c.Validate(); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
}
