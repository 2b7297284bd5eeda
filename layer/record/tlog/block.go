package tlog

import (
	"encoding/binary"
	"errors"
)

// MaxRecords is the number of records that one block can stand for.
const MaxRecords = 4096

// A Block is one entry of the tree: a run of records of the write-ahead file. Chain commits to them
// and to all records before. The prints only help to say which of them was changed.
type Block struct {
	First  uint64   // sequence number of the first record
	Chain  [32]byte // chain after the last record
	Prints []Print  // one per record
}

// A Print is the first eight bytes of a record's leaf hash.
type Print [8]byte

// Next is the sequence number behind the block.
func (b Block) Next() uint64 { return b.First + uint64(len(b.Prints)) }

const blockHeader = 8 + 32

func (b Block) encode() []byte {
	out := make([]byte, 0, blockHeader+len(Print{})*len(b.Prints))
	out = binary.BigEndian.AppendUint64(out, b.First)
	out = append(out, b.Chain[:]...)
	for i := range b.Prints {
		out = append(out, b.Prints[i][:]...)
	}
	return out
}

func parseBlock(data []byte) (Block, error) {
	rest := len(data) - blockHeader
	if rest <= 0 || rest%len(Print{}) != 0 {
		return Block{}, errors.New("entry of the tree is not a block of records")
	}
	b := Block{First: binary.BigEndian.Uint64(data), Prints: make([]Print, rest/len(Print{}))}
	copy(b.Chain[:], data[8:])
	for i := range b.Prints {
		copy(b.Prints[i][:], data[blockHeader+i*len(Print{}):])
	}
	return b, nil
}
