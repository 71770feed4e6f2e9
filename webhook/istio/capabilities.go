package istio

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/version"
)

// Tracer is what a proxy's spans go through.
type Tracer string

const (
	// NoTracer says that the proxy has no tracer that takes our settings.
	NoTracer Tracer = "none"
	// Lightstep is Envoy's native tracer, configured per pod by ProxyConfig.tracing.lightstep.
	Lightstep Tracer = "lightstep"
	// OpenTelemetry is Envoy's OTLP tracer, configured for the mesh by an extensionProvider and a Telemetry resource.
	OpenTelemetry Tracer = "opentelemetry"
)

// Capabilities is what one version of Istio can do, as far as this project has to know.
type Capabilities struct {
	// Known is false where Istio's version is not.
	Known bool
	// Version is the version asked for, empty where unknown.
	Version string
	// Tracer is the best one that the proxy has.
	Tracer Tracer
	// LabelDecides: the label sidecar.istio.io/inject counts, and beats the annotation of that name.
	LabelDecides bool
	// StrictInject: sidecar.istio.io/inject knows "true" and "false" alone; before, y, yes and on were true and all else false.
	StrictInject bool
	// ServerName: the tracer's tlsSettings.sni reaches the wire.
	ServerName bool
}

// change is one thing that became different at a version, and what that rests on.
type change struct {
	since  string
	apply  func(*Capabilities)
	source string
}

// changes lists what changed since the oldest version supported, oldest first. A new version of Istio that behaves
// otherwise is one more row.
func changes() []change {
	return []change{
		{"1.7", func(c *Capabilities) { c.Tracer = Lightstep }, "ProxyConfig.tracing.lightstep works from 1.7 on, with the native tracer"},
		{"1.9", func(c *Capabilities) { c.ServerName = true }, "1.7.0 sends 'tracer', 1.7.1 to 1.8 nothing, 1.9 what sni says"},
		{"1.12", func(c *Capabilities) { c.LabelDecides = true }, "before 1.12 the injector reads the annotation only"},
		{"1.13", func(c *Capabilities) { c.StrictInject = true }, "inferred: 1.12 still takes y, yes and on, the newest does not; not looked up at this tag"},
		{"1.15", func(c *Capabilities) { c.Tracer = NoTracer }, "istio/proxy#3950: Envoy 1.24 dropped envoy.tracers.lightstep"},
		{"1.16.1", func(c *Capabilities) { c.Tracer = OpenTelemetry }, "the proxy has envoy.tracers.opentelemetry from 1.16.1 on"},
	}
}

// Oldest is the oldest version of Istio that this project supports.
const Oldest = "1.7"

// Of returns the capabilities of a version such as "1.7", "1.24.0" or "1.24.0-distroless". An empty version is unknown:
// the safe choice of everything. The error says what is wrong with one that cannot be read or is too old.
func Of(v string) (Capabilities, error) {
	if v == "" {
		return Capabilities{Tracer: NoTracer, LabelDecides: true}, nil
	}
	parsed, err := version.ParseGeneric(v)
	if err != nil {
		return Capabilities{}, fmt.Errorf("%q is not a version; write it as 1.24 or 1.24.0", v)
	}
	if parsed.LessThan(version.MustParseGeneric(Oldest)) {
		return Capabilities{}, fmt.Errorf("%q is older than %s, the oldest Istio supported", v, Oldest)
	}
	caps := Capabilities{Known: true, Version: v}
	for _, c := range changes() {
		if parsed.AtLeast(version.MustParseGeneric(c.since)) {
			c.apply(&caps)
		}
	}
	return caps, nil
}

// OfImage returns the capabilities of the proxy in an image such as docker.io/istio/proxyv2:1.24.0-distroless. False
// where the image names no version: by digest alone, or with a tag such as "latest".
func OfImage(image string) (Capabilities, bool) {
	name, _, _ := strings.Cut(image, "@")
	tag := name[strings.LastIndexByte(name, '/')+1:] // a registry's port also follows a colon
	_, tag, found := strings.Cut(tag, ":")
	if !found {
		return Capabilities{}, false
	}
	caps, err := Of(tag)
	return caps, err == nil && caps.Known
}
