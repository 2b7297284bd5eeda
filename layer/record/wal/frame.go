package wal

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
	"time"
)

// A frame is the form of one record on disk, little-endian:
//
//	 0  uint32   length of the payload; 0 marks the end of a preallocated segment
//	 4  uint32   CRC-32C of everything after this field
//	 8  uint64   sequence number, from 0, without gaps
//	16  [32]byte chain: SHA-256(chain of the record before ‖ leaf)
//	48  int64    wall clock at commit, nanoseconds since 1970
//	56  payload
//
// The leaf is SHA-256 over bytes 48 to the end: time and payload, but not the place in the chain,
// so that a moved record can still be recognised.
const (
	frameHeader = 56
	frameCRC    = 4
	frameSeq    = 8
	frameChain  = 16
	frameTime   = 48
)

// MaxPayload is the size of the largest record in bytes.
const MaxPayload = 1 << 20

// A Hash is a SHA-256 value.
type Hash [sha256.Size]byte

// A Link is the place of one record in the chain.
type Link struct{ Leaf, Chain Hash }

// A Record is one record as read back.
type Record struct {
	Seq     uint64
	Time    time.Time // wall clock at commit
	Link              // what the Merkle tree commits to
	Payload []byte    // valid until the next record is read
	Segment string    // file name
	Offset  int64     // of the frame in the segment, bytes
}

// castagnoli is the table of CRC-32C, for which processors have an instruction.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// link continues the chain.
func link(before, leaf Hash) Hash {
	var b [2 * sha256.Size]byte
	copy(b[:], before[:])
	copy(b[sha256.Size:], leaf[:])
	return sha256.Sum256(b[:])
}

// seal fills the header of a frame whose payload is in place and returns its link.
func seal(frame []byte, seq uint64, at time.Time, before Hash, table *crc32.Table) Link {
	le := binary.LittleEndian
	le.PutUint32(frame, uint32(len(frame)-frameHeader))
	le.PutUint64(frame[frameSeq:], seq)
	le.PutUint64(frame[frameTime:], uint64(at.UnixNano()))
	leaf := Hash(sha256.Sum256(frame[frameTime:]))
	chain := link(before, leaf)
	copy(frame[frameChain:], chain[:])
	le.PutUint32(frame[frameCRC:], crc32.Checksum(frame[frameSeq:], table))
	return Link{Leaf: leaf, Chain: chain}
}

// Follows reports whether the record continues the chain.
func (r Record) Follows(chain Hash) bool { return link(chain, r.Leaf) == r.Chain }
