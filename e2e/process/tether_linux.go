package process

import "syscall"

// tether has the kernel kill the child when its parent dies, and keeps a terminal's Ctrl-C from it: the parent decides
// in which order things end.
func tether() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
