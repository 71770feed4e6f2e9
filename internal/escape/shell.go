package escape

import (
	"fmt"
	"regexp"
	"strings"
)

// bare matches words that mean themselves to POSIX shells, bash and zsh, wherever they stand behind a command's name. An
// equals sign begins none: zsh replaces =ls by a path.
var bare = regexp.MustCompile(`^[A-Za-z0-9_@%+:,./-][A-Za-z0-9_@%+=:,./-]*$`)

// Shell returns the words as a command that is safe to paste: a POSIX shell, bash or zsh reads exactly these words. Words
// that need no quotes stay bare. The first word is the program, a constant of the source code. The error names a word that
// has a character that is not visible, such as NUL or a line feed: no command can be shown that holds it.
//
// Shell does not know what a word means to the program: validate names, so that none is taken for an option.
func Shell(words ...string) (string, error) {
	quoted := make([]string, 0, len(words))
	for _, word := range words {
		if !plain(word) {
			return "", fmt.Errorf("quote %q for a shell: it has a character that is not visible", Cut(word, nameLimit))
		}
		quoted = append(quoted, quote(word))
	}
	return strings.Join(quoted, " "), nil
}

// Words returns words that are not a command, each [Cut] to the 256 bytes of a name and then in quotes as [Shell] has it: a line
// that holds them, such as a comment, does nothing when it is pasted by mistake, also where the shell knows no comments, as zsh.
func Words(words ...string) string {
	quoted := make([]string, 0, len(words))
	for _, word := range words {
		quoted = append(quoted, quote(Cut(word, nameLimit)))
	}
	return strings.Join(quoted, " ")
}

// quote puts a word in single quotes, in which no shell replaces anything, history included.
func quote(word string) string {
	if bare.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
