package secret

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// A Vault is a HashiCorp Vault or OpenBao, asked over its HTTP API.
type Vault struct {
	Address   string    `yaml:"address"`             // such as https://vault.example.com:8200; https, or http on loopback
	Namespace string    `yaml:"namespace,omitempty"` // sent as X-Vault-Namespace; empty: none
	Auth      VaultAuth `yaml:"auth"`                // how Warder logs in
}

// A VaultAuth is how Warder logs in at a Vault. Exactly one of Token, AppRole, Kubernetes and JWT is set.
type VaultAuth struct {
	Token      Ref            `yaml:"token,omitempty"`      // a token as it is; it is not renewed
	AppRole    *VaultAppRole  `yaml:"approle,omitempty"`    // role id and secret id
	Kubernetes *VaultWorkload `yaml:"kubernetes,omitempty"` // token of the pod's service account
	JWT        *VaultWorkload `yaml:"jwt,omitempty"`        // any JWT that the Vault trusts, such as a SPIFFE JWT-SVID
}

// A VaultAppRole is a login with the AppRole method.
type VaultAppRole struct {
	Mount    string `yaml:"mount,omitempty"` // default approle
	RoleID   string `yaml:"role_id"`
	SecretID Ref    `yaml:"secret_id"`
}

// A VaultWorkload is a login with a JWT.
type VaultWorkload struct {
	Mount string `yaml:"mount,omitempty"` // default kubernetes or jwt
	Role  string `yaml:"role"`
	Token Ref    `yaml:"token"` // read anew at each login
}

// A VaultRef is one secret of a Vault.
type VaultRef struct {
	Store  string `yaml:"store,omitempty"`  // name in secrets.vault; default "default"
	Engine string `yaml:"engine,omitempty"` // "kv2" (default), or "lease" for any engine whose secrets are read by GET and have a lease, such as database
	Mount  string `yaml:"mount,omitempty"`  // where the engine is mounted; default secret
	Path   string `yaml:"path"`             // below the mount
	Field  string `yaml:"field"`            // member of the secret
}

// Engines.
const (
	engineKV2   = "kv2"
	engineLease = "lease"
)

func (r *VaultRef) validate() error {
	if r == nil {
		return nil
	}
	if r.Path == "" || r.Field == "" {
		return errors.New("secret reference: vault: path and field must be set")
	}
	if r.Engine != "" && r.Engine != engineKV2 && r.Engine != engineLease {
		return fmt.Errorf("secret reference: vault: engine %q: want kv2 or lease", r.Engine)
	}
	for part := range strings.SplitSeq(r.mount()+"/"+r.Path, "/") {
		if part == "" || part == "." || part == ".." || strings.ContainsAny(part, "?#%\\") {
			return fmt.Errorf("secret reference: vault: path %q", r.Path)
		}
	}
	return nil
}

func (r *VaultRef) mount() string {
	if r.Mount == "" {
		return "secret"
	}
	return r.Mount
}

// url is the path of the HTTP API.
func (r *VaultRef) url() string {
	if r.Engine == engineLease {
		return r.mount() + "/" + r.Path
	}
	return r.mount() + "/data/" + r.Path
}

// vault is a Store. Its own token is renewed by logging in again before it ends.
type vault struct {
	cfg    Vault
	base   string
	client *http.Client
	now    func() time.Time

	mu      sync.Mutex // one login at a time; guards what follows
	token   Value
	renewAt time.Time
	end     time.Time
	leases  map[string]vaultLease
}

// A vaultLease is a secret that can be renewed instead of read anew.
type vaultLease struct {
	id   string
	body []byte // the data object
	life time.Duration
}

func newVault(cfg Vault, deps Deps) (*vault, error) {
	base, client, err := storeClient(cfg.Address, deps)
	if err != nil {
		return nil, err
	}
	n := 0
	for _, set := range []bool{!cfg.Auth.Token.IsZero(), cfg.Auth.AppRole != nil, cfg.Auth.Kubernetes != nil, cfg.Auth.JWT != nil} {
		if set {
			n++
		}
	}
	if n != 1 {
		return nil, errors.New("auth: set exactly one of token, approle, kubernetes and jwt")
	}
	return &vault{cfg: cfg, base: base + "/v1/", client: client, now: deps.Now, leases: map[string]vaultLease{}}, nil
}

// storeClient returns the address without trailing slash and the client for it.
func storeClient(address string, deps Deps) (string, *http.Client, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http" {
		return "", nil, fmt.Errorf("address %q: want https://host:port", address)
	}
	if deps.HTTP == nil {
		return "", nil, errors.New("no http client for stores")
	}
	client, err := deps.HTTP(address)
	if err != nil {
		return "", nil, err
	}
	return strings.TrimSuffix(address, "/"), client, nil
}

// vaultAnswer is what every call of the API answers.
type vaultAnswer struct {
	LeaseID   string          `json:"lease_id"`
	Lease     int64           `json:"lease_duration"` // seconds
	Renewable bool            `json:"renewable"`
	Data      json.RawMessage `json:"data"`
	Auth      *struct {
		Token string `json:"client_token"`
		Lease int64  `json:"lease_duration"`
	} `json:"auth"`
}

// errVaultDenied means that our own token is not good (any more).
var errVaultDenied = errors.New("the store refused our token")

// Fetch implements Store.
func (v *vault) Fetch(ctx context.Context, ref Ref) (Value, time.Duration, error) {
	for again := range 2 {
		token, err := v.login(ctx, again > 0)
		if err != nil {
			return Value{}, 0, fmt.Errorf("log in: %w", err)
		}
		value, lease, err := v.read(ctx, token, ref.Vault)
		if !errors.Is(err, errVaultDenied) || again > 0 {
			return value, lease, err
		}
	}
	return Value{}, 0, errVaultDenied
}

