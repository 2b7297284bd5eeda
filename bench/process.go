package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// used is what a process has consumed so far.
type used struct {
	cpu            time.Duration
	bytes, mallocs int64
}

// usage reads the CPU time of all threads from the scheduler and the allocation counters from the
// process itself.
func usage(t target) (used, error) {
	var u used
	if t.memory != "" {
		resp, err := http.Get(t.memory)
		if err != nil {
			return u, err
		}
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), " ")
			f, _ := strconv.ParseFloat(value, 64) // other lines are not numbers
			switch name {
			case "go_memstats_alloc_bytes_total":
				u.bytes = int64(f)
			case "go_memstats_mallocs_total":
				u.mallocs = int64(f)
			}
		}
	}
	cpu, err := cpuOf(t.pid)
	u.cpu = cpu
	return u, err
}

// cpuOf sums the time that the threads of a process were on a CPU, in nanoseconds.
func cpuOf(pid int) (time.Duration, error) {
	if pid == 0 {
		return 0, nil
	}
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		return 0, errors.Join(fmt.Errorf("no threads of process %d", pid), err)
	}
	var total time.Duration
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has just ended
		}
		first, _, _ := strings.Cut(string(raw), " ")
		ns, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", f, err)
		}
		total += time.Duration(ns)
	}
	return total, nil
}

// residentMB reads the resident memory of a process.
func residentMB(pid int) (float64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 64)
			return kb / 1024, err
		}
	}
	return 0, errors.New("no VmRSS")
}

// A process is a peer started for the run; stop ends it by its id.
type process struct {
	cmd  *exec.Cmd
	addr string // of the first line "listening on http://…", if it prints one
}

func start(announces bool, name string, args ...string) (*process, error) {
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd}
	if !announces {
		go func() { _, _ = io.Copy(io.Discard, out) }()
		return p, nil
	}
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			p.stop()
			return nil, fmt.Errorf("%s did not start: %w", name, err)
		}
		if _, addr, ok := strings.Cut(line, "listening on http://"); ok {
			p.addr = strings.TrimSpace(addr)
			go func() { _, _ = io.Copy(io.Discard, lines) }()
			return p, nil
		}
	}
}

func (p *process) stop() {
	_ = p.cmd.Process.Kill() // it is ours and may have ended already
	_ = p.cmd.Wait()         // killed on purpose
}

// waitFor polls a URL until it answers 200.
func waitFor(url string, limit time.Duration) (time.Duration, error) {
	start := time.Now()
	for time.Since(start) < limit {
		resp, err := http.Get(url)
		if err == nil {
			_ = resp.Body.Close() // nothing to read
			if resp.StatusCode == http.StatusOK {
				return time.Since(start), nil
			}
		}
		time.Sleep(2 * time.Millisecond)
	}
	return 0, fmt.Errorf("%s did not answer within %v", url, limit)
}
