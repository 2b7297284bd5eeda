package secret

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"
)

func file(t *testing.T, text string) Ref {
	t.Helper()
	name := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Ref{File: name}
}

// A clockwork is a clock that tests move.
type clockwork struct{ offset atomic.Int64 }

func (c *clockwork) now() time.Time {
	return time.Unix(1_800_000_000, 0).Add(time.Duration(c.offset.Load()))
}
func (c *clockwork) forward(d time.Duration) { c.offset.Add(int64(d)) }

func keeper(t *testing.T, stores Stores, c *clockwork) *Keeper {
	t.Helper()
	k, err := NewKeeper(stores, KeeperConfig{Now: c.now}, Deps{Now: c.now, HTTP: func(string) (*http.Client, error) { return http.DefaultClient, nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k
}

func get(t *testing.T, k *Keeper, ref Ref) string {
	t.Helper()
	v, err := k.Get(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return string(v.Bytes())
}

func TestKeeper(t *testing.T) {
	t.Parallel()
	c := &clockwork{}
	k := keeper(t, Stores{}, c)
	ref := file(t, "one\n")
	if got := get(t, k, ref); got != "one" {
		t.Fatalf("got %q", got)
	}
	if err := os.WriteFile(ref.File, []byte("two"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := get(t, k, ref); got != "one" {
		t.Errorf("within the lease: %q", got)
	}
	c.forward(4 * time.Minute) // past two thirds: renewed beside the call
	if got := get(t, k, ref); got != "one" {
		t.Errorf("the call waited for the renewal: %q", got)
	}
	for end := time.Now().Add(5 * time.Second); get(t, k, ref) != "two"; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not renewed beside the calls")
		}
	}
	if err := os.Remove(ref.File); err != nil {
		t.Fatal(err)
	}
	c.forward(10 * time.Minute)
	if _, err := k.Get(t.Context(), ref); err == nil || strings.Contains(err.Error(), "two") {
		t.Errorf("after the lease: %v, want an error without the value", err)
	}
	l := &Lease{Value: New([]byte("burn me"))}
	l.Value.burn()
	if !bytes.Equal(l.Value.Bytes(), make([]byte, 7)) {
		t.Errorf("not overwritten: %q", l.Value.Bytes())
	}
}

// TestKeeperAsksOnce lets many callers want one secret at once.
func TestKeeperAsksOnce(t *testing.T) {
	t.Parallel()
	c := &clockwork{}
	k := keeper(t, Stores{}, c)
	count := filepath.Join(t.TempDir(), "count")
	ref := Ref{Exec: []string{"/bin/sh", "-c", `echo x >>"$0"; sleep 0.2; echo value`, count}}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if v, err := k.Get(t.Context(), ref); err != nil || string(v.Bytes()) != "value" {
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
	if b, err := os.ReadFile(count); err != nil || len(b) != 2 {
		t.Errorf("the helper ran %d times, %v", len(b)/2, err)
	}
}

func TestExec(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		argv []string
		want string // empty: an error
	}{
		"pass":              {[]string{"/bin/echo", "a b"}, "a b"},
		"no shell":          {[]string{"/bin/echo", "$HOME; id"}, "$HOME; id"},
		"fails":             {[]string{"/bin/sh", "-c", "echo SECRET; exit 1"}, ""},
		"says nothing":      {[]string{"/bin/true"}, ""},
		"says too much":     {[]string{"/bin/sh", "-c", "yes SECRET | head -c 200000"}, ""},
		"is not there":      {[]string{"/nonexistent/helper"}, ""},
		"pipe stays behind": {[]string{"/bin/sh", "-c", "sleep 30 & echo a"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, err := Ref{Exec: tt.argv}.Read(t.Context())
			if string(v.Bytes()) != tt.want || (tt.want == "") != (err != nil) {
				t.Errorf("got %q, %v", v.Bytes(), err)
			}
			if err != nil && strings.Contains(err.Error(), "SECRET") {
				t.Errorf("the error repeats the output: %v", err)
			}
		})
	}
}

func TestAge(t *testing.T) {
	t.Parallel()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, id.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, `{"a":"alpha","n":1}`); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f := file(t, sealed.String()).File
	k := keeper(t, Stores{Age: map[string]Age{DefaultStore: {Identity: file(t, id.String()+"\n")}, "broken": {Identity: file(t, "AGE-SECRET-KEY-NOT")}}}, &clockwork{})
	if got := get(t, k, Ref{Age: &AgeRef{File: f, Field: "a"}}); got != "alpha" {
		t.Errorf("got %q", got)
	}
	for _, r := range []AgeRef{{File: f, Field: "b"}, {File: f, Field: "n"}, {File: f + ".gone"}, {File: f, Store: "broken"}, {File: f, Store: "none"}} {
		if _, err := k.Get(t.Context(), Ref{Age: &r}); err == nil || strings.Contains(err.Error(), "SECRET-KEY") || strings.Contains(err.Error(), "alpha") {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

// A fakeVault speaks the part of Vault's HTTP API that this package uses, as its documentation describes
// it: logins, KV version 2, leases of dynamic secrets.
type fakeVault struct {
	mu       sync.Mutex
	tokens   map[string]bool
	logins   int
	reads    int
	renewals int
	value    string
	revoked  bool
	short    bool // leases are prolonged by a second only
	down     bool
}

func (v *fakeVault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	answer := func(status int, body any) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body)
	}
	if v.down || r.Header.Get("X-Vault-Request") != "true" || r.Header.Get("X-Vault-Namespace") != "team" {
		answer(http.StatusServiceUnavailable, map[string]any{"errors": []string{"SECRET sealed"}})
		return
	}
	var body map[string]any
	_ = json.NewDecoder(r.Body).Decode(&body)
	switch {
	case r.Method == http.MethodPost && r.URL.Path == "/v1/auth/approle/login" && body["role_id"] == "role" && body["secret_id"] == "sid",
		r.Method == http.MethodPost && r.URL.Path == "/v1/auth/kubernetes/login" && body["role"] == "warder" && body["jwt"] == "pod-token":
		v.logins++
		token := fmt.Sprintf("hvs.%d", v.logins)
		v.tokens[token] = true
		answer(http.StatusOK, map[string]any{"auth": map[string]any{"client_token": token, "lease_duration": 60, "renewable": true}})
	case !v.tokens[r.Header.Get("X-Vault-Token")]:
		answer(http.StatusForbidden, map[string]any{"errors": []string{"permission denied"}})
	case r.Method == http.MethodGet && r.URL.Path == "/v1/secret/data/mcp/github":
		v.reads++
		answer(http.StatusOK, map[string]any{"data": map[string]any{"data": map[string]any{"token": v.value}, "metadata": map[string]any{"version": 3}}})
	case r.Method == http.MethodGet && r.URL.Path == "/v1/database/creds/readonly":
		v.reads++
		answer(http.StatusOK, map[string]any{
			"lease_id": fmt.Sprintf("database/creds/readonly/%d", v.reads), "lease_duration": 100, "renewable": true,
			"data": map[string]any{"username": "u", "password": fmt.Sprintf("pw%d", v.reads)},
		})
	case r.Method == http.MethodPut && r.URL.Path == "/v1/sys/leases/renew" && body["lease_id"] == fmt.Sprintf("database/creds/readonly/%d", v.reads):
		if v.revoked {
			answer(http.StatusBadRequest, map[string]any{"errors": []string{"lease not found"}})
			return
		}
		v.renewals++
		life := 100
		if v.short {
			life = 1
		}
		answer(http.StatusOK, map[string]any{"lease_id": body["lease_id"], "lease_duration": life, "renewable": true})
	default:
		answer(http.StatusNotFound, map[string]any{"errors": []string{}})
	}
}

func TestVault(t *testing.T) {
	t.Parallel()
	v := &fakeVault{tokens: map[string]bool{}, value: "ghp_1"}
	srv := httptest.NewServer(v)
	t.Cleanup(srv.Close)
	c := &clockwork{}
	k := keeper(t, Stores{Vault: map[string]Vault{
		DefaultStore: {Address: srv.URL, Namespace: "team", Auth: VaultAuth{AppRole: &VaultAppRole{RoleID: "role", SecretID: file(t, "sid")}}},
		"k8s":        {Address: srv.URL, Namespace: "team", Auth: VaultAuth{Kubernetes: &VaultWorkload{Role: "warder", Token: file(t, "pod-token")}}},
		"wrong":      {Address: srv.URL, Namespace: "team", Auth: VaultAuth{AppRole: &VaultAppRole{RoleID: "role", SecretID: file(t, "other")}}},
	}}, c)
	ref := func(store string) Ref { return Ref{Vault: &VaultRef{Store: store, Path: "mcp/github", Field: "token"}} }
	for _, store := range []string{"", "k8s"} {
		if got := get(t, k, ref(store)); got != "ghp_1" {
			t.Errorf("%q: got %q", store, got)
		}
	}
	v.mu.Lock()
	v.value = "ghp_2"
	clear(v.tokens) // our token was revoked: the next fetch logs in again
	v.mu.Unlock()
	c.forward(10 * time.Minute)
	if got := get(t, k, ref("")); got != "ghp_2" {
		t.Errorf("after rotation and a revoked token: %q", got)
	}
	for name, r := range map[string]Ref{
		"wrong secret id": ref("wrong"),
		"no such path":    {Vault: &VaultRef{Path: "mcp/none", Field: "token"}},
		"no such field":   {Vault: &VaultRef{Path: "mcp/github", Field: "none"}},
	} {
		if _, err := k.Get(t.Context(), r); err == nil || strings.Contains(err.Error(), "ghp_") {
			t.Errorf("%s: %v", name, err)
		}
	}
	v.mu.Lock()
	v.down = true
	v.mu.Unlock()
	c.forward(10 * time.Minute)
	if _, err := k.Get(t.Context(), ref("")); err == nil || strings.Contains(err.Error(), "SECRET") {
		t.Errorf("vault down: %v, want an error without its body", err)
	}
	if err := (Ref{Vault: &VaultRef{Path: "../sys/raw", Field: "a"}}).Validate(); err == nil {
		t.Error("a path that leaves its mount was accepted")
	}
}

// TestVaultLease proves that the lease of a dynamic secret is prolonged, and the secret read anew when it
// no longer can be.
func TestVaultLease(t *testing.T) {
	t.Parallel()
	v := &fakeVault{tokens: map[string]bool{}}
	srv := httptest.NewServer(v)
	t.Cleanup(srv.Close)
	c := &clockwork{}
	k := keeper(t, Stores{Vault: map[string]Vault{
		DefaultStore: {Address: srv.URL, Namespace: "team", Auth: VaultAuth{AppRole: &VaultAppRole{RoleID: "role", SecretID: file(t, "sid")}}},
	}}, c)
	ref := Ref{Vault: &VaultRef{Engine: "lease", Mount: "database", Path: "creds/readonly", Field: "password"}}
	if got := get(t, k, ref); got != "pw1" {
		t.Fatalf("got %q", got)
	}
	c.forward(101 * time.Second)
	if got := get(t, k, ref); got != "pw1" || v.renewals != 1 || v.reads != 1 {
		t.Errorf("got %q after %d renewals and %d reads, want the same secret, renewed", got, v.renewals, v.reads)
	}
	v.mu.Lock()
	v.short = true
	v.mu.Unlock()
	c.forward(101 * time.Second)
	if got := get(t, k, ref); got != "pw2" {
		t.Errorf("when the lease cannot be prolonged: %q, want a new secret", got)
	}
	v.mu.Lock()
	v.revoked, v.short = true, false
	v.mu.Unlock()
	c.forward(101 * time.Second)
	if got := get(t, k, ref); got != "pw3" {
		t.Errorf("when the lease was revoked: %q, want a new secret", got)
	}
}

// TestSignV4 holds the signature against the published example of AWS ("Signature Version 4 signing
// process", iam ListUsers) and vectors of the aws-sig-v4-test-suite.
func TestSignV4(t *testing.T) {
	t.Parallel()
	keys := awsKeys{id: "AKIDEXAMPLE", secret: New([]byte("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"))}
	at := time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)
	tests := []struct {
		name, method, url, body, service, contentType, want string
	}{
		{
			"iam ListUsers", "GET", "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08", "", "iam", "application/x-www-form-urlencoded; charset=utf-8",
			"5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
		},
		{"get-vanilla", "GET", "https://example.amazonaws.com/", "", "service", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
		{"get-vanilla-query-order-key-case", "GET", "https://example.amazonaws.com/?Param2=value2&Param1=value1", "", "service", "", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
		{"post-vanilla", "POST", "https://example.amazonaws.com/", "", "service", "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
		{
			"post-x-www-form-urlencoded", "POST", "https://example.amazonaws.com/", "Param1=value1", "service", "application/x-www-form-urlencoded",
			"ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
		},
	}
	for _, tt := range tests {
		r, err := http.NewRequestWithContext(t.Context(), tt.method, tt.url, strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		if tt.contentType != "" {
			r.Header.Set("Content-Type", tt.contentType)
		}
		signV4(r, []byte(tt.body), keys, "us-east-1", tt.service, at)
		if got := r.Header.Get("Authorization"); !strings.HasSuffix(got, "Signature="+tt.want) {
			t.Errorf("%s: %s, want signature %s", tt.name, got, tt.want)
		}
	}
}

// TestAWS asks a server that speaks AWS JSON 1.1 and verifies every signature with code of its own order:
// it signs what it received and compares.
func TestAWS(t *testing.T) {
	t.Parallel()
	c := &clockwork{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Header.Get("Content-Type") == "application/x-www-form-urlencoded" {
			if !strings.Contains(string(body), "WebIdentityToken=jwt") || !strings.Contains(string(body), "AssumeRoleWithWebIdentity") {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			_, _ = fmt.Fprintf(w, `<R><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>temporary</SecretAccessKey>`+
				`<SessionToken>session</SessionToken><Expiration>%s</Expiration></Credentials></AssumeRoleWithWebIdentityResult></R>`, c.now().Add(time.Hour).UTC().Format(time.RFC3339))
			return
		}
		service := "secretsmanager"
		if strings.HasPrefix(r.Header.Get("X-Amz-Target"), "Trent") {
			service = "kms"
		}
		keys := awsKeys{id: "AKID", secret: New([]byte("permanent"))}
		if r.Header.Get("X-Amz-Security-Token") != "" {
			keys = awsKeys{id: "ASIA", secret: New([]byte("temporary")), session: New([]byte("session"))}
		}
		again := r.Clone(r.Context())
		again.URL.Host = r.Host
		again.Header = http.Header{"Content-Type": r.Header["Content-Type"], "X-Amz-Target": r.Header["X-Amz-Target"]}
		signV4(again, body, keys, "eu-central-1", service, c.now())
		if again.Header.Get("Authorization") != r.Header.Get("Authorization") {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		switch r.Header.Get("X-Amz-Target") + string(body) {
		case `secretsmanager.GetSecretValue{"SecretId":"mcp/github"}`:
			_, _ = io.WriteString(w, `{"SecretString":"{\"token\":\"ghp_aws\"}"}`)
		case `TrentService.Decrypt{"CiphertextBlob":"Y2lwaGVy"}`:
			_, _ = io.WriteString(w, `{"Plaintext":"cGxhaW4="}`)
		default:
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	t.Cleanup(srv.Close)
	k := keeper(t, Stores{AWS: map[string]AWS{
		DefaultStore: {Region: "eu-central-1", Endpoint: srv.URL, Keys: &AWSKeys{ID: "AKID", Secret: file(t, "permanent")}},
		"irsa":       {Region: "eu-central-1", Endpoint: srv.URL, WebIdentity: &AWSWebIdentity{Role: "arn:aws:iam::1:role/warder", Token: file(t, "jwt")}},
		"wrong":      {Region: "eu-central-1", Endpoint: srv.URL, Keys: &AWSKeys{ID: "AKID", Secret: file(t, "other")}},
	}}, c)
	for _, store := range []string{"", "irsa"} {
		if got := get(t, k, Ref{AWS: &AWSRef{Store: store, Secret: "mcp/github", Field: "token"}}); got != "ghp_aws" {
			t.Errorf("%q: got %q", store, got)
		}
	}
	if got := get(t, k, Ref{AWS: &AWSRef{Ciphertext: file(t, "Y2lwaGVy\n").File}}); got != "plain" {
		t.Errorf("kms: got %q", got)
	}
	for _, r := range []AWSRef{{Store: "wrong", Secret: "mcp/github"}, {Secret: "mcp/none"}, {Ciphertext: file(t, "not base64!").File}} {
		if _, err := k.Get(t.Context(), Ref{AWS: &r}); err == nil {
			t.Errorf("%+v: no error", r)
		}
	}
}

func TestRef(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]Ref{
		"nothing": {}, "two": {File: "a", Env: "B"}, "vault without field": {Vault: &VaultRef{Path: "a"}},
		"aws of nothing": {AWS: &AWSRef{}}, "age of nothing": {Age: &AgeRef{}}, "vault engine": {Vault: &VaultRef{Path: "a", Field: "b", Engine: "kv1"}},
	} {
		if r.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	v := New([]byte("SECRET"))
	for _, s := range []string{fmt.Sprint(v), fmt.Sprintf("%#v", v), v.String()} {
		if strings.Contains(s, "SECRET") {
			t.Errorf("prints as %s", s)
		}
	}
	if b, err := json.Marshal(v); err != nil || strings.Contains(string(b), "SECRET") {
		t.Errorf("marshals as %s, %v", b, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	k := keeper(t, Stores{}, &clockwork{})
	h, err := k.Handle(Ref{Env: "PATH"})
	if err != nil {
		t.Fatal(err)
	}
	h.turn <- struct{}{}
	if _, err := h.Get(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that left: %v", err)
	}
	<-h.turn
}
