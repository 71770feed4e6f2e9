package attack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// figure is what was seen of an attack.
type figure struct{ name, before, now string }

// The figures stand between these lines.
const (
	begin = "<!-- Made by make attack. -->\n"
	end   = "<!-- Until here. -->\n"
)

// TestPage sees that the page has each row, in this order, with what it did before and with figures.
func TestPage(t *testing.T) {
	text, err := os.ReadFile(root + "/docs/attacks.md")
	stage.Check(t, err)
	_, table, found := bytes.Cut(text, []byte(begin))
	table, _, ended := bytes.Cut(table, []byte(end))
	if !found || !ended {
		t.Fatal("the page has no place for the figures")
	}
	var has [][]string
	for line := range strings.Lines(string(table)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if len(cells) == 3 && !strings.HasPrefix(cells[0], "---") && !strings.HasPrefix(cells[0], " Attack") {
			has = append(has, cells)
		}
	}
	if len(has) != len(rows()) {
		t.Errorf("the page has %d rows, and there are %d attacks", len(has), len(rows()))
	}
	for i, r := range rows() {
		if i >= len(has) || strings.TrimSpace(has[i][0]) != r.name || has[i][1] != r.before || len(strings.TrimSpace(has[i][2])) < 2 {
			t.Errorf("the page does not have %q as row %d, with what it did before and with figures", r.name, i+1)
		}
	}
}

// write puts the figures into the page, and says how they were seen. Rows that did not run have none.
func write(ctx context.Context, page string, seen []figure) error {
	describe := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=12")
	describe.Dir = root
	commit, err := describe.Output()
	if err != nil {
		return fmt.Errorf("find out which commit this is: %w", err)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	head, rest, found := bytes.Cut(text, []byte(begin))
	_, tail, ended := bytes.Cut(rest, []byte(end))
	if !found || !ended {
		return errors.New(page + " has no place for the figures")
	}
	var table bytes.Buffer
	fmt.Fprintf(&table, "Commit %s, %s, %d cores, %s.\n\n", bytes.TrimSpace(commit), runtime.Version(), runtime.NumCPU(), sized("the short form", "full size"))
	table.WriteString("| Attack | Before | Now |\n|---|---|---|\n")
	for _, f := range seen {
		fmt.Fprintf(&table, "| %s | %s | %s |\n", f.name, f.before, f.now)
	}
	return os.WriteFile(page, bytes.Join([][]byte{head, []byte(begin), table.Bytes(), []byte(end), tail}, nil), 0o600)
}
