package jose

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Errors of DPoP proofs (RFC 9449). All but the last are answered with invalid_dpop_proof.
var (
	ErrProofMalformed = errors.New("proof is not a strict dpop+jwt")
	ErrProofKey       = errors.New("proof key is not one acceptable public key")
	ErrProofMethod    = errors.New("proof is for another method")
	ErrProofURL       = errors.New("proof is for another address")
	ErrProofTime      = errors.New("proof was not made just now")
	ErrProofToken     = errors.New("proof is for another token")
	ErrProofContent   = errors.New("proof is for another content")
	ErrProofSignature = errors.New("proof signature does not verify")
	ErrProofNonce     = errors.New("proof carries no nonce of ours that is current") // use_dpop_nonce
)

// Bounds of proofs.
const (
	MaxProof   = 4 << 10 // whole proof, in bytes: one key and seven short claims
	maxProofID = 256     // bytes of jti
	// maxProofSignature holds the signature of an RSA key of 8192 bits.
	maxProofSignature = 1 << 10
	DefaultWindow     = 5 * time.Minute // iat may differ by this from now, as the MCP conformance suite has it
	proofType         = "dpop+jwt"      // RFC 9449 section 4.2
)

// A ProofRule says what one proof must prove. The zero rule accepts nothing.
type ProofRule struct {
	Method     string        // HTTP method of the request, compared byte by byte
	URL        string        // address of the request as [NormalizeURL] writes it
	TokenSum   *[32]byte     // SHA-256 of the access token shown with the proof; nil at a token endpoint, where ath must be absent or is not looked at
	Thumbprint string        // the key must be this one (RFC 7638); empty: any key, and the caller looks at Proof.Thumbprint
	Algorithms []string      // accepted; empty: [ProofAlgorithms]
	Now        time.Time     // the moment of the request
	Window     time.Duration // how far iat may be from Now, both ways; 0: DefaultWindow
	Nonces     *Nonces       // the proof must carry a nonce of these; nil: any nonce or none
	Keys       *ProofKeys    // remembers keys between proofs; nil: nothing is remembered
	Content    *[32]byte     // SHA-256 of the body that content_digest must state; nil: not looked at
}

// A Proof is what a good proof says.
type Proof struct {
	ID         string    // jti
	Thumbprint string    // RFC 7638 SHA-256 thumbprint of the key, base64url
	Issued     time.Time // iat
	Until      time.Time // from then on the proof is too old for anybody: how long its id must be remembered
	Content    string    // content_digest, empty if it states none
	Nonce      string    // nonce; empty unless the rule asks for one
}

// ProofAlgorithms lists the signature algorithms of proofs: asymmetric ones only (RFC 9449 section 4.2).
func ProofAlgorithms() []string {
	return []string{"ES256", "EdDSA", "ES384", "ES512", "PS256", "RS256"}
}

// CheckProof verifies a DPoP proof as RFC 9449 section 4.3 says, with exactly one signature
// verification, which comes after everything that is cheaper. What it cannot know is left to the caller:
// that there was one DPoP header, and that Proof.ID was not seen before (section 11.1).
func CheckProof(raw string, rule ProofRule) (*Proof, error) {
	if len(raw) > MaxProof {
		return nil, fmt.Errorf("%w: larger than %d bytes", ErrProofMalformed, MaxProof)
	}
	head, rest, ok1 := strings.Cut(raw, ".")
	body, signature, ok2 := strings.Cut(rest, ".")
	if !ok1 || !ok2 || head == "" || body == "" || signature == "" || strings.Contains(signature, ".") {
		return nil, ErrProofMalformed
	}
	var space [maxProofSignature]byte
	if base64.RawURLEncoding.DecodedLen(len(signature)) > len(space) {
		return nil, ErrProofMalformed
	}
	n, err := decodeInto(space[:], signature)
	if err != nil {
		return nil, ErrProofMalformed
	}
	key, err := rule.Keys.of(head, rule.Algorithms)
	if err != nil {
		return nil, err
	}
	if rule.Thumbprint != "" && subtle.ConstantTimeCompare([]byte(rule.Thumbprint), []byte(key.thumbprint)) != 1 {
		return nil, fmt.Errorf("%w: the token is bound to another key", ErrProofKey)
	}
	claims, err := readProofClaims(body)
	if err != nil {
		return nil, fmt.Errorf("%w: claims: %w", ErrProofMalformed, err)
	}
	p, err := rule.claims(&claims)
	if err != nil {
		return nil, err
	}
	p.Thumbprint = key.thumbprint
	if err := key.verify(raw[:len(head)+1+len(body)], space[:n]); err != nil {
		return nil, err
	}
	return p, nil
}

