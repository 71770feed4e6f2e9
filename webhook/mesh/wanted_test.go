package mesh

import (
	"testing"

	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

const configuration = `
apiVersion: injector.lightstep.com/v1alpha1
kind: InjectorConfiguration
profiles:
  default: {satellite: {address: "satellite.lightstep:9292"}}
  empty: {}
  silent: {mesh: {tracer: none}}
  native: {mesh: {tracer: lightstep}}
  said: {mesh: {istioVersion: "1.10"}}
  clear: {satellite: {address: "satellite:8383", secure: false}}
  public: {satellite: {address: "ingest.lightstep.com:443"}, caCertificate: null}
  pay: {namespaces: [pay], satellite: {address: "pay:1"}}
istio: {manage: true}
exemptNamespaces: [exempt]`

const (
	byCollector = `{extensionProviders: [{name: lightstep, opentelemetry: {service: otel.shop.svc.cluster.local, port: 4317}}]}`
	byHTTP      = `{extensionProviders: [{name: lightstep, opentelemetry: {service: otel.shop.svc.cluster.local, port: 4318, http: {path: /}}}]}`
	direct      = `{extensionProviders: [{name: lightstep, opentelemetry: {service: istio-system/satellite.lightstep.internal, port: 44317}}]}`
	unqualified = `{extensionProviders: [{name: lightstep, opentelemetry: {service: satellite.lightstep.internal, port: 44317}}]}`
	ofZipkin    = `{extensionProviders: [{name: lightstep, zipkin: {service: zipkin, port: 9411}}]}`
)

func revision(name, version, mesh string) *istio.Revision {
	return istio.NewRevision(name, "istio-system", istio.ReadValues(`{"global":{"tag":"`+version+`"}}`, ""), istio.ReadMeshConfig(mesh))
}

func meshOf(revisions ...*istio.Revision) *istio.Mesh {
	mesh := &istio.Mesh{Revisions: map[string]*istio.Revision{}, Tags: map[string]string{}}
	for _, r := range revisions {
		mesh.Revisions[r.Name] = r
	}
	return mesh
}

// TestWanted: what becomes of a labelled namespace, by how it stands with Istio and the configuration.
func TestWanted(t *testing.T) {
	config, err := settings.Parse([]byte(configuration))
	if err != nil {
		t.Fatal(err)
	}
	enabled := func(annotations ...string) inject.Namespace {
		n := inject.Namespace{IstioInjection: "enabled", Annotations: map[string]string{}}
		for i := 0; i < len(annotations); i += 2 {
			n.Annotations[annotations[i]] = annotations[i+1]
		}
		return n
	}
	profile := func(name string) inject.Namespace { return enabled(settings.ProfileAnnotation, name) }
	withoutCA := func(n inject.Namespace) inject.Namespace {
		n.Missing = map[string]bool{"lightstep.cacert": true}
		return n
	}
	collector, satellites := meshOf(revision("default", "1.31.0", byCollector)), meshOf(revision("default", "1.31.0", direct))
	canary := meshOf(revision("default", "1.14.6", byCollector), revision("new", "1.31.0", direct))
	canary.Tags["stable"] = "default"
	for name, c := range map[string]struct {
		name      string
		namespace inject.Namespace
		mesh      *istio.Mesh
		state     State
		direct    bool
		protocol  Protocol
	}{
		"Istio's own":              {name: "istio-system", namespace: enabled(), mesh: collector, state: NotLabelled},
		"by a collector":           {namespace: enabled(), mesh: collector, state: Kept},
		"by a collector, no CA":    {namespace: withoutCA(enabled()), mesh: collector, state: Kept},
		"by HTTP":                  {namespace: enabled(), mesh: meshOf(revision("default", "1.31.0", byHTTP)), state: Kept, protocol: HTTP},
		"direct":                   {namespace: enabled(), mesh: satellites, state: Kept, direct: true},
		"direct, no CA":            {namespace: withoutCA(enabled()), mesh: satellites, state: CAMissing},
		"direct, no CA, in clear":  {namespace: withoutCA(profile("clear")), mesh: satellites, state: Kept, direct: true},
		"direct, system roots":     {namespace: withoutCA(profile("public")), mesh: satellites, state: Kept, direct: true},
		"direct, no address":       {namespace: profile("empty"), mesh: satellites, state: NotConfigured},
		"collector, no address":    {namespace: profile("empty"), mesh: collector, state: Kept},
		"service of no namespace":  {namespace: enabled(), mesh: meshOf(revision("default", "1.31.0", unqualified)), state: ProviderMissing},
		"not labelled":             {name: "other", namespace: enabled(), mesh: collector, state: NotLabelled},
		"exempt":                   {name: "exempt", namespace: enabled(), mesh: collector, state: NotLabelled},
		"the injector's own":       {name: "lightstep-system", namespace: enabled(), mesh: collector, state: NotLabelled},
		"no such profile":          {namespace: profile("x"), mesh: collector, state: ProfileInvalid},
		"another's profile":        {namespace: profile("pay"), mesh: collector, state: ProfileInvalid},
		"tracer none":              {namespace: profile("silent"), mesh: collector, state: NotNeeded},
		"tracer lightstep":         {namespace: profile("native"), mesh: collector, state: NotNeeded},
		"version said to be old":   {namespace: profile("said"), mesh: collector, state: NotNeeded},
		"native":                   {namespace: enabled(), mesh: meshOf(revision("default", "1.7.8", byCollector)), state: NotNeeded},
		"no tracer":                {namespace: enabled(), mesh: meshOf(revision("default", "1.15.0", byCollector)), state: NotNeeded},
		"nobody has looked":        {namespace: enabled(), mesh: nil, state: Unknown},
		"no Istio":                 {namespace: enabled(), mesh: meshOf(), state: Unknown},
		"version unknown":          {namespace: enabled(), mesh: meshOf(revision("default", "latest", byCollector)), state: Unknown},
		"MeshConfig unreadable":    {namespace: enabled(), mesh: meshOf(revision("default", "1.31.0", "a: [")), state: Unknown},
		"no provider":              {namespace: enabled(), mesh: meshOf(revision("default", "1.31.0", "{}")), state: ProviderMissing},
		"provider of another kind": {namespace: enabled(), mesh: meshOf(revision("default", "1.31.0", ofZipkin)), state: ProviderMissing},
		"no label of Istio's":      {namespace: inject.Namespace{}, mesh: collector, state: Kept},
		"switched off":             {namespace: inject.Namespace{IstioInjection: "disabled"}, mesh: collector, state: NotNeeded},
		"revision":                 {namespace: inject.Namespace{IstioRevision: "new"}, mesh: canary, state: Kept, direct: true},
		"tag":                      {namespace: inject.Namespace{IstioRevision: "stable"}, mesh: canary, state: NotNeeded},
		"no such revision":         {namespace: inject.Namespace{IstioRevision: "gone"}, mesh: canary, state: Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			snap := &inject.Snapshot{Settings: config, OwnNamespace: "lightstep-system", Mesh: c.mesh}
			asked := "shop"
			switch c.name {
			case "":
				snap.Namespaces = snap.Namespaces.With("shop", c.namespace)
			case "other":
				snap.Namespaces, asked = snap.Namespaces.With("shop", c.namespace), "other"
			default:
				snap.Namespaces, asked = snap.Namespaces.With(c.name, c.namespace), c.name
			}
			got := wanted(snap, asked)
			if got.state != c.state || got.export.direct != (c.direct || c.state == CAMissing || c.state == NotConfigured) {
				t.Errorf("it is %s, direct %v; want %s, %v", got.state, got.export.direct, c.state, c.direct)
			}
			if c.state == Kept && c.protocol != "" && got.export.protocol != c.protocol {
				t.Errorf("the protocol is %s", got.export.protocol)
			}
		})
	}
}

