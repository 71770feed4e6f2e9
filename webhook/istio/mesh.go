package istio

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// The names by which namespaces and pods choose a control plane (istio@1.31.0 istio-discovery/templates/mutatingwebhook.yaml,
// the same in 1.7.8 as far as they exist there).
const (
	// RevisionLabel, on a namespace or a pod, names a revision or a tag.
	RevisionLabel = "istio.io/rev"
	// TagLabel stands on the MutatingWebhookConfiguration of a tag; RevisionLabel beside it is the tag's revision.
	TagLabel = "istio.io/tag"
	// DataplaneModeLabel says "ambient" on a namespace or a pod without sidecars.
	DataplaneModeLabel = "istio.io/dataplane-mode"
	// DefaultRevision is the name of the control plane that was given none, and the tag that may stand in for it.
	DefaultRevision = "default"

	// CAVolume and CASecret are what Istio's injector mounts into the sidecar where its tracer is lightstep and has TLS.
	CAVolume = "lightstep-certs"
	CASecret = "lightstep.cacert"

	ambient = "ambient"
	// maxMeshConfig bounds what is parsed of Istio's own ConfigMaps, in bytes: what an apiserver stores of one.
	maxMeshConfig = 1 << 20
)

// Mesh is what is known of a cluster's Istio. It is immutable. A nil Mesh says that nobody has looked; one without
// revisions, that there is no Istio where the configuration says to look.
type Mesh struct {
	// Revisions are the control planes, by name.
	Revisions map[string]*Revision
	// Tags gives the revision of each tag.
	Tags map[string]string
	// Telemetry are the Telemetry resources by namespace, in the order in which they were made; nil where nothing is known
	// of them.
	Telemetry map[string][]Telemetry
}

// Revision is one control plane, as its ConfigMaps tell of it.
type Revision struct {
	Name string
	// Namespace is where it runs.
	Namespace string
	// Capabilities are those of its version, not Known where Problem says why.
	Capabilities Capabilities
	// Problem says what keeps the version, or the mesh's configuration, from being known.
	Problem string
	// Tracer is the values' global.proxy.tracer: with "lightstep", Istio's injector may mount the satellite CA itself.
	Tracer string
	// Policy is its injector's.
	Policy Policy
	// InjectsUnlabelled says that namespaces without any label of Istio's are injected (enableNamespacesByDefault).
	InjectsUnlabelled bool
	// Mesh is its MeshConfig; nil where that is not known.
	Mesh *MeshConfig
}

// MeshConfig is the part of a control plane's MeshConfig that some rule reads. The access token in it is dropped.
type MeshConfig struct {
	// RootNamespace is where a Telemetry holds for every namespace; empty for the control plane's own.
	RootNamespace string
	// Tracing is defaultConfig.tracing; nil where there is none. Its `lightstep` is left out, which Lightstep tells of.
	Tracing map[string]jsontext.Value
	// CAFile is defaultConfig.tracing.tlsSettings.caCertificates; empty where that is not set.
	CAFile string
	// Lightstep is defaultConfig.tracing.lightstep; nil where that is not set.
	Lightstep *LightstepTracer
	// Providers are the extensionProviders, each with its type: opentelemetry, lightstep, zipkin, …
	Providers map[string]string
	// Exporters are those of them that are opentelemetry, by name.
	Exporters map[string]Exporter
	// DefaultTracing are defaultProviders.tracing.
	DefaultTracing []string
	// Problem says what could not be read; empty if nothing.
	Problem string
}

// Exporter is where an opentelemetry provider sends spans, and how.
type Exporter struct {
	// Service is [NAMESPACE/]HOST.
	Service string `json:"service"`
	Port    uint32 `json:"port"`
	// HTTP is set where it sends OTLP over HTTP, and not gRPC. What else stands there, headers too, is not kept.
	HTTP *struct{} `json:"http"`
}

// LightstepTracer is a mesh's own native tracer, without its token.
type LightstepTracer struct {
	Address string `json:"address"`
}

// Values is the part of an injector's values that some rule reads.
type Values struct {
	// Capabilities are those of the version, not Known where Problem says why.
	Capabilities Capabilities
	// Tracer is global.proxy.tracer.
	Tracer string
	// Policy is what they say of pods that say nothing themselves.
	Policy Policy
	// InjectsUnlabelled is sidecarInjectorWebhook.enableNamespacesByDefault.
	InjectsUnlabelled bool
	// Problem says what could not be read; empty if nothing.
	Problem string
}

