package jose

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// Size caps of one compact token. Proxies and servers commonly stop at 8 or 16 KiB of headers.
const (
	MaxToken  = 16 << 10 // whole token, in bytes
	maxHeader = 4 << 10  // encoded header, in bytes
)

// A Header is the protected header of a token, as far as Warder uses it. Other members, such as jku
// and x5u, are ignored: nothing is ever fetched because a token says so.
type Header struct {
	Algorithm string
	KeyID     string
	Type      string // lower case, without "application/"; empty if absent
}

// A Token is a parsed token. Until [Token.Verify] succeeded, nothing in it may be believed.
type Token struct {
	Header Header
	Claims Claims
	raw    string
}

// Algorithms lists the signature algorithms Warder can verify: asymmetric ones only.
func Algorithms() []string {
	return []string{"ES256", "ES384", "ES512", "EdDSA", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"}
}

// Parse reads a compact JWS strictly. It checks form, size, algorithm and header, not the signature.
func Parse(raw string) (*Token, error) {
	if len(raw) > MaxToken {
		return nil, ErrTooLarge
	}
	head, rest, ok1 := strings.Cut(raw, ".")
	body, signature, ok2 := strings.Cut(rest, ".")
	if !ok1 || !ok2 || head == "" || body == "" || signature == "" || strings.Contains(signature, ".") {
		return nil, ErrMalformed
	}
	if len(head) > maxHeader {
		return nil, ErrTooLarge
	}
	header, err := parseHeader(head)
	if err != nil {
		return nil, err
	}
	if _, err := decodePart(signature); err != nil {
		return nil, err
	}
	claims, err := parsePart(body)
	if err != nil {
		return nil, fmt.Errorf("claims: %w", err)
	}
	return &Token{Header: header, Claims: claims, raw: raw}, nil
}

func parseHeader(part string) (Header, error) {
	m, err := parsePart(part)
	if err != nil {
		return Header{}, fmt.Errorf("header: %w", err)
	}
	for name := range m {
		switch name {
		case "crit", "b64", "zip", "enc": // RFC 7515 section 4.1.11: an extension we do not know must be refused
			return Header{}, ErrCritical
		case "jwk":
			return Header{}, ErrEmbeddedKey
		}
	}
	var h Header
	for _, f := range []struct {
		name string
		to   *string
	}{{"alg", &h.Algorithm}, {"kid", &h.KeyID}, {"typ", &h.Type}} {
		v, present := m[f.name]
		s, ok := v.(string)
		if present && !ok {
			return Header{}, fmt.Errorf("%w: header %s is not a string", ErrMalformed, f.name)
		}
		*f.to = s
	}
	if !slices.Contains(Algorithms(), h.Algorithm) {
		return Header{}, fmt.Errorf("%w: %.20q", ErrAlgorithm, h.Algorithm)
	}
	// RFC 7515 section 4.1.9: typ compares without case, and "application/" may be left out.
	h.Type = strings.TrimPrefix(strings.ToLower(h.Type), "application/")
	return h, nil
}

func parsePart(part string) (map[string]any, error) {
	b, err := decodePart(part)
	if err != nil {
		return nil, err
	}
	return decodeStrict(b)
}

// decodePart decodes canonical base64url: no padding, no line breaks, no stray trailing bits, so one
// token has one spelling.
func decodePart(part string) ([]byte, error) {
	if strings.ContainsAny(part, "\r\n") {
		return nil, ErrMalformed
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil {
		return nil, fmt.Errorf("%w: base64url", ErrMalformed)
	}
	return b, nil
}

// Verify checks the signature with the key. The token's algorithm must be allowed by the caller, by
// the key's type and by the key's own "alg" (RFC 8725 section 3.1).
func (t *Token) Verify(key Key, allowed []string) error {
	alg := t.Header.Algorithm
	if !slices.Contains(allowed, alg) || !key.signs(alg) {
		return fmt.Errorf("%w: %s", ErrAlgorithm, alg)
	}
	signed, err := jose.ParseSignedCompact(t.raw, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if _, err := signed.Verify(key.jwk.Key); err != nil {
		return ErrSignature
	}
	return nil
}

// CheckType reports an error unless the token's typ is one of the allowed ones, compared as RFC 7515
// section 4.1.9 says. An empty string in allowed admits tokens without typ.
func (t *Token) CheckType(allowed []string) error {
	for _, a := range allowed {
		if strings.TrimPrefix(strings.ToLower(a), "application/") == t.Header.Type {
			return nil
		}
	}
	return fmt.Errorf("%w: %.40q", ErrType, t.Header.Type)
}
