package wardertest

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/app"
	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/internal/wardertest/issuer"
	"github.com/warder-mcp/warder/registry"
)

// base is the configuration that cases change.
const base = `version: 1
data: %DATA%
limits: {min_revision: "2024-11-05"}
identity: {base_url: "https://gate.test"}
issuer: {url: "http://127.0.0.1/issuer"}
gateway: {deprecated: {roots: true, sampling: true, logging: true}, elicitation: {form: true, url: true}}
access:
  inline: |
    @id("all") permit(principal, action, resource);
servers: [{name: s, url: "%URL%", era: %ERA%}]
record: {checkpoint: 100ms}
`

// A runner tries one case at one gateway.
type runner struct {
	t      *testing.T
	c      *testCase
	app    *app.App
	server *server
	client *http.Client
	url    string
	dir    string
	issuer *issuer.Issuer
	tried  int
	opened string // what the gateway said when the last session was opened
	shown  *tls.Certificate
}

// A run is one door and one revision.
type run struct {
	door warder.Door
	rev  warder.Revision
}

func (c *testCase) runs() []run {
	var out []run
	for _, d := range c.doors() {
		for _, rev := range c.revisions() {
			out = append(out, run{d, rev})
		}
	}
	return out
}

// run tries every door and revision, at one gateway, or at a new one for each if the case says so. It
// returns at most one problem per run, and those of the trail. Breaks is called before the messages.
func (c *testCase) run(t *testing.T, off bool, breaks func(*Gateway)) (problems []string) {
	t.Helper()
	all := [][]run{c.runs()}
	if c.key("fresh", "") == "yes" {
		all = nil
		for _, one := range c.runs() {
			all = append(all, []run{one})
		}
	}
	var closing sync.WaitGroup // closing takes longer than trying
	late := make([]string, len(all))
	for i, runs := range all {
		r := c.open(t, off)
		if breaks != nil {
			breaks(&Gateway{Data: r.dir, Server: r.server, App: r.app})
		}
		for _, one := range runs {
			if p := r.try(one.door, one.rev); p != "" {
				problems = append(problems, fmt.Sprintf("%s, %s: %s", one.door, one.rev, p))
			}
		}
		closing.Go(func() { late[i] = r.finish(off || breaks != nil) })
	}
	closing.Wait()
	for _, p := range late {
		if p != "" {
			problems = append(problems, p)
		}
	}
	return problems
}

// finish closes the gateway and reads its trail. What is broken may not close well, nor have recorded.
func (r *runner) finish(broken bool) string {
	err := r.app.Close(context.WithoutCancel(r.t.Context()))
	switch {
	case broken:
		return ""
	case err != nil:
		return "close: " + err.Error()
	default:
		return r.audited()
	}
}

// open builds the gateway and the server behind it.
func (c *testCase) open(t *testing.T, off bool) *runner {
	t.Helper()
	srv := newServer(c)
	ts := httptest.NewServer(srv)
	t.Cleanup(func() {
		close(srv.silent)
		ts.CloseClientConnections()
		ts.Close()
	})
	dir := filepath.Join(t.TempDir(), "data")
	shown, ca := c.certificate(t)
	text := strings.ReplaceAll(c.configText(dir, ts.URL, off), "%CA%", ca)
	cfg, err := config.Parse(c.name+".yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	a, err := app.Open(t.Context(), cfg, app.Options{Log: slog.New(slog.DiscardHandler), Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close(context.Background()) }) // again, if the test failed half-way
	r := &runner{t: t, c: c, app: a, server: srv, dir: dir, shown: shown}
	r.listen()
	r.prepare(cfg)
	if err := r.grant(); err != nil {
		t.Fatal(err)
	}
	return r
}

// listen opens the HTTP door as the case wants it: over TLS, or as if the peer were elsewhere.
func (r *runner) listen() {
	door := httptest.NewUnstartedServer(r.elsewhere(r.app))
	r.t.Cleanup(func() {
		door.CloseClientConnections()
		door.Close()
	})
	switch version := r.c.key("tls", ""); version {
	case "":
		door.Start()
		r.client = door.Client()
	default:
		most := uint16(tls.VersionTLS13)
		if version == "1.2" {
			most = tls.VersionTLS12
		}
		door.TLS = &tls.Config{MinVersion: tls.VersionTLS12, MaxVersion: most, ClientAuth: tls.RequestClientCert}
		door.StartTLS()
		r.client = door.Client()
		if transport, ok := r.client.Transport.(*http.Transport); ok && r.shown != nil {
			transport.TLSClientConfig.Certificates = []tls.Certificate{*r.shown}
		}
	}
	r.url = door.URL
}

// elsewhere makes every request come from the peer that the case names, to an address of that network.
func (r *runner) elsewhere(h http.Handler) http.Handler {
	peer := r.c.key("peer", "")
	if peer == "" {
		return h
	}
	local := net.TCPAddrFromAddrPort(netip.MustParseAddrPort("198.51.100.1:443"))
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		req = req.WithContext(context.WithValue(req.Context(), http.LocalAddrContextKey, local))
		req.RemoteAddr = peer
		h.ServeHTTP(w, req)
	})
}