// claims judges what the proof says.
func (r *ProofRule) claims(c *statedClaims) (*Proof, error) {
	window := r.Window
	if window <= 0 {
		window = DefaultWindow
	}
	switch {
	case c.id == "" || len(c.id) > maxProofID:
		return nil, fmt.Errorf("%w: jti is missing or longer than %d bytes", ErrProofMalformed, maxProofID)
	case c.method == "" || c.method != r.Method:
		return nil, ErrProofMethod
	case !r.sameURL(c.address):
		return nil, ErrProofURL
	case c.issued.IsZero() || c.issued.Before(r.Now.Add(-window)) || c.issued.After(r.Now.Add(window)):
		return nil, ErrProofTime
	}
	if err := r.token(c); err != nil {
		return nil, err
	}
	if r.Content != nil && c.content != ContentDigest(*r.Content) {
		return nil, ErrProofContent
	}
	p := &Proof{ID: c.id, Issued: c.issued, Until: c.issued.Add(window + time.Second), Content: c.content}
	if r.Nonces != nil {
		if r.Nonces.Check(c.nonce, r.Now) != nil {
			return nil, ErrProofNonce
		}
		p.Nonce = c.nonce
	}
	return p, nil
}

// token compares ath, which binds the proof to one access token (RFC 9449 section 4.2).
func (r *ProofRule) token(c *statedClaims) error {
	if r.TokenSum == nil {
		return nil
	}
	var want [43]byte
	base64.RawURLEncoding.Encode(want[:], r.TokenSum[:])
	if subtle.ConstantTimeCompare(want[:], []byte(c.token)) != 1 {
		return ErrProofToken
	}
	return nil
}

// sameURL compares htu with the address of the request after normalisation (RFC 9449 section 4.3, step 9).
func (r *ProofRule) sameURL(htu string) bool {
	if r.URL == "" || htu == "" {
		return false
	}
	if htu == r.URL {
		return true
	}
	normal, err := NormalizeURL(htu)
	return err == nil && normal == r.URL
}

// TokenSum is the hash of an access token: what ath states, and what Warder remembers of a token. It leaves no
// copy of a token of usual length behind.
func TokenSum(token string) [32]byte {
	var buf [2 << 10]byte
	if len(token) > len(buf) {
		return sha256.Sum256([]byte(token))
	}
	n := copy(buf[:], token)
	sum := sha256.Sum256(buf[:n])
	clear(buf[:n])
	return sum
}

// ContentDigest renders the digest of a body as content_digest states it: the sha-256 entry of
// Content-Digest (RFC 9530 section 2).
func ContentDigest(sum [32]byte) string {
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

// accepts reports whether the rule's algorithms, or the default ones, hold alg.
func accepts(algorithms []string, alg string) bool {
	if len(algorithms) == 0 {
		switch alg {
		case "ES256", "EdDSA", "ES384", "ES512", "PS256", "RS256":
			return true
		default:
			return false
		}
	}
	return slices.Contains(algorithms, alg)
}

// ProofContent returns the content_digest of a proof that was verified before, empty if it states none.
func ProofContent(raw string) string {
	_, rest, _ := strings.Cut(raw, ".")
	body, _, _ := strings.Cut(rest, ".")
	c, err := readProofClaims(body)
	if err != nil {
		return ""
	}
	return c.content
}
