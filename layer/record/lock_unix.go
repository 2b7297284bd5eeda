//go:build unix

package record

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// lockFolder makes sure that one process writes the trail; the lock ends with the process.
func lockFolder(root *os.Root) (*os.File, error) {
	f, err := root.OpenFile(lockFile, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock audit folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("audit folder is in use by another process: %w", err), f.Close())
	}
	return f, nil
}
