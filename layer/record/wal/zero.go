package wal

import (
	"fmt"
	"os"
)

// fillZero writes zeros between two offsets, for file systems that cannot reserve blocks.
func fillZero(f *os.File, from, size int64) error {
	zero := make([]byte, 64<<10)
	for off := from; off < size; off += int64(len(zero)) {
		if _, err := f.WriteAt(zero[:min(int64(len(zero)), size-off)], off); err != nil {
			return fmt.Errorf("preallocate %d bytes: %w", size, err)
		}
	}
	return nil
}
