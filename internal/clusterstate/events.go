package clusterstate

import (
	"encoding/json"
	"io"
	"net/http"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// events reads the events of a custom resource's watch, one at a time.
type events struct {
	body   io.ReadCloser
	reduce through
	to     chan watch.Event
	done   chan struct{}
	stop   sync.Once
}

func newEvents(body io.ReadCloser, reduce through) *events {
	e := &events{body: body, reduce: reduce, to: make(chan watch.Event), done: make(chan struct{})}
	go e.run()
	return e
}

// ResultChan returns the events. It is closed when the stream ends.
func (e *events) ResultChan() <-chan watch.Event { return e.to }

// Stop ends the stream.
func (e *events) Stop() {
	e.stop.Do(func() {
		close(e.done)
		_ = e.body.Close() // which ends the reading
	})
}

func (e *events) run() {
	defer close(e.to)
	defer e.Stop()
	bound := &eventBody{Reader: e.body}
	dec := jsontext.NewDecoder(bound, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	for {
		bound.left = MostBytes
		raw, err := dec.ReadValue()
		if err != nil && !isUnreadable(err) {
			return // the stream has ended: the reflector opens another
		}
		event := unreadableEvent(err)
		if err == nil {
			event = eventOf(raw)
		}
		// An event is reduced before the next one is read into the same memory.
		if event, ok := e.reduce(event); ok && !e.send(event) {
			return
		}
		if event.Type == watch.Error {
			return
		}
	}
}

// send hands an event on; false if the watch has been stopped.
func (e *events) send(event watch.Event) bool {
	select {
	case e.to <- event:
		return true
	case <-e.done:
		return false
	}
}

// eventBody fails where an event exceeds the bound.
type eventBody struct {
	io.Reader

	left int64
}

// Read reads on.
func (b *eventBody) Read(into []byte) (int, error) {
	if b.left < 0 { // the decoder ignores an error that comes with bytes
		return 0, &TooLargeError{MostBytes}
	}
	n, err := b.Reader.Read(into)
	b.left -= int64(n)
	return n, err
}

// eventOf reads an event.
func eventOf(raw jsontext.Value) watch.Event {
	var kind string
	var object jsontext.Value
	for name, value := range Members(raw) {
		switch name {
		case "type":
			_ = json.Unmarshal(value, &kind) // what is no text is no known type
		case "object":
			object = value
		}
	}
	if watch.EventType(kind) == watch.Error {
		status := &metav1.Status{}
		_ = json.Unmarshal(object, status) // an empty status is an error, too
		return watch.Event{Type: watch.Error, Object: status}
	}
	custom, err := customOf(object)
	if err != nil {
		return unreadableEvent(err)
	}
	if watch.EventType(kind) == watch.Bookmark {
		custom.Annotations = annotationsOf(object)
	}
	return watch.Event{Type: watch.EventType(kind), Object: custom}
}

// annotationsOf decodes the annotations of a bookmark, which the API server itself has made.
func annotationsOf(object jsontext.Value) map[string]string {
	var bookmark metav1.PartialObjectMetadata
	if json.Unmarshal(object, &bookmark) != nil {
		return nil
	}
	return bookmark.Annotations
}

// unreadableEvent has the reflector list the objects, page by page, in place of having them streamed.
func unreadableEvent(err error) watch.Event {
	status := &metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonInternalError, Code: http.StatusInternalServerError}
	if err != nil {
		status.Message = "read watch event: " + err.Error()
	}
	return watch.Event{Type: watch.Error, Object: status}
}
