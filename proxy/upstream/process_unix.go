//go:build unix && !linux

package upstream

import "syscall"

// processAttributes puts a child into a process group of its own. Only Linux can tie its life to
// Warder's; elsewhere it ends when its stdin closes.
func processAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// terminateGroup asks the process group to end. That it may be gone is no error.
func terminateGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGTERM) }

// killGroup ends the process group. That it may be gone is no error.
func killGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }
