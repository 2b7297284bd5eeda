package signals

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/secret"
	"github.com/warder-mcp/warder/internal/state"
	"github.com/warder-mcp/warder/revocation"
)

// A partner receives what Warder sends, and answers as told.
type partner struct {
	*httptest.Server
	mu      sync.Mutex
	answers []int // statuses to answer with; then 202
	tokens  []string
	bearer  []string
}

func newPartner(t *testing.T, answers ...int) *partner {
	t.Helper()
	p := &partner{answers: answers}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get("Content-Type") != "application/secevent+jwt" {
			t.Errorf("request: %v, %s", err, r.Header.Get("Content-Type"))
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.tokens, p.bearer = append(p.tokens, string(body)), append(p.bearer, r.Header.Get("Authorization"))
		status := http.StatusAccepted
		if len(p.answers) > 0 {
			status, p.answers = p.answers[0], p.answers[1:]
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *partner) received() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.tokens...)
}

// gateway is a set whose revocations go to receivers.
func gateway(t *testing.T, s state.Store, signer *jose.Signer, receivers ...Receiver) (*revocation.Set, *Outbox) {
	t.Helper()
	out, err := NewOutbox(t.Context(), receivers, OutboxDeps{Issuer: "https://warder.example", Signer: signer, State: s, HTTP: &http.Client{}})
	if err != nil {
		t.Fatal(err)
	}
	set, err := revocation.New(t.Context(), revocation.Deps{State: s, Record: func(context.Context, warder.Event) error { return nil }, Attach: out.Attach})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = set.Close() }) // never fails
	return set, out
}

func run(t *testing.T, out *Outbox) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { out.Run(ctx) })
	stop = func() { cancel(); done.Wait() }
	t.Cleanup(stop)
	return stop
}

func waiting(t *testing.T, s state.Store) int {
	t.Helper()
	docs, err := s.List(t.Context(), state.Query{Kind: outKind})
	if err != nil {
		t.Fatal(err)
	}
	return len(docs)
}

func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for begin := time.Now(); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Since(begin) > 20*time.Second {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// TestSend revokes on one gateway while the receiver fails; another gateway, started later, delivers.
func TestSend(t *testing.T) {
	t.Setenv("RECEIVER_TOKEN", "s3cret")
	signer, err := jose.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	p := newPartner(t, http.StatusServiceUnavailable, http.StatusTooManyRequests)
	to := Receiver{Name: "partner", URL: p.URL + "/events", Audience: "https://partner.example", Token: secret.Ref{Env: "RECEIVER_TOKEN"}}
	s := state.NewMemory(nil)
	set, out := gateway(t, s, signer, to)
	for _, e := range []revocation.Entry{
		{Kind: revocation.KindPrincipal, Value: "https://idp.example|auth0|ada", By: "operator", Reason: "left"},
		{Kind: revocation.KindServer, Value: "notes", By: "operator"},
		{Kind: revocation.KindPrincipal, Value: "https://idp.example|bob", By: "signal:https://idp.example"},
	} {
		if err := set.Revoke(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if n := waiting(t, s); n != 1 {
		t.Fatalf("%d tokens wait, want 1", n)
	}
	stop := run(t, out)
	until(t, "a first attempt", func() bool { return len(p.received()) == 1 })
	stop()
	if n := waiting(t, s); n != 1 {
		t.Fatalf("%d tokens wait after a failure, want 1", n)
	}
	_, second := gateway(t, s, signer, to)
	_, third := gateway(t, s, signer, to)
	run(t, second)
	run(t, third)
	until(t, "delivery", func() bool { return waiting(t, s) == 0 })
	got := p.received()
	if len(got) != 3 {
		t.Fatalf("%d attempts, want 3", len(got))
	}
	if p.bearer[2] != "Bearer s3cret" {
		t.Errorf("Authorization %q", p.bearer[2])
	}
	judge(t, signer, got)
}

// judge checks what was received as a receiver would.
func judge(t *testing.T, signer *jose.Signer, tokens []string) {
	t.Helper()
	keys, err := signer.KeySet()
	if err != nil {
		t.Fatal(err)
	}
	set, err := jose.ParseKeySet(keys)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, raw := range tokens {
		token, err := jose.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		key, ok := set.Key(token.Header.KeyID)
		if !ok || token.Verify(key, []string{"ES256"}) != nil || token.CheckType([]string{"secevent+jwt"}) != nil {
			t.Fatalf("token %q does not verify", raw)
		}
		parsed, err := parseSet(token.Claims, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, parsed.id)
		about, err := parsed.subject(parsed.events[caep+"session-revoked"])
		if err != nil {
			t.Fatal(err)
		}
		want := jose.Claims{"format": "iss_sub", "iss": "https://idp.example", "sub": "auth0|ada"}
		if diff := cmp.Diff(want, about); diff != "" || token.Claims["iss"] != "https://warder.example" || token.Claims["aud"] != "https://partner.example" {
			t.Errorf("claims %v, subject (-want +got):\n%s", token.Claims, diff)
		}
	}
	for _, id := range ids {
		if id != ids[0] {
			t.Errorf("attempts have the ids %v, want one", ids)
		}
	}
}

// TestSendGivesUp proves that a token that the receiver does not want is not sent again, and that one
// receiver's outage does not keep tokens from another.
func TestSendGivesUp(t *testing.T) {
	t.Parallel()
	signer, err := jose.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	no, yes, down := newPartner(t, http.StatusBadRequest), newPartner(t), newPartner(t)
	down.Close()
	s := state.NewMemory(nil)
	set, out := gateway(t, s, signer,
		Receiver{Name: "no", URL: no.URL, Audience: "a"}, Receiver{Name: "yes", URL: yes.URL, Audience: "a"}, Receiver{Name: "down", URL: down.URL, Audience: "a"})
	run(t, out)
	for _, name := range []string{"i|ada", "i|bob"} {
		if err := set.Revoke(t.Context(), revocation.Entry{Kind: revocation.KindSession, Value: name, By: "operator"}); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "delivery", func() bool { return len(yes.received()) == 2 && len(no.received()) == 2 && waiting(t, s) == 2 })
	time.Sleep(300 * time.Millisecond)
	if len(yes.received()) != 2 || len(no.received()) != 2 {
		t.Errorf("%d and %d attempts, want 2 each", len(yes.received()), len(no.received()))
	}
}

func TestReceiverValidate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		r  Receiver
		ok bool
	}{
		{Receiver{Name: "a", URL: "https://a.example/events", Audience: "a"}, true},
		{Receiver{Name: "a", URL: "http://127.0.0.1:8080/", Audience: "a"}, true},
		{Receiver{Name: "a", URL: "http://a.example/events", Audience: "a"}, false},
		{Receiver{Name: "a", URL: "https://u:p@a.example/events", Audience: "a"}, false},
		{Receiver{Name: "a", URL: "ftp://a.example", Audience: "a"}, false},
		{Receiver{Name: "a", URL: "", Audience: "a"}, false},
		{Receiver{URL: "https://a.example", Audience: "a"}, false},
		{Receiver{Name: "a", URL: "https://a.example"}, false},
	} {
		if err := c.r.Validate(); (err == nil) != c.ok || err != nil && strings.Contains(err.Error(), "u:p") {
			t.Errorf("Validate(%+v) = %v, want ok %v", c.r, err, c.ok)
		}
	}
}
