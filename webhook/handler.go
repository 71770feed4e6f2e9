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
		budget:  newBudget(),
		buffers: sync.Pool{New: func() any { return new(bytes.Buffer) }},
	}
}

// ServeHTTP answers one request: with an AdmissionReview that admits the pod or, to what is no such request at all, in
// plain text.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	setDeadlines(w, start)
	a := h.receive(w, r)
	reply(w, &a)
	took := time.Since(start)
	h.Metrics.admitted(&a.result, took)
	h.log(&a, took)
}

// admission is one request and what became of it.
type admission struct {
	review review
	pod    inject.Pod
	result inject.Result
	// failure is why the pod was left unchanged where that was no rule's doing.
	failure error
	// answer is the body to send; where there is none, status and the failure's text are sent.
	answer []byte
	status int
}

// receive reads the body, within its limits, and has it decided.
func (h *Handler) receive(w http.ResponseWriter, r *http.Request) (a admission) {
	if status, err := refuse(r); err != nil {
		a.refuse(status, err)
		return a
	}
	h.Metrics.inFlight.Inc()
	defer h.Metrics.inFlight.Dec()
	buffer := h.buffers.Get().(*bytes.Buffer)
	defer h.putBack(buffer)
	body := meter{body: http.MaxBytesReader(w, r.Body, maxBody), budget: h.budget}
	defer body.end()

	switch err := body.into(buffer); {
	case err == nil:
		return h.admit(r.Context(), buffer.Bytes())
	case errors.Is(err, errOverloaded):
		h.Metrics.shed.Inc()
		a.review.Request.UID = decodeUID(buffer.Bytes())
		a.fail(inject.Overloaded, err)
	default:
		a.refuse(unreadable(err), fmt.Errorf("read body: %w", err))
	}
	return a
}

// admit takes a request from its bytes to the answer's. Whatever fails on the way, and however, ends here: the pod is
// admitted unchanged, with a warning, a metric and a log line.
func (h *Handler) admit(ctx context.Context, body []byte) (a admission) {
	defer func() {
		if cause := recover(); cause != nil {
			a.review.Request.UID = cmp.Or(a.review.Request.UID, decodeUID(body))
			a.fail(inject.InternalError, panics.Error(cause))
		}
	}()
	var err error
	if a.review, a.pod, err = decodeReview(body); err == nil {
		err = a.review.check()
	}
	if err != nil {
		a.fail(inject.BadRequest, err)
		return a
	}
	namespace := a.review.Request.Namespace
	a.result = h.Run(&inject.Request{Namespace: namespace, Pod: a.pod}, h.snapshot(ctx, namespace))
	if a.answer, err = answer(a.review.Request.UID, &a.result); err != nil {
		a.fail(inject.InternalError, err)
	}
	return a
}

// snapshot is the current one, unless it lacks the namespace. Being called proves that the namespace is labelled, so a
// moment is given to the watch to say so too. The wait outlives the server's own context, which ends when a shutdown
// begins: requests that are already here are then still answered well.
func (h *Handler) snapshot(ctx context.Context, namespace string) *inject.Snapshot {
	current := h.Store.Current()
	if !snapshot.Awaits(current, namespace) {
		return current
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), namespaceWait)
	defer cancel()
	return h.Store.WaitFor(ctx, namespace)
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

// reply sends the answer. That the client no longer takes it is nobody's news: its pod is admitted by the failurePolicy.
func reply(w http.ResponseWriter, a *admission) {
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
