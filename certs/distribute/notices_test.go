package distribute

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// TestBounded: an Event takes every text, and none is cut within a character.
func TestBounded(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       int
	}{
		{"short", "exceeded quota: compute", 23},
		{"at the bound", strings.Repeat("x", maxText), maxText},
		{"above it", strings.Repeat("x", maxText+1), maxText},
		{"within a character", "x" + strings.Repeat("é", maxText), maxText - 1},
		{"no text", "\xff\xfe", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := bounded(c.text); len(got) != c.want || !utf8.ValidString(got) {
				t.Errorf("%d bytes: %q", len(got), got)
			}
		})
	}
}
