package wardertest

import (
	"encoding/json"
	"fmt"
	"iter"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/app"
	"github.com/warder-mcp/warder/config"
	"github.com/warder-mcp/warder/internal/issuer"
	"github.com/warder-mcp/warder/layer/record"
	"github.com/warder-mcp/warder/registry"
)

// base is the configuration that cases change.
const base = `version: 1
data: %DATA%
limits: {min_revision: "2024-11-05"}
identity: {base_url: "https://gate.test", local_issuer: "http://127.0.0.1/issuer"}
gateway: {deprecated: {roots: true, sampling: true, logging: true}, elicitation: {form: true, url: true}}
access:
  inline: |
    @id("all") permit(principal, action, resource);
servers: [{name: s, url: "%URL%"}]
record: {checkpoint: 100ms}
`

// A problem is one way in which a run differs from its case; it is reported once per run.
type problem string

// run builds one gateway for the case and tries every door and revision. It yields at most one problem
// per door and revision.
func (c *testCase) run(t *testing.T, off bool) iter.Seq[problem] {
	t.Helper()
	srv := newServer(c)
	ts := httptest.NewServer(srv)
	t.Cleanup(ts.Close)
	dir := filepath.Join(t.TempDir(), "data")
	text := c.configText(dir, ts.URL, off)
	cfg, err := config.Parse(c.name+".yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	a, err := app.Open(t.Context(), cfg, app.Options{Log: slog.New(slog.DiscardHandler), Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	door := httptest.NewServer(a)
	t.Cleanup(door.Close)
	r := &runner{t: t, c: c, app: a, server: srv, url: door.URL, dir: dir}
	r.prepare(cfg)
	var problems []problem
	for _, d := range c.doors() {
		for _, rev := range c.revisions() {
			if p := r.try(d, rev); p != "" {
				problems = append(problems, problem(fmt.Sprintf("%s, %s: %s", d, rev, p)))
			}
		}
	}
	if err := a.Close(t.Context()); err != nil {
		t.Errorf("close: %v", err)
	}
	if p := r.audited(); p != "" && !off {
		problems = append(problems, problem(p))
	}
	return func(yield func(problem) bool) {
		for _, p := range problems {
			if !yield(p) {
				return
			}
		}
	}
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
	out := ""
	for _, k := range order {
		out += blocks[k]
	}
	return strings.NewReplacer("%DATA%", dir, "%URL%", url).Replace(out)
}

// A runner tries one case at one gateway.
type runner struct {
	t      *testing.T
	c      *testCase
	app    *app.App
	server *server
	url    string
	dir    string
	issuer *issuer.Issuer
	tried  int
}

// prepare lets the gateway see the definitions and approves them.
func (r *runner) prepare(cfg *config.Config) {
	r.t.Helper()
	is, err := issuer.New(issuer.Config{URL: cfg.Identity.LocalIssuer, Dir: filepath.Join(r.dir, "issuer")})
	if err != nil {
		r.t.Fatal(err)
	}
	r.issuer = is
	if r.c.key("approve", "all") == "none" {
		return
	}
	ctx := r.t.Context()
	for name, tools := range r.server.definitions() {
		for _, raw := range tools {
			tool, err := r.app.Registry().Resolve(name, "tool", raw)
			if err != nil {
				continue // the case is about a definition that can never be approved
			}
			if err := r.app.Registry().Pin(ctx, []*warder.Tool{tool}); err != nil {
				r.t.Fatal(err)
			}
			err = r.app.Registry().Approve(ctx, registry.Request{Key: registry.KeyOf(tool), Who: "test", Effect: warder.EffectRead})
			if err != nil {
				r.t.Fatalf("approve %s: %v", tool.Name, err)
			}
		}
	}
}

// token mints what the case's client presents; empty for none.
func (r *runner) token(subject string) string {
	r.t.Helper()
	claims := struct {
		Subject, Audience, Client, Agent string
		Groups, Scopes                   []string
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
	token, err := r.issuer.Mint(issuer.Claims{
		Subject: claims.Subject, Audience: claims.Audience, Groups: claims.Groups, Scopes: claims.Scopes,
		Client: claims.Client, Agent: claims.Agent,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return token
}

// try sends the message through one door in one revision and compares the end with the case.
func (r *runner) try(door warder.Door, rev warder.Revision) string {
	r.tried++
	before := r.server.calls()
	var got answer
	var err error
	if door == warder.DoorStdio {
		got, err = r.stdio(rev)
	} else {
		got, err = r.http(rev)
	}
	if err != nil {
		return err.Error()
	}
	return r.judge(door, got, r.server.calls() > before)
}

// judge compares an answer with what the case wants.
func (r *runner) judge(door warder.Door, got answer, forwarded bool) string {
	c := r.c
	shown := fmt.Sprintf("status %d, forwarded %v, answer %.1500s", got.status, forwarded, got.text)
	for _, want := range c.keys["contains"] {
		if !strings.Contains(got.text, want) {
			return fmt.Sprintf("lacks %q: %s", want, shown)
		}
	}
	for _, no := range c.keys["absent"] {
		if strings.Contains(got.text, no) {
			return fmt.Sprintf("has %q: %s", no, shown)
		}
	}
	if want := c.number("status", 0); want != 0 && door == warder.DoorHTTP && got.status != want {
		return fmt.Sprintf("want status %d: %s", want, shown)
	}
	if want := c.key("forwarded", ""); want != "" && (want == "yes") != forwarded {
		return fmt.Sprintf("want forwarded %s: %s", want, shown)
	}
	if c.key("kind", "") == "deny" && len(c.keys["absent"]) == 0 {
		control, reason := c.key("control", string(c.id)), c.key("reason", "")
		if !got.refusedBy(control, reason) {
			return fmt.Sprintf("want a refusal by %s (%s): %s", control, reason, shown)
		}
	}
	if c.key("kind", "") != "deny" && got.refused() {
		return "refused: " + shown
	}
	return ""
}

// audited checks that the trail tells of the refusals.
func (r *runner) audited() string {
	if r.c.key("kind", "") != "deny" || len(r.c.keys["absent"]) > 0 {
		return ""
	}
	trail, err := record.Open(filepath.Join(r.dir, "audit"))
	if err != nil {
		return "open the trail: " + err.Error()
	}
	control := warder.ControlID(r.c.key("control", string(r.c.id)))
	found := 0
	for e, err := range trail.Events(record.Filter{}) {
		if err != nil {
			return "read the trail: " + err.Error()
		}
		if e.Type == warder.EventExchange && e.Control == control && e.Outcome == warder.OutcomeRefused {
			found++
		}
	}
	if found < r.tried {
		return fmt.Sprintf("the trail tells of %d refusals by %s, want %d", found, control, r.tried)
	}
	return ""
}
