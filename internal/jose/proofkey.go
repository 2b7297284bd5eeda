package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/warder-mcp/warder/internal/bounded"
)

// A proofKey is the public key that a proof carries.
type proofKey struct {
	alg        string
	thumbprint string
	p256       *ecdsa.PublicKey // the key, if alg is ES256
	other      Key              // the key of another algorithm
}

// ProofKeys remembers the keys of proofs by the header they stand in, which a client repeats with every
// proof: reading them again would cost half as much as the signature. Keys are public. It holds a bounded
// number and is safe for concurrent use.
type ProofKeys struct {
	shards [proofShards]*bounded.Cache[string, *proofKey]
}

// Bounds of ProofKeys.
const (
	proofShards = 32
	proofKeys   = 512 // per shard, at least
)

// NewProofKeys returns an empty memory.
func NewProofKeys() *ProofKeys {
	k := &ProofKeys{}
	for i := range k.shards {
		k.shards[i] = bounded.New[string, *proofKey](proofKeys)
	}
	return k
}

// of reads the header, unless the same one was read before.
func (k *ProofKeys) of(part string, algorithms []string) (*proofKey, error) {
	if k == nil {
		return proofKeyOf(part, algorithms)
	}
	shard := k.shards[(part[len(part)/2]^part[len(part)*3/4])%proofShards] // both stand in the coordinates
	if key, ok := shard.Get(part); ok {
		if !accepts(algorithms, key.alg) {
			return nil, fmt.Errorf("%w: algorithm %s", ErrProofKey, key.alg)
		}
		return key, nil
	}
	key, err := proofKeyOf(part, algorithms)
	if err == nil {
		shard.Put(strings.Clone(part), key) // the clone does not keep the rest of the proof
	}
	return key, err
}

// proofKeyOf reads the header of a proof: typ, alg and jwk, and nothing else that matters.
func proofKeyOf(part string, algorithms []string) (*proofKey, error) {
	m, err := parsePart(part)
	if err != nil {
		return nil, fmt.Errorf("%w: header: %w", ErrProofMalformed, err)
	}
	for name := range m {
		switch name {
		case "crit", "b64", "zip", "enc", "jku", "x5u": // extensions and keys from elsewhere
			return nil, fmt.Errorf("%w: header member %s", ErrProofMalformed, name)
		}
	}
	typ, _ := m["typ"].(string)
	if strings.TrimPrefix(strings.ToLower(typ), "application/") != proofType {
		return nil, fmt.Errorf("%w: typ is not %s", ErrProofMalformed, proofType)
	}
	alg, _ := m["alg"].(string)
	if !accepts(algorithms, alg) {
		return nil, fmt.Errorf("%w: algorithm %.20q", ErrProofKey, alg)
	}
	jwk, ok := m["jwk"].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%w: no jwk", ErrProofKey)
	}
	if err := publicOnly(jwk); err != nil {
		return nil, err
	}
	if declared, given := jwk["alg"]; given && declared != alg {
		return nil, fmt.Errorf("%w: jwk is for another algorithm", ErrProofKey)
	}
	if alg == "ES256" {
		return p256Key(jwk)
	}
	return otherKey(jwk, alg)
}

// publicOnly refuses a jwk with any member but those of a public key: above all the private ones
// (RFC 9449 section 4.2: "MUST NOT contain a private key").
func publicOnly(jwk map[string]any) error {
	for name := range jwk {
		switch name {
		case "kty", "crv", "x", "y", "n", "e", "alg", "use", "kid", "key_ops", "ext":
		default:
			return fmt.Errorf("%w: jwk member %.40q", ErrProofKey, name)
		}
	}
	if use, given := jwk["use"]; given && use != "sig" {
		return fmt.Errorf("%w: jwk is not for signatures", ErrProofKey)
	}
	return nil
}

// p256Key reads the key of ES256, which most clients use, without a detour through a second parser.
func p256Key(jwk map[string]any) (*proofKey, error) {
	x, _ := jwk["x"].(string)
	y, _ := jwk["y"].(string)
	if jwk["kty"] != "EC" || jwk["crv"] != "P-256" || len(x) != 43 || len(y) != 43 {
		return nil, fmt.Errorf("%w: not a P-256 key", ErrProofKey)
	}
	var point [65]byte
	point[0] = 4 // uncompressed, SEC 1 section 2.3.3
	strict := base64.RawURLEncoding.Strict()
	if n, err := strict.Decode(point[1:33], []byte(x)); err != nil || n != 32 {
		return nil, fmt.Errorf("%w: x", ErrProofKey)
	}
	if n, err := strict.Decode(point[33:], []byte(y)); err != nil || n != 32 {
		return nil, fmt.Errorf("%w: y", ErrProofKey)
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point[:])
	if err != nil {
		return nil, fmt.Errorf("%w: not a point of the curve", ErrProofKey)
	}
	// RFC 7638 section 3.2: the required members in lexicographic order, no white space.
	sum := sha256.Sum256([]byte(`{"crv":"P-256","kty":"EC","x":"` + x + `","y":"` + y + `"}`))
	return &proofKey{alg: "ES256", thumbprint: base64.RawURLEncoding.EncodeToString(sum[:]), p256: pub}, nil
}

func otherKey(jwk map[string]any, alg string) (*proofKey, error) {
	raw, err := json.Marshal(jwk)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProofKey, err)
	}
	key, ok, err := parseKey(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProofKey, err)
	}
	if !ok || !slices.Contains(key.algs, alg) {
		return nil, fmt.Errorf("%w: the key does not fit %s", ErrProofKey, alg)
	}
	sum, err := key.Thumbprint()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProofKey, err)
	}
	return &proofKey{alg: alg, thumbprint: sum, other: key}, nil
}

// verify checks the signature over the signed part of the proof.
func (k *proofKey) verify(signed string, signature []byte) error {
	if k.p256 == nil {
		raw := signed + "." + base64.RawURLEncoding.EncodeToString(signature)
		jws, err := jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(k.alg)})
		if err != nil {
			return ErrProofMalformed
		}
		if _, err := jws.Verify(k.other.jwk.Key); err != nil {
			return ErrProofSignature
		}
		return nil
	}
	if len(signature) != 64 { // RFC 7518 section 3.4: R || S
		return ErrProofSignature
	}
	var text [MaxProof]byte
	sum := sha256.Sum256(text[:copy(text[:], signed)])
	var der [72]byte
	if !ecdsa.VerifyASN1(k.p256, sum[:], appendASN1(der[:0], signature)) {
		return ErrProofSignature
	}
	return nil
}

// appendASN1 writes R || S of P-256 as the sequence that crypto/ecdsa reads (RFC 3279 section 2.2.3).
func appendASN1(der, signature []byte) []byte {
	der = append(der, 0x30, 0)
	for _, n := range [...][]byte{signature[:32], signature[32:]} {
		for len(n) > 1 && n[0] == 0 {
			n = n[1:]
		}
		if n[0] < 0x80 {
			der = append(der, 0x02, byte(len(n)))
		} else {
			der = append(der, 0x02, byte(len(n)+1), 0)
		}
		der = append(der, n...)
	}
	der[1] = byte(len(der) - 2)
	return der
}

// Thumbprint is the RFC 7638 SHA-256 thumbprint of the key, base64url.
func (k Key) Thumbprint() (string, error) {
	sum, err := k.jwk.Thumbprint(crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("key thumbprint: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(sum), nil
}
