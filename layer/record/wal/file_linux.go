package wal

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// preallocate reserves the blocks of a segment from an offset on, so that a full disk shows when the
// segment is made and not in the middle of a record.
func preallocate(f *os.File, from, size int64) error {
	if from >= size {
		return nil
	}
	err := syscall.Fallocate(int(f.Fd()), 0, from, size-from)
	if errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS) {
		return fillZero(f, from, size)
	}
	if err != nil {
		return fmt.Errorf("preallocate %d bytes: %w", size, err)
	}
	return nil
}

// syncData makes the content of f durable; metadata only as far as reading needs it.
func syncData(f *os.File) error {
	for {
		err := syscall.Fdatasync(int(f.Fd()))
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
