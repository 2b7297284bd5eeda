package identity

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// A screen is what a program writes for the person before it.
type screen struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

// find waits until something is shown.
func (s *screen) find(ctx context.Context, what *regexp.Regexp) string {
	for ctx.Err() == nil {
		s.mu.Lock()
		found := what.FindString(s.buf.String())
		s.mu.Unlock()
		if found != "" {
			return found
		}
		time.Sleep(20 * time.Millisecond)
	}
	return ""
}

// TestConnect lets a go-sdk client that speaks to a child process and knows no OAuth use a server that takes
// bound tokens only: "warder connect" logs the person in, holds the key, proves it with nonces, and renews
// tokens that end while the client is connected, and for the next one without a login.
func TestConnect(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	s := newSite(t, "127.0.0.1")
	g := s.open(t, setup{
		identity: "dpop: {policy: required, nonce: true}\n",
		issuer:   "login: {local: {enabled: true}}\ndcr: {mode: open}\nlifetimes: {access: 11s}\n",
		servers:  map[string]*origin{"alpha": newOrigin(t, "alpha")},
	})
	ana := newPerson(t, "ana", "", "")
	if err := ana.enter(ctx, g, "people"); err != nil {
		t.Fatal(err)
	}
	bin, err := buildWarder()
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(t.TempDir(), "bridge")
	bridge := func(shown *screen, args ...string) *mcp.ClientSession {
		t.Helper()
		cmd := exec.CommandContext(ctx, bin, append([]string{"connect", s.mcp("alpha"), "--data", data, "--trust", "first_use"}, args...)...)
		cmd.Stderr, cmd.Env = shown, append(os.Environ(), "WARDER_TOKEN=", "XDG_CONFIG_HOME="+data+"-config")
		c := mcp.NewClient(&mcp.Implementation{Name: "go-sdk", Version: "1"}, nil)
		session, err := c.Connect(ctx, &mcp.CommandTransport{Command: cmd}, nil)
		if err != nil {
			shown.mu.Lock()
			defer shown.mu.Unlock()
			t.Fatalf("%v\n%s", err, shown.buf.String())
		}
		return session
	}
	first := &screen{}
	walked := make(chan error, 1)
	go func() {
		_, _, err := ana.walk(ctx, first.find(ctx, regexp.MustCompile(`http://\S+/oauth/authorize\?\S+`)), "")
		walked <- err
	}()
	session := bridge(first, "--login", "--no-browser")
	if err := <-walked; err != nil {
		t.Fatal(err)
	}
	wants(ctx, t, session, "look", map[string]any{"topic": "sky"}, "alpha: look sky")
	time.Sleep(12 * time.Second) // the access token ends
	wants(ctx, t, session, "look", map[string]any{"topic": "sun"}, "alpha: look sun")
	if err := session.Close(); err != nil {
		t.Error(err)
	}
	second := bridge(&screen{})
	wants(ctx, t, second, "look", map[string]any{"topic": "sea"}, "alpha: look sea")
	if _, err := g.Run(ctx, "revoke", "principal", s.issuer()+"|local:ana", "--reason", "test"); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		if _, err := call(ctx, second, "look", map[string]any{"topic": "ice"}); err != nil {
			break
		}
		if time.Since(began) > 3*time.Second {
			t.Fatal("a revoked person still calls")
		}
	}
	_ = second.Close() // its login is over
}
