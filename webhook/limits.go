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

	"github.com/lightstep-injector/lightstep-injector/webhook/fairshare"
)

// contentType is the one form in which requests come and answers go.
const contentType = "application/json"

const (
	// maxBody is what the apiserver itself accepts of a request, and more than any object in etcd can be.
	maxBody = 7 << 20
	// maxUID bounds a request's uid, in bytes. The API server's have 36.
	maxUID = 256

	// requestTimeout bounds a request from its headers to its answer: just under the webhook's timeoutSeconds, since an
	// answer that comes later is not waited for.
	requestTimeout = 2500 * time.Millisecond
	// writeTimeout is when a client that does not take its answer is given up on.
	writeTimeout = 2 * requestTimeout
	// namespaceWait is how long a request waits for its namespace to appear in the snapshot.
	namespaceWait = 500 * time.Millisecond
	// readTimeout leaves the time for that wait.
	readTimeout = requestTimeout - namespaceWait

	// maxDecisions bounds the requests that are decided at once, and so the memory that this takes and the processor time that
	// one client has while another waits. A request takes its slot when its body is complete, and gives it back while it waits
	// for its namespace. What is left is computation: requests wait for a slot until requestTimeout, the clients in turn.
	maxDecisions = 8
	// maxWaiting bounds the requests that wait for their namespace; no client keeps more than a quarter while others wait. A
	// request beyond that is decided by the snapshot as it is.
	maxWaiting = 256
	// maxBytes bounds the bytes of bodies and answers beyond usualBytes of each, for all requests together: a body is read in
	// memory of up to twice its size. No client keeps more than a quarter while others need some.
	maxBytes = 16 << 20
	// usualBytes is what each body and each answer may have without a share of maxBytes. Most pods' reviews have less.
	usualBytes = 16 << 10
	// bodyKept is how long a body may take before its memory is given to another of the same client. The API server's come at
	// once.
	bodyKept = 50 * time.Millisecond
	// bytesWait is how long a body waits for memory that others give back: a complete body is decided within milliseconds.
	bytesWait = 500 * time.Millisecond
	// quarter divides a bound into the share of one client.
	quarter = 4
	// keptBuffer is the largest buffer that is kept for later requests.
	keptBuffer = 128 << 10
)

// errOverloaded says that a request would take more than is left.
var errOverloaded = errors.New("more requests are in flight than this process takes at once")

// budget is what is left for requests.
type budget struct {
	decisions      *fairshare.Queue
	waiting, bytes *fairshare.Pool
	// unknown is the client of a request that came by no connection of ours.
	unknown *fairshare.Client
}

func newBudget(metrics *Metrics) *budget {
	return &budget{
		decisions: fairshare.NewQueue(maxDecisions, maxDecisions-2),
		waiting:   fairshare.NewPool(maxWaiting, maxWaiting/quarter, maxWaiting/quarter, metrics.unwaited.Inc),
		bytes:     fairshare.NewPool(maxBytes, maxBytes/quarter, quarter-1, metrics.revoked.Inc),
		unknown:   new(fairshare.Client),
	}
}

// clientOf is the client that a request is counted for.
func (b *budget) clientOf(c *connection) *fairshare.Client {
	if c == nil {
		return b.unknown
	}
	return c.held.Client()
}

// meter reads a body and takes from the budget as it goes: a client that announces much and sends little holds little.
type meter struct {
	body   io.Reader
	bytes  *fairshare.Pool
	client *fairshare.Client
	// stop ends the reading, when the memory goes to another.
	stop func()
	// held is nil for a body that is no larger than usual.
	held *fairshare.Holding
	// read is how much was read, and room how much may be.
	read, room int64
}

// newMeter makes a meter for the body of a request.
func (b *budget) newMeter(w http.ResponseWriter, r *http.Request, c *connection) *meter {
	return &meter{
		body: http.MaxBytesReader(w, r.Body, maxBody), bytes: b.bytes, client: b.clientOf(c), room: usualBytes,
		stop: func() { _ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0)) },
	}
}

// into reads the whole body. From then on its memory is not revoked.
func (m *meter) into(buffer *bytes.Buffer) error {
	_, err := buffer.ReadFrom(m)
	if m.held != nil && !m.held.Protect() {
		return errOverloaded
	}
	return err
}

// Read doubles what is taken whenever the body has outgrown it, as its buffer does.
func (m *meter) Read(p []byte) (int, error) {
	n, err := m.body.Read(p)
	m.read += int64(n)
	for m.read > m.room {
		if m.held == nil {
			m.held = m.bytes.Hold(m.client, m.stop)
			m.held.KeepUntil(time.Now().Add(bodyKept))
		}
		if !m.held.GrowWithin(bytesWait, m.room) {
			return n, errOverloaded
		}
		m.room *= 2
	}
	return n, err
}

// end gives everything back.
func (m *meter) end() {
	if m.held != nil {
		m.held.Release()
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
