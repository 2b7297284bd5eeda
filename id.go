package warder

import (
	"crypto/rand"
	"encoding/binary"
	"time"
)

// NewID returns a fresh exchange or event id: 26 characters of Crockford's alphabet that sort by
// time, 48 bits of milliseconds and 80 random bits from crypto/rand.
func NewID(now time.Time) string {
	var b [16]byte
	ms := uint64(now.UnixMilli())
	for i := range 6 {
		b[i] = byte(ms >> (40 - 8*i))
	}
	_, _ = rand.Read(b[6:]) // never fails since Go 1.24; it ends the process instead
	return encodeID(b)
}

// encodeID writes 128 bits as 26 characters, most significant first.
func encodeID(b [16]byte) string {
	const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
	hi, lo := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	var out [26]byte
	for i := len(out) - 1; i >= 0; i-- {
		out[i] = alphabet[lo&31]
		lo = lo>>5 | hi<<59
		hi >>= 5
	}
	return string(out[:])
}
