package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/state"
)

// senderConstraint accepts a token that is bound to a key only from whoever shows that key on this very
// request: by a DPoP proof, or by the certificate of the connection. Where policy requires it, it refuses
// tokens that are bound to none.
// Control IAM-06; RFC 9449 sections 4.3, 7, 9 and 11.1, RFC 8705 section 3. Phase Connect, after IAM-05 has
// made the principal. One signature verification per request.
type senderConstraint struct {
	cfg     DPoP
	base    string            // normal form of base_url
	issuers map[string]string // policy of an issuer, where it has its own
	replays Replays
	nonces  *jose.Nonces // nil unless proofs must carry one
	keys    *jose.ProofKeys
	now     func() time.Time
	ask     asker
}

var _ warder.Interceptor = (*senderConstraint)(nil)

func newSenderConstraint(cfg Config, deps Deps, ask asker) (*senderConstraint, error) {
	c := &senderConstraint{
		cfg: cfg.DPoP, issuers: map[string]string{}, replays: deps.Replays, keys: jose.NewProofKeys(), now: deps.Now, ask: ask,
	}
	for _, is := range cfg.accepted() {
		if is.DPoP != "" {
			c.issuers[is.URL] = is.DPoP
		}
	}
	if c.cfg.Window == 0 {
		c.cfg.Window = jose.DefaultWindow
	}
	if c.replays == nil {
		c.replays = newMemoryReplays(2*c.cfg.Window+2*time.Second, deps.Now)
	}
	if cfg.BaseURL != "" {
		base, err := jose.NormalizeURL(cfg.BaseURL)
		if err != nil {
			return nil, fmt.Errorf("base_url: %w", err)
		}
		c.base = strings.TrimSuffix(base, "/")
	}
	if !c.cfg.Nonce {
		return c, nil
	}
	keys := deps.NonceKeys
	if len(keys) == 0 {
		own := make([]byte, sha256.Size)
		_, _ = rand.Read(own) // never fails since Go 1.24
		keys = [][]byte{own}
	}
	var err error
	c.nonces, err = jose.NewNonces(keys...)
	return c, err
}

// Control returns IAM-06.
func (*senderConstraint) Control() warder.ControlID { return "IAM-06" }

// Intercept asks for what the token is bound to.
func (c *senderConstraint) Intercept(ctx context.Context, x *warder.Exchange) (warder.Decision, error) {
	p := x.Principal
	if p == nil || x.Door == warder.DoorStdio {
		return warder.Continue(), nil // no principal, no entry: ZTA-01 refuses
	}
	shown := shownBy(x)
	if shown.token == "" {
		return warder.Continue(), nil // the certificate itself is the credential: IAM-01
	}
	switch {
	case p.Transport == transportDPoP && !shown.dpop:
		// RFC 9449 section 7.2: a bound token must not be accepted as a bearer token.
		return c.refuse(x, "invalid_token", "proof_required", "token is bound to a key whose possession was not proved"), nil
	case p.Transport == transportDPoP:
		return c.proof(ctx, x, p, shown.token)
	case shown.dpop:
		return c.refuse(x, "invalid_token", "token_not_bound", "token is shown with a proof but is bound to no key of a proof"), nil
	case p.Transport == transportMTLS:
		return c.certificate(x, p), nil
	case c.required(x.Endpoint, p.Issuer):
		return c.refuse(x, "invalid_token", "token_not_bound", "policy requires tokens that are bound to a key"), nil
	default:
		return warder.Continue(), nil
	}
}

// required reports whether tokens of the issuer must be bound to a key at the endpoint. The endpoint's
// policy counts before the issuer's, and that before the gateway's.
func (c *senderConstraint) required(endpoint, issuer string) bool {
	policy, ok := c.cfg.Endpoints[endpoint]
	if !ok {
		policy, ok = c.issuers[issuer]
	}
	if !ok {
		policy = c.cfg.Policy
	}
	return policy == PolicyRequired
}

// proof checks the one DPoP proof of the request, and that it was not seen before.
func (c *senderConstraint) proof(ctx context.Context, x *warder.Exchange, p *warder.Principal, token string) (warder.Decision, error) {
	values := x.Conn.Header["Dpop"]
	switch len(values) {
	case 0:
		return c.refuse(x, "invalid_dpop_proof", "proof_missing", ""), nil
	case 1:
	default: // RFC 9449 section 4.3, step 1
		return c.refuse(x, "invalid_dpop_proof", "proof_ambiguous", "more than one DPoP header"), nil
	}
	now, sum := c.now(), jose.TokenSum(token)
	proof, err := jose.CheckProof(values[0], jose.ProofRule{
		Method: x.Conn.Method, URL: c.address(x.Conn.Path), TokenSum: &sum, Thumbprint: p.Binding,
		Algorithms: c.cfg.Algorithms, Now: now, Window: c.cfg.Window, Nonces: c.nonces, Keys: c.keys,
	})
	if err != nil {
		return c.refused(x, err), nil
	}
	if c.cfg.ContentDigest && proof.Content == "" {
		return c.refuse(x, "invalid_dpop_proof", "proof_without_digest", "policy requires content_digest"), nil
	}
	// RFC 9449 section 11.1: remember jti as long as the proof could be accepted. Error: nobody knows.
	fresh, err := c.replays.Add(ctx, replayID(proof), proof.Until)
	if err != nil {
		return warder.Decision{}, fmt.Errorf("remember proof: %w", err)
	}
	if !fresh {
		return c.refuse(x, "invalid_dpop_proof", "proof_replayed", "the proof was used before"), nil
	}
	if c.nonces != nil {
		x.Nonce = c.nonces.Renew(proof.Nonce, now)
	}
	return warder.Continue(), nil
}

