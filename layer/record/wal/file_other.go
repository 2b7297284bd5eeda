//go:build !linux

package wal

import "os"

// preallocate reserves the blocks of a segment from an offset on, so that a full disk shows when the
// segment is made and not in the middle of a record.
func preallocate(f *os.File, from, size int64) error { return fillZero(f, from, size) }

// syncData makes the content of f durable.
func syncData(f *os.File) error { return f.Sync() }
