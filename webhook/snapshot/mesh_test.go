package snapshot

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/lightstep-injector/lightstep-injector/internal/clusterstate"
	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
)

func configMap(name string, labels, data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "istio-system", Labels: labels, ResourceVersion: "1"},
		Data:       data,
	}
}

// planes are ConfigMaps as they arrive.
func planes(objects ...*corev1.ConfigMap) []*PlaneObject {
	var list []*PlaneObject
	for _, object := range objects {
		if kept, keep := ReadPlane(object); keep {
			list = append(list, &PlaneObject{PartialObjectMetadata: metav1.PartialObjectMetadata{ObjectMeta: object.ObjectMeta}, Kept: kept})
		}
	}
	return list
}

func plane(name string, labels, data map[string]string) *PlaneObject {
	return planes(configMap(name, labels, data))[0]
}

func telemetry(namespace, name, apiVersion string, spec map[string]any) *unstructured.Unstructured {
	object := &unstructured.Unstructured{Object: map[string]any{"apiVersion": apiVersion, "kind": "Telemetry", "spec": spec}}
	object.SetName(name)
	object.SetNamespace(namespace)
	object.SetResourceVersion("1")
	return object
}

// arrived is a Telemetry as it arrives.
func arrived(t *testing.T, object *unstructured.Unstructured) *telemetryObject {
	t.Helper()
	raw, err := object.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	custom := &clusterstate.Custom{Raw: raw}
	custom.ObjectMeta = metav1.ObjectMeta{Name: object.GetName(), Namespace: object.GetNamespace(), CreationTimestamp: object.GetCreationTimestamp()}
	return &telemetryObject{PartialObjectMetadata: custom.PartialObjectMetadata, Kept: reduceTelemetry(custom)}
}

func tagged(tag, revision string) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Name: "istio-revision-tag-" + tag, Labels: map[string]string{istio.TagLabel: tag, istio.RevisionLabel: revision},
	}}
}

func objectEvent(t *testing.T, kind string, object any) string {
	t.Helper()
	encoded, err := json.Marshal(map[string]any{"type": kind, "object": object})
	if err != nil {
		t.Fatal(err)
	}
	return string(encoded)
}

// A control plane that comes to be part by part, upgrades, is tagged, and goes.
func TestControlPlanes(t *testing.T) {
	store := NewStore(configuration(t, ca), "injector", "v1")
	if store.Current().Mesh != nil {
		t.Fatal("a mesh is known before anybody has looked")
	}
	store.ReplaceControlPlanes("istio-system", planes(
		configMap("istio-ca-root-cert", nil, map[string]string{"root-cert.pem": "x"}),
		configMap("istio-leader", nil, nil),
		configMap("istiod-notes", nil, map[string]string{"mesh": "{}"}),
		configMap("istio-sidecar-injector", nil, map[string]string{"values": `{"global": {"tag": "1.7.8"}}`, "config": "policy: enabled"}),
	))
	mesh := store.Current().Mesh
	if mesh == nil || len(mesh.Revisions) != 1 {
		t.Fatalf("the mesh is %+v", mesh)
	}
	if r := mesh.Revisions["default"]; r.Capabilities.Version != "1.7.8" || r.Problem == "" || r.Mesh != nil {
		t.Errorf("without its mesh configuration, the revision is %+v", r)
	}
	store.SetControlPlane("istio-system", plane("istio", nil, map[string]string{"mesh": "extensionProviders: [{name: lightstep, opentelemetry: {}}]"}))
	if r := store.Current().Mesh.Revisions["default"]; r.Problem != "" || r.Mesh.Providers["lightstep"] != "opentelemetry" || r.Mesh.RootNamespace != "istio-system" {
		t.Errorf("complete, the revision is %+v %+v", r, r.Mesh)
	}
	newer := map[string]string{istio.RevisionLabel: "v1-31", "app.kubernetes.io/version": "1.31.0"}
	store.SetControlPlane("istio-system", plane("istio-sidecar-injector-v1-31", newer, map[string]string{"values": `{"global": {"tag": "nightly"}}`}))
	store.SetTag(tagged("stable", "v1-31"))
	member := store.Current().Mesh.Find(istio.Labels{NamespaceRevision: "stable"})
	if member.Revision == nil || member.Revision.Capabilities.Version != "1.31.0" {
		t.Errorf("tag stable is %+v", member.Revision)
	}
	store.RemoveTag(tagged("stable", "v1-31"))
	store.RemoveControlPlane("istio-system", plane("istio-sidecar-injector", nil, nil))
	store.RemoveControlPlane("istio-system", plane("istio", nil, nil))
	mesh = store.Current().Mesh
	if len(mesh.Revisions) != 1 || len(mesh.Tags) != 0 {
		t.Errorf("afterwards the mesh is %+v", mesh)
	}
}

// What is none of Istio's changes nothing: a leader's ConfigMap is written every few seconds.
func TestOtherConfigMapsPublishNothing(t *testing.T) {
	store := NewStore(configuration(t, ca), "injector", "v1")
	store.ReplaceControlPlanes("istio-system", nil)
	before := store.Current()
	if got := planes(configMap("istio-leader", nil, map[string]string{"a": "b"}), configMap("kube-root-ca.crt", nil, nil)); len(got) > 1 {
		t.Errorf("kept: %v", got)
	}
	store.SetControlPlane("istio-system", plane("istio-leader", nil, map[string]string{"a": "b"}))
	if store.Current() != before {
		t.Error("another snapshot was published")
	}
}

