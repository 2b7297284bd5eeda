package jose

import (
	"bytes"
	"encoding/base64"
	"errors"
	"time"
)

// statedClaims are the claims of a proof that are looked at.
type statedClaims struct {
	id, method, address, token, nonce, content string
	issued                                     time.Time
}

// maxPlainClaims bounds what readPlain reads, and the number of members.
const (
	maxPlainClaims  = 1 << 10
	maxPlainMembers = 16
)

// readProofClaims reads the second part of a proof. Nearly every client writes a flat object of plain
// strings and numbers, which is read in one pass; for everything else the strict reader decides.
func readProofClaims(part string) (statedClaims, error) {
	var buf [maxPlainClaims]byte
	if base64.RawURLEncoding.DecodedLen(len(part)) <= len(buf) {
		n, err := decodeInto(buf[:], part)
		if err != nil {
			return statedClaims{}, err
		}
		if c, ok := readPlain(buf[:n]); ok {
			return c, nil
		}
	}
	m, err := parsePart(part)
	if err != nil {
		return statedClaims{}, err
	}
	return claimsOfProof(m)
}

// decodeInto is decodePart into memory that the caller has.
func decodeInto(dst []byte, part string) (int, error) {
	for i := range len(part) {
		if part[i] == '\r' || part[i] == '\n' {
			return 0, ErrMalformed
		}
	}
	n, err := base64.RawURLEncoding.Strict().Decode(dst, []byte(part))
	if err != nil {
		return 0, ErrMalformed
	}
	return n, nil
}

// claimsOfProof takes the claims out of an object. An ath or nonce that is no string is none.
func claimsOfProof(c Claims) (p statedClaims, err error) {
	var errs [5]error
	p.id, errs[0] = c.Text("jti")
	p.method, errs[1] = c.Text("htm")
	p.address, errs[2] = c.Text("htu")
	p.issued, errs[3] = c.Time("iat")
	p.content, errs[4] = c.Text("content_digest")
	p.token, _ = c.Text("ath")
	p.nonce, _ = c.Text("nonce")
	return p, errors.Join(errs[:]...)
}

// readPlain reads an object whose members are strings of printable ASCII without escapes, and whole
// numbers. It reports false for any other text, good or bad, and then has decided nothing.
func readPlain(b []byte) (statedClaims, bool) {
	var c statedClaims
	var names [maxPlainMembers][]byte
	r := plainReader{b: b}
	if !r.skip('{') {
		return c, false
	}
	for n := 0; ; n++ {
		name, ok := r.text()
		if !ok || n == maxPlainMembers || !r.skip(':') {
			return c, false
		}
		for _, seen := range names[:n] {
			if bytes.Equal(seen, name) {
				return c, false
			}
		}
		names[n] = name
		if !c.take(name, &r) {
			return c, false
		}
		if r.skip(',') {
			continue
		}
		return c, r.skip('}') && r.space() == len(b)
	}
}

// take reads the value of a member.
func (c *statedClaims) take(name []byte, r *plainReader) bool {
	to := c.text(name)
	if value, ok := r.text(); ok {
		if to != nil {
			*to = string(value)
		}
		return string(name) != "iat"
	}
	seconds, ok := r.number()
	if string(name) == "iat" {
		c.issued = time.Unix(seconds, 0)
	}
	return ok && to == nil
}

// text is where a claim that is a string belongs, nil for others.
func (c *statedClaims) text(name []byte) *string {
	switch string(name) {
	case "jti":
		return &c.id
	case "htm":
		return &c.method
	case "htu":
		return &c.address
	case "ath":
		return &c.token
	case "nonce":
		return &c.nonce
	case "content_digest":
		return &c.content
	default:
		return nil
	}
}

// A plainReader reads the words of such an object.
type plainReader struct {
	b  []byte
	at int
}

// space skips white space and returns the position.
func (r *plainReader) space() int {
	for r.at < len(r.b) {
		switch r.b[r.at] {
		case ' ', '\t', '\r', '\n':
			r.at++
		default:
			return r.at
		}
	}
	return r.at
}

// skip reads one character if it is there.
func (r *plainReader) skip(c byte) bool {
	if r.space() == len(r.b) || r.b[r.at] != c {
		return false
	}
	r.at++
	return true
}

// text reads a string; if there is none that is plain, it reads nothing.
func (r *plainReader) text() ([]byte, bool) {
	if r.space() == len(r.b) || r.b[r.at] != '"' {
		return nil, false
	}
	for i := r.at + 1; i < len(r.b); i++ {
		switch c := r.b[i]; {
		case c == '"':
			s := r.b[r.at+1 : i]
			r.at = i + 1
			return s, true
		case c < ' ' || c == '\\' || c > '~':
			return nil, false
		}
	}
	return nil, false
}

// number reads a whole number of at most 11 digits, which does not begin with a zero.
func (r *plainReader) number() (int64, bool) {
	start, n := r.space(), int64(0)
	for r.at < len(r.b) && '0' <= r.b[r.at] && r.b[r.at] <= '9' {
		n = n*10 + int64(r.b[r.at]-'0')
		if r.at++; r.at-start > 11 {
			return 0, false
		}
	}
	if r.at == start || r.b[start] == '0' {
		return 0, false
	}
	if r.at < len(r.b) {
		switch r.b[r.at] {
		case '.', 'e', 'E', '+', '-':
			return 0, false
		}
	}
	return n, true
}
