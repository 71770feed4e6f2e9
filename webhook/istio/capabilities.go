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

// Change is one thing that became different at a version.
type Change struct {
	// Since is the first version that has it.
	Since string
	// Does is what this project does from then on, Because is why, and Source is where that can be read.
	Does, Because, Source string
	// Proven says what the tests of it run against.
	Proven Proof
	apply  func(*Capabilities)
}

// Proof is what a change is tested against.
type Proof string

const (
	// Real is an Istio of that side of the change.
	Real Proof = "real"
	// Fixture is a pod in the shape that such an Istio gives it.
	Fixture Proof = "fixture"
)

// Changes lists what changed since the oldest version supported, oldest first. A new version of Istio that behaves
// otherwise is one more row. docs/istio.md is made of it.
func Changes() []Change {
	return []Change{
		{
			"1.7", "the native tracer: a complete `tracing` block with address, token, sampling, tags and TLS, in the annotation or in `PROXY_CONFIG`",
			"ProxyConfig has `tracing.lightstep`, and the proxy's bootstrap a cluster for it", "istio@1.7.8 tools/packaging/common/envoy_bootstrap.json", Real,
			func(c *Capabilities) { c.Tracer = Lightstep },
		},
		{
			"1.9", "`tlsSettings.sni` is what the satellite is sent; before, the configuration's advice says that it is not",
			"1.7.0 sends a fixed name, 1.7.1 to 1.8 none in mode SIMPLE, 1.9 what `sni` says", "istio@1.7.0, 1.8.6, 1.9.0 pkg/bootstrap/option/convert.go", Fixture,
			func(c *Capabilities) { c.ServerName = true },
		},
		{
			"1.12", "the label `sidecar.istio.io/inject` counts, and beats the annotation",
			"before, the injector reads the annotation alone", "istio@1.11.8, 1.12.0 pkg/kube/inject/inject.go", Real,
			func(c *Capabilities) { c.LabelDecides = true },
		},
		{
			"1.15", "no tracer, and `TracerUnsupported` says to upgrade",
			"its Envoy no longer has the native tracer, and not yet OpenTelemetry's", "istio/proxy#3950", Fixture,
			func(c *Capabilities) { c.Tracer = NoTracer },
		},
		{
			"1.16.1", "the mesh's OpenTelemetry provider; a `tracing` block for values that a pod or a namespace set, over the mesh's own; never `tracing.lightstep`",
			"the proxy has the OpenTelemetry tracer; a Telemetry and an extensionProvider switch it on", "istio@1.31.0 pilot/pkg/model/telemetry.go", Real,
			func(c *Capabilities) { c.Tracer = OpenTelemetry },
		},
		{
			"1.27", "of `sidecar.istio.io/inject`, `true` and `false` alone are taken; anything else is as if it were not there",
			"before, y, yes and on were true, too, and anything else false", "istio@1.26.0, 1.27.0 pkg/kube/inject/inject.go (istio#56737)", Real,
			func(c *Capabilities) { c.StrictInject = true },
		},
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
	for _, c := range Changes() {
		if parsed.AtLeast(version.MustParseGeneric(c.Since)) {
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