// ReadValues reads the key `values` of a ConfigMap istio-sidecar-injector. chartVersion is that ConfigMap's label
// app.kubernetes.io/version, which old charts do not set.
func ReadValues(text, chartVersion string) *Values {
	var in struct {
		Global struct {
			// Tag may be written as a number: 1.24 without quotes.
			Tag   any `json:"tag"`
			Proxy struct {
				Image      string `json:"image"`
				Tracer     string `json:"tracer"`
				AutoInject string `json:"autoInject"`
			} `json:"proxy"`
		} `json:"global"`
		Webhook struct {
			ByDefault bool                   `json:"enableNamespacesByDefault"`
			Never     []metav1.LabelSelector `json:"neverInjectSelector"`
			Always    []metav1.LabelSelector `json:"alwaysInjectSelector"`
		} `json:"sidecarInjectorWebhook"`
	}
	values := &Values{}
	values.Capabilities, _ = Of("")
	if err := readLenient(text, &in); err != nil {
		values.Problem = "the injector's values: " + err.Error()
		return values
	}
	values.Tracer, values.InjectsUnlabelled = in.Global.Proxy.Tracer, in.Webhook.ByDefault
	values.Policy = Policy{selectorsOf(in.Webhook.Never), selectorsOf(in.Webhook.Always), in.Global.Proxy.AutoInject == autoInjectDisabled}
	tag := ""
	if in.Global.Tag != nil {
		tag = fmt.Sprint(in.Global.Tag)
	}
	if caps, ok := versionOf(in.Global.Proxy.Image, tag, chartVersion); ok {
		values.Capabilities = caps
	} else {
		values.Problem = fmt.Sprintf("the injector's values: global.tag %q names no version of Istio from %s on", tag, Oldest)
	}
	return values
}

// versionOf takes, in this order, the proxy's image where that is a whole reference, as the injector does, the tag, and
// the chart's version.
func versionOf(image, tag, chart string) (Capabilities, bool) {
	if strings.ContainsAny(image, "/:") {
		if caps, ok := OfImage(image); ok {
			return caps, true
		}
	}
	for _, version := range []string{tag, chart} {
		if caps, err := Of(version); err == nil && caps.Known {
			return caps, true
		}
	}
	return Capabilities{}, false
}

// ReadMeshConfig reads the key `mesh` of a ConfigMap istio.
func ReadMeshConfig(text string) *MeshConfig {
	var in struct {
		RootNamespace string `json:"rootNamespace"`
		DefaultConfig struct {
			Tracing map[string]jsontext.Value `json:"tracing"`
		} `json:"defaultConfig"`
		ExtensionProviders []map[string]jsontext.Value `json:"extensionProviders"`
		DefaultProviders   struct {
			Tracing []string `json:"tracing"`
		} `json:"defaultProviders"`
	}
	if err := readLenient(text, &in); err != nil {
		return &MeshConfig{Problem: "the mesh's configuration: " + err.Error()}
	}
	mesh := &MeshConfig{
		RootNamespace:  in.RootNamespace,
		Tracing:        in.DefaultConfig.Tracing,
		CAFile:         caFile(in.DefaultConfig.Tracing),
		Providers:      providers(in.ExtensionProviders),
		Exporters:      exporters(in.ExtensionProviders),
		DefaultTracing: in.DefaultProviders.Tracing,
	}
	if lightstep, ok := mesh.Tracing[lightstepField]; ok {
		mesh.Lightstep = new(LightstepTracer)
		_ = json.Unmarshal(lightstep, mesh.Lightstep) // one that cannot be read has no address
		delete(mesh.Tracing, lightstepField)
	}
	return mesh
}

