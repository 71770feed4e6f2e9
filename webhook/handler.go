package webhook

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/lightstep-injector/lightstep-injector/webhook/fairshare"
	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
	"github.com/lightstep-injector/lightstep-injector/webhook/panics"
	"github.com/lightstep-injector/lightstep-injector/webhook/snapshot"
)

// Path is where the handler expects to be called.
const Path = "/inject"

// The one kind and version of a request, and of its answer.
const (
	reviewKind    = "AdmissionReview"
	reviewVersion = "admission.k8s.io/v1"
)

// Handler answers the apiserver's admission requests.
type Handler struct {
	// Run is the pure core, inject.Run.
	Run func(*inject.Request, *inject.Snapshot) inject.Result
	// Store has the snapshot that a decision is made from.
	Store *snapshot.Store
	// Metrics counts the answers.
	Metrics *Metrics
	// Log has one line for each answer that is not a plain success.
	Log *zap.Logger

	budget  *budget
	buffers sync.Pool
}

// NewHandler makes a handler around the real core.
func NewHandler(store *snapshot.Store, metrics *Metrics, log *zap.Logger) *Handler {
	return &Handler{
		Run:     inject.Run,
		Store:   store,
		Metrics: metrics,
		Log:     log,
		budget:  newBudget(metrics),
		buffers: sync.Pool{New: func() any { return new(bytes.Buffer) }},
	}
}

// ServeHTTP answers one request: with an AdmissionReview that admits the pod or, to what is no such request at all, in
// plain text.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start, connection := time.Now(), connectionOf(r.Context())
	setDeadlines(w, start)
	connection.arrived()
	a := h.receive(w, r, connection, start)
	h.reply(w, &a, connection)
	connection.answered(a.valid)
	took := time.Since(start)
	h.Metrics.admitted(&a.result, took)
	h.log(&a, took)
}

// admission is one request and what became of it.
type admission struct {
	review review
	pod    inject.Pod
	result inject.Result
	// valid says that the request was for a namespace that is known to be labelled: it speaks for its client.
	valid bool
	// failure is why the pod was left unchanged where that was no rule's doing.
	failure error
	// answer is the body to send; where there is none, status and the failure's text are sent.
	answer []byte
	status int
}

// receive reads the body, within its limits, and has it decided.
func (h *Handler) receive(w http.ResponseWriter, r *http.Request, connection *connection, start time.Time) (a admission) {
	if status, err := refuse(r); err != nil {
		a.refuse(status, err)
		return a
	}
	buffer := h.buffers.Get().(*bytes.Buffer)
	defer h.putBack(buffer)
	body := h.budget.newMeter(w, r, connection)
	defer body.end()

	err := body.into(buffer)
	connection.complete()
	switch {
	case errors.Is(err, errOverloaded):
		h.shed(&a, buffer.Bytes())
	case err != nil:
		a.refuse(unreadable(err), fmt.Errorf("read body: %w", err))
	default:
		return h.decide(r.Context(), body, buffer.Bytes(), start)
	}
	return a
}

// decide has a complete body decided in a slot. A shutdown that begins meanwhile changes nothing.
func (h *Handler) decide(ctx context.Context, m *meter, body []byte, start time.Time) (a admission) {
	ctx = context.WithoutCancel(ctx)
	if !h.turn(ctx, m.client, start) {
		h.shed(&a, body)
		return a
	}
	defer h.budget.decisions.Release(m.client)
	h.Metrics.inFlight.Inc()
	defer h.Metrics.inFlight.Dec()
	return h.admit(ctx, m, body)
}

// turn waits until it is a request's turn, and returns false where that takes too long.
func (h *Handler) turn(ctx context.Context, client *fairshare.Client, start time.Time) bool {
	if h.budget.decisions.TryAcquire(client) {
		return true
	}
	ctx, cancel := context.WithDeadline(ctx, start.Add(requestTimeout))
	defer cancel()
	return h.budget.decisions.Acquire(ctx, client) == nil
}

// shed answers a request that is one too many. The beginning of its body has its uid.
func (h *Handler) shed(a *admission, body []byte) {
	const beginning = 4 << 10
	h.Metrics.shed.Inc()
	a.review.Request.UID = decodeUID(body[:min(len(body), beginning)])
	a.fail(inject.Overloaded, errOverloaded)
}

