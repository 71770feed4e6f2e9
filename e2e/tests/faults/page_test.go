package faults

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// row is what the page says of a fault. What stands in backquotes is what is to be seen, word for word.
type row struct {
	name string
	// injected says that every pod is; none is otherwise.
	injected bool
	// ready and ended are the readiness; unready is the reason where it is neither.
	ready, ended bool
	unready      string
	metrics, log []string
}

// readPage reads the page's one table.
func readPage(t *testing.T, file string) (rows []*row) {
	t.Helper()
	page, err := os.ReadFile(file)
	stage.Check(t, err)
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if len(cells) != 6 || strings.HasPrefix(line, "| What fails") {
			continue
		}
		r := &row{
			name:     strings.ReplaceAll(strings.TrimPrefix(cells[0], "| "), "`", ""),
			injected: strings.HasPrefix(cells[1], "injected"),
			ready:    cells[2] == "ready", ended: strings.HasPrefix(cells[2], "ends"),
			metrics: quoted(cells[3]), log: quoted(cells[4]),
		}
		if reasons := quoted(cells[2]); len(reasons) == 1 {
			r.unready = reasons[0]
		} else if !r.ready && !r.ended {
			t.Errorf("%s: its readiness is %q", r.name, cells[2])
		}
		rows = append(rows, r)
	}
	return rows
}

// quoted is what stands in backquotes.
func quoted(cell string) (found []string) {
	for _, match := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cell, -1) {
		found = append(found, match[1])
	}
	return found
}
