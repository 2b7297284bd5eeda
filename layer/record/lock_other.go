//go:build !unix

package record

import (
	"fmt"
	"os"
)

// lockFolder opens the lock file; this system has no advisory lock in the standard library.
func lockFolder(root *os.Root) (*os.File, error) {
	f, err := root.OpenFile(lockFile, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock audit folder: %w", err)
	}
	return f, nil
}
