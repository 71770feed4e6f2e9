package clusterstate

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

const soon = 30 * time.Second

func next(t *testing.T, w watch.Interface) (watch.Event, bool) {
	t.Helper()
	select {
	case event, open := <-w.ResultChan():
		return event, open
	case <-time.After(soon):
		t.Fatal("no event")
		return watch.Event{}, false
	}
}

// event is one of the API server's.
func event(kind, namespace, name string, spec int) string {
	const begin = `{"type":"%s","object":{"apiVersion":"example.com/v1","kind":"Thing","metadata":{"name":"%s","namespace":"%s","resourceVersion":"9","annotations":{"big":"x","k8s.io/initial-events-end":"true"}},"spec":{"read":"field","big":"%s"}}}`
	return fmt.Sprintf(begin, kind, name, namespace, strings.Repeat("y", spec))
}

// Events arrive reduced, in their order; one whose object is dropped moves the watch on, and marks no end of the initial list.
func TestWatchReduces(t *testing.T) {
	api := &apiserver{t: t, events: make(chan string, 10)}
	source := CustomResources(reader(t, api), thing(), "", func(object *Custom) (string, bool) {
		if object.Namespace != "shop" {
			return "", false
		}
		return field(object)
	})
	w, err := source.Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		event("ADDED", "shop", "a", 1<<20), event("MODIFIED", "elsewhere", "b", 0), event("DELETED", "shop", "a", 0),
		event("BOOKMARK", "", "", 0), `{"type":"ERROR","object":{"status":"Failure","reason":"Expired","code":410}}`,
	} {
		api.events <- line
	}
	for i, want := range []struct {
		kind watch.EventType
		name string
		end  bool
	}{{watch.Added, "a", false}, {watch.Bookmark, "", false}, {watch.Deleted, "a", false}, {watch.Bookmark, "", true}} {
		event, _ := next(t, w)
		object, ok := event.Object.(*Reduced[string])
		if !ok || event.Type != want.kind || object.Name != want.name || object.ResourceVersion != "9" ||
			(object.Annotations[metav1.InitialEventsAnnotationKey] == "true") != want.end || len(object.Annotations) > 1 || (want.name != "" && object.Kept != "field") {
			t.Errorf("event %d is %s %+v", i, event.Type, event.Object)
		}
	}
	if event, _ := next(t, w); event.Type != watch.Error || !apierrors.IsResourceExpired(apierrors.FromObject(event.Object)) {
		t.Errorf("an expired version is %+v", event)
	}
	if _, open := next(t, w); open {
		t.Error("the watch goes on after an error")
	}
	w.Stop()
}

// An event that exceeds the bound ends the watch with an error by which a reflector lists the objects.
func TestLargeEvent(t *testing.T) {
	api := &apiserver{t: t, events: make(chan string, 10)}
	w, err := CustomResources(reader(t, api), thing(), "", field).Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	api.events <- event("ADDED", "shop", "a", 2*MostBytes)
	if event, _ := next(t, w); event.Type != watch.Error || !apierrors.IsInternalError(apierrors.FromObject(event.Object)) {
		t.Errorf("it is %+v", event)
	}
}

// A watch of metadata is reduced, too; one that nobody reads any more leaves nothing behind.
func TestWatchStops(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent(), goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreAnyFunction("net/http.(*conn).serve"), goleak.IgnoreAnyFunction("net/http/httptest.(*Server).goServe.func1"), goleak.IgnoreAnyFunction("net/http.(*connReader).backgroundRead"))
	api := &apiserver{t: t, events: make(chan string, 10)}
	r := reader(t, api)
	for range 2 {
		api.events <- `{"type":"ADDED","object":{"apiVersion":"meta.k8s.io/v1","kind":"PartialObjectMetadata","metadata":{"name":"a","labels":{"l":"v"},"annotations":{"big":"x"}}}}`
	}
	w, err := r.Metadata(thing(), "", func(from, to *metav1.ObjectMeta) { to.Labels = from.Labels }).Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	first, _ := next(t, w)
	if object, ok := first.Object.(*metav1.PartialObjectMetadata); !ok || object.Labels["l"] != "v" || object.Annotations != nil {
		t.Errorf("it is %+v", first.Object)
	}
	w.Stop()
	w.Stop()
	for range 2 {
		api.events <- event("ADDED", "shop", "a", 0)
	}
	custom, err := CustomResources(r, thing(), "", field).Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	custom.Stop()
	custom.Stop()
}
