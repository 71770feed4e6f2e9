package snapshot

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/lightstep-injector/lightstep-injector/internal/clusterstate"
	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

// apiserver answers watches as the real one does, over HTTP: the initial list as a stream, then what a test sends. It
// shows what the real one, in e2e, cannot: every request's selector, and refusals.
type apiserver struct {
	mu      sync.Mutex
	watches map[string]chan string // by resource and selector
	asked   []string
	uris    []string
	refuse  string // a resource that is forbidden
	lists   bool   // it cannot stream the initial list, and has nothing
	// telemetries is the list of one namespace's.
	telemetries any
}

func (a *apiserver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query, resource := r.URL.Query(), strings.TrimPrefix(r.URL.Path, "/api/v1/")
	key := resource + " " + query.Get("labelSelector") + query.Get("fieldSelector")
	a.mu.Lock()
	a.asked = append(a.asked, key+" "+r.Header.Get("Accept"))
	a.uris = append(a.uris, r.URL.RequestURI())
	events, refuse := a.watches[key], a.refuse
	a.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if a.telemetries != nil && strings.HasPrefix(resource, "/apis/telemetry.istio.io/v1alpha1/namespaces/") {
		_ = json.NewEncoder(w).Encode(whole("Telemetry", "telemetry.istio.io/v1alpha1", a.telemetries))
		return
	}
	if a.lists && events != nil && a.list(w, r) {
		return
	}
	if events == nil { // a kind that the cluster does not have
		w.WriteHeader(http.StatusNotFound)
		_, _ = fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`)
		return
	}
	if query.Get("watch") != "true" && strings.HasPrefix(key, watchTelemetry) { // asked for as a list, after another version
		_, _ = fmt.Fprint(w, `{"kind":"TelemetryList","apiVersion":"telemetry.istio.io/v1alpha1","metadata":{"resourceVersion":"1"},"items":[]}`)
		return
	}
	if resource == refuse || query.Get("watch") != "true" {
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403}`)
		return
	}
	for {
		select {
		case event := <-events:
			_, _ = fmt.Fprintln(w, event)
			_ = http.NewResponseController(w).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

// list answers as an API server without WatchList does; false for a watch that it can answer.
func (a *apiserver) list(w http.ResponseWriter, r *http.Request) bool {
	if r.URL.Query().Get("sendInitialEvents") == "true" {
		w.WriteHeader(http.StatusUnprocessableEntity)
		_, _ = fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422}`)
		return true
	}
	if r.URL.Query().Get("watch") == "true" {
		return false
	}
	kind, version := "PartialObjectMetadataList", "meta.k8s.io/v1"
	switch {
	case strings.Contains(r.Header.Get("Accept"), "PartialObjectMetadataList"):
	case strings.HasSuffix(r.URL.Path, "secrets"):
		kind, version = "SecretList", "v1"
	case strings.HasSuffix(r.URL.Path, "configmaps"):
		kind, version = "ConfigMapList", "v1"
	}
	_, _ = fmt.Fprintf(w, `{"kind":%q,"apiVersion":%q,"metadata":{"resourceVersion":"1"},"items":[]}`, kind, version)
	return true
}

// awaitAttempts waits until a resource has been asked for so many times.
func (a *apiserver) awaitAttempts(t *testing.T, resource string, wanted int) {
	t.Helper()
	for deadline := time.Now().Add(soon); ; time.Sleep(10 * time.Millisecond) {
		a.mu.Lock()
		got := 0
		for _, asked := range a.asked {
			if strings.HasPrefix(asked, resource) {
				got++
			}
		}
		a.mu.Unlock()
		if got >= wanted {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s were asked for %d times", resource, got)
		}
	}
}

func event(t *testing.T, kind string, object *metav1.PartialObjectMetadata) string {
	t.Helper()
	object.TypeMeta = metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadata"}
	object.ResourceVersion = "1"
	encoded, err := json.Marshal(map[string]any{"type": kind, "object": object})
	if err != nil {
		t.Fatal(err)
	}
	return string(encoded)
}

// listedObjects ends the initial list of whole objects.
const listedObjects = `{"type":"BOOKMARK","object":{"apiVersion":"v1","kind":"ConfigMap","metadata":{"resourceVersion":"1","annotations":{"k8s.io/initial-events-end":"true"}}}}`

// listedSecrets ends that of whole Secrets.
const listedSecrets = `{"type":"BOOKMARK","object":{"apiVersion":"v1","kind":"Secret","metadata":{"resourceVersion":"1","annotations":{"k8s.io/initial-events-end":"true"}}}}`

// listed ends the initial list.
func listed(t *testing.T) string {
	return event(t, "BOOKMARK", namespace("", map[string]string{metav1.InitialEventsAnnotationKey: "true"}))
}

const (
	watchNamespaces = "namespaces lightstep.com/injection=enabled"
	watchCA         = "secrets metadata.name=" + ca
	watchToken      = "secrets metadata.name=" + token
	watchOther      = "secrets metadata.name=other"
	watchTags       = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations istio.io/tag"
	watchIstio      = "namespaces/istio-system/configmaps "
	watchTelemetry  = "/apis/telemetry.istio.io/v1alpha1/telemetries "
)

// watching runs a Watch against the apiserver, and ends it with the test.
func watching(t *testing.T, api *apiserver) (*Watch, *observer.ObservedLogs) {
	t.Helper()
	if api.watches == nil {
		api.watches = map[string]chan string{}
	}
	for _, key := range []string{watchNamespaces, watchCA, watchToken, watchOther, watchTags, watchIstio} {
		api.watches[key] = make(chan string, 10)
	}
	server := httptest.NewServer(api)
	cluster, err := clusterstate.NewReader(&rest.Config{Host: server.URL, QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	lines, logs := observer.New(zap.InfoLevel)
	watch := NewWatch(cluster, NewStore(configuration(t, ca), "", ""), func() {}, func(*metav1.PartialObjectMetadata) {}, zap.New(lines))
	ctx, done := t.Context(), make(chan struct{})
	go func() {
		defer close(done)
		watch.Run(ctx)
	}()
	t.Cleanup(func() {
		<-done
		server.Close()
	})
	return watch, logs
}

// eventually waits until the store's snapshot is as wanted.
func eventually(t *testing.T, store *Store, what string, wanted func(now *published) bool) {
	t.Helper()
	deadline := time.After(soon)
	for {
		now := store.current.Load()
		if wanted(now) {
			return
		}
		select {
		case <-now.superseded:
		case <-deadline:
			t.Fatalf("it never came to: %s; the namespaces are %+v", what, maps.Collect(now.snapshot.Namespaces.All()))
		}
	}
}

// shopIn is what a snapshot has of the namespace shop.
func shopIn(snap *inject.Snapshot) inject.Namespace {
	shop, _ := snap.Namespaces.Get("shop")
	return shop
}

func TestWatch(t *testing.T) {
	api := &apiserver{}
	watch, logs := watching(t, api)
	shop := func() *metav1.PartialObjectMetadata { return namespace("shop", nil) }
	const caInShop = `{"type":"ADDED","object":{"apiVersion":"v1","kind":"Secret","metadata":{"name":"lightstep.cacert","namespace":"shop"},"data":{"wrong.pem":"eA=="}}}`

	api.watches[watchNamespaces] <- event(t, "ADDED", shop())
	api.watches[watchNamespaces] <- listed(t)
	eventually(t, watch.Store, "shop is known", func(now *published) bool { return now.snapshot.Namespaces.Len() == 1 })
	select {
	case <-watch.Synced():
		t.Error("synced before the Secrets are known")
	default:
	}
	api.watches[watchCA] <- listedSecrets
	api.watches[watchToken] <- listed(t)
	api.watches[watchTags] <- listed(t)
	api.watches[watchIstio] <- listedObjects
	select {
	case <-watch.Synced():
	case <-time.After(soon):
		t.Fatal("not synced")
	}
	eventually(t, watch.Store, "the satellite CA is missing", func(now *published) bool { return shopIn(now.snapshot).Missing[ca] })
	api.watches[watchCA] <- caInShop
	eventually(t, watch.Store, "the satellite CA is there, without its key", func(now *published) bool {
		shop := shopIn(now.snapshot)
		return !shop.Missing[ca] && shop.NoKey[settings.Secret{Name: ca, Key: "cacert.pem"}]
	})

	watch.Store.UseSettings(configuration(t, "other"))
	api.watches[watchOther] <- listedSecrets
	eventually(t, watch.Store, "the other CA is missing", func(now *published) bool { return shopIn(now.snapshot).Missing["other"] })

	api.watches[watchNamespaces] <- event(t, "DELETED", shop())
	eventually(t, watch.Store, "shop is forgotten", func(now *published) bool { return now.snapshot.Namespaces.Len() == 0 })
	if logs.Len() > 0 {
		t.Errorf("logged: %v", logs.All())
	}
	api.mu.Lock()
	defer api.mu.Unlock()
	for _, asked := range api.asked {
		whole := strings.HasPrefix(asked, watchCA) || strings.HasPrefix(asked, watchOther)
		if !whole && !strings.Contains(asked, "as=PartialObjectMetadata") && !strings.HasPrefix(asked, watchIstio) && !strings.Contains(asked, "telemetry.istio.io") {
			t.Errorf("asked for more than metadata: %s", asked)
		}
	}
}

func TestForbiddenSecretsAreNotMissing(t *testing.T) {
	api := &apiserver{refuse: "secrets"}
	watch, logs := watching(t, api)
	api.watches[watchNamespaces] <- event(t, "ADDED", namespace("shop", nil))
	api.watches[watchNamespaces] <- listed(t)
	api.watches[watchTags] <- listed(t)
	api.watches[watchIstio] <- listedObjects
	select {
	case <-watch.Synced():
	case <-time.After(soon):
		t.Fatal("a refused watch keeps the process from being ready")
	}
	api.awaitAttempts(t, "secrets", 6) // two each, as a stream and as a list, and some more after a pause
	if missing := shopIn(watch.Store.Current()).Missing; missing != nil {
		t.Errorf("claimed missing: %v", missing)
	}
	if got := logs.FilterMessageSnippet("watch failed").Len(); got != 2 {
		t.Errorf("%d lines for two refused watches", got)
	}
}
