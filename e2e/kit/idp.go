package kit

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A Provider is an identity provider that other people wrote, running for a test.
type Provider struct {
	Issuer string // issuer identifier
	proc   *Process
}

// Stop ends the provider and waits for it.
func (p *Provider) Stop() error { return p.proc.Stop() }

// Output is the end of what the provider wrote.
func (p *Provider) Output() string { return p.proc.Output() }

// builtProvider is a provider that e2e/scripts/idp.sh builds.
func builtProvider(name string) (string, error) {
	path := filepath.Join(Root(), ".cache", "bin", name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s is missing among the fixtures, build it with make fixtures: %w", name, err)
	}
	return path, nil
}

// A DexClient is a client that dex knows.
type DexClient struct {
	ID, Secret string
	Redirects  []string
}

// dexUser is the only user of [Dex], in the group engineers; the hash is that of the password "password".
const dexUser = `enablePasswordDB: true
staticPasswords:
  - email: "ana@example.test"
    hash: "$2a$10$QD5iqxx8EZirZFuU4iOQL./rKKv.jVpeDSKvqj3G1VTuj8gwDw4QS"
    username: "ana"
    userID: "08a8684b-db88-4b73-90a9-3cd1661f5466"
    groups: ["engineers"]
`

// Dex starts dex with the user ana@example.test, whose password is "password". It knows no RFC 8707: the
// audience of its tokens is the client.
func Dex(ctx context.Context, dir string, clients ...DexClient) (*Provider, error) {
	bin, err := builtProvider("dex")
	if err != nil {
		return nil, err
	}
	address, err := Address()
	if err != nil {
		return nil, err
	}
	issuer := "http://" + address + "/dex"
	var b strings.Builder
	fmt.Fprintf(&b, "issuer: %s\nstorage: {type: memory}\nweb: {http: %s}\n", issuer, address)
	b.WriteString("oauth2: {passwordConnector: local, skipApprovalScreen: true}\nlogger: {level: warn}\n")
	b.WriteString("expiry: {idTokens: 5m}\n" + dexUser + "staticClients:\n")
	for _, c := range clients {
		fmt.Fprintf(&b, "  - {id: %q, name: %q, secret: %q, redirectURIs: [%s]}\n", c.ID, c.ID, c.Secret, strings.Join(quoted(c.Redirects), ", "))
	}
	file := filepath.Join(dir, "dex.yaml")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		return nil, fmt.Errorf("dex: %w", err)
	}
	proc, err := Start(ctx, Spec{Args: []string{bin, "serve", file}, Listen: address})
	if err != nil {
		return nil, err
	}
	return &Provider{Issuer: issuer, proc: proc}, nil
}

func quoted(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = fmt.Sprintf("%q", s)
	}
	return out
}

// A HydraProvider is hydra with its administrative address.
type HydraProvider struct {
	Provider
	Admin string // http://127.0.0.1:PORT
}

// Hydra starts hydra over a PostgreSQL database. Its access tokens are JWTs; it knows no RFC 8707 and no
// DPoP. Login and consent are those of the caller at the two addresses.
func Hydra(ctx context.Context, dsn, login, consent string) (*HydraProvider, error) {
	bin, err := builtProvider("hydra")
	if err != nil {
		return nil, err
	}
	public, err1 := Address()
	admin, err2 := Address()
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	_, publicPort, _ := strings.Cut(public, ":")
	_, adminPort, _ := strings.Cut(admin, ":")
	issuer := "http://" + public + "/"
	env := []string{
		"DSN=" + dsn, "SECRETS_SYSTEM=only-for-tests-0123456789", "URLS_SELF_ISSUER=" + issuer,
		"URLS_LOGIN=" + login, "URLS_CONSENT=" + consent, "STRATEGIES_ACCESS_TOKEN=jwt", "LOG_LEVEL=warn",
		"SERVE_PUBLIC_HOST=127.0.0.1", "SERVE_PUBLIC_PORT=" + publicPort, "SERVE_ADMIN_HOST=127.0.0.1", "SERVE_ADMIN_PORT=" + adminPort,
		"SQA_OPT_OUT=true", "OAUTH2_ALLOWED_TOP_LEVEL_CLAIMS=groups", "TTL_ACCESS_TOKEN=5m",
	}
	if _, err := Output(ctx, Spec{Args: []string{bin, "migrate", "sql", "-e", "--yes"}, Env: env}); err != nil {
		return nil, fmt.Errorf("hydra: %w", err)
	}
	proc, err := Start(ctx, Spec{Args: []string{bin, "serve", "all", "--dev"}, Env: env, Listen: admin})
	if err != nil {
		return nil, err
	}
	if err := proc.ready(ctx, public); err != nil {
		return nil, errors.Join(err, proc.Stop())
	}
	return &HydraProvider{Provider: Provider{Issuer: issuer, proc: proc}, Admin: "http://" + admin}, nil
}

