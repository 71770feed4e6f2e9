// Package escape makes text from the cluster safe to print. Names, annotations and errors hold what tenants write: a line
// feed forges a line, an escape sequence rewrites the terminal, `$(…)` runs in the shell that a command is pasted into.
//
// One function serves each destination:
//
//   - shell.go: [Shell] quotes the words of a command that is printed to be pasted;
//   - text.go: [Text] makes one field visible on a terminal; [Printf] does so with every argument, [Cut] within a number of
//     bytes, [Lines] with a text of several lines, [Error] with an error;
//   - encoded.go: [JSON] and [YAML] do the same in encoded documents, which keep their values;
//   - log.go: [Core] bounds and escapes every field of every log line.
package escape
