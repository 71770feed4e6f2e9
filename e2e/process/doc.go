// Package process runs the parts of a test installation as processes of their own: the components of the control plane
// and the injector. Each writes its log to a file, ends when it is told to, and is killed when it does not listen.
//
// A process started here must not outlive the one that started it, even when that one is killed: on Linux the kernel
// sees to it (tether_linux.go).
package process
