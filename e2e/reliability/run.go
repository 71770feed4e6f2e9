package reliability

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"text/template"
	"time"

	"github.com/lightstep-injector/lightstep-injector/e2e/load"
)

// Run is one run: where, how, and what came of it.
type Run struct {
	Began, Ended time.Time
	// Commit is what was tested; dirty where that is not all.
	Commit string
	Go     string
	Cores  int
	// Flags are the test's, where they were given.
	Flags string

	Propagation Propagation
	// Served is the longest that it took until every replica served a new certificate.
	Served time.Duration
	// Handshakes is how many were made while it was rotated; none failed.
	Handshakes int
	Parts      []Part
	// Held is how many requests were under way when their replica was told to stop, and were answered.
	Held int
	// Refused is how many connections were given to replicas that had been killed, Cut how many ended with one that owed an
	// answer, MostLost the most calls that were lost with one, Late how many were lost after its endpoint was dropped.
	Refused, Cut, MostLost, Late int
	// Missed is how many pods were, by the API server's list, by the gauge and by status.
	Missed int
	Soak   Soak
}

// Propagation is how long a changed caBundle takes to be in force.
type Propagation struct {
	Times                 int
	Median, Slowest, Used time.Duration
}

// Part is one in which pods were created all the time.
type Part struct {
	What  string
	Times int
	Took  time.Duration
	Pods  load.Count
	Calls load.Calls
}

// Soak is what became of the replicas over time.
type Soak struct {
	Samples  int
	Measures []Measure
}

// Measure is how much of something each replica had. It may have grown by a tenth, or by Allowed where that is more.
type Measure struct {
	What     string
	Allowed  float64
	Replicas []Change
}

// Change is the median of the first third of the samples, and of the last.
type Change struct{ First, Last float64 }

// Begin begins a run of what is checked out. root is the repository's root.
func Begin(ctx context.Context, root string) (*Run, error) {
	cmd := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=12")
	cmd.Dir = root
	commit, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("find out which commit this is: %w", err)
	}
	r := &Run{Began: time.Now(), Commit: strings.TrimSpace(string(commit)), Go: runtime.Version(), Cores: runtime.NumCPU()}
	flag.Visit(func(f *flag.Flag) {
		if !strings.HasPrefix(f.Name, "test.") && f.Name != "page" {
			r.Flags += fmt.Sprintf(" -%s=%s", f.Name, f.Value)
		}
	})
	return r, nil
}

// End ends it.
func (r *Run) End() { r.Ended = time.Now() }

// All sums up the parts.
func (r *Run) All() Part {
	var all Part
	for i := range r.Parts {
		p := &r.Parts[i]
		all.Took += p.Took
		all.Pods.Requested += p.Pods.Requested
		all.Pods.Created += p.Pods.Created
		all.Pods.Injected += p.Pods.Injected
		all.Pods.Missed = append(all.Pods.Missed, p.Pods.Missed...)
		all.Calls.All += p.Calls.All
		all.Calls.Failed += p.Calls.Failed
	}
	return all
}

//go:embed figures.md.tmpl
var figures string

// Markdown shows the figures.
func (r *Run) Markdown() ([]byte, error) {
	page, err := template.New("figures").Parse(figures)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	err = page.Execute(&text, r)
	return text.Bytes(), err
}

// The figures stand between these lines.
const (
	begin = "<!-- Made by make reliability. -->\n"
	end   = "<!-- Until here. -->\n"
)

// Write puts the figures into a page, in the place of those of an earlier run.
func (r *Run) Write(page string) error {
	text, err := r.Markdown()
	if err != nil {
		return fmt.Errorf("write the figures: %w", err)
	}
	was, err := os.ReadFile(page)
	if err != nil {
		return fmt.Errorf("write the figures: %w", err)
	}
	head, rest, found := bytes.Cut(was, []byte(begin))
	_, tail, ended := bytes.Cut(rest, []byte(end))
	if !found || !ended {
		return errors.New("write the figures: " + page + " has no place for them")
	}
	now := bytes.Join([][]byte{head, []byte(begin), text, []byte(end), tail}, nil)
	if err := os.WriteFile(page, now, 0o644); err != nil {
		return fmt.Errorf("write the figures: %w", err)
	}
	return nil
}
