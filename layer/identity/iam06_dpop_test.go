package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/state"
)

// bound makes the token of a client that holds a key, and the client's prover.
func bound(b *bench) (token string, p *jose.Prover) {
	b.t.Helper()
	p, err := jose.NewProver(b.clock.now)
	if err != nil {
		b.t.Fatal(err)
	}
	return with(map[string]any{"cnf": map[string]any{"jkt": p.Thumbprint()}})(b), p
}

// proved is a message to the files server with token and proof.
func proved(token string, proofs ...string) *warder.Exchange {
	x := exchange("DPoP " + token)
	x.Conn.Header["Dpop"] = proofs
	return x
}

func (b *bench) prove(p *jose.Prover, method, address, token, nonce string) string {
	b.t.Helper()
	proof, err := p.Proof(method, address, token, nonce)
	if err != nil {
		b.t.Fatal(err)
	}
	return proof
}

func TestIAM06(t *testing.T) {
	t.Parallel()
	challenged := func(reason warder.Reason, oauth string) outcome {
		return outcome{"IAM-06", warder.Challenge, warder.CodeUnauthenticated, reason, oauth}
	}
	badProof := func(reason warder.Reason) outcome { return challenged(reason, "invalid_dpop_proof") }
	required := func(c *Config, _ *Deps) { c.DPoP.Policy = PolicyRequired }
	// One client with a good token and proof; each case changes what is sent.
	tests := []struct {
		name   string
		change func(*Config, *Deps)
		x      func(*bench) *warder.Exchange
		want   outcome
	}{
		{"pass token with its proof", nil, func(b *bench) *warder.Exchange {
			token, p := bound(b)
			return proved(token, b.prove(p, "POST", filesURI, token, ""))
		}, passed()},
		{"pass bearer token where policy leaves it open", nil, func(b *bench) *warder.Exchange { return exchange("Bearer " + with(nil)(b)) }, passed()},
		{"pass bound token where policy requires it", required, func(b *bench) *warder.Exchange {
			token, p := bound(b)
			return proved(token, b.prove(p, "POST", filesURI, token, ""))
		}, passed()},
		{"pass scheme in lower case", nil, func(b *bench) *warder.Exchange {
			token, p := bound(b)
			x := proved(token, b.prove(p, "POST", filesURI, token, ""))
			x.Conn.Header["Authorization"] = []string{"dpop " + token}
			return x
		}, passed()},
		{"pass the Host header says something else", nil, func(b *bench) *warder.Exchange {
			token, p := bound(b)
			x := proved(token, b.prove(p, "POST", filesURI, token, ""))
			x.Conn.Host = "10.0.0.7:8080"
			return x
		}, passed()},
		{"pass an endpoint that is open under a strict policy", func(c *Config, _ *Deps) {
			c.DPoP.Policy, c.DPoP.Endpoints = PolicyRequired, map[string]string{"files": PolicyOptional}
		}, func(b *bench) *warder.Exchange { return exchange("Bearer " + with(nil)(b)) }, passed()},
		{"pass an issuer that is open under a strict policy", func(c *Config, _ *Deps) {
			c.DPoP.Policy, c.Issuers[1].DPoP = PolicyRequired, PolicyOptional
		}, func(b *bench) *warder.Exchange { return exchange("Bearer " + with(nil)(b)) }, passed()},
		{"deny stolen token as bearer", nil, func(b *bench) *warder.Exchange {
			token, _ := bound(b)
			return exchange("Bearer " + token)
		}, challenged("proof_required", "invalid_token")},
		{"deny stolen token with a proof of another key", nil, func(b *bench) *warder.Exchange {
			token, _ := bound(b)
			_, thief := bound(b)
			return proved(token, b.prove(thief, "POST", filesURI, token, ""))
		}, badProof("proof_key")},
		{"deny token without proof", nil, func(b *bench) *warder.Exchange {
			token, _ := bound(b)
			return proved(token)
		}, badProof("proof_missing")},
		{"deny two proofs", nil, func(b *bench) *warder.Exchange {
			token, p := bound(b)
			return proved(token, b.prove(p, "POST", filesURI, token, ""), b.prove(p, "POST", filesURI, token, ""))
		}, badProof("proof_ambiguous")},
		{"deny proof for another method", nil, func(b *bench) *warder.Exchange {
			token, p := bound(b)
			return proved(token, b.prove(p, "GET", filesURI, token, ""))
		}, badProof("proof_method")},
		{"deny proof for another server", nil, func(b *bench) *warder.Exchange {
			token, p := bound(b)
			return proved(token, b.prove(p, "POST", mailURI, token, ""))
		}, badProof("proof_url")},
		{"near_miss proof for the address behind the front", nil, func(b *bench) *warder.Exchange {
			token, p := bound(b)
			x := proved(token, b.prove(p, "POST", "http://10.0.0.7:8080/mcp/files", token, ""))
			x.Conn.Host = "10.0.0.7:8080"
			return x
		}, badProof("proof_url")},
		{"near_miss proof for a longer name", nil, func(b *bench) *warder.Exchange {
			token, p := bound(b)
			return proved(token, b.prove(p, "POST", filesURI+"2", token, ""))
		}, badProof("proof_url")},
		{"deny proof for another token", nil, func(b *bench) *warder.Exchange {
			token, p := bound(b)
			return proved(token, b.prove(p, "POST", filesURI, token+"x", ""))
		}, badProof("proof_token")},
		{"deny proof for no token", nil, func(b *bench) *warder.Exchange {
			token, p := bound(b)
			return proved(token, b.prove(p, "POST", filesURI, "", ""))
		}, badProof("proof_token")},
		{"deny proof that is too old", nil, func(b *bench) *warder.Exchange {
			token, p := bound(b)
			proof := b.prove(p, "POST", filesURI, token, "")
			b.clock.advance(jose.DefaultWindow + time.Second)
			return proved(token, proof)
		}, badProof("proof_time")},
		{"deny proof from the future", nil, func(b *bench) *warder.Exchange {
			p, err := jose.NewProver(func() time.Time { return b.clock.now().Add(jose.DefaultWindow + time.Second) })
			if err != nil {
				b.t.Fatal(err)
			}
			token := with(map[string]any{"cnf": map[string]any{"jkt": p.Thumbprint()}})(b)
			return proved(token, b.prove(p, "POST", filesURI, token, ""))
		}, badProof("proof_time")},
		{"near_miss a narrower window", func(c *Config, _ *Deps) { c.DPoP.Window = 30 * time.Second }, func(b *bench) *warder.Exchange {
			token, p := bound(b)
			proof := b.prove(p, "POST", filesURI, token, "")
			b.clock.advance(31 * time.Second)
			return proved(token, proof)
		}, badProof("proof_time")},
		{"deny proof changed after signing", nil, func(b *bench) *warder.Exchange {
			token, p := bound(b)
			a := strings.Split(b.prove(p, "POST", filesURI, token, ""), ".")
			c := strings.Split(b.prove(p, "POST", filesURI, token, ""), ".")
			return proved(token, a[0]+"."+c[1]+"."+a[2])
		}, badProof("proof_signature")},
		{"deny the access token as its own proof", nil, func(b *bench) *warder.Exchange {
			token, _ := bound(b)
			return proved(token, token)
		}, badProof("proof_malformed")},
		{"deny oversized proof", nil, func(b *bench) *warder.Exchange {
			token, _ := bound(b)
			return proved(token, strings.Repeat("a", jose.MaxProof+1))
		}, badProof("proof_malformed")},
		{"deny bearer token where policy requires a key", required, func(b *bench) *warder.Exchange {
			return exchange("Bearer " + with(nil)(b))
		}, challenged("token_not_bound", "invalid_token")},
		{"deny bearer token where the endpoint requires a key", func(c *Config, _ *Deps) {
			c.DPoP.Endpoints = map[string]string{"files": PolicyRequired}
		}, func(b *bench) *warder.Exchange { return exchange("Bearer " + with(nil)(b)) }, challenged("token_not_bound", "invalid_token")},
		{"deny bearer token where its issuer requires a key", func(c *Config, _ *Deps) {
			c.Issuers[1].DPoP = PolicyRequired
		}, func(b *bench) *warder.Exchange { return exchange("Bearer " + with(nil)(b)) }, challenged("token_not_bound", "invalid_token")},
		{"near_miss bearer token with a proof beside it", nil, func(b *bench) *warder.Exchange {
			token := with(nil)(b)
			_, p := bound(b)
			return proved(token, b.prove(p, "POST", filesURI, token, ""))
		}, challenged("token_not_bound", "invalid_token")},
		{"deny proof without the nonce", func(c *Config, _ *Deps) { c.DPoP.Nonce = true }, func(b *bench) *warder.Exchange {
			token, p := bound(b)
			return proved(token, b.prove(p, "POST", filesURI, token, ""))
		}, challenged("proof_nonce", "use_dpop_nonce")},
		{"near_miss proof with an invented nonce", func(c *Config, _ *Deps) { c.DPoP.Nonce = true }, func(b *bench) *warder.Exchange {
			token, p := bound(b)
			return proved(token, b.prove(p, "POST", filesURI, token, strings.Repeat("A", 32)))
		}, challenged("proof_nonce", "use_dpop_nonce")},
		{"deny proof without a digest where one is required", func(c *Config, _ *Deps) { c.DPoP.ContentDigest = true }, func(b *bench) *warder.Exchange {
			token, p := bound(b)
			return proved(token, b.prove(p, "POST", filesURI, token, ""))
		}, badProof("proof_without_digest")},
		{"dependency_killed nobody remembers proofs", func(_ *Config, d *Deps) { d.Replays = deadReplays{} }, func(b *bench) *warder.Exchange {
			token, p := bound(b)
			return proved(token, b.prove(p, "POST", filesURI, token, ""))
		}, outcome{Control: "IAM-06", Code: warder.CodeUnavailable, Reason: "control_unavailable"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, tt.change)
			x := tt.x(b)
			d := b.connect(x)
			if diff := cmp.Diff(tt.want, outcomeOf(d)); diff != "" {
				t.Errorf("outcome (-want +got):\n%s\ndetail: %s", diff, d.Detail)
			}
			if d.Control == "IAM-06" && d.Ask != nil && (d.Ask.Scheme != "DPoP" || len(d.Ask.Algorithms) == 0) {
				t.Errorf("challenge = %+v, want the scheme DPoP with algorithms", d.Ask)
			}
			if d.Ask != nil && (d.Ask.Error == "use_dpop_nonce") != (d.Ask.Nonce != "") {
				t.Errorf("challenge = %+v, want a nonce with use_dpop_nonce only", d.Ask)
			}
		})
	}
}

type deadReplays struct{}

func (deadReplays) Add(context.Context, string, time.Time) (bool, error) {
	return false, errors.New("connection refused")
}

func TestProofReplay(t *testing.T) {
	t.Parallel()
	shared := state.NewMemory(newClock().now)
	own := func(*Config, *Deps) {}
	together := func(_ *Config, d *Deps) { d.Replays = shared }
	for name, change := range map[string]func(*Config, *Deps){"in this process": own, "in a store": together} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, change)
			token, p := bound(b)
			proof := b.prove(p, "POST", filesURI, token, "")
			if d := b.connect(proved(token, proof)); d.Verdict != warder.Pass {
				t.Fatal(d)
			}
			for range 2 {
				if d := b.connect(proved(token, proof)); d.Reason != "proof_replayed" {
					t.Errorf("again: %+v, want proof_replayed", d)
				}
			}
			if d := b.connect(proved(token, b.prove(p, "POST", filesURI, token, ""))); d.Verdict != warder.Pass {
				t.Errorf("next proof: %+v", d)
			}
		})
	}
	t.Run("two gateways share the store", func(t *testing.T) {
		t.Parallel()
		store := state.NewMemory(newClock().now)
		a := newBench(t, func(_ *Config, d *Deps) { d.Replays = store })
		b := newBench(t, func(_ *Config, d *Deps) { d.Replays = store; d.Keys[otherIDP] = static(t, keysOfSigner(a.signer)) })
		token, p := bound(a)
		proof := a.prove(p, "POST", filesURI, token, "")
		if d := a.connect(proved(token, proof)); d.Verdict != warder.Pass {
			t.Fatal(d)
		}
		if d := b.connect(proved(token, proof)); d.Reason != "proof_replayed" {
			t.Errorf("at the other gateway: %+v, want proof_replayed", d)
		}
	})
	t.Run("two clients may choose the same id", func(t *testing.T) {
		t.Parallel()
		a, b := &jose.Proof{Thumbprint: "a", ID: "1"}, &jose.Proof{Thumbprint: "b", ID: "1"}
		if replayID(a) == replayID(b) {
			t.Error("one id for two proofs")
		}
	})
}

func TestMemoryReplays(t *testing.T) {
	t.Parallel()
	c := newClock()
	m := newMemoryReplays(time.Minute, c.now)
	add := func(id string, want bool) {
		t.Helper()
		if fresh, err := m.Add(t.Context(), id, c.now().Add(time.Minute)); fresh != want || err != nil {
			t.Errorf("%s: fresh = %v, %v, want %v", id, fresh, err, want)
		}
	}
	add("a", true)
	c.advance(59 * time.Second)
	add("a", false)
	add("b", true)
	c.advance(59 * time.Second) // a is over, b is not
	add("b", false)
	c.advance(3 * time.Minute)
	add("a", true)
	add("b", true)
	if fresh, err := m.Add(t.Context(), "c", c.now().Add(2*time.Minute)); fresh || err == nil {
		t.Errorf("an id for longer than is remembered: %v, %v", fresh, err)
	}
	var full error
	for i := range replayLimit + 2 {
		id := base64.RawURLEncoding.EncodeToString([]byte{byte(i), byte(i >> 8), byte(i >> 16)}) + "z" // one shard
		if _, err := m.Add(t.Context(), id, c.now()); err != nil {
			full = err
		}
	}
	if !errors.Is(full, errReplaysFull) {
		t.Errorf("at the bound: %v, want %v", full, errReplaysFull)
	}
}

