package identity

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/secret"
	"github.com/warder-mcp/warder/internal/sigs"
	"github.com/warder-mcp/warder/wire"
)

// Signatures says whose messages must be signed and whose answers are (control SGN-01).
type Signatures struct {
	Peers       []SignaturePeer `yaml:"peers"`        // keys of those who sign
	RequiredFor []string        `yaml:"required_for"` // client ids, SPIFFE ids and names of registered agents whose messages must be signed; "*": everybody
	Endpoints   []string        `yaml:"endpoints"`    // endpoints whose messages must be signed, whoever sends them
	Window      time.Duration   `yaml:"window"`       // how old a signature may be, at most 5m; zero means 1m
	Answers     []string        `yaml:"answers"`      // client ids, SPIFFE ids and names of registered agents whose answers Warder signs; "*": everybody
	Servers     []string        `yaml:"servers"`      // servers to which Warder signs its requests; "*": every one at an HTTP address
	Key         SignatureKey    `yaml:"key"`          // Warder's own key, for answers and requests
}

// A SignaturePeer is one who signs.
type SignaturePeer struct {
	ID      string     `yaml:"id"`      // keyid of its signatures
	Public  secret.Ref `yaml:"public"`  // its public key in PEM, ed25519 or P-256
	Callers []string   `yaml:"callers"` // client ids, SPIFFE ids and names of registered agents that may sign with it
}

// A SignatureKey is a key that Warder signs with.
type SignatureKey struct {
	ID      string     `yaml:"id"`      // keyid of its signatures
	Private secret.Ref `yaml:"private"` // private key in PEM (PKCS #8), ed25519 or P-256
}

// Bounds of signatures.
const (
	signatureWindow    = time.Minute
	maxSignatureWindow = 5 * time.Minute
	signatureSkew      = 5 * time.Second
)

func (s Signatures) check() error {
	var err error
	if s.Window < 0 || s.Window > maxSignatureWindow {
		err = fmt.Errorf("signatures.window: %v is not between 0 and %v", s.Window, maxSignatureWindow)
	}
	for i, p := range s.Peers {
		if p.ID == "" || len(p.ID) > 128 || len(p.Callers) == 0 {
			err = errors.Join(err, fmt.Errorf("signatures.peers[%d]: set id and callers", i))
		}
		if slices.ContainsFunc(s.Peers[:i], func(o SignaturePeer) bool { return o.ID == p.ID }) {
			err = errors.Join(err, fmt.Errorf("signatures.peers[%d]: id %q stands twice", i, p.ID))
		}
		if fault := p.Public.Validate(); fault != nil {
			err = errors.Join(err, fmt.Errorf("signatures.peers[%d].public: %w", i, fault))
		}
	}
	if len(s.Answers)+len(s.Servers) > 0 && s.Key.ID == "" {
		err = errors.Join(err, errors.New("signatures.answers, signatures.servers: set key.id and key.private"))
	}
	if s.Key.ID != "" {
		if fault := s.Key.Private.Validate(); fault != nil {
			err = errors.Join(err, fmt.Errorf("signatures.key.private: %w", fault))
		}
	}
	return err
}

// signatures is what both halves of SGN-01 share.
type signatures struct {
	cfg      Config
	window   time.Duration
	keys     map[string]sigs.Key
	callers  map[string][]string // by key id
	replays  Replays
	resource func(endpoint string) (string, bool)
	now      func() time.Time
}

// on reports whether anything is to be verified.
func (s Signatures) on() bool { return len(s.Peers)+len(s.RequiredFor)+len(s.Endpoints) > 0 }

// newSignatures reads the keys of the peers.
func newSignatures(cfg Config, deps Deps) (*signatures, error) {
	c := cfg.Signatures
	s := &signatures{
		cfg: cfg, window: c.Window, keys: map[string]sigs.Key{}, callers: map[string][]string{},
		replays: deps.Replays, resource: deps.Resource, now: deps.Now,
	}
	if s.window == 0 {
		s.window = signatureWindow
	}
	if s.replays == nil {
		s.replays = newMemoryReplays(s.window+signatureSkew, deps.Now)
	}
	for _, p := range c.Peers {
		text, err := p.Public.Read(context.Background())
		if err != nil {
			return nil, fmt.Errorf("signatures: key %s: %w", p.ID, err)
		}
		key, err := sigs.ParseKey(p.ID, text.Bytes())
		if err != nil {
			return nil, fmt.Errorf("signatures: key %s: %w", p.ID, err)
		}
		s.keys[p.ID], s.callers[p.ID] = key, p.Callers
	}
	return s, nil
}

func (s *signatures) key(id string) (sigs.Key, bool) {
	k, ok := s.keys[id]
	return k, ok
}

