package clusterstate

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
)

// stored is an object that the API server has: metadata and, unless the metadata alone is asked for, a spec.
type stored struct {
	Metadata metav1.ObjectMeta `json:"metadata"`
	Spec     map[string]string `json:"spec,omitempty"`
}

// apiserver lists objects in pages, as the real one does: at resource version 0 it would ignore the limit, and so a test fails
// that asks for one. It answers watches with what the test sends.
type apiserver struct {
	t       *testing.T
	objects []stored
	events  chan string

	mu sync.Mutex
	// expire maps a continue token to the token that is offered in its place, once.
	expire map[string]string
	// limits are those that were asked for, and names those of requests for metadata alone.
	limits, names []int
}

func (a *apiserver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	w.Header().Set("Content-Type", "application/json")
	if query.Get("watch") == "true" {
		a.watch(w, r)
		return
	}
	if query.Get("resourceVersion") != "" {
		a.t.Errorf("a list at resource version %s", query.Get("resourceVersion"))
	}
	limit, _ := strconv.Atoi(query.Get("limit"))
	from, _ := strconv.Atoi(query.Get("continue"))
	metadata := strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadataList")
	a.mu.Lock()
	if metadata {
		a.names = append(a.names, limit)
	} else {
		a.limits = append(a.limits, limit)
	}
	token, expired := a.expire[query.Get("continue")]
	delete(a.expire, query.Get("continue"))
	a.mu.Unlock()
	if expired {
		w.WriteHeader(http.StatusGone)
		_ = json.NewEncoder(w).Encode(metav1.Status{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, ListMeta: metav1.ListMeta{Continue: token},
			Status: metav1.StatusFailure, Reason: metav1.StatusReasonExpired, Code: http.StatusGone,
		})
		return
	}
	a.list(w, from, limit, metadata)
}

func (a *apiserver) list(w http.ResponseWriter, from, limit int, metadata bool) {
	to := min(from+limit, len(a.objects))
	meta := metav1.ListMeta{ResourceVersion: "7"}
	if to < len(a.objects) {
		meta.Continue = strconv.Itoa(to)
	}
	items := make([]any, 0, to-from)
	for _, object := range a.objects[from:to] {
		if metadata {
			object.Spec = nil
			items = append(items, metav1.PartialObjectMetadata{ObjectMeta: object.Metadata})
		} else {
			items = append(items, object)
		}
	}
	kind := map[bool][2]string{true: {"meta.k8s.io/v1", "PartialObjectMetadataList"}, false: {"example.com/v1", "ThingList"}}[metadata]
	_ = json.NewEncoder(w).Encode(map[string]any{"apiVersion": kind[0], "kind": kind[1], "metadata": meta, "items": items}) // the reader may have gone
}

func (a *apiserver) watch(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).Flush() // a watch is answered before there is an event
	for {
		select {
		case event, open := <-a.events:
			if !open {
				return
			}
			_, _ = fmt.Fprintln(w, event)
			_ = http.NewResponseController(w).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

// asked returns the limits of the requests so far.
func (a *apiserver) asked() (limits, names []int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.limits, a.names
}

func reader(t testing.TB, api *apiserver) *Reader {
	t.Helper()
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	r, err := NewReader(&rest.Config{Host: server.URL, QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func thing() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "things"}
}

// things are objects of a size in bytes, by their annotations or by their spec.
func things(count, annotations, spec int) []stored {
	all := make([]stored, count)
	for i := range all {
		all[i].Metadata = metav1.ObjectMeta{
			Name: fmt.Sprintf("thing-%04d", i), Namespace: "shop", UID: "u", ResourceVersion: strconv.Itoa(i + 1),
			Annotations: map[string]string{"big": strings.Repeat("x", annotations), "read": "value"},
		}
		all[i].Spec = map[string]string{"big": strings.Repeat("y", spec), "read": "field"}
	}
	return all
}
