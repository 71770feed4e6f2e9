package escape

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"
)

// TestShell: words that mean themselves stay bare, others are quoted, and what cannot be shown is no command.
func TestShell(t *testing.T) {
	for name, c := range map[string]struct {
		words []string
		want  string // empty: an error
	}{
		"bare":              {[]string{"kubectl", "rollout", "restart", "deployment/web", "-n", "shop"}, "kubectl rollout restart deployment/web -n shop"},
		"flag with value":   {[]string{"x", "--set=a.b=HOST:443,c@d%e+f"}, "x --set=a.b=HOST:443,c@d%e+f"},
		"empty":             {[]string{"x", ""}, "x ''"},
		"semicolon":         {[]string{"x", "a;b"}, "x 'a;b'"},
		"substitution":      {[]string{"x", "$(id)"}, "x '$(id)'"},
		"single quote":      {[]string{"x", "it's"}, `x 'it'\''s'`},
		"history":           {[]string{"x", "a!b"}, "x 'a!b'"},
		"history, quoted":   {[]string{"x", "it's!b"}, `x 'it'\''s!b'`},
		"zsh's path":        {[]string{"x", "=ls"}, "x '=ls'"},
		"tilde":             {[]string{"x", "a=~root"}, "x 'a=~root'"},
		"letters elsewhere": {[]string{"x", "café"}, "x 'café'"},
		"line feed":         {[]string{"x", "a\nb"}, ""},
		"NUL":               {[]string{"x", "a\x00"}, ""},
		"escape":            {[]string{"x", "\x1b[2J"}, ""},
		"C1":                {[]string{"x", "\u009b2J"}, ""},
		"bidi":              {[]string{"x", "a\u202eb"}, ""},
		"no UTF-8":          {[]string{"x", "a\xff"}, ""},
		"no-break space":    {[]string{"x", "a\u00a0b"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Shell(c.words...)
			if got != c.want || (err != nil) != (c.want == "") {
				t.Errorf("got %q, %v, want %q", got, err, c.want)
			}
			if err != nil && !plain(err.Error()) {
				t.Errorf("the error is %q", err)
			}
		})
	}
	if got := Words("a;b", "\x1b[2J", strings.Repeat("c", 1000)); got != `'a;b' '\x1b[2J' '`+strings.Repeat("c", nameLimit-len(ellipsis))+"…'" {
		t.Errorf("Words gives %s", got)
	}
}

// TestShellParsesBack: a shell's parser, and the shells of this machine, read from a command the words that it was made of.
func TestShellParsesBack(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var script strings.Builder
	var want []string
	for range 20_000 {
		words := []string{"printf", `%s\n`, word(random), word(random)}
		command, err := Shell(words...)
		if err != nil {
			continue
		}
		if got, err := parsed(command); err != nil || !slices.Equal(got, words) {
			t.Fatalf("%s: got %q, %v, want %q", command, got, err, words)
		}
		script.WriteString(command + "\n")
		want = append(want, words[2:]...)
	}
	if len(want) < 1000 {
		t.Fatalf("only %d words could be quoted", len(want))
	}
	for _, shell := range []string{"sh", "bash", "dash", "zsh"} {
		path, err := exec.LookPath(shell)
		if err != nil {
			continue
		}
		run := exec.Command(path)
		run.Stdin = strings.NewReader(script.String())
		out, err := run.Output()
		if err != nil || !bytes.Equal(out, []byte(strings.Join(want, "\n")+"\n")) {
			t.Errorf("%s reads other words: %v", shell, err)
		}
	}
}

// word makes a word, most often of characters that mean something to a shell.
func word(random *rand.Rand) string {
	const special = "abz019-_./:=,%@+~#!*?[]{}()<>|&;$`'\"\\^ \t\n\x00\x1b\u0085\u202eé"
	runes := []rune(special)
	out := make([]rune, random.IntN(12))
	for i := range out {
		out[i] = runes[random.IntN(len(runes)-random.IntN(2)*7)]
	}
	return string(out)
}

// parsed returns the words of a command, as the shell would give them to the program.
func parsed(command string) ([]string, error) {
	file, err := syntax.NewParser().Parse(strings.NewReader(command), "")
	if err != nil {
		return nil, err
	}
	if len(file.Stmts) != 1 {
		return nil, fmt.Errorf("there are %d statements", len(file.Stmts))
	}
	call, ok := file.Stmts[0].Cmd.(*syntax.CallExpr)
	if !ok || len(call.Assigns) > 0 || len(file.Stmts[0].Redirs) > 0 {
		return nil, fmt.Errorf("%T is not a plain command", file.Stmts[0].Cmd)
	}
	return expand.Fields(&expand.Config{NoUnset: true}, call.Args...)
}
