package issuer

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/jose"
)

const idp = "https://idp.example"

// enterprise is a world whose company has its own identity provider.
type enterpriseWorld struct {
	*world

	idp, key *jose.Signer
	base     map[string]any
}

func newEnterprise(t *testing.T) *enterpriseWorld {
	t.Helper()
	provider, providerKeys := newSigner(t)
	key, jwks := newSigner(t)
	file := filepath.Join(t.TempDir(), "idp.json")
	if err := os.WriteFile(file, []byte(providerKeys), 0o600); err != nil {
		t.Fatal(err)
	}
	e := &enterpriseWorld{idp: provider, key: key}
	e.world = newWorld(t, func(c *Config, d *Deps) {
		c.Trust = []Trust{
			{Issuer: idp, Use: []string{UseIDJAG}, JWKSFile: file, Tenant: "acme", Scopes: []string{"a", "b", "c"}, GroupPrefix: "acme:"},
			{Issuer: "https://cluster.example", Use: []string{UseWorkload}, JWKSFile: file},
		}
		c.Clients = append(c.Clients,
			ClientConfig{ID: "agent", Grants: []string{grantJWTBearer}, JWKS: jwks},
			ClientConfig{ID: "public", Grants: []string{grantJWTBearer}},
		)
		d.Resources = func() []Resource {
			return []Resource{
				{URI: notes, Server: "notes", Tenant: "acme", Scopes: []string{"b", "c", "d"}},
				{URI: files, Server: "files"},
				{URI: "https://gate.example/mcp/other", Server: "other", Tenant: "globex"},
				{URI: "https://gate.example/admin/v1", Server: "admin", Logins: true},
			}
		}
	})
	now := e.clock.now()
	e.base = map[string]any{
		"iss": idp, "sub": "u1", "aud": e.url, "client_id": "agent", "resource": notes, "scope": "a b c",
		"iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(), "auth_time": now.Add(-time.Minute).Unix(),
		"acr": "urn:phr", "groups": []string{"eng"},
	}
	return e
}

func (e *enterpriseWorld) jag(t *testing.T, pairs ...any) string {
	t.Helper()
	return sign(t, e.idp, typeIDJAG, claimsWith(e.base, pairs...))
}

func (e *enterpriseWorld) redeem(t *testing.T, jag string, pairs ...string) reply {
	t.Helper()
	form := with(url.Values{"grant_type": {grantJWTBearer}, "assertion": {jag}}, pairs...)
	return e.post("token", asserted(t, e.world, e.key, "agent", e.url, form))
}

