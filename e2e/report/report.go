// Package report tells a user what a demo or a test run is doing: a line for each step, with the time that it took, and
// the progress of a build.
package report

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// Report writes to a terminal, where it draws, or to a file, where it only adds lines.
type Report struct {
	out      io.Writer
	drawing  bool
	colour   bool
	start    time.Time
	lastLine time.Time
}

// New returns a report to a file, often os.Stdout. NO_COLOR is honoured.
func New(out *os.File) *Report {
	terminal := term.IsTerminal(int(out.Fd()))
	return &Report{out: out, drawing: terminal, colour: terminal && os.Getenv("NO_COLOR") == "", start: time.Now()}
}

// clearLine returns to the line's beginning and empties it.
const clearLine = "\r\x1b[K"

// Titlef prints a heading.
func (r *Report) Titlef(format string, args ...any) {
	r.printf("\n%s\n", r.paint(bold, fmt.Sprintf(format, args...)))
}

// Linef prints a line.
func (r *Report) Linef(format string, args ...any) {
	r.printf("%s\n", strings.TrimRight("  "+fmt.Sprintf(format, args...), " "))
}

// Out is for what is longer.
func (r *Report) Out() io.Writer { return r.out }

// Step does one step of the run and says so, with its time.
func (r *Report) Step(name string, do func() error) error {
	began := time.Now()
	if r.drawing {
		r.printf("  … %s", name)
	}
	err := do()
	if r.drawing {
		r.printf(clearLine)
	}
	took := time.Since(began).Seconds()
	if err != nil {
		r.printf("  %s %-66s %6.1f s\n", r.paint(red, "✘"), name, took)
		return err
	}
	r.printf("  %s %-66s %6.1f s\n", r.paint(green, "✔"), name, took)
	return nil
}

// Elapsed is the time since the report began.
func (r *Report) Elapsed() time.Duration { return time.Since(r.start) }

const (
	drawEvery = 200 * time.Millisecond
	lineEvery = 15 * time.Second
)

// Progress says how far the control plane's build has come: a line that moves, or one every now and then. It has the
// form of cluster.Progress.
func (r *Report) Progress(done, total int) {
	every := lineEvery
	if r.drawing {
		every = drawEvery
	}
	if time.Since(r.lastLine) < every {
		return
	}
	first := r.lastLine.IsZero()
	r.lastLine = time.Now()
	if first {
		r.clear()
		r.Linef("The control plane is built from source the first time: some ten minutes on two cores.")
	}
	state := "fetching Go modules"
	if total > 0 {
		state = fmt.Sprintf("compiling package %d of %d", done, total)
	}
	elapsed := r.Elapsed().Truncate(time.Second)
	if r.drawing {
		r.printf(clearLine+"  … %s, %s", state, elapsed)
		return
	}
	r.Linef("… %s, %s", state, elapsed)
}

func (r *Report) clear() {
	if r.drawing {
		r.printf(clearLine)
	}
}

type style string

const (
	bold  style = "1"
	green style = "32"
	red   style = "31"
	cyan  style = "36"
)

// Good colours what is as it should be, where the terminal has colours.
func (r *Report) Good(text string) string { return r.paint(green, text) }

// Bad colours what should not be.
func (r *Report) Bad(text string) string { return r.paint(red, text) }

// Hint colours what the user may type.
func (r *Report) Hint(text string) string { return r.paint(cyan, text) }

func (r *Report) paint(s style, text string) string {
	if !r.colour {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

// printf writes; a report that cannot be written is nobody's loss but its reader's, who has gone.
func (r *Report) printf(format string, args ...any) { _, _ = fmt.Fprintf(r.out, format, args...) }
