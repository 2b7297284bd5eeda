//go:build !unix

package upstream

import (
	"os"
	"syscall"
)

// processAttributes has nothing to set here: a child ends when its stdin closes.
func processAttributes() *syscall.SysProcAttr { return nil }

// terminateGroup cannot ask here, so it ends the process.
func terminateGroup(pid int) { killGroup(pid) }

// killGroup ends the process. That it may be gone is no error.
func killGroup(pid int) {
	if p, err := os.FindProcess(pid); err == nil {
		_ = p.Kill()
	}
}