// replayID names a proof: a hash of key and jti, because jti is the client's own text.
func replayID(p *jose.Proof) string {
	var text [512]byte // holds every thumbprint and id
	sum := sha256.Sum256(append(append(append(text[:0], p.Thumbprint...), 0), p.ID...))
	var id [len(state.ProofID) + 43]byte
	copy(id[:], state.ProofID)
	base64.RawURLEncoding.Encode(id[len(state.ProofID):], sum[:])
	return string(id[:])
}

// address is the public address of the request. It is made from base_url and the path, never from the
// Host header, which whoever forwards a stolen proof could choose.
func (c *senderConstraint) address(path string) string {
	for i := range len(path) {
		switch b := path[i]; {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9', b == '/', b == '-', b == '_', b == '~':
		default:
			normal, err := jose.NormalizeURL(c.base + (&url.URL{Path: path}).EscapedPath())
			if err != nil {
				return "" // which no proof is for
			}
			return normal
		}
	}
	return c.base + path
}

// certificate compares the certificate of the connection with the one the token is bound to (RFC 8705
// section 3): that the peer holds its key, TLS has proved.
func (c *senderConstraint) certificate(x *warder.Exchange, p *warder.Principal) warder.Decision {
	if x.Conn.TLS == nil || len(x.Conn.TLS.PeerCertificates) == 0 {
		return c.ask.refuse(x, warder.CodeUnauthenticated, "invalid_token", "certificate_missing",
			"token is bound to a client certificate, and the connection has none")
	}
	if subtle.ConstantTimeCompare([]byte(certThumbprint(x.Conn.TLS.PeerCertificates[0].Raw)), []byte(p.Binding)) != 1 {
		return c.ask.refuse(x, warder.CodeUnauthenticated, "invalid_token", "certificate_mismatch",
			"token is bound to another client certificate")
	}
	return warder.Continue()
}

// certThumbprint is x5t#S256 of a certificate (RFC 8705 section 3.1).
func certThumbprint(der []byte) string {
	sum := sha256.Sum256(der)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// refused maps what is wrong with a proof to a stable reason.
func (c *senderConstraint) refused(x *warder.Exchange, err error) warder.Decision {
	if errors.Is(err, jose.ErrProofNonce) {
		return c.refuse(x, "use_dpop_nonce", "proof_nonce", err.Error())
	}
	for _, m := range []struct {
		err    error
		reason warder.Reason
	}{
		{jose.ErrProofKey, "proof_key"},
		{jose.ErrProofMethod, "proof_method"},
		{jose.ErrProofURL, "proof_url"},
		{jose.ErrProofTime, "proof_time"},
		{jose.ErrProofToken, "proof_token"},
		{jose.ErrProofSignature, "proof_signature"},
	} {
		if errors.Is(err, m.err) {
			return c.refuse(x, "invalid_dpop_proof", m.reason, err.Error())
		}
	}
	return c.refuse(x, "invalid_dpop_proof", "proof_malformed", err.Error())
}

// refuse challenges for a proof and hands out the nonce that it must carry.
func (c *senderConstraint) refuse(x *warder.Exchange, oauthError string, reason warder.Reason, detail string) warder.Decision {
	d := c.ask.refuse(x, warder.CodeUnauthenticated, oauthError, reason, detail)
	d.Ask.Scheme, d.Ask.Algorithms = "DPoP", c.ask.algorithms()
	if c.nonces != nil {
		d.Ask.Nonce = c.nonces.Make(c.now())
	}
	return d
}

// contentDigest compares the digest that the proof states with the body, where policy requires one. The
// proof itself was verified in phase Connect, on the same exchange.
// Control IAM-06, stricter form. Phase Request.
type contentDigest struct{ ask asker }

var _ warder.Interceptor = (*contentDigest)(nil)

// Control returns IAM-06.
func (*contentDigest) Control() warder.ControlID { return "IAM-06" }

// Intercept judges the client's message as it came. A message of a batch has no body of its own and is refused.
func (c *contentDigest) Intercept(_ context.Context, x *warder.Exchange) (warder.Decision, error) {
	values := x.Conn.Header["Dpop"]
	if x.Principal == nil || x.Principal.Transport != transportDPoP || x.Door == warder.DoorStdio || x.Inbound == nil {
		return warder.Continue(), nil
	}
	content := ""
	if len(values) == 1 {
		content = jose.ProofContent(values[0])
	}
	if content != jose.ContentDigest(sha256.Sum256(x.Inbound.Raw)) {
		d := c.ask.refuse(x, warder.CodeUnauthenticated, "invalid_dpop_proof", "proof_content", jose.ErrProofContent.Error())
		d.Ask.Scheme, d.Ask.Algorithms = "DPoP", c.ask.algorithms()
		return d, nil
	}
	return warder.Continue(), nil
}
