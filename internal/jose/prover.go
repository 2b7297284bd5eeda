package jose

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// A Prover makes DPoP proofs with one ES256 key (RFC 9449 section 4.2). It is safe for concurrent use and
// cannot be printed: the key is not exported.
type Prover struct {
	signer *Signer
	now    func() time.Time
}

// NewProver makes a key that lives in memory only. now is the clock, nil for time.Now.
func NewProver(now func() time.Time) (*Prover, error) {
	s, err := NewSigner()
	if err != nil {
		return nil, err
	}
	return ProverOf(s, now), nil
}

// OpenProver reads the key from a file inside root, or makes it there with mode 0600.
func OpenProver(root *os.Root, name string, now func() time.Time) (*Prover, error) {
	s, err := OpenSigner(root, name)
	if err != nil {
		return nil, err
	}
	return ProverOf(s, now), nil
}

// ProverOf makes proofs with the key of a signer.
func ProverOf(s *Signer, now func() time.Time) *Prover {
	if now == nil {
		now = time.Now
	}
	return &Prover{signer: s, now: now}
}

// Thumbprint is the RFC 7638 thumbprint of the key: what cnf.jkt of its tokens says, and dpop_jkt of an
// authorization request.
func (p *Prover) Thumbprint() string { return p.signer.keyID }

// Proof returns a fresh proof for one request. The address may have a query and a fragment: htu is
// written without them. Token is the access token that the request shows, empty at a token endpoint;
// nonce is the server's latest DPoP-Nonce, empty if it sent none.
func (p *Prover) Proof(method, address, token, nonce string) (string, error) {
	return p.proof(method, address, token, nonce, "")
}

// ProofOf is Proof with content_digest, the stricter form that also binds the body.
func (p *Prover) ProofOf(method, address, token, nonce string, content [32]byte) (string, error) {
	return p.proof(method, address, token, nonce, ContentDigest(content))
}

// proofClaims are the claims of RFC 9449 section 4.2.
type proofClaims struct {
	ID      string `json:"jti"`
	Method  string `json:"htm"`
	URL     string `json:"htu"`
	Issued  int64  `json:"iat"`
	Token   string `json:"ath,omitempty"`
	Nonce   string `json:"nonce,omitempty"`
	Content string `json:"content_digest,omitempty"`
}

func (p *Prover) proof(method, address, token, nonce, content string) (string, error) {
	htu, err := NormalizeURL(address)
	if err != nil {
		return "", fmt.Errorf("make proof: %w", err)
	}
	c := proofClaims{ID: rand.Text(), Method: method, URL: htu, Issued: p.now().Unix(), Nonce: nonce, Content: content}
	if token != "" {
		sum := TokenSum(token)
		c.Token = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	payload, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("make proof: %w", err)
	}
	opts := (&jose.SignerOptions{EmbedJWK: true}).WithType(proofType)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: p.signer.key}, opts)
	if err != nil {
		return "", fmt.Errorf("make proof: %w", err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("make proof: %w", err)
	}
	return signed.CompactSerialize()
}
