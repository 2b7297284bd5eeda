package sigs

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"errors"
)

// ErrDigest says that a body is not the one that Content-Digest names.
var ErrDigest = errors.New("content digest does not match")

// ContentDigest is the value of the Content-Digest field for a body (RFC 9530 section 2).
func ContentDigest(body []byte) string {
	sum := sha256.Sum256(body)
	return "sha-256=" + string(appendBare(nil, sum[:]))
}

// CheckDigest compares a body with the lines of its Content-Digest field. At least one digest must be of
// an algorithm known here, sha-256 or sha-512, and every such must match.
func CheckDigest(lines []string, body []byte) error {
	dict, err := parseDictionary(combine(lines))
	if err != nil {
		return err
	}
	known := false
	for i := range dict {
		want, ok := dict[i].item.value.([]byte)
		if !ok {
			return ErrField
		}
		var got []byte
		switch dict[i].key {
		case "sha-256":
			sum := sha256.Sum256(body)
			got = sum[:]
		case "sha-512":
			sum := sha512.Sum512(body)
			got = sum[:]
		default:
			continue // RFC 9530 section 5: others are not for security
		}
		if subtle.ConstantTimeCompare(want, got) != 1 {
			return ErrDigest
		}
		known = true
	}
	if !known {
		return ErrDigest
	}
	return nil
}
