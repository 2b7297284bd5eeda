package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/warder-mcp/warder/e2e/kit"
)

// authorizationScenarios are those that the suite has for authorization servers. It lists them nowhere, so
// that one which is left out would not be missed otherwise.
func authorizationScenarios() []string {
	return []string{"authorization-server-metadata-endpoint", "authorization-code-grant"}
}

// authorizationChecks is how many checks those scenarios make.
const authorizationChecks = 3

// authorization lets the suite be a client of Warder's own authorization server: a person logs in with a
// one-time link, and says yes on the page that asks for it.
func (r *runner) authorization(ctx context.Context) (err error) {
	callback, err := kit.Address()
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(callback)
	if err != nil {
		return err
	}
	dir := filepath.Join(r.dir, "authorization")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("folder of the gateway: %w", err)
	}
	g, err := kit.Open(ctx, filepath.Join(r.bin, "warder"), kit.Setup{
		Dir: dir, Servers: `  - {name: s, url: "http://127.0.0.1:9/mcp"}`,
		Issuer: fmt.Sprintf(`, login: {local: {enabled: true}}, cimd: {allow: ["*"]}, clients: [{id: conformance, redirect_uris: ["http://127.0.0.1:%s/callback"]}]`, port),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	person, err := newPerson(ctx, g)
	if err != nil {
		return err
	}
	said := &announced{prefix: g.Base + "/issuer/authorize?", address: make(chan string, 1)}
	p, err := kit.Start(ctx, kit.Spec{
		Args: []string{
			r.suite.node, r.suite.script, "authorization", "--url", g.Base + "/issuer", "--client-id", "conformance",
			"--port", port, "--resource", g.URL("s"), "-o", filepath.Join(dir, "checks"),
		},
		Env: []string{"NO_COLOR=1"}, Dir: dir, Stdout: said, Log: filepath.Join(r.dir, "suite-authorization.log"),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	select {
	case address := <-said.address:
		if err := person.allow(ctx, address); err != nil {
			return fmt.Errorf("at the authorization endpoint: %w", err)
		}
	case <-p.Done():
	case <-ctx.Done():
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		return ctx.Err()
	}
	r.scoreAuthorization(parse([]byte(p.Output())), filepath.Join(dir, "checks"))
	return nil
}

// scoreAuthorization counts checks, as the suite does for this leg; one that was not made has failed.
func (r *runner) scoreAuthorization(results []result, checks string) {
	for _, name := range authorizationScenarios() {
		if !slices.ContainsFunc(results, func(res result) bool { return res.scenario == name }) {
			results = append(results, result{scenario: name})
		}
	}
	passed, failed := 0, 0
	for i := range results {
		results[i].required = true
		passed, failed = passed+results[i].good, failed+results[i].bad
		if !results[i].ok() {
			results[i].explanations = explain(checks, results[i].scenario)
		}
	}
	failed += max(0, authorizationChecks-passed-failed)
	table("authorization", results, r.verbose)
	fmt.Printf("  -- checks: %d of %d\n", passed, passed+failed)
	r.passed, r.failed = r.passed+passed, r.failed+failed
}

// announced waits for the address that the suite wants a person to open.
type announced struct {
	prefix  string
	address chan string
	rest    []byte
}

// Write implements io.Writer.
func (a *announced) Write(p []byte) (int, error) {
	a.rest = append(a.rest, p...)
	for {
		line, rest, ok := bytes.Cut(a.rest, []byte{'\n'})
		if !ok {
			return len(p), nil
		}
		a.rest = rest
		if text := strings.TrimSpace(string(line)); strings.HasPrefix(text, a.prefix) {
			select {
			case a.address <- text:
			default: // a second one has nobody to open it
			}
		}
	}
}
