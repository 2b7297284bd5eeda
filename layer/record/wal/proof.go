package wal

import (
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// LeafOf is the leaf of a record: what its place in the chain commits to.
func LeafOf(at time.Time, payload []byte) Hash {
	b := make([]byte, 8, 8+len(payload))
	binary.LittleEndian.PutUint64(b, uint64(at.UnixNano()))
	return sha256.Sum256(append(b, payload...))
}

// Chain continues a chain over leaves.
func Chain(before Hash, leaves ...Hash) Hash {
	for _, leaf := range leaves {
		before = link(before, leaf)
	}
	return before
}
