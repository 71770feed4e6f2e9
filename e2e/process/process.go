package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Spec says what to run.
type Spec struct {
	// Name stands in errors.
	Name string
	// Path is the program, Args are its arguments, Env is added to this process's environment.
	Path string
	Args []string
	Env  []string
	// Log is the file that takes what it writes; it is appended to.
	Log string
}

// Process is one that was started.
type Process struct {
	spec Spec
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// Start starts a process. It does not wait for it to be of use: only its caller knows what to wait for.
func Start(spec Spec) (*Process, error) {
	log, err := os.OpenFile(spec.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log of %s: %w", spec.Name, err)
	}
	defer func() { _ = log.Close() }() // the child has its own copy

	p := &Process{spec: spec, cmd: exec.Command(spec.Path, spec.Args...), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), spec.Env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = tether()
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// PID is its number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended, however it did.
func (p *Process) Done() <-chan struct{} { return p.done }

// Ended returns an error with the end of the log if the process has ended, and nil while it runs. To whoever waits for
// it to become ready, having ended is a failure whatever the exit code.
func (p *Process) Ended() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s ended (%s); the end of its log:\n%s", p.spec.Name, p.cmd.ProcessState, Tail(p.spec.Log, 15))
	default:
		return nil
	}
}

// Exited tells whether the process has ended, and whether by another exit code than 0.
func (p *Process) Exited() (ended, failed bool) {
	select {
	case <-p.done:
		return true, p.err != nil
	default:
		return false, false
	}
}

// Terminate asks the process to end, and does not wait for it.
func (p *Process) Terminate() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // the only error is that it has gone already
}

// Stop asks the process to end, kills it when the grace is over, and returns once it has gone.
func (p *Process) Stop(grace time.Duration) error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.spec.Name, err)
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(grace):
		p.Kill()
		return fmt.Errorf("stop %s: still running after %s, killed", p.spec.Name, grace)
	}
}

// Kill ends the process at once, as a crash would, and returns once it has gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // the only error is that it has gone already
	<-p.done
}

// Tail returns the last lines of a log, indented, for an error message.
func Tail(path string, lines int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return "  (no log: " + err.Error() + ")"
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return "  " + strings.Join(all[max(0, len(all)-lines):], "\n  ")
}