func TestMeshByWatch(t *testing.T) {
	api := &apiserver{watches: map[string]chan string{watchTelemetry: make(chan string, 10)}}
	watch, logs := watching(t, api)
	shop := namespace("shop", nil)
	shop.Labels = map[string]string{"istio-injection": "enabled"}
	api.watches[watchNamespaces] <- event(t, "ADDED", shop)
	for _, key := range []string{watchNamespaces, watchToken, watchTags} {
		api.watches[key] <- listed(t)
	}
	api.watches[watchCA] <- listedSecrets
	api.watches[watchIstio] <- objectEvent(t, "ADDED", configMap("istio", nil, map[string]string{"mesh": "extensionProviders: [{name: lightstep, opentelemetry: {}}]"}))
	api.watches[watchIstio] <- objectEvent(t, "ADDED", configMap("istio-sidecar-injector", nil, map[string]string{"values": `{"global": {"tag": 1.24}}`}))
	api.watches[watchIstio] <- listedObjects
	api.watches[watchTelemetry] <- objectEvent(t, "ADDED", telemetry("shop", "mesh", "telemetry.istio.io/v1alpha1", map[string]any{}))
	api.watches[watchTelemetry] <- listedObjects
	select {
	case <-watch.Synced():
	case <-time.After(soon):
		t.Fatal("not synced")
	}
	lacks := func(now *published) istio.Lack { return Lacks(now.snapshot)["shop"] }
	eventually(t, watch.Store, "no Telemetry names the provider", func(now *published) bool { return lacks(now) == istio.LacksTelemetry })
	tracing := []any{map[string]any{"providers": []any{map[string]any{"name": "lightstep"}}}}
	api.watches[watchTelemetry] <- objectEvent(t, "MODIFIED", telemetry("shop", "mesh", "telemetry.istio.io/v1alpha1", map[string]any{"tracing": tracing}))
	eventually(t, watch.Store, "the Telemetry names the provider", func(now *published) bool { return lacks(now) == istio.LacksNothing })
	api.watches[watchIstio] <- objectEvent(t, "MODIFIED", configMap("istio", nil, map[string]string{"mesh": "{}"}))
	eventually(t, watch.Store, "the mesh lost the provider", func(now *published) bool { return lacks(now) == istio.LacksProvider })
	if logs.Len() > 0 {
		t.Errorf("logged: %v", logs.All())
	}
}

// Of a Telemetry is kept what beats a proxy's own settings, in the order in which Istio asks the resources.
func TestTelemetrySettings(t *testing.T) {
	store := NewStore(configuration(t, ca), "injector", "v1")
	store.ReplaceControlPlanes("istio-system", nil)
	tracing := func(entries ...any) map[string]any { return map[string]any{"tracing": entries} }
	younger := telemetry("shop", "a-younger", "telemetry.istio.io/v1", tracing(map[string]any{"randomSamplingPercentage": 12.5}))
	younger.SetCreationTimestamp(metav1.Unix(20, 0))
	older := telemetry("shop", "older", "telemetry.istio.io/v1", tracing(
		map[string]any{"match": map[string]any{"mode": "CLIENT"}, "randomSamplingPercentage": int64(7)},
		map[string]any{"customTags": map[string]any{
			"literal": map[string]any{"literal": map[string]any{"value": "x"}},
			"header":  map[string]any{"header": map[string]any{"name": "y"}},
		}},
	))
	older.SetCreationTimestamp(metav1.Unix(10, 0))
	one := telemetry("shop", "one", "telemetry.istio.io/v1", tracing(map[string]any{"providers": []any{map[string]any{"name": "lightstep"}}, "customTags": map[string]any{}}))
	one.SetCreationTimestamp(metav1.Unix(20, 0))
	check := unstructured.SetNestedField(one.Object, map[string]any{"matchLabels": map[string]any{"app": "web"}}, "spec", "selector")
	if check != nil {
		t.Fatal(check)
	}
	targeted := telemetry("shop", "targeted", "telemetry.istio.io/v1", map[string]any{"targetRefs": []any{map[string]any{"kind": "Gateway", "name": "waypoint"}}})
	targeted.SetCreationTimestamp(metav1.Unix(30, 0))
	store.SetNamespace(namespace("shop", nil))
	store.replaceTelemetries([]*telemetryObject{arrived(t, targeted), arrived(t, one), arrived(t, younger), arrived(t, older)})
	want := []istio.Telemetry{
		{Name: "older", Sampling: new(7.0), CustomTags: map[string]string{"literal": "x"}, SetsTags: true},
		{Name: "a-younger", Sampling: new(12.5)},
		{Name: "one", Selector: map[string]string{"app": "web"}, Providers: []string{"lightstep"}},
		{Name: "targeted", Targeted: true},
	}
	if diff := cmp.Diff(want, store.Current().Mesh.Telemetry["shop"]); diff != "" {
		t.Error(diff)
	}
}