// read renews the lease of a secret where there is one, else reads the secret.
func (v *vault) read(ctx context.Context, token Value, ref *VaultRef) (Value, time.Duration, error) {
	key := ref.url()
	if ref.Engine == engineLease {
		if value, life, ok := v.renew(ctx, token, key, ref.Field); ok {
			return value, life, nil
		}
	}
	a, err := v.call(ctx, http.MethodGet, key, token, nil)
	if err != nil {
		return Value{}, 0, err
	}
	body := []byte(a.Data)
	if ref.Engine != engineLease {
		var kv struct {
			Data json.RawMessage `json:"data"`
		}
		if err := json.Unmarshal(body, &kv); err != nil {
			return Value{}, 0, errors.New("the store's answer is not one of kv version 2")
		}
		body = kv.Data
	}
	value, err := field(body, ref.Field)
	life := time.Duration(a.Lease) * time.Second
	if err == nil && a.Renewable && a.LeaseID != "" && ref.Engine == engineLease {
		v.mu.Lock()
		v.leases[key] = vaultLease{id: a.LeaseID, body: body, life: life}
		v.mu.Unlock()
	}
	return value, life, err
}

// renew prolongs a lease. It is false when the secret must be read anew: there is no lease, or the store
// grants less than half of what it did.
func (v *vault) renew(ctx context.Context, token Value, key, name string) (Value, time.Duration, bool) {
	v.mu.Lock()
	l, ok := v.leases[key]
	v.mu.Unlock()
	if !ok {
		return Value{}, 0, false
	}
	body := map[string]any{"lease_id": l.id, "increment": int64(l.life / time.Second)}
	a, err := v.call(ctx, http.MethodPut, "sys/leases/renew", token, body)
	life := time.Duration(0)
	if err == nil {
		life = time.Duration(a.Lease) * time.Second
	}
	if err != nil || life < l.life/2 {
		v.mu.Lock()
		delete(v.leases, key)
		v.mu.Unlock()
		return Value{}, 0, false
	}
	value, err := field(l.body, name)
	return value, life, err == nil
}

// login returns our own token, logging in when there is none or it is about to end.
func (v *vault) login(ctx context.Context, anew bool) (Value, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.cfg.Auth.Token.IsZero() {
		return v.cfg.Auth.Token.Read(ctx)
	}
	now := v.now()
	if !anew && len(v.token.Bytes()) > 0 && now.Before(v.renewAt) {
		return v.token, nil
	}
	a, err := v.authenticate(ctx)
	if err != nil {
		if !anew && len(v.token.Bytes()) > 0 && now.Before(v.end) {
			return v.token, nil // still good; the next call tries again
		}
		return Value{}, err
	}
	life := time.Duration(a.Auth.Lease) * time.Second
	if life <= 0 {
		life = time.Hour
	}
	v.token, v.renewAt, v.end = New([]byte(a.Auth.Token)), now.Add(life*2/3), now.Add(life)
	return v.token, nil
}

func (v *vault) authenticate(ctx context.Context) (*vaultAnswer, error) {
	var path string
	var ref Ref
	member, body := "jwt", map[string]any{}
	switch auth := v.cfg.Auth; {
	case auth.AppRole != nil:
		path, ref, member = orText(auth.AppRole.Mount, "approle"), auth.AppRole.SecretID, "secret_id"
		body["role_id"] = auth.AppRole.RoleID
	case auth.Kubernetes != nil:
		path, ref = orText(auth.Kubernetes.Mount, "kubernetes"), auth.Kubernetes.Token
		body["role"] = auth.Kubernetes.Role
	default:
		path, ref = orText(auth.JWT.Mount, "jwt"), auth.JWT.Token
		body["role"] = auth.JWT.Role
	}
	proof, err := ref.Read(ctx)
	if err != nil {
		return nil, err
	}
	body[member] = string(proof.Bytes())
	proof.burn()
	a, err := v.call(ctx, http.MethodPost, "auth/"+path+"/login", Value{}, body)
	if err != nil {
		return nil, err
	}
	if a.Auth == nil || a.Auth.Token == "" {
		return nil, errors.New("the store's answer holds no token")
	}
	return a, nil
}

func orText(s, or string) string {
	if s == "" {
		return or
	}
	return s
}

// call makes one call of the API.
func (v *vault) call(ctx context.Context, method, path string, token Value, body map[string]any) (*vaultAnswer, error) {
	var payload io.Reader = http.NoBody
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		defer clear(text)
		payload = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, v.base+path, payload)
	if err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	req.Header.Set("X-Vault-Request", "true")
	if len(token.Bytes()) > 0 {
		req.Header.Set("X-Vault-Token", string(token.Bytes()))
	}
	if v.cfg.Namespace != "" {
		req.Header.Set("X-Vault-Namespace", v.cfg.Namespace)
	}
	resp, err := v.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := readAll(resp.Body)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	if resp.StatusCode == http.StatusForbidden && len(token.Bytes()) > 0 {
		return nil, errVaultDenied
	}
	if resp.StatusCode != http.StatusOK {
		return nil, refused(ctx, resp.StatusCode)
	}
	a := &vaultAnswer{}
	if err := json.Unmarshal(text, a); err != nil {
		return nil, errors.New("the store's answer is not JSON")
	}
	return a, nil
}

// readAll reads the answer of a store.
func readAll(r io.Reader) ([]byte, error) {
	const most = 1 << 20
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	if len(b) > most {
		return nil, errors.New("the store's answer is too long")
	}
	return b, nil
}
