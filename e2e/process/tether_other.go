//go:build !linux

package process

import "syscall"

// tether keeps a terminal's Ctrl-C from the child: the parent decides in which order things end.
func tether() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