func TestNonce(t *testing.T) {
	t.Parallel()
	key := make([]byte, 32)
	change := func(c *Config, d *Deps) { c.DPoP.Nonce, d.NonceKeys = true, [][]byte{key} }
	b := newBench(t, change)
	token, p := bound(b)
	d := b.connect(proved(token, b.prove(p, "POST", filesURI, token, "")))
	if d.Ask == nil || d.Ask.Nonce == "" {
		t.Fatalf("no nonce: %+v", d)
	}
	if got := b.connect(proved(token, b.prove(p, "POST", filesURI, token, d.Ask.Nonce))); got.Verdict != warder.Pass {
		t.Errorf("with the nonce: %+v", got)
	}
	x := proved(token, b.prove(p, "POST", filesURI, token, d.Ask.Nonce))
	if b.connect(x); x.Nonce != "" {
		t.Errorf("in its minute the nonce was renewed: %q", x.Nonce)
	}
	b.clock.advance(2 * time.Minute)
	x = proved(token, b.prove(p, "POST", filesURI, token, d.Ask.Nonce))
	if got := b.connect(x); got.Verdict != warder.Pass || x.Nonce == "" || x.Nonce == d.Ask.Nonce {
		t.Errorf("two minutes later: %+v, renewed to %q", got, x.Nonce)
	}
	next := x.Nonce
	x = proved(token, b.prove(p, "POST", filesURI, token, ""))
	if got := b.connect(x); got.Verdict == warder.Pass || x.Nonce != "" {
		t.Errorf("a refused proof got %q beside the challenge", x.Nonce)
	}
	replica := newBench(t, func(c *Config, dd *Deps) { change(c, dd); dd.Keys[otherIDP] = static(t, keysOfSigner(b.signer)) })
	if got := replica.connect(proved(token, b.prove(p, "POST", filesURI, token, d.Ask.Nonce))); got.Verdict != warder.Pass {
		t.Errorf("at another replica: %+v", got)
	}
	b.clock.advance(3 * time.Minute)
	if got := b.connect(proved(token, b.prove(p, "POST", filesURI, token, d.Ask.Nonce))); got.Reason != "proof_nonce" {
		t.Errorf("five minutes later: %+v, want proof_nonce", got)
	}
	if got := b.connect(proved(token, b.prove(p, "POST", filesURI, token, next))); got.Verdict != warder.Pass {
		t.Errorf("with the second nonce, five minutes later: %+v", got)
	}
	stranger := newBench(t, func(c *Config, dd *Deps) { c.DPoP.Nonce = true; dd.Keys[otherIDP] = static(t, keysOfSigner(b.signer)) })
	if got := stranger.connect(proved(token, b.prove(p, "POST", filesURI, token, d.Ask.Nonce))); got.Reason != "proof_nonce" {
		t.Errorf("at a gateway with another key: %+v, want proof_nonce", got)
	}
}

