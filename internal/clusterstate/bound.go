package clusterstate

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// MostBytes is the size in bytes, after decompression, above which a response is abandoned.
const MostBytes = 8 << 20

// TooLargeError reports a response that was abandoned.
type TooLargeError struct{ Limit int64 }

// Error states the limit.
func (e *TooLargeError) Error() string { return fmt.Sprintf("response exceeds %d bytes", e.Limit) }

// BoundResponses returns a transport whose responses fail with a [TooLargeError] above [MostBytes]. Watches are unbounded:
// they are read event by event. It is made for rest.Config.Wrap.
func BoundResponses(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		response, err := next.RoundTrip(r)
		if err != nil || isWatch(r) {
			return response, err
		}
		response.Body = &boundBody{ReadCloser: response.Body, left: MostBytes, known: response.ContentLength}
		return response, nil
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip calls the function.
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func isWatch(r *http.Request) bool {
	watch, err := strconv.ParseBool(r.URL.Query().Get("watch"))
	return err == nil && watch
}

// boundBody is a response's body.
type boundBody struct {
	io.ReadCloser

	left int64
	// known is the length that the server has announced; -1 if it has announced none.
	known int64
}

// Read fails once the body exceeds the limit; at once if the server has announced that it will.
func (b *boundBody) Read(into []byte) (int, error) {
	if b.left < 0 || b.known > MostBytes {
		return 0, &TooLargeError{MostBytes}
	}
	n, err := b.ReadCloser.Read(into)
	if b.left -= int64(n); b.left < 0 {
		return n, &TooLargeError{MostBytes}
	}
	return n, err
}