// NewRevision puts a control plane together from what its two ConfigMaps say; nil stands for one that is not there.
func NewRevision(name, namespace string, values *Values, mesh *MeshConfig) *Revision {
	r := &Revision{Name: name, Namespace: namespace}
	if values == nil {
		unknown, _ := Of("")
		values = &Values{Capabilities: unknown, Problem: "the ConfigMap istio-sidecar-injector is not there"}
	}
	r.Capabilities, r.Tracer, r.Policy, r.InjectsUnlabelled = values.Capabilities, values.Tracer, values.Policy, values.InjectsUnlabelled
	problems := []string{values.Problem}
	switch {
	case mesh == nil:
		problems = append(problems, "the ConfigMap istio is not there")
	case mesh.Problem != "":
		problems = append(problems, mesh.Problem)
	default:
		known := *mesh
		known.RootNamespace = cmp.Or(known.RootNamespace, namespace)
		r.Mesh = &known
	}
	problems = slices.DeleteFunc(problems, func(p string) bool { return p == "" })
	if len(problems) > 0 {
		r.Problem = "revision " + name + " in " + namespace + ": " + strings.Join(problems, "; ")
	}
	return r
}

// providers gives each extensionProvider's type: the one member beside its name.
func providers(list []map[string]jsontext.Value) map[string]string {
	types := make(map[string]string, len(list))
	for _, provider := range list {
		var name string
		_ = json.Unmarshal(provider["name"], &name) // one without a name is nobody's
		for _, member := range slices.Sorted(maps.Keys(provider)) {
			if member != "name" {
				types[name] = member
			}
		}
	}
	delete(types, "")
	return types
}

// exporters reads the opentelemetry providers; of one that cannot be read nothing is known but its name.
func exporters(list []map[string]jsontext.Value) map[string]Exporter {
	read := map[string]Exporter{}
	for _, provider := range list {
		settings, ok := provider[string(OpenTelemetry)]
		var name string
		if !ok || json.Unmarshal(provider["name"], &name) != nil {
			continue
		}
		var exporter Exporter
		if json.Unmarshal(settings, &exporter) != nil {
			exporter = Exporter{}
		}
		read[name] = exporter
	}
	return read
}

// readLenient reads YAML or JSON as Istio itself does: unknown fields are passed over.
func readLenient(text string, into any) error {
	if len(text) > maxMeshConfig {
		return fmt.Errorf("it has %d bytes; at most %d are read", len(text), maxMeshConfig)
	}
	asJSON, err := yaml.YAMLToJSON([]byte(text))
	if err != nil { // which may quote the text
		return errors.New("it is not YAML")
	}
	if err := json.Unmarshal(asJSON, into); err != nil {
		return errors.New("a field is not of the type that Istio gives it")
	}
	return nil
}

// Membership is how a pod stands with the control planes.
type Membership struct {
	// Revision is the pod's control plane; nil where it is not known, or there is none.
	Revision *Revision
	// Wanted is the revision or tag that namespace and pod ask for; empty where they ask for none.
	Wanted string
	// Outside says that surely no control plane injects the pod.
	Outside bool
	// Why says it in words.
	Why string
}

// Labels are those of a namespace and a pod that choose a control plane.
type Labels struct {
	// NamespaceInjection, NamespaceRevision and NamespaceDataplane are the namespace's istio-injection, istio.io/rev and
	// istio.io/dataplane-mode.
	NamespaceInjection, NamespaceRevision, NamespaceDataplane string
	// Pod are the pod's own labels.
	Pod map[string]string
}

// Find tells which control plane a pod belongs to. A namespace's istio-injection beats its istio.io/rev, which beats the
// pod's own (istio@1.31.0 istio-discovery/templates/mutatingwebhook.yaml).
func (m *Mesh) Find(l Labels) Membership {
	wanted, why := l.wanted()
	member := Membership{Wanted: wanted, Why: why}
	switch {
	case wanted != "":
		member.Revision = m.revision(wanted)
	case m == nil:
		member.Why = "nothing is known of Istio"
	case len(m.Revisions) == 0:
		member.Outside, member.Why = true, "there is no Istio"
	default:
		member.Revision, member.Outside = m.byDefault()
		if member.Outside {
			member.Why = "neither namespace nor pod asks for Istio"
		}
	}
	return member
}

