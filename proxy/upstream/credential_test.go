package upstream

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/sigs"
)

// guarded is a server on the official SDK that wants a token, which changes, and signed requests.
type guarded struct {
	t     *testing.T
	next  http.Handler
	token atomic.Pointer[string]
	key   sigs.Key
	saw   atomic.Int32
}

func (g *guarded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		g.t.Errorf("read: %v", err)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	m := &sigs.Message{Method: r.Method, TargetURI: "http://" + r.Host + r.URL.RequestURI(), Header: r.Header}
	rules := sigs.Rules{Cover: []string{"@method", "@target-uri", "authorization"}, Window: time.Minute, Skew: time.Second, Tag: sigs.Tag}
	if _, err := sigs.Verify(m, rules, func(string) (sigs.Key, bool) { return g.key, true }, time.Now()); err != nil {
		g.t.Errorf("%s: signature: %v", r.Method, err)
	}
	if len(body) > 0 {
		if err := sigs.CheckDigest(r.Header["Content-Digest"], body); err != nil {
			g.t.Errorf("digest of %s: %v", body, err)
		}
	}
	g.saw.Add(1)
	if r.Header.Get("Authorization") != "Bearer "+*g.token.Load() {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	g.next.ServeHTTP(w, r)
}

// TestCredentialAndSignature drives both eras: every request of a conversation, the opening included,
// shows the caller's credential and is signed; a renewed credential is shown at once, and a refused one is
// an error that says what to do.
func TestCredentialAndSignature(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := sigs.NewSigner("warder", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	for _, modern := range []bool{true, false} {
		t.Run(map[bool]string{true: "stateless", false: "session"}[modern], func(t *testing.T) {
			t.Parallel()
			server := sdkServer()
			g := &guarded{t: t, key: signer.Key(), next: mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{Stateless: modern})}
			first := "one"
			g.token.Store(&first)
			era := EraLegacy
			if modern {
				era = EraModern
			}
			s := newServer(t, Config{URL: listen(t, g), Era: era})
			s.opt.Sign = func(r *http.Request) error { return signer.SignRequest(r, time.Now()) }
			var holds atomic.Pointer[string]
			holds.Store(&first)
			held := &warder.Error{Code: warder.CodeHeld, Reason: "authorize", Ask: &warder.Ask{URL: "https://gate/oauth/connect/x"}}
			var gone atomic.Bool
			cred := warder.Credential{
				Kind: "oauth", Owner: "ada",
				Header: func(_ context.Context, r *http.Request) error {
					r.Header["Authorization"] = []string{"Bearer " + *holds.Load()}
					return nil
				},
				Denied: func(_ context.Context, resp *http.Response) error {
					if resp.StatusCode != http.StatusUnauthorized || gone.Load() {
						return held
					}
					holds.Store(g.token.Load())
					return nil
				},
			}
			rev := warder.Revision20251125
			if modern {
				rev = warder.Revision20260728
			}
			link, err := s.Link(t.Context(), Key{Owner: "ada", Session: "s"}, Init{Revision: rev, Credential: cred})
			if err != nil {
				t.Fatal(err)
			}
			say := func(text string) error {
				out, err := collect(t.Context(), link, callTool(t, modern, "7", "echo", text))
				if err == nil && !strings.Contains(strings.Join(out, ""), text) {
					t.Errorf("answer %q lacks %q", out, text)
				}
				return err
			}
			if err := say("hello"); err != nil {
				t.Fatal(err)
			}
			second := "two"
			g.token.Store(&second)
			if err := say("renewed"); err != nil {
				t.Errorf("a renewed credential: %v", err)
			}
			third := "three"
			g.token.Store(&third)
			gone.Store(true)
			err = say("refused")
			if e, ok := errors.AsType[*warder.Error](err); !ok || e.Code != warder.CodeHeld || e.Ask == nil {
				t.Errorf("a refused credential: %v, want what the person can do", err)
			}
			if !bytes.Equal(public, private.Public().(ed25519.PublicKey)) || g.saw.Load() == 0 {
				t.Error("the server saw nothing")
			}
		})
	}
}

// TestChildSecrets checks that a child gets the caller's secrets and that they are overwritten afterwards.
func TestChildSecrets(t *testing.T) {
	t.Parallel()
	value := []byte("s3cret")
	cmd := &exec.Cmd{Env: []string{"A=1"}}
	err := withSecrets(t.Context(), cmd, warder.Credential{Env: func(context.Context) ([]warder.EnvSecret, error) {
		return []warder.EnvSecret{{Name: "TOKEN", Value: value}}, nil
	}})
	if err != nil || len(cmd.Env) != 2 || cmd.Env[1] != "TOKEN=s3cret" || len(cmd.ExtraFiles) > 0 {
		t.Fatalf("environment %q, %v", cmd.Env, err)
	}
	if strings.Trim(string(value), "\x00") != "" {
		t.Error("the secret was not overwritten")
	}
	err = withSecrets(t.Context(), &exec.Cmd{}, warder.Credential{Env: func(context.Context) ([]warder.EnvSecret, error) { return nil, errors.New("vault is sealed") }})
	if e, ok := errors.AsType[*warder.Error](err); !ok || e.Reason != ReasonUnauthorized {
		t.Errorf("a secret that cannot be had: %v", err)
	}
}

// TestChildSecretFiles checks that a child can read a secret that is in no environment, and nobody can change it.
func TestChildSecretFiles(t *testing.T) {
	t.Parallel()
	one, two := []byte("s3cret-1"), []byte("s3cret-2")
	cred := warder.Credential{Env: func(context.Context) ([]warder.EnvSecret, error) {
		return []warder.EnvSecret{{Name: "ONE", Value: one, File: true}, {Name: "TWO", Value: two, File: true}}, nil
	}}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `cat "$ONE_FILE" "$TWO_FILE" "$ONE_FILE"; echo changed 2>/dev/null >"$TWO_FILE" || echo " sealed"; cat "$TWO_FILE"; env | grep s3cret; tr '\0' '\n' </proc/self/environ | grep s3cret; true`)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	err := withSecrets(t.Context(), cmd, cred)
	if runtime.GOOS != "linux" {
		if err == nil {
			t.Error("secrets were handed over where they cannot be")
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		for _, f := range cmd.ExtraFiles {
			_ = f.Close() // the test is over
		}
	}()
	if strings.Trim(string(one)+string(two), "\x00") != "" {
		t.Error("the secrets were not overwritten")
	}
	got, err := cmd.Output()
	if want := "s3cret-1s3cret-2s3cret-1 sealed\ns3cret-2"; err != nil || string(got) != want {
		t.Errorf("the child read %q, want %q, %v", got, want, err)
	}
}