// configText merges the case's configuration over the base, by top-level key.
func (c *testCase) configText(dir, url string, off bool) string {
	blocks, order := make(map[string]string), []string{}
	add := func(text string) {
		key := ""
		for line := range strings.Lines(text) {
			if line[0] != ' ' && line[0] != '#' && line[0] != '\n' {
				key, _, _ = strings.Cut(line, ":")
				if _, ok := blocks[key]; !ok {
					order = append(order, key)
				}
				blocks[key] = ""
			}
			blocks[key] += line
		}
	}
	add(base)
	if own := c.sections["config"]; own != "" {
		add(own + "\n")
	}
	if off {
		add(fmt.Sprintf("controls: {%s: {mode: off, owner: mutation check, until: %q}}\n", c.id, time.Now().AddDate(0, 0, 2).Format(time.DateOnly)))
	}
	var out strings.Builder
	for _, k := range order {
		out.WriteString(blocks[k])
	}
	return strings.NewReplacer("%DATA%", dir, "%URL%", url, "%ERA%", c.key("era", "auto")).Replace(out.String())
}

// elsewhereIssuer is the issuer of cases that configure none of the gateway's own.
const elsewhereIssuer = "https://idp.test"

// prepare lets the gateway see the definitions and approves them.
func (r *runner) prepare(cfg *config.Config) {
	r.t.Helper()
	where := issuer.Config{URL: cmp.Or(cfg.Issuer.URL, elsewhereIssuer), Dir: filepath.Join(r.dir, "issuer")}
	if cfg.Issuer.URL != "" {
		where.Sign = func(typ string, claims any) (string, error) { return r.app.Sign(r.t.Context(), typ, claims) }
	}
	is, err := issuer.New(where)
	if err != nil {
		r.t.Fatal(err)
	}
	r.issuer = is
	if r.c.key("approve", "all") == "none" {
		return
	}
	effect, err := registry.ParseEffect(r.c.key("effect", "read"))
	if err != nil {
		r.t.Fatal(err)
	}
	for kind, raw := range r.server.definitions() {
		d, err := r.app.Registry().Resolve("s", kind, raw)
		if err != nil {
			continue // the case is about a definition that can never be approved
		}
		if err := r.app.Registry().Flush(r.t.Context()); err != nil {
			r.t.Fatal(err)
		}
		err = r.app.Registry().Approve(r.t.Context(), registry.Request{
			Key: registry.KeyOf(d), Who: "test", Effect: effect,
		})
		if err != nil && !errors.Is(err, registry.ErrInvalid) {
			r.t.Fatalf("approve %s %s: %v", kind, d.Name, err)
		}
	}
}

// token mints what a caller presents; empty for none. "{{rev}}" keeps the callers of the runs apart.
func (r *runner) token(subject string, h *holder) string {
	r.t.Helper()
	claims := struct {
		Subject, Audience, Client, Agent string
		Groups, Scopes                   []string
		Foreign                          bool // signed with another key than the issuer's
		Tampered                         bool // changed after it was signed
		Claims                           map[string]any
		AuthAge                          string `json:"auth_age"` // time since the person logged in
		Lifetime                         string // exp - iat
		Certificate                      string // the token is bound to this one
	}{Subject: subject, Audience: "https://gate.test/mcp/s"}
	switch spec := r.c.sections["token"]; spec {
	case "none":
		return ""
	case "":
	default:
		if err := json.Unmarshal([]byte(spec), &claims); err != nil {
			r.t.Fatalf("token section: %v", err)
		}
	}
	if claims.AuthAge != "" {
		age, err := time.ParseDuration(claims.AuthAge)
		if err != nil {
			r.t.Fatalf("token section: %v", err)
		}
		if claims.Claims == nil {
			claims.Claims = map[string]any{}
		}
		claims.Claims["auth_time"] = time.Now().Add(-age).Unix()
	}
	var ttl time.Duration
	if claims.Lifetime != "" {
		var err error
		if ttl, err = time.ParseDuration(claims.Lifetime); err != nil {
			r.t.Fatalf("token section: %v", err)
		}
	}
	if cnf := r.confirmation(h, claims.Certificate); cnf != nil {
		claims.Claims = maps.Clone(claims.Claims)
		if claims.Claims == nil {
			claims.Claims = map[string]any{}
		}
		claims.Claims["cnf"] = cnf
	}
	is := r.issuer
	if claims.Foreign {
		var err error
		if is, err = issuer.New(issuer.Config{URL: is.URL(), Dir: r.t.TempDir()}); err != nil {
			r.t.Fatal(err)
		}
	}
	token, err := is.Mint(issuer.Claims{
		Subject: claims.Subject, Audience: claims.Audience, Groups: claims.Groups, Scopes: claims.Scopes,
		Client: claims.Client, Agent: claims.Agent, More: claims.Claims, TTL: ttl,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	if claims.Tampered {
		head, tail := token[:len(token)-10], token[len(token)-10:]
		token = head + strings.Map(func(c rune) rune {
			if c == 'A' {
				return 'B'
			}
			return 'A'
		}, tail)
	}
	return token
}