// A snapshot with other Telemetries has nothing else done; one with anything else that is read has.
func TestAlike(t *testing.T) {
	config, err := settings.Parse([]byte(configuration))
	if err != nil {
		t.Fatal(err)
	}
	base := inject.Snapshot{Settings: config, Mesh: meshOf(revision("default", "1.31.0", byCollector))}
	base.Namespaces = base.Namespaces.With("shop", inject.Namespace{})
	for name, c := range map[string]struct {
		change func(*inject.Snapshot)
		want   bool
	}{
		"nothing": {func(*inject.Snapshot) {}, true},
		"Telemetries": {func(s *inject.Snapshot) {
			s.Mesh = meshOf(revision("default", "1.31.0", byCollector))
			s.Mesh.Telemetry = map[string][]istio.Telemetry{"shop": {{Name: "t"}}}
		}, true},
		"MeshConfig": {func(s *inject.Snapshot) { s.Mesh = meshOf(revision("default", "1.31.0", direct)) }, false},
		"a tag": {func(s *inject.Snapshot) {
			s.Mesh = meshOf(revision("default", "1.31.0", byCollector))
			s.Mesh.Tags["a"] = "b"
		}, false},
		"no mesh": {func(s *inject.Snapshot) { s.Mesh = nil }, false},
		"a namespace": {func(s *inject.Snapshot) {
			s.Namespaces = s.Namespaces.With("shop", inject.Namespace{Terminating: true})
		}, false},
		"the configuration": {func(s *inject.Snapshot) { s.Settings = settings.Default() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			next := base
			c.change(&next)
			if got := alike(&base, &next); got != c.want {
				t.Errorf("%t", got)
			}
		})
	}
}
