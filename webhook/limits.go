package webhook

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"time"

	"golang.org/x/sync/semaphore"
)

// contentType is the one form in which requests come and answers go.
const contentType = "application/json"

const (
	// maxBody is what the apiserver itself accepts of a request, and more than any object in etcd can be.
	maxBody = 7 << 20

	// requestTimeout bounds a request from its headers to its answer: just under the webhook's timeoutSeconds, since an
	// answer that comes later is not waited for.
	requestTimeout = 2500 * time.Millisecond
	// writeTimeout is when a client that does not take its answer is given up on.
	writeTimeout = 2 * requestTimeout
	// namespaceWait is how long a request waits for its namespace to appear in the snapshot.
	namespaceWait = 500 * time.Millisecond
	// readTimeout leaves the time for that wait.
	readTimeout = requestTimeout - namespaceWait

	// maxInFlight bounds the bytes that all requests in flight hold. A request counts for as much as it has sent, in steps
	// of inFlightStep, and for one step at least: 512 requests of the usual size, or nine of the largest.
	maxInFlight  = 64 << 20
	inFlightStep = 128 << 10
	// keptBuffer is the largest buffer that is kept for later requests.
	keptBuffer = 1 << 20
	// beginning is how much of a shed request is read, to find its UID: it stands in the first hundred bytes.
	beginning = 4 << 10
)

// errOverloaded says that a request would take more than is left of maxInFlight.
var errOverloaded = errors.New("more requests are in flight than this process takes at once")

// meter reads a body and takes from the budget as it goes: a client that announces much and sends little holds little.
type meter struct {
	body   io.Reader
	budget *semaphore.Weighted
	read   int64
	taken  int64
}

// take takes another step. It never waits: over the bound, an answer at once is worth more than a queue.
func (m *meter) take() bool {
	if !m.budget.TryAcquire(inFlightStep) {
		return false
	}
	m.taken += inFlightStep
	return true
}

// into reads the whole body. Where not even the first step can be taken, it reads the little that names the request.
func (m *meter) into(buffer *bytes.Buffer) error {
	if !m.take() {
		_, _ = buffer.ReadFrom(io.LimitReader(m.body, beginning))
		return errOverloaded
	}
	_, err := buffer.ReadFrom(m)
	return err
}

// Read takes another step whenever the body has outgrown what was taken.
func (m *meter) Read(p []byte) (int, error) {
	n, err := m.body.Read(p)
	m.read += int64(n)
	for m.read > m.taken {
		if !m.take() {
			return n, errOverloaded
		}
	}
	return n, err
}

// end gives everything back.
func (m *meter) end() { m.budget.Release(m.taken) }

// refuse looks at what can be told from a request's headers.
func refuse(r *http.Request) (int, error) {
	if r.Method != http.MethodPost {
		return http.StatusMethodNotAllowed, fmt.Errorf("method %q: send an AdmissionReview by POST", r.Method)
	}
	given := r.Header.Get("Content-Type")
	if media, _, err := mime.ParseMediaType(given); err != nil || media != contentType {
		return http.StatusUnsupportedMediaType, fmt.Errorf("content type %q: send %s", given, contentType)
	}
	if r.ContentLength > maxBody {
		return http.StatusRequestEntityTooLarge, fmt.Errorf("a body of %d bytes: at most %d are read", r.ContentLength, maxBody)
	}
	return 0, nil
}

// unreadable is the status for a body that could not be read to its end.
func unreadable(err error) int {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return http.StatusRequestEntityTooLarge
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return http.StatusRequestTimeout
	}
	return http.StatusBadRequest
}

// setDeadlines bounds how long the client may take to send the rest of a request, and to take the answer: the server
// sets no such limits itself. A connection that cannot be given any (in a test) is served without.
func setDeadlines(w http.ResponseWriter, start time.Time) {
	controller := http.NewResponseController(w)
	_ = controller.SetReadDeadline(start.Add(readTimeout))
	_ = controller.SetWriteDeadline(start.Add(writeTimeout))
}
