package identity

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/warder-mcp/warder/e2e/kit"
)

// A script is a program of e2e/npm that speaks lines of JSON.
type script struct {
	in    io.WriteCloser
	lines chan map[string]any
}

// startScript starts a program that ends with the test.
func startScript(t *testing.T, env []string, args ...string) *script {
	t.Helper()
	node := needNode(t)
	in, stdin := io.Pipe()
	stdout, out := io.Pipe()
	p, err := kit.Start(context.WithoutCancel(t.Context()), kit.Spec{
		Args: append([]string{node}, args...), Dir: filepath.Join(kit.Root(), "e2e", "npm"), Env: env, Input: in, Stdout: out,
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &script{in: stdin, lines: make(chan map[string]any, 64)}
	go func() {
		defer close(s.lines)
		r := bufio.NewScanner(stdout)
		r.Buffer(nil, 4<<20)
		for r.Scan() {
			var m map[string]any
			if json.Unmarshal(r.Bytes(), &m) == nil {
				s.lines <- m
			}
		}
	}()
	t.Cleanup(func() {
		_ = stdin.Close() // it may have ended
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
		_ = out.Close() // ends the reader
		if t.Failed() {
			t.Logf("output of %s:\n%s", filepath.Base(args[0]), p.Output())
		}
	})
	return s
}

var errSilent = errors.New("the program says nothing")

// next is the next line of the program.
func (s *script) next(ctx context.Context) (map[string]any, error) {
	select {
	case m, ok := <-s.lines:
		if !ok {
			return nil, fmt.Errorf("%w: it ended", errSilent)
		}
		return m, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", errSilent, context.Cause(ctx))
	case <-time.After(time.Minute):
		return nil, errSilent
	}
}

// tell writes a line to the program.
func (s *script) tell(line string) error {
	_, err := io.WriteString(s.in, line+"\n")
	return err
}

// tsCall lets the TypeScript SDK log in and call a tool, and returns what it says in the end.
func tsCall(ctx context.Context, t *testing.T, walk walker, env []string, endpoint, tool, args string, options map[string]any) (line map[string]any, asked url.Values) {
	t.Helper()
	options["redirect"] = callback
	text, err := json.Marshal(options)
	if err != nil {
		t.Fatal(err)
	}
	return tsLogin(ctx, t, startScript(t, env, "client-oauth.mjs", endpoint, tool, args, string(text)), walk)
}

// tsLogin lets the person follow every address the client opens, and returns the first line that is none.
func tsLogin(ctx context.Context, t *testing.T, s *script, walk walker) (line map[string]any, asked url.Values) {
	t.Helper()
	for range 4 {
		m, err := s.next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		address, ok := m["open"].(string)
		if !ok {
			return m, asked
		}
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		asked = u.Query()
		back, err := walk(ctx, address)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.tell(back.Encode()); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("the client asks again and again")
	return nil, nil
}

// said is the text of a result that a script printed.
func said(m map[string]any) string {
	result, _ := m["result"].(map[string]any)
	content, _ := result["content"].([]any)
	var text strings.Builder
	for _, c := range content {
		if block, ok := c.(map[string]any); ok {
			fmt.Fprint(&text, block["text"])
		}
	}
	return text.String()
}
