package escape

import (
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// visible reports whether a terminal shows a character as it is. Control characters (C0, DEL, C1), marks that reorder text
// (bidi), line and paragraph separators, characters of no width, spaces other than U+0020 and unassigned characters are not.
func visible(r rune) bool {
	return unicode.IsPrint(r) && !unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// plain reports whether a text needs no escape: it is valid UTF-8, and every character is visible.
func plain(s string) bool {
	for i := 0; i < len(s); {
		if b := s[i]; ' ' <= b && b <= '~' {
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 || !visible(r) {
			return false
		}
		i += size
	}
	return true
}

// appendFirst appends the first character of a text, visibly, and returns its size in the text. The escapes are Go's: \n,
// \x1b, \u202e; a byte that is not UTF-8 is \xff.
func appendFirst(dst []byte, s string) (out []byte, size int) {
	r, size := utf8.DecodeRuneInString(s)
	switch {
	case r == utf8.RuneError && size == 1:
		return fmt.Appendf(dst, `\x%02x`, s[0]), size
	case visible(r):
		return append(dst, s[:size]...), size
	}
	quoted := strconv.QuoteRuneToASCII(r)
	return append(dst, quoted[1:len(quoted)-1]...), size
}

// Text returns a text for one field of one line: each character that is not visible is an escape, line feeds and tabs
// included. Anything else stays as it is.
func Text(s string) string {
	if plain(s) {
		return s
	}
	return escaped(s, "")
}

// Lines is [Text] for a text of several lines, such as a diff: line feeds, tabs and a carriage return before a line feed stay.
func Lines(s string) string { return escaped(s, "\n\t") }

// escaped returns a text with escapes for what is not visible, but for the characters in keep.
func escaped(s, keep string) string {
	out := make([]byte, 0, len(s)+len(s)/8)
	var size int
	for ; s != ""; s = s[size:] {
		kept := strings.IndexByte(keep, s[0]) >= 0
		switch {
		case kept:
			out, size = append(out, s[0]), 1
		case keep != "" && strings.HasPrefix(s, "\r\n"):
			out, size = append(out, "\r\n"...), 2
		default:
			out, size = appendFirst(out, s)
		}
	}
	return string(out)
}

// ellipsis ends a text that was cut.
const ellipsis = "…"

// Cut is [Text] within a number of bytes, at least three. A text that does not fit ends with an ellipsis. The rest of a
// long text is not read.
func Cut(s string, limit int) string {
	if len(s) <= limit && plain(s) {
		return s
	}
	out := make([]byte, 0, min(limit, 2*len(s))+utf8.UTFMax)
	fits := 0 // so much leaves room for the ellipsis
	var size int
	for ; s != ""; s = s[size:] {
		out, size = appendFirst(out, s)
		if len(out) > limit {
			return string(out[:fits]) + ellipsis
		}
		if len(out) <= limit-len(ellipsis) {
			fits = len(out)
		}
	}
	return string(out)
}

// Error returns an error's text. Only the line feeds that [errors.Join] puts between errors stay; those within a message
// come from the text that it quotes.
func Error(err error) string {
	text, causes, joined := err.Error(), []error(nil), false
	switch e := err.(type) { //nolint:errorlint // each error of the tree is looked at by itself
	case interface{ Unwrap() error }:
		causes = append(causes, e.Unwrap())
	case interface{ Unwrap() []error }:
		causes, joined = e.Unwrap(), true
	}
	var out strings.Builder
	for i, cause := range causes {
		if cause == nil {
			continue
		}
		before, after, found := strings.Cut(text, cause.Error())
		if !found {
			break
		}
		if joined && i > 0 && before == "\n" {
			out.WriteString(before)
		} else {
			out.WriteString(Text(before))
		}
		out.WriteString(Error(cause))
		text = after
	}
	return out.String() + Text(text)
}

// Printf formats as [fmt.Fprintf] does and writes the result, each argument as [Text] or [Error] has it: only the format
// holds line feeds and tabs. A write error means that the reader is gone, and is ignored.
func Printf(out io.Writer, format string, args ...any) {
	for i, arg := range args {
		args[i] = argument(arg)
	}
	_, _ = fmt.Fprintf(out, format, args...)
}

// argument returns what stands for an argument: a number or a boolean is as it was.
func argument(arg any) any {
	switch v := arg.(type) {
	case string:
		return Text(v)
	case error:
		return Error(v)
	case fmt.Stringer:
		return Text(v.String())
	case []byte:
		return Text(string(v))
	}
	if kind := reflect.ValueOf(arg).Kind(); reflect.Bool <= kind && kind <= reflect.Complex128 {
		return arg
	}
	return Text(fmt.Sprint(arg))
}