// isCaller reports whether the principal is one of those named.
func isCaller(p *warder.Principal, names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool {
		return n == "*" || n == p.Client || n == p.Workload || p.Registered != nil && n == p.Registered.Name
	})
}

// required reports whether the messages of the exchange must be signed.
func (s *signatures) required(x *warder.Exchange) bool {
	return x.Principal == nil || isCaller(x.Principal, s.cfg.Signatures.RequiredFor) || slices.Contains(s.cfg.Signatures.Endpoints, x.Endpoint)
}

// accept binds a good signature to the caller and makes sure that it is used once.
func (s *signatures) accept(ctx context.Context, x *warder.Exchange, keyID, nonce string, until time.Time) (warder.Decision, error) {
	if !isCaller(x.Principal, s.callers[keyID]) {
		return refuseSignature("signature_of_another", "key "+keyID+" is not one of the caller"), nil
	}
	fresh, err := s.replays.Add(ctx, "signature|"+keyID+"|"+nonce, until.Add(signatureSkew))
	if err != nil {
		return warder.Decision{}, fmt.Errorf("remember signature: %w", err) // the runner denies
	}
	if !fresh {
		return refuseSignature("signature_replayed", "nonce was used before"), nil
	}
	return warder.Continue(), nil
}

func refuseSignature(reason warder.Reason, detail string) warder.Decision {
	return warder.Refuse(warder.CodeDenied, reason, detail).Tell("The message is not signed as it must be.")
}

// reasonOf maps an error of verification to a stable reason.
func reasonOf(err error) warder.Reason {
	for _, m := range []struct {
		err    error
		reason warder.Reason
	}{
		{sigs.ErrStale, "signature_stale"},
		{sigs.ErrDigest, "signature_digest"},
		{sigs.ErrUncovered, "signature_uncovered"},
		{sigs.ErrComponent, "signature_uncovered"},
		{sigs.ErrSignature, "signature_mismatch"},
		{sigs.ErrUnsigned, "signature_missing"},
	} {
		if errors.Is(err, m.err) {
			return m.reason
		}
	}
	return "signature_malformed"
}

// signedHeaders verifies the HTTP message signature of a request: method, target, credentials and the
// digest of the body. Control SGN-01, first part; RFC 9421 section 3.2. Phase Connect, when the
// principal is known.
type signedHeaders struct{ *signatures }

var _ warder.Interceptor = signedHeaders{}

// Control returns SGN-01.
func (signedHeaders) Control() warder.ControlID { return "SGN-01" }

// Intercept verifies a signature that is there. One that is missing is for signedMessage to judge,
// unless no message will follow.
func (s signedHeaders) Intercept(ctx context.Context, x *warder.Exchange) (warder.Decision, error) {
	if x.Door == warder.DoorStdio || x.Principal == nil {
		return warder.Continue(), nil // without a principal ZTA-01 refuses
	}
	posted := x.Conn.Method == http.MethodPost
	if len(x.Conn.Header["Signature-Input"]) == 0 {
		if !posted && s.required(x) {
			return refuseSignature("signature_missing", "the request is not signed"), nil
		}
		return warder.Continue(), nil
	}
	target := s.cfg.BaseURL + x.Conn.Path
	if x.Conn.Query != "" {
		target += "?" + x.Conn.Query
	}
	rules := sigs.Rules{Cover: []string{"@method", "@target-uri", "authorization", "dpop"}, Window: s.window, Skew: signatureSkew}
	if posted {
		rules.Cover = append(rules.Cover, "content-digest")
	}
	v, err := sigs.Verify(&sigs.Message{Method: x.Conn.Method, TargetURI: target, Header: x.Conn.Header}, rules, s.key, s.now())
	switch {
	case errors.Is(err, sigs.ErrUnsigned) && !s.required(x):
		return warder.Continue(), nil // somebody else's signature, for somebody else
	case err != nil:
		return refuseSignature(reasonOf(err), err.Error()), nil
	}
	return s.accept(ctx, x, v.KeyID, v.Nonce, v.Until)
}

// signedMessage checks the body against the digest that was signed, or else the envelope in _meta, and
// refuses what must be signed and is not.
// Control SGN-01, second part; RFC 9530 section 2. Phase Request, on the client's own bytes.
type signedMessage struct{ *signatures }

var _ warder.Interceptor = signedMessage{}

// Control returns SGN-01.
func (signedMessage) Control() warder.ControlID { return "SGN-01" }

// Intercept judges one message.
func (s signedMessage) Intercept(ctx context.Context, x *warder.Exchange) (warder.Decision, error) {
	m := x.Inbound
	if m == nil || x.Principal == nil {
		return refuseSignature("signature_missing", "no message or no caller"), nil
	}
	signed := false
	if x.Door != warder.DoorStdio && len(x.Conn.Header["Signature-Input"]) > 0 {
		if err := sigs.CheckDigest(x.Conn.Header["Content-Digest"], m.Raw); err != nil && (s.required(x) || len(x.Conn.Header["Content-Digest"]) > 0) {
			return refuseSignature(reasonOf(err), err.Error()), nil
		}
		signed = true // signedHeaders has seen it, and has refused an unknown key where one is required
	}
	if !sigs.Signed(m) {
		if !signed && s.required(x) {
			return refuseSignature("signature_missing", "neither headers nor _meta sign the message"), nil
		}
		return warder.Continue(), nil
	}
	audience, known := s.resource(x.Endpoint) // that of the group, where the peer spoke to a group
	if !known {
		audience = s.cfg.Resource(x.Endpoint)
	}
	check := sigs.Check{Keys: s.key, Window: s.window, Skew: signatureSkew, Audience: audience}
	e, err := check.Verify(m, s.now())
	switch {
	case errors.Is(err, sigs.ErrUnsigned) && !s.required(x):
		return warder.Continue(), nil
	case err != nil:
		return refuseSignature(reasonOf(err), err.Error()), nil
	}
	return s.accept(ctx, x, e.KeyID, e.Nonce, e.Until)
}

// SignerDeps are what [NewSigner] needs from outside.
type SignerDeps struct {
	// Limits are those of messages, which are decoded again when they have been signed.
	Limits wire.Limits
	// Now is the clock; nil for time.Now.
	Now func() time.Time
}

// NewSigner builds the layer "signer", which signs answers (control SGN-01). It belongs first in the
// path, so that it is last on the way out and nothing changes what it signed. Without a key it has no
// controls.
func NewSigner(cfg Config, deps SignerDeps) (warder.Layer, error) {
	layer := warder.Layer{Name: "signer"}
	if len(cfg.Signatures.Answers) == 0 {
		return layer, nil
	}
	if err := cfg.Signatures.check(); err != nil {
		return layer, fmt.Errorf("signer: %w", err)
	}
	text, err := cfg.Signatures.Key.Private.Read(context.Background())
	if err != nil {
		return layer, fmt.Errorf("signer: %w", err)
	}
	signer, err := sigs.NewSigner(cfg.Signatures.Key.ID, text.Bytes())
	if err != nil {
		return layer, fmt.Errorf("signer: %w", err)
	}
	a := &answers{signer: signer, callers: cfg.Signatures.Answers, lifetime: cfg.Signatures.Window, deps: deps}
	if a.lifetime == 0 {
		a.lifetime = signatureWindow
	}
	if a.deps.Now == nil {
		a.deps.Now = time.Now
	}
	layer.Response = []warder.Interceptor{a}
	return layer, nil
}

// RequestSigner returns what signs Warder's requests to a server (control SGN-01, towards servers); nil if
// they are not to be signed.
func (c Config) RequestSigner(server string, now func() time.Time) (func(*http.Request) error, error) {
	s := &c.Signatures
	if !slices.Contains(s.Servers, server) && !slices.Contains(s.Servers, "*") {
		return nil, nil
	}
	text, err := s.Key.Private.Read(context.Background())
	if err != nil {
		return nil, fmt.Errorf("signer: %w", err)
	}
	signer, err := sigs.NewSigner(s.Key.ID, text.Bytes())
	if err != nil {
		return nil, fmt.Errorf("signer: %w", err)
	}
	return func(r *http.Request) error { return signer.SignRequest(r, now()) }, nil
}

// answers signs what goes to the client, one message at a time, bound to the request it answers.
// Control SGN-01, third part. Phase Response, last.
type answers struct {
	signer   *sigs.Signer
	callers  []string
	lifetime time.Duration
	deps     SignerDeps
}

var _ warder.Interceptor = (*answers)(nil)

// Control returns SGN-01.
func (*answers) Control() warder.ControlID { return "SGN-01" }

// Intercept puts the envelope into the message. Errors of JSON-RPC have no place for one.
func (a *answers) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	m := x.Response
	if x.Principal == nil || m == nil || m.Kind == warder.KindError || !isCaller(x.Principal, a.callers) {
		return warder.Continue(), nil
	}
	var request *warder.Message
	if x.Inbound != nil && x.Inbound.IsCall() {
		request = x.Inbound
	}
	envelope, err := a.signer.Envelope(m, "", request, a.deps.Now(), a.lifetime)
	if err != nil {
		return warder.Decision{}, err // the runner denies
	}
	signed, err := sigs.Attach(m, envelope, a.deps.Limits)
	if err != nil {
		return warder.Decision{}, err
	}
	x.Response = signed
	return warder.Continue(), nil
}
