package clusterstate

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
)

// A response is abandoned above the bound, announced or not; a watch is not bounded as a whole.
func TestBoundResponses(t *testing.T) {
	for name, c := range map[string]struct {
		query    string
		size     int
		announce bool
		fails    bool
	}{
		"at the bound":           {"", MostBytes, false, false},
		"above it":               {"", MostBytes + 1, false, true},
		"above it, as announced": {"", MostBytes + 1, true, true},
		"a watch":                {"?watch=true", MostBytes + 1, false, false},
		"a watch, in short":      {"?watch=1", MostBytes + 1, false, false},
		"no watch":               {"?watch=false", MostBytes + 1, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if c.announce {
					w.Header().Set("Content-Length", strconv.Itoa(c.size))
				}
				_, _ = io.Copy(w, strings.NewReader(strings.Repeat("x", c.size))) // the reader may have gone
			}))
			defer server.Close()
			client := http.Client{Transport: BoundResponses(http.DefaultTransport)}
			response, err := client.Get(server.URL + c.query)
			if err != nil {
				t.Fatal(err)
			}
			read, err := io.ReadAll(response.Body)
			_ = response.Body.Close()
			_, tooLarge := errors.AsType[*TooLargeError](err)
			if tooLarge != c.fails || (err == nil && len(read) != c.size) || (c.announce && len(read) > 0) {
				t.Errorf("%d bytes, %v", len(read), err)
			}
		})
	}
}

// Of annotations the named ones are kept. One that is cut is no valid setting any more.
func TestNamed(t *testing.T) {
	long := strings.Repeat("k=v,", MostAnnotation)
	got := Named(map[string]string{"a": "1", "b": long, "c": "3"}, "a", "b", "d")
	if len(got) != 2 || got["a"] != "1" || len(got["b"]) != MostAnnotation || !strings.HasPrefix(long, got["b"][:MostAnnotation-len(cutMark)]) {
		t.Errorf("%d: %q, %d bytes", len(got), got["a"], len(got["b"]))
	}
	pairs := strings.Split(got["b"], ",")
	if last := pairs[len(pairs)-1]; strings.Contains(last, "=") {
		t.Errorf("its last part is a valid tag: %s", last)
	}
	if Cut(got["b"]) != got["b"] || Named(nil, "a") != nil {
		t.Error("cut twice, it is another text; or there is something of nothing")
	}
}
