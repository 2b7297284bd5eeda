//go:build !linux

package upstream

import (
	"errors"
	"fmt"
	"os"
)

// sealedFile refuses: only Linux has files that exist in memory only.
func sealedFile([]byte) (*os.File, error) {
	return nil, errors.New("secrets are handed over as files on Linux only: use env")
}

// pathOf is where a process finds a file that it was handed as its descriptor fd.
func pathOf(fd int) string { return fmt.Sprintf("/dev/fd/%d", fd) }
