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

	// maxRequests bounds the requests in flight, and usualBody the bytes that each may hold whatever the others do: hardly a
	// pod's review has more.
	maxRequests = 512
	usualBody   = 64 << 10
	// maxExcess bounds the bytes that all requests together hold beyond that, in steps of excessStep. To read a body may take
	// several times its size, and a few large ones, which anybody can send, must be no usual one's loss.
	maxExcess  = 8 << 20
	excessStep = 64 << 10
	// keptBuffer is the largest buffer that is kept for later requests.
	keptBuffer = 1 << 20
	// beginning is how much of a shed request is read, to find its UID: it stands in the first hundred bytes.
	beginning = 4 << 10
)

// errOverloaded says that a request would take more than is left.
var errOverloaded = errors.New("more requests are in flight than this process takes at once")

// budget is what is left for requests.
type budget struct {
	requests, excess *semaphore.Weighted
}

func newBudget() *budget {
	return &budget{requests: semaphore.NewWeighted(maxRequests), excess: semaphore.NewWeighted(maxExcess)}
}

// meter reads a body and takes from the budget as it goes: a client that announces much and sends little holds little. It
// never waits: over the bound, an answer at once is worth more than a queue.
type meter struct {
	body   io.Reader
	budget *budget
	// admitted says that it is one of the requests in flight; excess is what it has taken beyond the usual.
	admitted     bool
	read, excess int64
}

// into reads the whole body. Where it is one request too many, it reads the little that names the request.
func (m *meter) into(buffer *bytes.Buffer) error {
	if m.admitted = m.budget.requests.TryAcquire(1); !m.admitted {
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
	for m.read > usualBody+m.excess {
		if !m.budget.excess.TryAcquire(excessStep) {
			return n, errOverloaded
		}
		m.excess += excessStep
	}
	return n, err
}

// end gives everything back.
func (m *meter) end() {
	m.budget.excess.Release(m.excess)
	if m.admitted {
		m.budget.requests.Release(1)
	}
}

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
