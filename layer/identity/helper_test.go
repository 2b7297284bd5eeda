package identity

import (
	"context"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/wardertest/issuer"
)

const (
	base       = "https://gate.example"
	filesURI   = base + "/mcp/files"
	mailURI    = base + "/mcp/mail"
	groupURI   = base + "/mcp/office"
	issuerURL  = "https://idp.example/tenant"
	otherIDP   = "https://other.example"
	testScopes = "files:read"
)

// A clock stands still until told.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// A bench is a layer with an issuer it trusts.
type bench struct {
	t      testing.TB
	clock  *clock
	issuer *issuer.Issuer
	signer *jose.Signer // signs arbitrary claims with the trusted key of otherIDP
	layer  warder.Layer
	gen    uint64
}

func servers() map[string]*warder.Server {
	return map[string]*warder.Server{
		"files": {Name: "files", Resource: filesURI},
		"mail":  {Name: "mail", Resource: mailURI},
	}
}

func resource(endpoint string) (string, bool) {
	if s, ok := servers()[endpoint]; ok {
		return s.Resource, true
	}
	return groupURI, endpoint == "office"
}

func newBench(tb testing.TB, change func(*Config, *Deps)) *bench {
	tb.Helper()
	b := &bench{t: tb, clock: newClock()}
	var err error
	b.issuer, err = issuer.New(issuer.Config{URL: issuerURL, Dir: filepath.Join(tb.TempDir(), "issuer"), Now: b.clock.now})
	if err != nil {
		tb.Fatal(err)
	}
	if b.signer, err = jose.NewSigner(); err != nil {
		tb.Fatal(err)
	}
	cfg := Config{
		BaseURL: base, ScopesSupported: []string{testScopes},
		Issuers: []Issuer{{URL: issuerURL}, {URL: otherIDP, GroupPrefix: "other/"}},
	}
	deps := Deps{
		Resource:   resource,
		Keys:       map[string]Keys{issuerURL: static(tb, b.issuer.Keys), otherIDP: static(tb, keysOfSigner(b.signer))},
		Generation: func() uint64 { return b.gen },
		User:       func() (string, error) { return "ada", nil },
		Now:        b.clock.now,
	}
	if change != nil {
		change(&cfg, &deps)
	}
	if b.layer, err = New(cfg, deps); err != nil {
		tb.Fatal(err)
	}
	return b
}

func static(tb testing.TB, keys func() (*jose.KeySet, error)) *jose.Source {
	tb.Helper()
	set, err := keys()
	if err != nil {
		tb.Fatal(err)
	}
	return jose.Static(set)
}

func keysOfSigner(s *jose.Signer) func() (*jose.KeySet, error) {
	return func() (*jose.KeySet, error) {
		doc, err := s.KeySet()
		if err != nil {
			return nil, err
		}
		return jose.ParseKeySet(doc)
	}
}

func (b *bench) mint(c issuer.Claims) string {
	b.t.Helper()
	if c.Subject == "" {
		c.Subject = "alice"
	}
	token, err := b.issuer.Mint(c)
	if err != nil {
		b.t.Fatal(err)
	}
	return token
}

// claims returns good claims of otherIDP for the files server, changed.
func (b *bench) claims(change map[string]any) map[string]any {
	now := b.clock.now().Unix()
	c := map[string]any{
		"iss": otherIDP, "sub": "bob", "aud": filesURI, "iat": now, "exp": now + 600, "jti": "t-1",
	}
	for k, v := range change {
		if v == nil {
			delete(c, k)
			continue
		}
		c[k] = v
	}
	return c
}

func (b *bench) sign(typ string, claims map[string]any) string {
	b.t.Helper()
	token, err := b.signer.Sign(typ, claims)
	if err != nil {
		b.t.Fatal(err)
	}
	return token
}

// exchange is a message to the files server from a loopback peer.
func exchange(authorization ...string) *warder.Exchange {
	return &warder.Exchange{
		Door: warder.DoorHTTP, Endpoint: "files", Server: servers()["files"],
		Conn: warder.Conn{
			Peer: netip.MustParseAddrPort("127.0.0.1:40000"), Method: http.MethodPost, Path: "/mcp/files",
			Header: http.Header{"Authorization": authorization},
		},
	}
}

// at moves the exchange to another endpoint.
func at(x *warder.Exchange, endpoint string) *warder.Exchange {
	x.Endpoint, x.Server = endpoint, servers()[endpoint]
	return x
}

// without takes a control out of the layer, as the configuration can.
func (b *bench) without(id warder.ControlID) {
	b.layer.Connect = slices.DeleteFunc(slices.Clone(b.layer.Connect), func(ic warder.Interceptor) bool { return ic.Control() == id })
}

// connect runs the layer as the runner does: in order, until one refuses; an error denies.
func (b *bench) connect(x *warder.Exchange) warder.Decision {
	for _, ic := range b.layer.Connect {
		d, err := ic.Intercept(context.Background(), x)
		if err != nil {
			d = warder.Refuse(warder.CodeUnavailable, "control_unavailable", err.Error())
		}
		if d.Verdict != warder.Pass {
			d.Control = ic.Control()
			return d
		}
	}
	return warder.Continue()
}

// outcome is what a case looks at.
type outcome struct {
	Control warder.ControlID
	Verdict warder.Verdict
	Code    warder.Code
	Reason  warder.Reason
	Error   string // RFC 6750 error code of the challenge
}

func outcomeOf(d warder.Decision) outcome {
	o := outcome{Control: d.Control, Verdict: d.Verdict, Code: d.Code, Reason: d.Reason}
	if d.Ask != nil {
		o.Error = d.Ask.Error
	}
	return o
}

func passed() outcome { return outcome{Verdict: warder.Pass} }

func invalid(reason warder.Reason) outcome {
	return outcome{"IAM-05", warder.Challenge, warder.CodeUnauthenticated, reason, "invalid_token"}
}