func TestAUT07(t *testing.T) {
	t.Parallel()
	t.Run("pass", func(t *testing.T) {
		t.Parallel()
		e := newEnterprise(t)
		r := e.redeem(t, e.jag(t))
		if r.status != 200 || r.text("refresh_token") != "" || r.text("scope") != "b c" {
			t.Fatalf("%d %s", r.status, r.body)
		}
		c := e.claims(r.text("access_token"))
		got := map[string]any{}
		for _, name := range []string{"sub", "aud", "client_id", "scope", "tenant", "acr", "groups"} {
			got[name] = c[name]
		}
		want := map[string]any{
			"sub": idp + "|u1", "aud": notes, "client_id": "agent", "scope": "b c", "tenant": "acme", "acr": "urn:phr", "groups": []any{"acme:eng"},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("claims (-want +got):\n%s", diff)
		}
		if ev := e.log.last(); ev.Control != aut07 || ev.Reason != "token_issued" || ev.Server != "notes" {
			t.Errorf("the trail says %+v", ev)
		}
	})
	t.Run("near_miss", func(t *testing.T) {
		t.Parallel()
		e := newEnterprise(t)
		if r := e.redeem(t, e.jag(t), "scope", "b z", "resource", notes); r.status != 200 || r.text("scope") != "b" {
			t.Errorf("scopes are those that all name: %d %s", r.status, r.body)
		}
		if r := e.redeem(t, e.jag(t, "resource", nil), "resource", files); r.status != 200 || r.text("scope") != "a b c" {
			t.Errorf("the request names the resource: %d %s", r.status, r.body)
		}
		if r := e.redeem(t, e.jag(t, "scope", nil)); r.status != 200 || r.text("scope") != "" {
			t.Errorf("no scope vouched for is no scope: %d %s", r.status, r.body)
		}
		e.wants("neither names a resource", e.redeem(t, e.jag(t, "resource", nil)), 400, "invalid_target", "resource_missing")
	})
	t.Run("near_miss/same people", func(t *testing.T) {
		t.Parallel()
		e := newEnterprise(t)
		e.is.foreign[idp].SubjectPrefix = "acme:"
		if r := e.redeem(t, e.jag(t)); r.status != 200 || e.claims(r.text("access_token"))["sub"] != "acme:u1" {
			t.Errorf("the people of a provider of the login: %d %s", r.status, r.body)
		}
	})
	t.Run("deny", func(t *testing.T) {
		t.Parallel()
		for name, c := range map[string]struct {
			claims []any
			form   []string
			reason warder.Reason
		}{
			"another audience":   {[]any{"aud", "https://other.example"}, nil, "jag_audience"},
			"audience of prefix": {[]any{"aud", "http://127.0.0.1"}, nil, "jag_audience"},
			"two audiences":      {[]any{"aud", []string{"https://other.example", "http://x"}}, nil, "jag_audience"},
			"no audience":        {[]any{"aud", nil}, nil, "jag_audience"},
			"another client":     {[]any{"client_id", "other"}, nil, "jag_client"},
			"no client":          {[]any{"client_id", nil}, nil, "jag_client"},
			"no id":              {[]any{"jti", nil}, nil, "jag_id"},
			"another resource":   {nil, []string{"resource", files}, "jag_resource"},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				e := newEnterprise(t)
				e.wants(name, e.redeem(t, e.jag(t, c.claims...), c.form...), 400, "invalid_grant", c.reason)
				if got := e.log.last().Control; got != aut07 {
					t.Errorf("refused by %q", got)
				}
				e.mode(aut07, Monitor)
				if r := e.redeem(t, e.jag(t, c.claims...), c.form...); r.status != 200 || !e.log.has(c.reason) {
					t.Errorf("monitored: %d %s", r.status, r.body)
				}
				e.mode(aut07, Off)
				if r := e.redeem(t, e.jag(t, c.claims...), c.form...); r.status != 200 {
					t.Errorf("without the control something else refuses: %d %s", r.status, r.body)
				}
			})
		}
	})
	t.Run("deny/replay", func(t *testing.T) {
		t.Parallel()
		e := newEnterprise(t)
		jag := e.jag(t)
		if r := e.redeem(t, jag); r.status != 200 {
			t.Fatal(r.body)
		}
		e.wants("again", e.redeem(t, jag), 400, "invalid_grant", "jag_replayed")
		e.mode(aut07, Off)
		if r := e.redeem(t, jag); r.status != 200 {
			t.Errorf("without the control something else refuses: %s", r.body)
		}
	})
	t.Run("deny/always", denyAlways)
	t.Run("dependency_killed", func(t *testing.T) {
		t.Parallel()
		e := newEnterprise(t)
		form := with(url.Values{"grant_type": {grantJWTBearer}, "assertion": {e.jag(t)}})
		signed := asserted(t, e.world, e.key, "agent", e.url, form)
		e.store.fail(errors.New("gone"))
		e.wants("replay memory", e.post("token", signed), 503, "temporarily_unavailable", "unavailable")
	})
}

// denyAlways holds what no mode of the control lets through.
func denyAlways(t *testing.T) {
	t.Parallel()
	e := newEnterprise(t)
	stranger, _ := newSigner(t)
	now := e.clock.now()
	for name, c := range map[string]struct {
		jag    string
		code   string
		reason warder.Reason
	}{
		"forged":              {sign(t, stranger, typeIDJAG, claimsWith(e.base)), "invalid_grant", "assertion_refused"},
		"expired":             {e.jag(t, "exp", now.Add(-time.Hour).Unix(), "iat", now.Add(-2*time.Hour).Unix()), "invalid_grant", "assertion_refused"},
		"from the future":     {e.jag(t, "iat", now.Add(time.Hour).Unix(), "exp", now.Add(65*time.Minute).Unix()), "invalid_grant", "assertion_refused"},
		"good for a day":      {e.jag(t, "exp", now.Add(24*time.Hour).Unix()), "invalid_grant", "assertion_refused"},
		"unknown issuer":      {e.jag(t, "iss", "https://evil.example"), "invalid_grant", "issuer_unknown"},
		"issuer of workloads": {e.jag(t, "iss", "https://cluster.example"), "invalid_grant", "issuer_unknown"},
		"an id token":         {sign(t, e.idp, "JWT", claimsWith(e.base)), "unauthorized_client", "workload_unknown"},
		"of the admin API":    {e.jag(t, "resource", "https://gate.example/admin/v1"), "invalid_target", "login_required"},
		"of another tenant":   {e.jag(t, "resource", "https://gate.example/mcp/other"), "invalid_target", "tenant_mismatch"},
		"unknown resource":    {e.jag(t, "resource", notes+"/"), "invalid_target", "resource_unknown"},
		"no subject":          {e.jag(t, "sub", nil), "invalid_grant", "assertion_refused"},
	} {
		e.wants(name, e.redeem(t, c.jag), 400, c.code, c.reason)
	}
	form := url.Values{"grant_type": {grantJWTBearer}, "assertion": {e.jag(t, "client_id", "public")}, "client_id": {"public"}}
	e.wants("public client", e.post("token", form), 400, "unauthorized_client", "client_public")
	if err := e.rev.revoke(t.Context(), Revocation{Kind: "principal", Value: idp + "|u1"}); err != nil {
		t.Fatal(err)
	}
	e.wants("revoked at the provider", e.redeem(t, e.jag(t)), 400, "invalid_grant", "revoked")
}
