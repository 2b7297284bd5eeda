package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
)

// A segment begins with a header that says which log it belongs to and where it continues:
//
//	 0  magic "WRDWAL01"
//	 8  [16]byte id of the log
//	24  uint64   first sequence number
//	32  [32]byte chain before the first record
//	64  uint32   CRC-32C of bytes 0 to 64
//	68  zero
const (
	segmentHeader = 72
	segmentMagic  = "WRDWAL01"
	segmentSuffix = ".wal"
	draftName     = "next.tmp"
	fileMode      = 0o600
	dirMode       = 0o700
)

// An ID names a log; segments of another log are refused.
type ID [16]byte

type header struct {
	id    ID
	first uint64
	chain Hash
}

func (h header) encode(table *crc32.Table) []byte {
	b := make([]byte, segmentHeader)
	copy(b, segmentMagic)
	copy(b[8:], h.id[:])
	binary.LittleEndian.PutUint64(b[24:], h.first)
	copy(b[32:], h.chain[:])
	binary.LittleEndian.PutUint32(b[64:], crc32.Checksum(b[:64], table))
	return b
}

func parseHeader(b []byte, table *crc32.Table) (header, error) {
	var h header
	if len(b) < segmentHeader || string(b[:8]) != segmentMagic {
		return h, errors.New("not a segment")
	}
	if binary.LittleEndian.Uint32(b[64:]) != crc32.Checksum(b[:64], table) {
		return h, errors.New("segment header damaged")
	}
	copy(h.id[:], b[8:])
	h.first = binary.LittleEndian.Uint64(b[24:])
	copy(h.chain[:], b[32:])
	return h, nil
}

func segmentName(first uint64) string { return fmt.Sprintf("%016x%s", first, segmentSuffix) }

// segments lists the segment files of a log in order of their first sequence number, as their names
// state it.
func segments(root *os.Root) ([]string, error) {
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, fmt.Errorf("list segments: %w", err)
	}
	var names []string
	for _, e := range entries {
		stem, ok := strings.CutSuffix(e.Name(), segmentSuffix)
		if _, err := strconv.ParseUint(stem, 16, 64); ok && err == nil && len(stem) == 16 {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// create makes a segment file, complete under its final name or not there at all, and makes it the
// current one.
func (l *Log) create(h header) error {
	f, err := l.root.OpenFile(draftName, os.O_RDWR|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return fmt.Errorf("create segment: %w", err)
	}
	if err := l.furnish(f, h); err != nil {
		return errors.Join(fmt.Errorf("create segment: %w", err), f.Close())
	}
	l.file, l.name, l.off = f, segmentName(h.first), segmentHeader
	return nil
}

func (l *Log) furnish(f *os.File, h header) error {
	if err := preallocate(f, 0, l.opts.SegmentBytes); err != nil {
		return err
	}
	if _, err := f.WriteAt(h.encode(l.table), 0); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	name := segmentName(h.first)
	if _, err := l.root.Stat(name); err == nil {
		return fmt.Errorf("%s: %w", name, fs.ErrExist)
	}
	if err := l.root.Rename(draftName, name); err != nil {
		return err
	}
	return l.syncDir()
}

// syncDir makes names in the folder durable.
func (l *Log) syncDir() error {
	d, err := l.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// readHeader reads the header of an open segment.
func readHeader(r io.ReaderAt, table *crc32.Table) (header, error) {
	b := make([]byte, segmentHeader)
	if _, err := r.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return header{}, err
	}
	return parseHeader(b, table)
}