// admit takes a request from its bytes to the answer's. Whatever fails on the way, and however, ends here: the pod is
// admitted unchanged, with a warning, a metric and a log line.
func (h *Handler) admit(ctx context.Context, m *meter, body []byte) (a admission) {
	defer func() {
		if cause := recover(); cause != nil {
			a.review.Request.UID = cmp.Or(a.review.Request.UID, decodeUID(body))
			a.fail(inject.InternalError, panics.Error(cause))
		}
	}()
	var err error
	a.review, a.pod, err = decodeReview(body)
	if err = cmp.Or(a.review.boundUID(), err); err == nil {
		err = a.review.check()
	}
	if err != nil {
		a.fail(inject.BadRequest, err)
		return a
	}
	namespace := a.review.Request.Namespace
	current := h.snapshot(ctx, m, namespace)
	_, a.valid = current.Namespaces.Get(namespace)
	a.result = h.Run(&inject.Request{Namespace: namespace, Pod: a.pod}, current)
	if a.answer, err = answer(a.review.Request.UID, &a.result); err != nil {
		a.fail(inject.InternalError, err)
	}
	return a
}

// snapshot is the current one, unless it lacks the namespace. Being called proves that the namespace is labelled, so a
// moment is given to the watch to say so too.
func (h *Handler) snapshot(ctx context.Context, m *meter, namespace string) *inject.Snapshot {
	current := h.Store.Current()
	if !snapshot.Awaits(current, namespace) {
		return current
	}
	return h.await(ctx, m, namespace)
}

// await waits for a namespace, without a slot, and with its memory and its place among those that wait open to be taken by
// others.
func (h *Handler) await(ctx context.Context, m *meter, namespace string) *inject.Snapshot {
	waiting, cancel := context.WithTimeout(ctx, namespaceWait)
	defer cancel()
	place := h.budget.waiting.Hold(m.client, cancel)
	if !place.Displace(1) {
		h.Metrics.unwaited.Inc()
		return h.Store.Current()
	}
	defer place.Release()
	if m.held != nil {
		m.held.Expose(cancel)
		defer m.held.Protect()
	}
	h.budget.decisions.Release(m.client)
	defer func() { _ = h.budget.decisions.Acquire(ctx, m.client) }() // ctx never ends: what others do with their slots is brief
	return h.Store.WaitFor(waiting, namespace)
}

// boundUID drops a uid that is too long to be echoed and logged.
func (r *review) boundUID() error {
	n := len(r.Request.UID)
	if n <= maxUID {
		return nil
	}
	r.Request.UID = ""
	return fmt.Errorf("request.uid has %d bytes; the limit is %d", n, maxUID)
}

// check says why a review is not one of a pod's creation.
func (r *review) check() error {
	if r.Kind != reviewKind || r.APIVersion != reviewVersion {
		return fmt.Errorf("a %s of %s is needed", reviewKind, reviewVersion)
	}
	q := &r.Request
	if q.UID == "" {
		return errors.New("request.uid is empty")
	}
	if q.Resource != (resource{Version: "v1", Resource: "pods"}) || q.SubResource != "" || q.Operation != "CREATE" {
		return errors.New("only the creation of pods is looked at: the webhook's rules should name operation CREATE, apiGroup \"\", version v1, resource pods, and no other")
	}
	return nil
}

// reply sends the answer. A write error means that the client is gone: the failurePolicy decides about its pod. A client
// that does not read a large answer holds its memory, so such an answer has a place in the budget, too.
func (h *Handler) reply(w http.ResponseWriter, a *admission, c *connection) {
	if len(a.answer) > usualBytes {
		stop := func() { _ = http.NewResponseController(w).SetWriteDeadline(time.Unix(1, 0)) }
		held := h.budget.bytes.Hold(h.budget.clientOf(c), stop)
		defer held.Release()
		if !held.Grow(int64(len(a.answer))) {
			h.Metrics.shed.Inc()
			a.fail(inject.Overloaded, errOverloaded)
		}
	}
	send(w, a)
}

// send writes the answer.
func send(w http.ResponseWriter, a *admission) {
	if a.answer == nil {
		http.Error(w, a.failure.Error(), a.status)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(a.answer)))
	_, _ = w.Write(a.answer)
}

// putBack keeps a buffer for the next request, unless it has grown beyond what requests usually need.
func (h *Handler) putBack(buffer *bytes.Buffer) {
	if buffer.Cap() > keptBuffer {
		return
	}
	buffer.Reset()
	h.buffers.Put(buffer)
}
