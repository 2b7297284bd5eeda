package upstream

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// sealedFile is a file that exists in memory only, holds a secret, and can neither be written nor change its
// size any more. It is closed in every process that we start but the one it is handed to.
func sealedFile(value []byte) (_ *os.File, err error) {
	fd, err := unix.MemfdCreate("secret", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "secret")
	defer func() {
		if err != nil {
			_ = f.Close() // the first error says it
		}
	}()
	if _, err := f.Write(value); err != nil {
		return nil, fmt.Errorf("write secret: %w", err)
	}
	if _, err := f.Seek(0, 0); err != nil {
		return nil, fmt.Errorf("write secret: %w", err)
	}
	const seals = unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return nil, fmt.Errorf("seal secret: %w", err)
	}
	return f, nil
}

// pathOf is where a process finds a file that it was handed as its descriptor fd.
func pathOf(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }
