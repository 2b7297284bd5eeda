package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/charmbracelet/x/term"

	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/oauth"
	"github.com/warder-mcp/warder/internal/safedial"
	"github.com/warder-mcp/warder/internal/secret"
)

// errNoAccount says that nobody logged in at a server from this computer.
var errNoAccount = errors.New("not logged in")

// A kept is what is written down of a login: the key that its tokens are bound to lies beside it. Both
// are readable for this user only.
type kept struct {
	Resource      string    `json:"resource"`
	Issuer        string    `json:"issuer"`
	Client        string    `json:"client"`
	Method        string    `json:"method,omitempty"`
	Credential    string    `json:"credential,omitempty"` // client secret of a dynamic registration
	CredentialEnd time.Time `json:"credential_end,omitzero"`
	Dynamic       bool      `json:"dynamic,omitempty"` // the client was registered by us (RFC 7591)
	Redirect      string    `json:"redirect,omitempty"`
	Scopes        []string  `json:"scopes,omitempty"`
	Access        string    `json:"access"`
	Refresh       string    `json:"refresh,omitempty"`
	Bound         bool      `json:"bound,omitempty"`
	NotAfter      time.Time `json:"not_after,omitzero"`
}

// An account is a login at one server, for use by one process.
type account struct {
	root   *os.Root
	prover *jose.Prover
	client *oauth.Client

	mu   sync.Mutex
	kept kept
}

// Files of an account.
const (
	accountFile = "login.json"
	keyFile     = "key.pem"
	glassFile   = "break-glass.json"
)

// accountFolder opens the folder of one server in the user's config folder, and makes it on demand.
func accountFolder(server string, make bool) (*os.Root, error) {
	base, err := os.UserConfigDir()
	if err != nil {
		return nil, fmt.Errorf("find the config folder: %w", err)
	}
	sum := sha256.Sum256([]byte(server))
	dir := filepath.Join(base, "warder", "accounts", hex.EncodeToString(sum[:12]))
	if make {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("account folder: %w", err)
		}
	}
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoAccount
	}
	if err != nil {
		return nil, fmt.Errorf("account folder: %w", err)
	}
	return root, nil
}

// openAccount reads the login at a server. The error wraps errNoAccount if there is none.
func openAccount(_ context.Context, server string) (*account, error) {
	root, err := accountFolder(server, false)
	if err != nil {
		return nil, err
	}
	raw, err := root.ReadFile(accountFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(errNoAccount, root.Close())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("login: %w", err), root.Close())
	}
	a := &account{root: root}
	if err := json.Unmarshal(raw, &a.kept); err != nil {
		return nil, errors.Join(fmt.Errorf("login: %w", err), root.Close())
	}
	if a.kept.Resource != server {
		return nil, errors.Join(errors.New("login: the file is about another server"), root.Close())
	}
	return a, a.open(oauth.Config{})
}

// open makes the OAuth client of the account, with its key.
func (a *account) open(cfg oauth.Config) error {
	var err error
	if a.prover, err = jose.OpenProver(a.root, keyFile, nil); err != nil {
		return fmt.Errorf("key: %w", err)
	}
	cfg.HTTP, cfg.Prover, cfg.Native, cfg.Loopback = plainClient(a.kept.Resource), a.prover, true, true
	a.client, err = oauth.New(cfg)
	return err
}

// write keeps the login. The file is replaced as a whole, so that a crash leaves the old one.
func (a *account) write() error {
	raw, err := json.Marshal(a.kept)
	if err != nil {
		return fmt.Errorf("login: %w", err)
	}
	return replace(a.root, accountFile, raw)
}

