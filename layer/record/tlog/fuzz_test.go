package tlog

import (
	"bytes"
	"testing"
)

func FuzzParseBlock(f *testing.F) {
	f.Add(block(3, 4).encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := parseBlock(data)
		if err == nil && !bytes.Equal(b.encode(), data) {
			t.Fatalf("block %+v does not encode to what it was read from", b)
		}
	})
}
