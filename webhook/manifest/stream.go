package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	// MaxDocument bounds one document. The apiserver takes requests of at most 3 MiB and etcd objects of 1.5 MiB; a
	// List of a whole namespace may be larger. Reading takes many times a document's size in memory, so there is an end.
	MaxDocument = 16 << 20
	// MaxStream bounds all documents together, which are held in memory at once.
	MaxStream = 256 << 20
)

// byteOrderMark may stand at the beginning of a text written on Windows.
const byteOrderMark = "\uFEFF"

// document is one document of a stream. Head and body together are its text, byte for byte.
type document struct {
	// head is what a parser need not see: a byte order mark, directives, the marker "---".
	head []byte
	// body holds the value.
	body []byte
	// line is the number of the document's first line in the stream.
	line int
}

// text returns the whole document.
func (d document) text() []byte {
	return append(bytes.Clone(d.head), d.body...)
}

// Read reads a stream of at most MaxStream bytes.
func Read(r io.Reader) ([]byte, error) {
	src, err := io.ReadAll(io.LimitReader(r, MaxStream+1))
	if err != nil {
		return nil, err
	}
	if len(src) > MaxStream {
		return nil, fmt.Errorf("more than %d MiB: give the manifests in several parts", MaxStream>>20)
	}
	return src, nil
}

// Join puts streams one behind the other, so that each document stays one.
func Join(streams ...[]byte) []byte {
	var out []byte
	for i, stream := range streams {
		if i > 0 {
			stream = bytes.TrimPrefix(stream, []byte(byteOrderMark)) // which belongs at a file's beginning alone
			out = append(out, separator(out, stream)...)
		}
		out = append(out, stream...)
	}
	return out
}

// separator returns what must stand between two streams.
func separator(before, after []byte) string {
	lineBreak := ""
	if len(before) > 0 && !bytes.HasSuffix(before, []byte("\n")) {
		lineBreak = "\n"
	}
	switch {
	case isMarker(after[:lineEnd(after, 0)], "---"):
		return lineBreak
	case bytes.HasPrefix(after, []byte("%")): // directives may only follow an ended document
		return lineBreak + "...\n"
	}
	return lineBreak + "---\n"
}

// Split cuts a stream into its documents' texts, which joined give the stream again. Rewrite keeps their number.
func Split(src []byte) ([][]byte, error) {
	docs, err := split(src)
	texts := make([][]byte, 0, len(docs))
	for _, doc := range docs {
		texts = append(texts, doc.text())
	}
	return texts, err
}

// split cuts a stream into its documents.
func split(src []byte) ([]document, error) {
	if bytes.HasPrefix(src, []byte("\xFF\xFE")) || bytes.HasPrefix(src, []byte("\xFE\xFF")) {
		return nil, errors.New("the text is UTF-16: save it as UTF-8")
	}
	var docs []document
	line := 1
	for _, chunk := range cut(src) {
		head := headLength(chunk)
		for _, body := range values(chunk[head:]) {
			doc := document{head: chunk[:head], body: body, line: line}
			if len(doc.body) > MaxDocument {
				return nil, fmt.Errorf("document %d (line %d) is larger than %d MiB: split it", len(docs)+1, line, MaxDocument>>20)
			}
			docs = append(docs, doc)
			line += bytes.Count(chunk[:head], []byte("\n")) + bytes.Count(body, []byte("\n"))
			chunk, head = chunk[head+len(body):], 0
		}
	}
	return docs, nil
}

// cut splits a stream at its document markers. A line that begins with "---" begins a document, wherever it stands, even
// within a quoted text (YAML 1.2, 9.1.2), and "..." ends one.
func cut(src []byte) [][]byte {
	var chunks [][]byte
	start, directives := 0, false
	for at := 0; at < len(src); {
		line := src[at:lineEnd(src, at)]
		switch {
		case isMarker(line, "---"):
			if !directives && at > start {
				chunks, start = append(chunks, src[start:at]), at
			}
			directives = false
		case isMarker(line, "..."):
			chunks, start = append(chunks, src[start:at+len(line)]), at+len(line)
			directives = false
		case bytes.HasPrefix(bytes.TrimPrefix(line, []byte(byteOrderMark)), []byte("%")) && blank(src[start:at]):
			directives = true
		}
		at += len(line)
	}
	return append(chunks, src[start:])
}

// isMarker tells whether a line is a document marker, which may have a value or a comment behind it.
func isMarker(line []byte, marker string) bool {
	rest, ok := bytes.CutPrefix(bytes.TrimPrefix(line, []byte(byteOrderMark)), []byte(marker))
	return ok && (len(rest) == 0 || strings.IndexByte(" \t\r\n", rest[0]) >= 0)
}

// blank tells whether a text holds nothing but comments and directives.
func blank(text []byte) bool {
	for line := range bytes.Lines(bytes.TrimPrefix(text, []byte(byteOrderMark))) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' && line[0] != '%' {
			return false
		}
	}
	return true
}

// headLength returns how much of a chunk stands before its body: all up to the marker that begins it, if there is one.
func headLength(chunk []byte) int {
	for at := 0; at < len(chunk); at = lineEnd(chunk, at) {
		line := chunk[at:lineEnd(chunk, at)]
		if isMarker(line, "---") {
			return at + bytes.Index(line, []byte("---")) + len("---")
		}
		if !blank(line) {
			break
		}
	}
	if bytes.HasPrefix(chunk, []byte(byteOrderMark)) {
		return len(byteOrderMark)
	}
	return 0
}

// values cuts a body that is several JSON values in a row; any other body is one.
func values(body []byte) [][]byte {
	if !looksLikeJSON(body) {
		return [][]byte{body}
	}
	var parts [][]byte
	start := 0
	for decoder := jsontext.NewDecoder(bytes.NewReader(body)); ; {
		switch err := decoder.SkipValue(); {
		case errors.Is(err, io.EOF) && len(parts) > 0:
			last := len(parts) - 1
			parts[last] = body[start-len(parts[last]):]
			return parts
		case err != nil:
			return [][]byte{body}
		}
		end := int(decoder.InputOffset())
		parts, start = append(parts, body[start:end]), end
	}
}

// looksLikeJSON tells whether a text begins as a JSON object or array does.
func looksLikeJSON(text []byte) bool {
	text = bytes.TrimLeft(text, " \t\r\n")
	return len(text) > 0 && (text[0] == '{' || text[0] == '[')
}

// lineEnd returns the offset behind the line break that ends the line at an offset, or the text's end.
func lineEnd(text []byte, at int) int {
	if i := bytes.IndexByte(text[at:], '\n'); i >= 0 {
		return at + i + 1
	}
	return len(text)
}