func replace(root *os.Root, name string, raw []byte) error {
	if err := root.WriteFile(name+".new", raw, 0o600); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := root.Rename(name+".new", name); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// take takes over tokens.
func (a *account) take(t *oauth.Tokens) {
	a.kept.Access, a.kept.Bound, a.kept.NotAfter = string(t.Access.Bytes()), t.Bound, t.NotAfter
	if r := t.Refresh.Bytes(); len(r) > 0 {
		a.kept.Refresh = string(r)
	}
	if len(t.Scopes) > 0 {
		a.kept.Scopes = t.Scopes
	}
}

// early is how long before its end a token is renewed.
const early = 20 * time.Second

// token returns an access token that is good now.
func (a *account) token(ctx context.Context) (string, bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	k := &a.kept
	if k.Access != "" && (k.NotAfter.IsZero() || time.Until(k.NotAfter) > early) {
		return k.Access, k.Bound, nil
	}
	if k.Refresh == "" {
		return "", false, fmt.Errorf("%w: the login has ended", errNoAccount)
	}
	target, reg, err := a.target(ctx)
	if err != nil {
		return "", false, err
	}
	fresh, err := a.client.Refresh(ctx, target, reg, &oauth.Tokens{
		Issuer: k.Issuer, Resource: k.Resource, Client: k.Client, Access: secret.New([]byte(k.Access)), Refresh: secret.New([]byte(k.Refresh)),
		Bound: k.Bound, Scopes: k.Scopes, NotAfter: k.NotAfter,
	})
	if refusal, ok := errors.AsType[*oauth.Error](err); ok && refusal.Final() {
		return "", false, fmt.Errorf("%w: the login has ended: %w", errNoAccount, err)
	}
	if err != nil {
		return "", false, fmt.Errorf("renew token: %w", err)
	}
	a.take(fresh)
	return k.Access, k.Bound, a.write()
}

// target is where tokens of the account come from.
func (a *account) target(ctx context.Context) (*oauth.Target, *oauth.Registration, error) {
	s, err := a.client.Issuer(ctx, a.kept.Issuer)
	if err != nil {
		return nil, nil, err
	}
	reg := &oauth.Registration{Issuer: a.kept.Issuer, ClientID: a.kept.Client, Method: a.kept.Method}
	if a.kept.Credential != "" {
		reg.Secret, reg.NotAfter = secret.New([]byte(a.kept.Credential)), a.kept.CredentialEnd
	}
	return &oauth.Target{Server: s, Resource: a.kept.Resource, DPoP: a.kept.Bound}, reg, nil
}

// http is a client whose requests carry the token, and the proof that the key is here.
func (a *account) http() *http.Client {
	c := plainClient(a.kept.Resource)
	c.Transport = &proving{account: a, next: c.Transport}
	return c
}

// A proving transport adds the credential of an account to requests to its server.
type proving struct {
	account *account
	next    http.RoundTripper
}

// RoundTrip sends the request, and once more if the server wants a fresh nonce in the proof (RFC 9449
// section 9).
func (p *proving) RoundTrip(r *http.Request) (*http.Response, error) {
	token, bound, err := p.account.token(r.Context())
	if err != nil {
		closeBody(r)
		return nil, err
	}
	for again := false; ; again = true {
		try, err := p.prepare(r, token, bound, again)
		if err != nil {
			closeBody(r)
			return nil, err
		}
		resp, err := p.next.RoundTrip(try)
		if err != nil || !bound {
			return resp, err
		}
		fresh := p.account.client.Nonce(try.URL, resp.Header)
		if again || !fresh || resp.StatusCode != http.StatusUnauthorized || r.Body != nil && r.GetBody == nil {
			return resp, nil
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
		if err := resp.Body.Close(); err != nil {
			return nil, err
		}
	}
}

func (p *proving) prepare(r *http.Request, token string, bound, again bool) (*http.Request, error) {
	try := r.Clone(r.Context())
	if again && r.GetBody != nil {
		body, err := r.GetBody()
		if err != nil {
			return nil, err
		}
		try.Body = body
	}
	if !bound {
		try.Header.Set("Authorization", "Bearer "+token)
		return try, nil
	}
	proof, err := p.account.client.Proof(r.Method, r.URL, token)
	if err != nil {
		return nil, fmt.Errorf("prove the key: %w", err)
	}
	try.Header.Set("Authorization", "DPoP "+token)
	try.Header.Set("DPoP", proof)
	return try, nil
}

func closeBody(r *http.Request) {
	if r.Body != nil {
		_ = r.Body.Close() // RoundTrippers close the body, also on error
	}
}

// plainClient makes requests to the server that the user named, wherever it is, and to public hosts.
func plainClient(server string) *http.Client {
	const timeout = time.Minute
	var allow []safedial.Rule
	if u, err := url.Parse(server); err == nil {
		rule := safedial.Rule{Host: u.Hostname(), Private: true, Loopback: config.IsLoopback(u.Hostname())}
		allow = append(allow, rule)
	}
	return safedial.New(safedial.Config{Allow: allow}).Client(timeout)
}

// A glass is a break-glass session, as this computer keeps it.
type glass struct {
	Server   string    `json:"server"`
	Token    string    `json:"token"`
	NotAfter time.Time `json:"not_after"`
}

// saveGlass keeps the token of a break-glass session until it ends.
func saveGlass(server, token string, end time.Time) error {
	root, err := accountFolder(server, true)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(glass{Server: server, Token: token, NotAfter: end})
	if err != nil {
		return errors.Join(fmt.Errorf("break-glass: %w", err), root.Close())
	}
	return errors.Join(replace(root, glassFile, raw), root.Close())
}

// loadGlass returns the token of a break-glass session that is open; empty if there is none.
func loadGlass(server string) (string, error) {
	root, err := accountFolder(server, false)
	if errors.Is(err, errNoAccount) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer root.Close()
	raw, err := root.ReadFile(glassFile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("break-glass: %w", err)
	}
	var g glass
	if err := json.Unmarshal(raw, &g); err != nil {
		return "", fmt.Errorf("break-glass: %w", err)
	}
	if g.Server != server || !time.Now().Before(g.NotAfter) {
		return "", root.Remove(glassFile)
	}
	return g.Token, nil
}

// forget removes what is kept for a server: key, tokens and break-glass session.
func forget(server string) (bool, error) {
	root, err := accountFolder(server, false)
	if errors.Is(err, errNoAccount) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer root.Close()
	known := false
	var errs []error
	for _, name := range []string{accountFile, glassFile, keyFile} {
		switch err := root.Remove(name); {
		case err == nil:
			known = known || name != keyFile
		case !errors.Is(err, fs.ErrNotExist):
			errs = append(errs, err)
		}
	}
	return known, errors.Join(errs...)
}

// interactive reports whether a person is at the other end of w.
func interactive(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(f.Fd())
}
