package escape

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"sigs.k8s.io/yaml"
)

// TestText: each kind of character that a terminal does not show as it is becomes an escape, and no other.
func TestText(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"plain":              {"lightstep.com/status: {\"a\": 1}", "lightstep.com/status: {\"a\": 1}"},
		"letters":            {"Прод Москва é, é 🚀", "Прод Москва é, é 🚀"},
		"backslash":          {`a\nb`, `a\nb`},
		"replacement":        {"\ufffd", "\ufffd"},
		"C0":                 {"a\x00\a\b\t\n\v\f\r\x1bb", `a\x00\a\b\t\n\v\f\r\x1bb`},
		"DEL":                {"\x7f", `\x7f`},
		"C1":                 {"\u0080\u0085\u009b2J", `\u0080\u0085\u009b2J`},
		"bidi":               {"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c", `\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c`},
		"separators":         {"\u2028\u2029", `\u2028\u2029`},
		"no width":           {"\u200b\u200c\u200d\u2060\ufeff\u00ad\u034f\ufe0f", `\u200b\u200c\u200d\u2060\ufeff\u00ad\u034f\ufe0f`},
		"blank letters":      {"\u3164\u115f\uffa0", `\u3164\u115f\uffa0`},
		"spaces":             {"\u00a0\u2003\u3000", `\u00a0\u2003\u3000`},
		"tags":               {"\U000e0041", `\U000e0041`},
		"no UTF-8":           {"a\xc3\xff\xed\xa0\x80b", `a\xc3\xff\xed\xa0\x80b`},
		"surrogates, raw C1": {"\x9b2J", `\x9b2J`},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Text(c.text); got != c.want || !plain(got) {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if got := Cut(c.text, 1000); got != c.want {
				t.Errorf("cut, got %s, want %s", got, c.want)
			}
		})
	}
}

// TestCut: a text is at most so long once it is escaped, and no character and no escape is cut in two.
func TestCut(t *testing.T) {
	for _, c := range []struct {
		text  string
		limit int
		want  string
	}{
		{"abcdef", 6, "abcdef"},
		{"abcdefg", 6, "abc…"},
		{"éééé", 6, "é…"},
		{"abcd\x1b", 6, "abc…"},
		{"ab\x1b", 6, `ab\x1b`},
		{"\x1b\x1b", 6, "…"},
		{"", 3, ""},
	} {
		if got := Cut(c.text, c.limit); got != c.want || len(got) > c.limit {
			t.Errorf("%q within %d: %q, want %q", c.text, c.limit, got, c.want)
		}
	}
	long := strings.Repeat("x\x1b", 5<<20)
	if allocated := testing.AllocsPerRun(10, func() { Cut(long, 256) }); allocated > 100 {
		t.Errorf("%v allocations for a long text", allocated)
	}
}

// TestLines: lines, tabs and Windows' line breaks stay.
func TestLines(t *testing.T) {
	const text, want = "a\tb\r\nc\rd\x1b[2J\n\u202ee\n", "a\tb\r\nc\\rd\\x1b[2J\n\\u202ee\n"
	if got := Lines(text); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestError: the line feeds of joined errors stay, those of a message do not.
func TestError(t *testing.T) {
	first, second := errors.New("first\nerror: forged"), errors.New("second\x1b[2J")
	both := errors.Join(first, second)
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"one":            {first, `first\nerror: forged`},
		"joined":         {errors.Join(first, second), `first\nerror: forged` + "\n" + `second\x1b[2J`},
		"wrapped":        {fmt.Errorf("read a\nb: %w\n)", errors.Join(first, second)), `read a\nb: first\nerror: forged` + "\n" + `second\x1b[2J\n)`},
		"joined twice":   {errors.Join(fmt.Errorf("x: %w", errors.Join(first, first)), second), `x: first\nerror: forged` + "\n" + `first\nerror: forged` + "\n" + `second\x1b[2J`},
		"two causes":     {fmt.Errorf("%w\tand %w", first, second), `first\nerror: forged\tand second\x1b[2J`},
		"quotes another": {fmt.Errorf("a %s: %w", both.Error(), both), `a first\nerror: forged` + "\n" + `second\x1b[2J: first\nerror: forged\nsecond\x1b[2J`},
		"hidden":         {hiddenError{errors.Join(first, second)}, `hid\nden`},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Error(c.err); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

type hiddenError struct{ cause error }

func (hiddenError) Error() string   { return "hid\nden" }
func (h hiddenError) Unwrap() error { return h.cause }

// TestPrintf: every argument that may be a text is escaped, and numbers are formatted as ever.
func TestPrintf(t *testing.T) {
	type named string
	var out bytes.Buffer
	Printf(&out, "%s\t%s %s %s %d %05.1f %v %v %v\n", "a\n", named("b\n"), []byte("c\n"), errors.New("d\n!d"), 7, 1.5, true, []string{"e\n"}, nil)
	if want := `a\n` + "\t" + `b\n c\n d\n!d 7 001.5 true [e\n] <nil>` + "\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

// TestEncoded: JSON and YAML keep their values, and show every character.
func TestEncoded(t *testing.T) {
	for name, value := range map[string]any{
		"plain":    map[string]any{"a": "b", "c": []any{"d", 1.0, true, nil}},
		"controls": map[string]any{"a": "x\x1b\u0085\u009b\x7fy\x00"},
		"bidi":     map[string]any{"\u202ekey": "\u2066a\n  b: \u2069'\"#", "list": []any{"\u200b", "yes", "1"}},
		"tags":     map[string]any{"a": "\U000e0041 and \U0001f680"},
		"spaces":   map[string]any{"a": "\u00a0\u2028\u2029\ufeff"},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := json.Marshal(value)
			if err != nil {
				t.Fatal(err)
			}
			encoded := JSON(raw)
			var again any
			if err := json.Unmarshal(encoded, &again); err != nil || fmt.Sprintf("%q", again) != fmt.Sprintf("%q", value) || !plain(string(encoded)) {
				t.Errorf("JSON %s: %q, %v", encoded, again, err)
			}
			text, err := YAML(raw)
			if err != nil {
				t.Fatal(err)
			}
			again = nil
			if err := yaml.Unmarshal(text, &again); err != nil || fmt.Sprintf("%q", again) != fmt.Sprintf("%q", value) || Lines(string(text)) != string(text) {
				t.Errorf("YAML %q: %q, %v", text, again, err)
			}
		})
	}
}

// FuzzText: whatever the text, the result is visible, whole and bounded.
func FuzzText(f *testing.F) {
	f.Add("a\x1b[2J\u202e\xff", 10)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		limit = 3 + max(limit, -limit)&0xfff
		if got := Cut(s, limit); !plain(got) || len(got) > limit || !utf8.ValidString(got) {
			t.Errorf("%q within %d: %q", s, limit, got)
		}
		if got := Text(s); !plain(got) || plain(s) != (got == s) {
			t.Errorf("%q: %q", s, got)
		}
		if got := Lines(s); Lines(got) != got {
			t.Errorf("%q: %q", s, got)
		}
	})
}
