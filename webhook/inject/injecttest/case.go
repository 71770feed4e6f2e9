// Package injecttest reads the golden cases of package inject: a pod, and the world that it comes into. The core's own
// tests and those of the decoder read the same files.
package injecttest

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

// Case is one file NAME.in.yaml.
type Case struct {
	Name      string
	Namespace string
	Snapshot  *inject.Snapshot
	// Pod is the second document, as JSON.
	Pod []byte
}

// World is a case's first document: everything but the pod.
type World struct {
	// Config is a configuration without its head.
	Config map[string]any `json:"config"`
	// Namespace is where the pod is created: shop unless said otherwise.
	Namespace string `json:"namespace"`
	// Seen is what the snapshot has of that namespace; null where it has nothing.
	Seen *Seen `json:"seen"`
	// Mesh is what it has of Istio; null where nobody has looked.
	Mesh *Mesh `json:"mesh"`
	// Offline and Tokens as in inject.Snapshot and settings.WithAccessTokens.
	Offline bool              `json:"offline"`
	Tokens  map[string]string `json:"tokens"`
}

// Seen is a namespace.
type Seen struct {
	Unlabelled     bool              `json:"unlabelled"`
	Annotations    map[string]string `json:"annotations"`
	IstioInjection string            `json:"istioInjection"`
	IstioRevision  string            `json:"istioRevision"`
	IstioDataplane string            `json:"istioDataplane"`
	Missing        []string          `json:"missing"`
	NoKey          []settings.Secret `json:"noKey"`
}

// Mesh is a cluster's Istio, its control planes as their ConfigMaps have them.
type Mesh struct {
	Revisions map[string]Revision `json:"revisions"`
	Tags      map[string]string   `json:"tags"`
	// Telemetry names the providers that a namespace's Telemetry switches on; Telemetries are whole ones.
	Telemetry   map[string][]string          `json:"telemetry"`
	Telemetries map[string][]istio.Telemetry `json:"telemetries"`
}

// Revision is a control plane: the values and the MeshConfig in its ConfigMaps.
type Revision struct {
	Values string `json:"values"`
	Mesh   string `json:"mesh"`
}

// ReadCase reads a file.
func ReadCase(t testing.TB, file string) Case {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, body, found := bytes.Cut(data, []byte("\n---\n"))
	if !found {
		t.Fatalf("%s: want two documents, the world and the pod", file)
	}
	world := World{Namespace: "shop", Seen: &Seen{}}
	if err := yaml.UnmarshalStrict(head, &world); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	pod, err := yaml.YAMLToJSONStrict(body)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return Case{strings.TrimSuffix(filepath.Base(file), ".in.yaml"), world.Namespace, world.Snapshot(t), pod}
}

// Snapshot is the world as the core sees it.
func (w *World) Snapshot(t testing.TB) *inject.Snapshot {
	t.Helper()
	snap := &inject.Snapshot{
		Settings: w.settings(t), OwnNamespace: "lightstep-system", Version: "test", Offline: w.Offline,
	}
	if w.Seen != nil {
		snap.Namespaces = snap.Namespaces.With(w.Namespace, w.Seen.namespace())
	}
	if w.Mesh != nil {
		snap.Mesh = w.Mesh.Known()
	}
	return snap
}

func (s *Seen) namespace() inject.Namespace {
	missing := map[string]bool{}
	for _, secret := range s.Missing {
		missing[secret] = true
	}
	noKey := map[settings.Secret]bool{}
	for _, secret := range s.NoKey {
		noKey[secret] = true
	}
	return inject.Namespace{
		Unlabelled: s.Unlabelled, Annotations: s.Annotations, Missing: missing, NoKey: noKey,
		IstioInjection: s.IstioInjection, IstioRevision: s.IstioRevision, IstioDataplane: s.IstioDataplane,
	}
}

// Known is the mesh as the core sees it.
func (m *Mesh) Known() *istio.Mesh {
	mesh := &istio.Mesh{Revisions: map[string]*istio.Revision{}, Tags: m.Tags, Telemetry: m.telemetry()}
	for name, r := range m.Revisions {
		mesh.Revisions[name] = r.revision(name)
	}
	return mesh
}

func (m *Mesh) telemetry() map[string][]istio.Telemetry {
	if m.Telemetry == nil {
		return m.Telemetries
	}
	all := maps.Clone(m.Telemetries)
	if all == nil {
		all = map[string][]istio.Telemetry{}
	}
	for namespace, providers := range m.Telemetry {
		all[namespace] = append(all[namespace], istio.Telemetry{Name: "tracing", Providers: providers})
	}
	return all
}

func (r *Revision) revision(name string) *istio.Revision {
	var values *istio.Values
	if r.Values != "" {
		values = istio.ReadValues(r.Values, "")
	}
	var mesh *istio.MeshConfig
	if r.Mesh != "" {
		mesh = istio.ReadMeshConfig(r.Mesh)
	}
	return istio.NewRevision(name, "istio-system", values, mesh)
}

func (w *World) settings(t testing.TB) *settings.Settings {
	t.Helper()
	config := map[string]any{"apiVersion": settings.APIVersion, "kind": settings.Kind}
	maps.Copy(config, w.Config)
	text, err := yaml.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	s, err := settings.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if s, err = s.WithAccessTokens(w.Tokens); err != nil {
		t.Fatal(err)
	}
	return s
}
