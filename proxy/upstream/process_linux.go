package upstream

import "syscall"

// processAttributes puts a child into a process group of its own and lets the kernel kill it when
// Warder dies.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// terminateGroup asks the process group to end. That it may be gone is no error.
func terminateGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGTERM) }

// killGroup ends the process group. That it may be gone is no error.
func killGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }
