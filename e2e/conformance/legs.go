package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/warder-mcp/warder/e2e/kit"
)

// permissive lets servers ask for everything that the suite lets them ask.
const permissive = `  deprecated:
    roots: true
    sampling: true
    logging: true
    sampling_budget: {per_minute: 100000, concurrent: 1000, per_call: 100}
  elicitation: {form: true, url: true}
  changes: {rate: {per_second: 1000, burst: 1000}}`

// fixture starts the go-sdk server of the suite and returns its endpoint.
func (r *runner) fixture(ctx context.Context, stateless bool) (string, func() error, error) {
	address, err := kit.Address()
	if err != nil {
		return "", nil, err
	}
	p, err := kit.Start(ctx, kit.Spec{
		Args:   []string{filepath.Join(r.bin, "everything-server"), "-http=" + address, fmt.Sprintf("-stateless=%t", stateless)},
		Listen: address,
	})
	if err != nil {
		return "", nil, err
	}
	return "http://" + address, p.Stop, nil
}

// gateway starts Warder before the servers and approves what they offer, as a person would.
func (r *runner) gateway(ctx context.Context, name, servers string) (*kit.Gateway, string, error) {
	dir := filepath.Join(r.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, "", fmt.Errorf("folder of the gateway: %w", err)
	}
	g, err := kit.Open(ctx, filepath.Join(r.bin, "warder"), kit.Setup{
		Dir: dir, Servers: servers, Trust: "first_use", Gateway: permissive, Issuer: ", login: {local: {enabled: true}}",
	})
	if err != nil {
		return nil, "", err
	}
	token, err := g.Token(ctx, "s")
	if err != nil {
		return nil, "", errors.Join(err, g.Close())
	}
	return g, token, nil
}

// ask runs the server leg against one gateway.
func (r *runner) ask(ctx context.Context, set string, g *kit.Gateway, token string) ([]result, error) {
	env := []string{"WARDER_TOKEN=" + token, "WARDER_URL=" + g.Base, "NODE_OPTIONS=--import=" + r.suite.preload}
	return r.suite.run(ctx, "server", set, filepath.Join(g.Dir, "checks-"+set), env, "--url", g.URL("s"))
}

// server runs both sets of requirements on one URL.
func (r *runner) server(ctx context.Context) (err error) {
	stateless, stop1, err := r.fixture(ctx, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop1()) }()
	stateful, stop2, err := r.fixture(ctx, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop2()) }()
	g, token, err := r.gateway(ctx, "server", fmt.Sprintf("  - {name: s, url: %q, legacy_url: %q}", stateless+"/mcp", stateful+"/mcp"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	for _, set := range []string{legacy, modern} {
		results, err := r.ask(ctx, set, g, token)
		if err != nil {
			return err
		}
		r.score("server", set, results)
	}
	return nil
}

// client lets the suite be the server of as many gateways as it has scenarios.
func (r *runner) client(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	for _, set := range []string{legacy, modern} {
		results, err := r.suite.run(ctx, "client", set, filepath.Join(r.dir, "client-checks-"+set), []string{"WARDER_DRIVE_DIR=" + r.dir},
			"--command", fmt.Sprintf("%s -bin %s drive", self, r.bin), "--timeout", "90000")
		if err != nil {
			return err
		}
		r.score("client", set, results)
	}
	return nil
}

// translation asks each set of requirements of a server that speaks only the other era.
func (r *runner) translation(ctx context.Context) error {
	type pair struct {
		set       string
		stateless bool
		server    string
	}
	var lines []string
	for i, p := range []pair{{legacy, true, "modern only"}, {modern, false, "legacy only"}} {
		results, err := r.translate(ctx, fmt.Sprintf("translation-%d", i), p.set, p.stateless)
		if err != nil {
			return err
		}
		table(fmt.Sprintf("translation: %s in front of a server that is %s", p.set, p.server), results, r.verbose)
		passed, total := counts(results)
		lines = append(lines, fmt.Sprintf("  %-12s %-14s %d of %d", p.set, p.server, passed, total))
	}
	fmt.Printf("== translation (shown, not counted)\n  %-12s %-14s required\n%s\n", "client", "server", strings.Join(lines, "\n"))
	return nil
}

func (r *runner) translate(ctx context.Context, name, set string, stateless bool) (_ []result, err error) {
	base, stop, err := r.fixture(ctx, stateless)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	era := "legacy"
	if stateless {
		era = "modern"
	}
	g, token, err := r.gateway(ctx, name, fmt.Sprintf("  - {name: s, url: %q, era: %s}", base+"/mcp", era))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	return r.ask(ctx, set, g, token)
}

// looseArguments lets arguments pass that the schema of the tool does not allow. The client of
// http-custom-headers sends null for a parameter of type boolean, which INV-01 refuses; the scenario is
// about the header that must then be left out.
const looseArguments = `
controls:
  INV-01: {mode: monitor, owner: conformance, until: %s}`

// played is the scenario that the fixture client plays. It knows none of those in which a client gets its
// token without a person, or with a key; here that is Warder's part, and the fixture only lists and calls.
func played(scenario string) string {
	switch scenario {
	case "auth/client-credentials-jwt", "auth/client-credentials-basic", "auth/enterprise-managed-authorization", "auth/wif-jwt-bearer",
		"auth/dpop", "auth/dpop-nonce":
		return "auth/metadata-default"
	default:
		return scenario
	}
}

// drive stands a gateway before the server at url and lets the go-sdk client of the suite talk to it.
// The suite says in our environment which scenario to play.
func drive(ctx context.Context, bin, url string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 80*time.Second)
	defer cancel()
	word := strings.ReplaceAll(strings.TrimPrefix(os.Getenv("MCP_CONFORMANCE_SCENARIO"), "auth/"), "/", "-")
	dir, err := os.MkdirTemp(os.Getenv("WARDER_DRIVE_DIR"), "drive-"+word[:min(len(word), 16)]+"-") // short: a path to a socket has at most 107 bytes
	if err != nil {
		return fmt.Errorf("folder of the gateway: %w", err)
	}
	r := &runner{bin: bin, dir: dir}
	servers := fmt.Sprintf("  - {name: s, url: %q}", url)
	scenario := os.Getenv("MCP_CONFORMANCE_SCENARIO")
	if scenario == "http-custom-headers" {
		servers += fmt.Sprintf(looseArguments, time.Now().UTC().Format(time.DateOnly))
	}
	protected := strings.HasPrefix(scenario, "auth/")
	if protected {
		if servers, err = protectedServer(ctx, dir, scenario, url); err != nil {
			return err
		}
	}
	g, token, err := r.gateway(ctx, "gate", servers)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	if protected { // the token of the person who will be at the browser
		out, err := g.Run(ctx, "token", "s", "--subject", "local:ana", "--ttl", "10m")
		if err != nil {
			return err
		}
		token = strings.TrimSpace(string(out))
	}
	shim, err := kit.Bearer(g.Base, token)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shim.Close()) }()
	shim.SessionsOnly = os.Getenv("MCP_CONFORMANCE_PROTOCOL_VERSION") == legacy // the fixture prefers the other era
	if protected {
		person, err := newPerson(ctx, g)
		if err != nil {
			return err
		}
		shim.Held = person.follow
	}
	p, err := kit.Start(ctx, kit.Spec{
		Args: []string{filepath.Join(bin, "everything-client"), shim.URL + "/mcp/s"}, Env: []string{"MCP_CONFORMANCE_SCENARIO=" + played(scenario)},
		Log: filepath.Join(dir, "client.log"),
	})
	if err != nil {
		return err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
	}
	fmt.Fprint(os.Stderr, p.Output())
	return errors.Join(p.Stop(), p.Err())
}