// A NodeProvider is npm's oidc-provider.
type NodeProvider struct {
	Provider
	JWKS json.RawMessage // its public keys
}

// OIDCProvider starts npm's oidc-provider with the options of e2e/npm/idp.mjs.
func OIDCProvider(ctx context.Context, options map[string]any, env ...string) (*NodeProvider, error) {
	node, err := Node()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(options)
	if err != nil {
		return nil, fmt.Errorf("oidc-provider: %w", err)
	}
	log, err := os.CreateTemp("", "warder-idp-")
	if err != nil {
		return nil, fmt.Errorf("oidc-provider: %w", err)
	}
	defer func() { _ = os.Remove(log.Name()) }() // a temporary file
	_ = log.Close()                              // only its name is used
	proc, err := Start(ctx, Spec{
		Args: []string{node, "idp.mjs", string(text)}, Dir: filepath.Join(Root(), "e2e", "npm"), Log: log.Name(), Env: env,
	})
	if err != nil {
		return nil, err
	}
	line, err := firstLine(ctx, proc)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("oidc-provider: %w: %s", err, proc.Output()), proc.Stop())
	}
	p := &NodeProvider{Provider: Provider{proc: proc}}
	var said struct {
		Issuer string
		JWKS   json.RawMessage
	}
	if err := json.Unmarshal(line, &said); err != nil {
		return nil, errors.Join(fmt.Errorf("oidc-provider: %w: %s", err, line), proc.Stop())
	}
	p.Issuer, p.JWKS = said.Issuer, said.JWKS
	return p, nil
}

// firstLine waits for the line of JSON with which the provider says that it listens.
func firstLine(ctx context.Context, p *Process) ([]byte, error) {
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		s := bufio.NewScanner(strings.NewReader(p.Output()))
		for s.Scan() {
			if strings.HasPrefix(s.Text(), `{"issuer"`) && strings.HasSuffix(s.Text(), "}") {
				return s.Bytes(), nil
			}
		}
		select {
		case <-p.Done():
			return nil, errors.New("it ended")
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil, errors.New("it does not say where it listens")
}

// Remove takes a user away, Restore brings it back.
func (p *NodeProvider) Remove(ctx context.Context, user string) error {
	return p.control(ctx, "remove", user)
}

// Restore brings a user back.
func (p *NodeProvider) Restore(ctx context.Context, user string) error {
	return p.control(ctx, "restore", user)
}

func (p *NodeProvider) control(ctx context.Context, verb, user string) error {
	body := fmt.Sprintf(`{"sub":%q}`, user)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.Issuer+"/control/"+verb, strings.NewReader(body))
	if err != nil {
		return fmt.Errorf("oidc-provider: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("oidc-provider: %w", err)
	}
	_, _ = io.Copy(io.Discard, resp.Body) // nothing is in it
	_ = resp.Body.Close()                 // read to its end
	if resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("oidc-provider: %s answered %d", verb, resp.StatusCode)
	}
	return nil
}
