package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// sizes of the request body, and with it of the reply.
var sizes = []int{600, 10_000, 100_000}

func run(args []string) error {
	fs := flag.NewFlagSet("run", flag.ExitOnError)
	binary := fs.String("warder", "", "the warder binary (required)")
	rounds := fs.Int("rounds", 5, "interleaved rounds; medians are reported")
	scale := fs.Float64("scale", 1, "multiplies the number of calls")
	out := fs.String("out", "", "write the table to this Markdown file")
	_ = fs.Parse(args) // exits on error
	if *binary == "" {
		return errors.New("run: -warder is required")
	}
	dir, err := os.MkdirTemp("", "warder-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a temporary folder
	b := &benchmark{warder: *binary, dir: dir, rounds: *rounds, scale: *scale}
	defer b.stop()
	if err := b.all(); err != nil {
		return err
	}
	report := b.report()
	fmt.Print(report)
	if *out != "" {
		if err := os.WriteFile(*out, []byte(document(report)), 0o644); err != nil {
			return err
		}
	}
	fmt.Println(b.summary())
	return nil
}

// A benchmark holds the processes and figures of one run.
type benchmark struct {
	warder, dir string
	rounds      int
	scale       float64
	processes   []*process

	cells                     []cell
	startup                   time.Duration
	policiesRatio, sessionsMB float64
	sdkCut                    map[string][2]int // target → calls, failed
	writeCell                 cell
	idleSessions              int

	identityCell cell
	verification time.Duration // one signature check
	identityMore time.Duration // CPU per call of a bound token beyond a bearer token's and one signature check
}

func (b *benchmark) stop() {
	for _, p := range b.processes {
		p.stop()
	}
}

// spawn starts a peer of this program.
func (b *benchmark) spawn(args ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, err := start(true, self, args...)
	if err == nil {
		b.processes = append(b.processes, p)
	}
	return p, err
}

func (b *benchmark) all() error {
	echo, err := b.spawn("echo")
	if err != nil {
		return err
	}
	rp, err := b.spawn("proxy", "-to", "http://"+echo.addr)
	if err != nil {
		return err
	}
	small, err := b.gateway("small", "http://"+echo.addr+"/mcp", setup{policies: 10, effect: "read"})
	if err != nil {
		return err
	}
	targets := []target{
		{name: "direct", addr: echo.addr, path: "/mcp", pid: echo.cmd.Process.Pid},
		{name: "ReverseProxy", addr: rp.addr, path: "/mcp", pid: rp.cmd.Process.Pid, memory: "http://" + rp.addr + "/metrics"},
		small.target("Warder"),
	}
	if err := b.matrix(targets); err != nil {
		return err
	}
	if err := b.stdio(); err != nil {
		return err
	}
	if err := b.write(echo); err != nil {
		return err
	}
	if err := b.policies(); err != nil {
		return err
	}
	if err := b.identity(echo, small); err != nil {
		return err
	}
	if err := b.cut(); err != nil {
		return err
	}
	return b.sessions(small)
}

// matrix measures every size and number of connections, the targets one after another in each round.
func (b *benchmark) matrix(targets []target) error {
	for _, size := range sizes {
		for _, conns := range []int{1, 32} {
			calls := int(float64(map[int]int{600: 4000, 10_000: 2000, 100_000: 600}[size]) * b.scale)
			rounds := make(map[string][]cell)
			for range b.rounds {
				for _, t := range targets {
					c, err := drive(t, size, conns, calls)
					if err != nil {
						return err
					}
					rounds[t.name] = append(rounds[t.name], c)
				}
			}
			for _, t := range targets {
				b.cells = append(b.cells, median(rounds[t.name]))
			}
		}
	}
	return nil
}

// median takes the round with the median CPU, and adds up the failures of all rounds.
func median(cells []cell) cell {
	failed := 0
	for _, c := range cells {
		failed += c.failed
	}
	slices.SortFunc(cells, func(a, b cell) int { return cmp.Compare(a.cpu, b.cpu) })
	m := cells[len(cells)/2]
	m.failed = failed
	return m
}

// write measures a tool with effect: its audit record is durable before the call is forwarded.
func (b *benchmark) write(echo *process) error {
	g, err := b.gateway("write", "http://"+echo.addr+"/mcp", setup{policies: 10, effect: "write"})
	if err != nil {
		return err
	}
	var cells []cell
	for range b.rounds {
		c, err := drive(g.target("Warder, tool with effect"), 600, 32, int(3000*b.scale))
		if err != nil {
			return err
		}
		cells = append(cells, c)
	}
	b.writeCell = median(cells)
	return nil
}

// policies compares 1,000 policies and 2,000 tools with 10 of each, interleaved.
func (b *benchmark) policies() error {
	few, err := b.spawn("echo", "-tools", "9")
	if err != nil {
		return err
	}
	many, err := b.spawn("echo", "-tools", "1999")
	if err != nil {
		return err
	}
	a, err := b.gateway("few", "http://"+few.addr+"/mcp", setup{policies: 10, effect: "read"})
	if err != nil {
		return err
	}
	z, err := b.gateway("many", "http://"+many.addr+"/mcp", setup{policies: 1000, effect: "read"})
	if err != nil {
		return err
	}
	var ratios []float64
	for range 2*b.rounds + 1 {
		x, err := drive(a.target("few"), 600, 1, int(3000*b.scale))
		if err != nil {
			return err
		}
		y, err := drive(z.target("many"), 600, 1, int(3000*b.scale))
		if err != nil {
			return err
		}
		ratios = append(ratios, float64(y.cpu)/float64(x.cpu))
	}
	slices.Sort(ratios)
	b.policiesRatio = ratios[len(ratios)/2]
	return nil
}

// cut counts replies of 10 KB that arrive incomplete in front of a server on the official SDK.
func (b *benchmark) cut() error {
	sdk, err := b.spawn("sdk")
	if err != nil {
		return err
	}
	rp, err := b.spawn("proxy", "-to", "http://"+sdk.addr)
	if err != nil {
		return err
	}
	g, err := b.gateway("sdk", "http://"+sdk.addr+"/", setup{policies: 10, effect: "read"})
	if err != nil {
		return err
	}
	b.sdkCut = make(map[string][2]int)
	for _, t := range []target{
		{name: "ReverseProxy", addr: rp.addr, path: "/", pid: rp.cmd.Process.Pid}, g.target("Warder"),
	} {
		done, failed := 0, 0
		for range 18 {
			c, err := drive(t, 10_000, 1, 100)
			if err != nil {
				return err
			}
			done, failed = done+c.calls, failed+c.failed
		}
		b.sdkCut[t.name] = [2]int{done + failed, failed}
	}
	return nil
}

// summary is the last line.
func (b *benchmark) summary() string {
	w := b.find("Warder", 600, 1)
	return fmt.Sprintf("bench: cpu_ratio_0.6k=%.2f cpu_ratio_10k=%.2f bytes_per_call=%d policies_ratio=%.2f sessions_mb=%.0f identity_us=%d",
		b.ratio(600), b.ratio(10_000), w.bytes, b.policiesRatio, b.sessionsMB, b.identityMore.Microseconds())
}

// ratio is Warder's CPU per call over ReverseProxy's, the worse of 1 and 32 connections.
func (b *benchmark) ratio(size int) float64 {
	worst := 0.0
	for _, conns := range []int{1, 32} {
		w, r := b.find("Warder", size, conns), b.find("ReverseProxy", size, conns)
		worst = max(worst, float64(w.cpu)/float64(r.cpu))
	}
	return worst
}

func (b *benchmark) find(name string, size, conns int) cell {
	for _, c := range b.cells {
		if c.target == name && c.size == size && c.conns == conns {
			return c
		}
	}
	return cell{}
}

// report is the table for people.
func (b *benchmark) report() string {
	var s strings.Builder
	s.WriteString("| way | request | connections | CPU per call | p50 | p99 | calls/s | bytes/call | allocations/call | failed |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for _, c := range append(slices.Clone(b.cells), b.writeCell, b.identityCell) {
		fmt.Fprintf(&s, "| %s | %g KB | %d | %s | %s | %s | %.0f | %s | %s | %d |\n", c.target, float64(c.size)/1000, c.conns,
			micros(c.cpu), micros(c.p50), micros(c.p99), c.perSec, counted(c.bytes), counted(c.mallocs), c.failed)
	}
	fmt.Fprintf(&s, "\nStart to ready: %d ms. 1,000 policies and 2,000 tools against 10 and 10: %.2f times the CPU per call. ", b.startup.Milliseconds(), b.policiesRatio)
	fmt.Fprintf(&s, "Resident with %d idle sessions: %.0f MB.\n", b.idleSessions, b.sessionsMB)
	fmt.Fprintf(&s, "A DPoP-bound token, %d policies, %d callers and %d grants: one signature check (%s) and %s more CPU per call than a bearer token with 10 policies.\n",
		identityPolicies, identityPrincipals, identityGrants, micros(b.verification), micros(b.identityMore))
	for _, name := range []string{"ReverseProxy", "Warder"} {
		fmt.Fprintf(&s, "10 KB replies of a server on the official Go SDK through %s: %d calls, %d cut short.\n", name, b.sdkCut[name][0], b.sdkCut[name][1])
	}
	return s.String()
}

// counted renders a counter; a process that has none is not measured.
func counted(n int64) string {
	if n == 0 {
		return "–"
	}
	return fmt.Sprint(n)
}

func micros(d time.Duration) string { return fmt.Sprintf("%d µs", d.Microseconds()) }

// document frames the table for the reference.
func document(report string) string {
	return "# Performance\n\nWritten by `make bench`; every figure is of that one run, the peers interleaved on one machine. Compare ratios, not\nmachines. CPU is what the kernel accounted to the proxy's threads; every control of the path is on.\n\n" + report
}

func (b *benchmark) path(parts ...string) string {
	return filepath.Join(append([]string{b.dir}, parts...)...)
}