func (l Labels) wanted() (revision, why string) {
	switch {
	case l.NamespaceInjection == "enabled":
		return DefaultRevision, "the namespace has " + NamespaceInjectionLabel + "=enabled"
	case l.NamespaceInjection == "" && l.NamespaceRevision != "":
		return l.NamespaceRevision, "the namespace has " + RevisionLabel + "=" + l.NamespaceRevision
	case l.NamespaceInjection == "" && l.Pod[RevisionLabel] != "":
		return l.Pod[RevisionLabel], "the pod has " + RevisionLabel + "=" + l.Pod[RevisionLabel]
	case l.NamespaceInjection == "" && l.Pod[InjectKey] == "true":
		return DefaultRevision, "the pod has " + InjectKey + "=true"
	}
	return "", ""
}

// Ambient tells whether the pod's traffic goes through the node's proxy, with no sidecar.
func (l Labels) Ambient() bool {
	if mode, ok := l.Pod[DataplaneModeLabel]; ok {
		return mode == ambient
	}
	return l.NamespaceDataplane == ambient
}

// revision finds a control plane by its own name, or by a tag; nil where there is none.
func (m *Mesh) revision(name string) *Revision {
	if m == nil {
		return nil
	}
	if target, ok := m.Tags[name]; ok {
		name = target
	}
	return m.Revisions[name]
}

// byDefault is the control plane that injects pods of namespaces with no label of Istio's, if one does.
func (m *Mesh) byDefault() (r *Revision, outside bool) {
	for _, name := range slices.Sorted(maps.Keys(m.Revisions)) {
		if m.Revisions[name].InjectsUnlabelled {
			return m.Revisions[name], false
		}
	}
	return nil, true
}

// CAMount tells where this control plane's injector mounts the Secret CASecret into the sidecar by itself; empty where it
// does not. It does where its values name the tracer and the pod's effective tracing has tlsSettings, at the folder of
// their caCertificates (istio@1.7.8, 1.14.6, 1.24.0 and 1.31.0 istio-discovery/files/injection-template.yaml). The tracing
// block of the pod's annotation proxy.istio.io/config takes the place of the mesh's.
func (r *Revision) CAMount(config string) string {
	if r == nil || r.Tracer != string(Lightstep) {
		return ""
	}
	file := ""
	if user := UserTracing(config); user != nil {
		file = caFile(user)
	} else if r.Mesh != nil {
		file = r.Mesh.CAFile
	}
	folder, _ := path.Split(file)
	if folder == "" { // at which nothing can be mounted
		return ""
	}
	return path.Clean(folder)
}

// HasLightstep tells whether the mesh sends every proxy's spans to that address already, over TLS, trusting that file.
func (r *Revision) HasLightstep(address, file string) bool {
	return r != nil && r.Mesh != nil && r.Mesh.Lightstep != nil && r.Mesh.Lightstep.Address == address && r.Mesh.CAFile == file
}

// Lack is what a mesh still lacks for spans to go through its OpenTelemetry provider.
type Lack int

const (
	// LacksNothing says that the provider is there and switched on.
	LacksNothing Lack = iota
	// LacksProvider says that MeshConfig has no such extensionProvider, or one of another type.
	LacksProvider
	// LacksTelemetry says that nothing switches the provider on for the namespace.
	LacksTelemetry
)

// Lacks tells what a namespace's control plane still lacks. The provider of a namespace's Telemetry takes the place of the
// root namespace's, which takes the place of the first of defaultProviders (istio@1.31.0 pilot/pkg/model/telemetry.go).
func (m *Mesh) Lacks(r *Revision, namespace, provider string) Lack {
	if m == nil || r == nil || r.Mesh == nil || r.Capabilities.Tracer != OpenTelemetry {
		return LacksNothing
	}
	if r.Mesh.Providers[provider] != string(OpenTelemetry) {
		return LacksProvider
	}
	if m.Telemetry == nil {
		return LacksNothing
	}
	byDefault := r.Mesh.DefaultTracing
	for _, inForce := range [][]string{providersOf(m.Telemetry[namespace]), providersOf(m.Telemetry[r.Mesh.RootNamespace]), byDefault[:min(1, len(byDefault))]} {
		switch {
		case slices.Contains(inForce, provider):
			return LacksNothing
		case len(inForce) > 0:
			return LacksTelemetry
		}
	}
	return LacksTelemetry
}

// Only is the one control plane that there is; nil where there are several, or none.
func (m *Mesh) Only() *Revision {
	if m == nil || len(m.Revisions) != 1 {
		return nil
	}
	for _, r := range m.Revisions {
		return r
	}
	return nil
}