func TestContentDigest(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *Config, _ *Deps) { c.DPoP.ContentDigest = true })
	token, p := bound(b)
	body := []byte(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
	for name, tt := range map[string]struct {
		body []byte
		want warder.Reason
	}{"the body": {body, ""}, "another body": {[]byte(`{"jsonrpc":"2.0","id":1,"method":"ping"}`), "proof_content"}} {
		proof, err := p.ProofOf("POST", filesURI, token, "", sha256.Sum256(body))
		if err != nil {
			t.Fatal(err)
		}
		x := proved(token, proof)
		if d := b.connect(x); d.Verdict != warder.Pass {
			t.Fatal(d)
		}
		x.Inbound = &warder.Message{Raw: tt.body}
		d, err := b.layer.Request[0].Intercept(t.Context(), x)
		if err != nil || d.Reason != tt.want {
			t.Errorf("%s: %+v, %v, want %q", name, d, err, tt.want)
		}
	}
}

// A certificate authority of a test.
type testCA struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pem  []byte
}

func TestBoundCertificate(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	mine, other := ca.issue(t, leaf{name: "mine"}), ca.issue(t, leaf{name: "other"})
	b := newBench(t, nil)
	token := with(map[string]any{"cnf": map[string]any{"x5t#S256": certThumbprint(mine.Raw)}})(b)
	for _, tt := range []struct {
		name string
		tls  *tls.ConnectionState
		want warder.Reason
	}{
		{"its certificate", &tls.ConnectionState{PeerCertificates: []*x509.Certificate{mine}}, ""},
		{"another certificate", &tls.ConnectionState{PeerCertificates: []*x509.Certificate{other}}, "certificate_mismatch"},
		{"its certificate in the chain only", &tls.ConnectionState{PeerCertificates: []*x509.Certificate{other, mine}}, "certificate_mismatch"},
		{"no certificate", &tls.ConnectionState{}, "certificate_missing"},
		{"plaintext", nil, "certificate_missing"},
	} {
		x := exchange("Bearer " + token)
		x.Conn.TLS = tt.tls
		if d := b.connect(x); d.Reason != tt.want {
			t.Errorf("%s: %+v, want %q", tt.name, d, tt.want)
		}
		if tt.want == "" && (x.Principal.Transport != "mtls" || x.Principal.Binding != certThumbprint(mine.Raw)) {
			t.Errorf("%s: principal = %+v", tt.name, x.Principal)
		}
	}
	x := proved(token)
	x.Conn.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{mine}}
	if d := b.connect(x); d.Reason != "token_not_bound" {
		t.Errorf("under the scheme DPoP: %+v, want token_not_bound", d)
	}
}

func TestProofAddress(t *testing.T) {
	t.Parallel()
	c := &senderConstraint{base: "https://gate.example/warder"}
	for path, want := range map[string]string{
		"/mcp/files":     "https://gate.example/warder/mcp/files",
		"/mcp/files/sse": "https://gate.example/warder/mcp/files/sse",
		"/mcp/a b":       "https://gate.example/warder/mcp/a%20b",
		"/mcp/../x":      "https://gate.example/warder/x",
	} {
		if got := c.address(path); got != want {
			t.Errorf("%q: %q, want %q", path, got, want)
		}
	}
}

func BenchmarkDPoP(b *testing.B) {
	bench := newBench(b, nil)
	bench.clock.t = time.Now()
	token, p := bound(bench)
	proofs := make([]string, 0, 4096)
	for range cap(proofs) {
		proofs = append(proofs, bench.prove(p, http.MethodPost, filesURI, token, ""))
	}
	x := proved(token, proofs[0])
	run := func(b *testing.B) {
		b.Helper()
		i := 0
		for b.Loop() {
			if i == len(proofs) {
				i = 0
				b.StopTimer()
				bench.clock.advance(0)
				for _, ic := range bench.layer.Connect {
					if s, ok := ic.(*senderConstraint); ok {
						s.replays = newMemoryReplays(2*jose.DefaultWindow+2*time.Second, bench.clock.now)
					}
				}
				b.StartTimer()
			}
			x.Conn.Header["Dpop"][0] = proofs[i]
			i++
			x.Principal = nil
			for _, ic := range bench.layer.Connect {
				if d, err := ic.Intercept(b.Context(), x); err != nil || d.Verdict != warder.Pass {
					b.Fatal(d, err)
				}
			}
		}
	}
	b.ReportAllocs()
	run(b)
}

// jsonOf renders a value for a message.
func jsonOf(tb testing.TB, v any) []byte {
	tb.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

func newKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}
