package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/secret"
	"github.com/warder-mcp/warder/internal/sigs"
	"github.com/warder-mcp/warder/wire"
)

// signingKey makes a key pair in files.
func signingKey(tb testing.TB) (signer *sigs.Signer, private, public string) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	der, err1 := x509.MarshalPKCS8PrivateKey(key)
	pub, err2 := x509.MarshalPKIXPublicKey(key.Public())
	dir := tb.TempDir()
	private, public = filepath.Join(dir, "key.pem"), filepath.Join(dir, "key.pub")
	err3 := os.WriteFile(private, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
	err4 := os.WriteFile(public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pub}), 0o600)
	signer, err5 := sigs.SignerOf("peer", key)
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		tb.Fatal(err)
	}
	return signer, private, public
}

// A signedCase is one message on its way in.
type signedCase struct {
	name     string
	envelope bool // sign in _meta and not in headers
	client   string
	change   func(*warder.Exchange)
	body     func(string) string // change of the body after it was signed
	after    time.Duration
	again    bool // send it twice
	replays  Replays
	want     warder.Reason
}

const signedCall = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"pay","arguments":{"amount":10}}}`

func TestSGN01(t *testing.T) {
	t.Parallel()
	for _, tt := range []signedCase{
		{name: "pass headers", client: "peer-client"},
		{name: "pass envelope", client: "peer-client", envelope: true},
		{name: "pass envelope on a pipe", client: "peer-client", envelope: true, change: func(x *warder.Exchange) { x.Door = warder.DoorStdio }},
		{name: "near_miss header that is not covered", client: "peer-client", change: func(x *warder.Exchange) { x.Conn.Header.Set("Accept", "x") }},
		{name: "near_miss nearly stale", client: "peer-client", after: 59 * time.Second},
		{name: "deny unsigned", client: "peer-client", change: func(x *warder.Exchange) {
			x.Conn.Header.Del("Signature-Input")
		}, want: "signature_missing"},
		{name: "deny body", client: "peer-client", body: func(s string) string { return strings.Replace(s, "10", "11", 1) }, want: "signature_digest"},
		{name: "deny body in the envelope", client: "peer-client", envelope: true, body: func(s string) string { return strings.Replace(s, `"amount":10`, `"amount":11`, 1) }, want: "signature_digest"},
		{name: "deny body and digest", client: "peer-client", body: func(s string) string { return strings.Replace(s, "10", "11", 1) }, change: func(x *warder.Exchange) {
			x.Conn.Header.Set("Content-Digest", sigs.ContentDigest(x.Inbound.Raw))
		}, want: "signature_mismatch"},
		{name: "deny other token", client: "peer-client", change: func(x *warder.Exchange) { x.Conn.Header.Set("Authorization", "Bearer x") }, want: "signature_mismatch"},
		{name: "deny other target", client: "peer-client", change: func(x *warder.Exchange) { x.Conn.Path = "/mcp/mail" }, want: "signature_mismatch"},
		{name: "deny envelope for another server", client: "peer-client", envelope: true, change: func(x *warder.Exchange) { at(x, "mail") }, want: "signature_malformed"},
		{name: "deny replay", client: "peer-client", again: true, want: "signature_replayed"},
		{name: "deny replay of an envelope", client: "peer-client", envelope: true, again: true, want: "signature_replayed"},
		{name: "deny stale", client: "peer-client", after: time.Minute, want: "signature_stale"},
		{name: "deny stale envelope", client: "peer-client", envelope: true, after: time.Minute, want: "signature_stale"},
		{name: "deny from the future", client: "peer-client", after: -6 * time.Second, want: "signature_stale"},
		{name: "deny key of another caller", client: "other-client", want: "signature_of_another"},
		{name: "deny envelope of another caller", client: "other-client", envelope: true, want: "signature_of_another"},
		{name: "dependency_killed nonces cannot be remembered", client: "peer-client", replays: deadReplays{}, want: "control_unavailable"},
		{name: "dependency_killed nonces of envelopes cannot be remembered", client: "peer-client", envelope: true, replays: deadReplays{}, want: "control_unavailable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.run(t)
		})
	}
	t.Run("answers", func(t *testing.T) { t.Parallel(); testSignedAnswers(t) })
	t.Run("deny stream without a signature", func(t *testing.T) {
		t.Parallel()
		s, err := newSignatures(Config{BaseURL: base, AuthorityConfig: AuthorityConfig{Signatures: Signatures{RequiredFor: []string{"*"}}}}, Deps{Now: newClock().now})
		if err != nil {
			t.Fatal(err)
		}
		x := exchange("Bearer t")
		x.Conn.Method, x.Principal = http.MethodGet, human()
		wantReason(t, judge(t, signedHeaders{s}, x), "signature_missing")
	})
	t.Run("dependency_killed key file is missing", func(t *testing.T) {
		t.Parallel()
		cfg := Config{AuthorityConfig: AuthorityConfig{Signatures: Signatures{Peers: []SignaturePeer{{ID: "k", Public: secret.Ref{File: filepath.Join(t.TempDir(), "none")}, Callers: []string{"*"}}}}}}
		if _, err := newSignatures(cfg, Deps{}); err == nil {
			t.Error("a peer without a key is accepted")
		}
	})
}

func (tt signedCase) run(t *testing.T) {
	t.Helper()
	clock := newClock()
	signer, _, public := signingKey(t)
	cfg := Config{BaseURL: base, AuthorityConfig: AuthorityConfig{Signatures: Signatures{
		Peers:       []SignaturePeer{{ID: "peer", Public: secret.Ref{File: public}, Callers: []string{"peer-client"}}},
		RequiredFor: []string{"peer-client", "other-client"},
	}}}
	s, err := newSignatures(cfg, Deps{Resource: resource, Replays: tt.replays, Now: clock.now})
	if err != nil {
		t.Fatal(err)
	}
	body, header := signedCall, http.Header{}
	if tt.envelope {
		m := decoded(t, body)
		e, err := signer.Envelope(m, filesURI, nil, clock.now(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := sigs.Attach(m, e, wire.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		body = string(signed.Raw)
	} else {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, filesURI, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer t")
		if err := signer.SignRequest(r, clock.now()); err != nil {
			t.Fatal(err)
		}
		header = r.Header
	}
	if tt.body != nil {
		body = tt.body(body)
	}
	clock.advance(tt.after)
	d := warder.Decision{}
	times := 1
	if tt.again {
		times = 2
	}
	for range times {
		p := human()
		p.Client = tt.client
		x := asked(t, p, body)
		x.Conn.Header = header
		if tt.change != nil {
			tt.change(x)
		}
		for _, c := range []warder.Interceptor{signedHeaders{s}, signedMessage{s}} {
			if d = judge(t, c, x); d.Verdict != warder.Pass {
				break
			}
		}
	}
	wantReason(t, d, tt.want)
}

func decoded(tb testing.TB, raw string) *warder.Message {
	tb.Helper()
	m, err := wire.Decode([]byte(raw), wire.Limits{})
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// testSignedAnswers checks what a client would: that the answer is Warder's, to its request.
func testSignedAnswers(t *testing.T) {
	t.Helper()
	clock := newClock()
	signer, private, _ := signingKey(t)
	cfg := Config{AuthorityConfig: AuthorityConfig{Signatures: Signatures{Answers: []string{"editor"}, Key: SignatureKey{ID: "peer", Private: secret.Ref{File: private}}}}}
	layer, err := NewSigner(cfg, SignerDeps{Now: clock.now})
	if err != nil || len(layer.Response) != 1 {
		t.Fatalf("%+v, %v", layer, err)
	}
	answer := func(client, request, response string) *warder.Message {
		p := human()
		p.Client = client
		x := asked(t, p, request)
		x.Response = decoded(t, response)
		wantReason(t, judge(t, layer.Response[0], x), "")
		return x.Response
	}
	other := strings.Replace(signedCall, `"id":7`, `"id":8`, 1)
	const result = `{"jsonrpc":"2.0","id":7,"result":{"content":[]}}`
	check := sigs.Check{Keys: func(id string) (sigs.Key, bool) { return signer.Key(), id == "peer" }, Window: time.Minute, Request: decoded(t, signedCall)}
	for name, c := range map[string]struct {
		m    *warder.Message
		want error
	}{
		"pass":                     {answer("editor", signedCall, result), nil},
		"near_miss notification":   {answer("editor", signedCall, `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}`), nil},
		"deny swapped":             {answer("editor", other, result), sigs.ErrDigest},
		"deny changed":             {decoded(t, strings.Replace(string(answer("editor", signedCall, result).Raw), "[]", "[1]", 1)), sigs.ErrDigest},
		"deny unsigned for others": {answer("x", signedCall, result), sigs.ErrUnsigned},
		"deny error has no place":  {answer("editor", signedCall, `{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"x"}}`), sigs.ErrUnsigned},
	} {
		if _, err := check.Verify(c.m, clock.now()); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if layer, err := NewSigner(Config{}, SignerDeps{}); err != nil || len(layer.Response) != 0 {
		t.Errorf("without configuration: %+v, %v", layer, err)
	}
	cfg.Signatures.Key.Private.File += ".none"
	if _, err := NewSigner(cfg, SignerDeps{}); err == nil {
		t.Error("a signer without a key")
	}
}
