// Package panics makes errors of panics. One in a goroutine of its own would end the process, and with it the answers to the
// API server, whatever that goroutine was for.
package panics

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Caught runs a task, and returns its error, or one made of its panic.
func Caught(task func() error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = Error(cause)
		}
	}()
	return task()
}

// Error makes an error of what recover has returned. The runtime's own messages say what happened; any other value may hold
// something of a pod or a Secret, and stays out of the log.
func Error(cause any) error {
	if err, ok := cause.(runtime.Error); ok {
		return &panicked{fmt.Errorf("panic: %w", err), string(debug.Stack())}
	}
	return &panicked{fmt.Errorf("panic: a %T", cause), string(debug.Stack())}
}

// panicked is the error of a panic.
type panicked struct {
	error

	stack string
}

// Unwrap returns the error without the stack.
func (p *panicked) Unwrap() error { return p.error }

// Stack returns the stack of the goroutine that panicked, for a log field of its own.
func (p *panicked) Stack() string { return p.stack }
