// Conformance runs the official MCP conformance suite through Warder and counts.
//
// The server leg asks one Warder URL, behind which the go-sdk fixtures stand, with the requirements of
// 2025-11-25 and of 2026-07-28. The client leg lets the suite be the server: for each of its scenarios
// a Warder of its own stands before it, and the go-sdk fixture client talks to that. Last, each set of
// requirements is asked of a server of the other era; those numbers are shown and count nothing.
// The authorization leg is a client of Warder's own authorization server. Of the client leg, scenarios of
// authorization count even where the suite does not score them.
//
// "conformance drive URL" is the client that the suite starts.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/warder-mcp/warder/e2e/kit"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code := run(ctx)
	stop()
	os.Exit(code)
}

func run(ctx context.Context) int {
	bin := flag.String("bin", filepath.Join(kit.Root(), ".cache", "bin"), "folder of everything-server, everything-client and warder")
	only := flag.String("only", "", "one leg: server, client, authorization or translation; default all")
	keep := flag.Bool("keep", false, "keep the folder with configurations, logs and the suite's checks")
	verbose := flag.Bool("v", false, "show what the suite says of each scenario that fails")
	flag.Parse()
	if flag.NArg() == 2 && flag.Arg(0) == "drive" {
		if err := drive(ctx, *bin, flag.Arg(1)); err != nil {
			fmt.Fprintln(os.Stderr, "conformance drive:", err)
			return 1
		}
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "warder-conformance-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		return 1
	}
	if *keep {
		fmt.Println("conformance: files in", dir)
	} else {
		defer func() { _ = os.RemoveAll(dir) }()
	}
	r := &runner{bin: *bin, dir: dir, verbose: *verbose}
	if err := r.all(ctx, *only); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		r.failed++
	}
	fmt.Printf("conformance: %d passed, %d failed\n", r.passed, r.failed)
	if r.failed > 0 || r.passed == 0 {
		return 1
	}
	return 0
}

// A runner runs the legs and counts required scenarios.
type runner struct {
	bin, dir       string
	verbose        bool
	suite          *suite
	passed, failed int
}

// The sets of requirements, each run with messages of its own revision.
const (
	legacy = "2025-11-25"
	modern = "2026-07-28"
)

func (r *runner) all(ctx context.Context, only string) (err error) {
	if r.suite, err = newSuite(r.dir); err != nil {
		return err
	}
	if only == "" || only == "server" {
		err = errors.Join(err, r.server(ctx))
	}
	if only == "" || only == "client" {
		err = errors.Join(err, r.client(ctx))
	}
	if only == "" || only == "authorization" {
		err = errors.Join(err, r.authorization(ctx))
	}
	if only == "" || only == "translation" {
		err = errors.Join(err, r.translation(ctx))
	}
	return err
}

// score adds to the count.
func (r *runner) score(leg, set string, results []result) {
	table(leg+", "+set, results, r.verbose)
	for _, res := range results {
		switch {
		case !res.counts():
		case res.ok():
			r.passed++
		default:
			r.failed++
		}
	}
}
