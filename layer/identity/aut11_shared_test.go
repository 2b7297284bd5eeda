package identity

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/secret"
)

func TestAUT11(t *testing.T) {
	t.Parallel()
	shared := func(accounts ...string) func(*Config, *Deps) {
		return func(c *Config, _ *Deps) { c.SharedAccounts = accounts }
	}
	denied := outcome{Control: "AUT-11", Verdict: warder.Deny, Code: warder.CodeDenied, Reason: "account_shared"}
	tests := []struct {
		name   string
		change func(*Config, *Deps)
		claims map[string]any
		want   outcome
	}{
		{"pass a person", shared(otherIDP + "|svc-team"), nil, passed()},
		{"pass nothing is listed", nil, map[string]any{"sub": "svc-team"}, passed()},
		{"near_miss the same name at another issuer", shared(issuerURL + "|svc-team"), map[string]any{"sub": "svc-team"}, passed()},
		{"near_miss a name that begins alike", shared(otherIDP + "|svc"), map[string]any{"sub": "svc-team"}, passed()},
		{"deny a listed account", shared(otherIDP + "|svc-team"), map[string]any{"sub": "svc-team"}, denied},
		{"deny a person behind a listed client", shared(otherIDP + "|shared-bot"), map[string]any{"client_id": "shared-bot"}, denied},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, tt.change)
			if diff := cmp.Diff(tt.want, outcomeOf(b.connect(exchange("Bearer "+with(tt.claims)(b))))); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("dependency_killed no principal, no entry", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, shared(otherIDP+"|svc-team"))
		b.without("IAM-05")
		want := outcome{"ZTA-01", warder.Challenge, warder.CodeUnauthenticated, "principal_missing", ""}
		if diff := cmp.Diff(want, outcomeOf(b.connect(exchange("Bearer "+with(nil)(b))))); diff != "" {
			t.Errorf("outcome (-want +got):\n%s", diff)
		}
	})
}

func TestCheckShared(t *testing.T) {
	t.Parallel()
	env := func(name string) secret.Ref { return secret.Ref{Env: name} }
	owned := func(name, owner string) []SharedCredential { return []SharedCredential{{Ref: env(name), Owner: owner}} }
	for name, tt := range map[string]struct {
		shared []SharedCredential
		uses   []CredentialUse
		ok     bool
	}{
		"each its own":         {nil, []CredentialUse{{"a", env("A")}, {"b", env("B")}}, true},
		"twice at one server":  {nil, []CredentialUse{{"a", env("A")}, {"a", env("A")}}, true},
		"shared":               {nil, []CredentialUse{{"b", env("A")}, {"c", env("B")}, {"a", env("A")}}, false},
		"shared with an owner": {owned("A", "ops"), []CredentialUse{{"a", env("A")}, {"b", env("A")}}, true},
		"shared with nobody":   {owned("A", ""), []CredentialUse{{"a", env("A")}, {"b", env("A")}}, false},
		"another has an owner": {owned("B", "ops"), []CredentialUse{{"a", env("A")}, {"b", env("A")}}, false},
		"no credential at all": {nil, []CredentialUse{{Server: "a"}, {Server: "b"}}, true},
		"file and environment": {nil, []CredentialUse{{"a", env("A")}, {"b", secret.Ref{File: "A"}}}, true},
		"the same helper":      {nil, []CredentialUse{{"a", secret.Ref{Exec: []string{"x", "y"}}}, {"b", secret.Ref{Exec: []string{"x", "y"}}}}, false},
		"the same vault path": {nil, []CredentialUse{
			{"a", secret.Ref{Vault: &secret.VaultRef{}}}, {"b", secret.Ref{Vault: &secret.VaultRef{}}},
		}, false},
	} {
		if err := (Config{SharedCredentials: tt.shared}).CheckShared(tt.uses); (err == nil) != tt.ok || err != nil && !errors.Is(err, errShared) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTokensAreNotKept dumps the heap after a token was verified and remembered, and looks for the token. A
// token that the test does hold must be found, or the search proves nothing.
func TestTokensAreNotKept(t *testing.T) {
	b := newBench(t, nil)
	var hidden [2][]byte // parts of the signatures, written so that the test itself does not hold them
	var held string
	for i := range hidden {
		token := strings.Clone(with(map[string]any{"jti": strings.Repeat("x", i+1)})(b))
		if d := b.connect(exchange("Bearer " + token)); d.Verdict != warder.Pass {
			t.Fatal(d)
		}
		for _, c := range []byte(token[len(token)-40:]) {
			hidden[i] = append(hidden[i], c^0x80)
		}
		if i == 1 {
			held = token
		}
	}
	dump := heap(t)
	for i, want := range []bool{false, true} {
		for k := range hidden[i] {
			hidden[i][k] ^= 0x80
		}
		if found := bytes.Contains(dump, hidden[i]); found != want {
			t.Errorf("token %d is in memory: %v, want %v", i, found, want)
		}
	}
	runtime.KeepAlive(held)
	runtime.KeepAlive(b)
}

func heap(t *testing.T) []byte {
	t.Helper()
	for range 3 {
		runtime.GC()
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "heap"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	debug.WriteHeapDump(f.Fd())
	data, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return data
}
