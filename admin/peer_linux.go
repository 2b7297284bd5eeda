package admin

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// peer names the user at the other end of a connection, as the kernel knows it. Only the user who runs
// the gateway and root are accepted.
func peer(c net.Conn) (string, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return "", errors.New("not a local connection")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return "", err
	}
	var cred *syscall.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil {
		return "", err
	}
	if credErr != nil {
		return "", credErr
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Getuid() {
		return "", fmt.Errorf("user %d does not run the gateway", cred.Uid)
	}
	id := strconv.FormatUint(uint64(cred.Uid), 10)
	if who, err := user.LookupId(id); err == nil {
		return who.Username, nil
	}
	return "uid-" + id, nil
}
