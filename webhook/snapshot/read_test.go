package snapshot

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/lightstep-injector/lightstep-injector/internal/clusterstate"
	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
)

// answers are what an apiserver says to reads, each under path and selector. Anything else is not there.
type answers map[string]any

// forbidden is one answer.
const forbidden = "forbidden"

func (a answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	answer := a[strings.TrimSpace(r.URL.Path+" "+query.Get("labelSelector")+query.Get("fieldSelector"))]
	w.Header().Set("Content-Type", "application/json")
	if query.Get("watch") == "true" {
		answer = nil
	}
	switch answer {
	case nil:
		w.WriteHeader(http.StatusNotFound)
		_, _ = fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`)
	case forbidden:
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","message":"no list","code":403}`)
	default:
		_ = json.NewEncoder(w).Encode(answer)
	}
}

func partial(objects ...*metav1.PartialObjectMetadata) *metav1.PartialObjectMetadataList {
	list := &metav1.PartialObjectMetadataList{TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadataList"}}
	for _, object := range objects {
		list.Items = append(list.Items, *object)
	}
	return list
}

func whole[O any](kind, apiVersion string, objects ...O) map[string]any {
	items := []any{}
	for _, object := range objects {
		items = append(items, object)
	}
	return map[string]any{"kind": kind + "List", "apiVersion": apiVersion, "metadata": map[string]any{}, "items": items}
}

// shop is a cluster with one namespace and one control plane.
func shop(t *testing.T) (answers, []*corev1.ConfigMap) {
	t.Helper()
	tokenSecret := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: token}}
	labelled := namespace("shop", map[string]string{"lightstep.com/sampling": "5"})
	labelled.TypeMeta = metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadata"}
	labelled.Labels = map[string]string{inject.NamespaceLabel: "enabled", istio.NamespaceInjectionLabel: "enabled"}
	controlPlane := []*corev1.ConfigMap{
		configMap("istio", nil, map[string]string{"mesh": "extensionProviders: [{name: lightstep, opentelemetry: {}}]"}),
		configMap("istio-sidecar-injector", nil, map[string]string{"values": `{"global":{"tag":"1.31.0"}}`}),
	}
	return answers{
		"/api/v1/namespaces/shop":                                                          labelled,
		"/api/v1/namespaces/shop/secrets metadata.name=" + ca:                              whole[any]("Secret", "v1"),
		"/api/v1/namespaces/shop/secrets metadata.name=" + token:                           partial(tokenSecret),
		"/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations istio.io/tag": partial(tagged("prod", "default")),
		"/api/v1/namespaces/istio-system/configmaps":                                       whole("ConfigMap", "v1", controlPlane...),
		"/apis/telemetry.istio.io/v1alpha1/telemetries":                                    whole[any]("Telemetry", "telemetry.istio.io/v1alpha1"),
	}, controlPlane
}

func read(t *testing.T, a answers) (*inject.Snapshot, []error) {
	t.Helper()
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	cluster, err := clusterstate.NewReader(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	snap, unread, err := Read(t.Context(), cluster, NewStore(configuration(t, ca), "", "v1"), "shop")
	if err != nil {
		t.Fatal(err)
	}
	return snap, unread
}

// What is read once is what a store that has been told the same would have.
func TestRead(t *testing.T) {
	a, controlPlane := shop(t)
	snap, unread := read(t, a)
	if len(unread) > 0 {
		t.Fatalf("unread: %v", unread)
	}
	told := NewStore(configuration(t, ca), "", "v1")
	told.ReplaceNamespaces([]*metav1.PartialObjectMetadata{a["/api/v1/namespaces/shop"].(*metav1.PartialObjectMetadata)})
	told.ReplaceSecrets(ca, secretIn())
	told.ReplaceSecrets(token, secretIn("shop"))
	told.ReplaceControlPlanes("istio-system", planes(controlPlane...))
	told.ReplaceTags([]*metav1.PartialObjectMetadata{tagged("prod", "default")})
	told.replaceTelemetries(nil)
	want := told.Current()
	toldOf, _ := want.Namespaces.Get("shop")
	readOf, _ := snap.Namespaces.Get("shop")
	if diff := cmp.Diff(toldOf, readOf) + cmp.Diff(want.Mesh, snap.Mesh); diff != "" {
		t.Errorf("told (-) and read (+):\n%s", diff)
	}
	if len(toldOf.Missing) != 1 || want.Mesh.Tags["prod"] != "default" {
		t.Errorf("the comparison has nothing in it: %+v", want)
	}
}

// Of what may not be read nothing is claimed, and it is told.
func TestReadForbidden(t *testing.T) {
	a, _ := shop(t)
	for path := range a {
		if path != "/api/v1/namespaces/shop" {
			a[path] = forbidden
		}
	}
	snap, unread := read(t, a)
	if namespace, _ := snap.Namespaces.Get("shop"); snap.Mesh != nil || namespace.Missing != nil {
		t.Errorf("it claims %+v, %+v", snap.Mesh, namespace)
	}
	said := fmt.Sprint(unread)
	for _, name := range []string{"secrets " + ca, "secrets " + token, "Istio's tags", "Istio's Telemetries", "Istio's ConfigMaps in istio-system"} {
		if !strings.Contains(said, "read "+name+": ") {
			t.Errorf("%s: not told in %s", name, said)
		}
	}
	if len(unread) != 5 || !slices.IsSortedFunc(unread, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) }) {
		t.Errorf("unread: %v", unread)
	}
}

// A namespace without the label is one that the webhook is not asked for; a cluster without Istio's kinds has no Telemetry.
func TestReadUnlabelled(t *testing.T) {
	a, _ := shop(t)
	a["/api/v1/namespaces/shop"].(*metav1.PartialObjectMetadata).Labels = nil
	delete(a, "/apis/telemetry.istio.io/v1alpha1/telemetries")
	snap, unread := read(t, a)
	if namespace, _ := snap.Namespaces.Get("shop"); !namespace.Unlabelled || snap.Mesh.Telemetry == nil || len(unread) > 0 {
		t.Errorf("%+v, %v", snap.Namespaces, unread)
	}
}
