package mesh

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/version"

	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
)

// abilities are what one version of Istio takes in the objects that are made here.
type abilities struct {
	istio.Capabilities
	// networking and telemetry are the newest API versions of each group.
	networking, telemetry string
	// http: the provider can export by OTLP over HTTP.
	http bool
	// headers: the provider can send headers with gRPC; headersFromEnv: it can read their values in istiod's environment.
	headers, headersFromEnv bool
}

// change is one thing that became different at a version, and what that rests on.
type change struct {
	since  string
	apply  func(*abilities)
	source string
}

// changes lists what changed since OpenTelemetry works, oldest first.
func changes() []change {
	return []change{
		{"1.16.1", func(a *abilities) { a.networking, a.telemetry = "v1beta1", "v1alpha1" }, "istio@1.16.1 manifests/charts/base/crds/crd-all.gen.yaml"},
		{"1.22", func(a *abilities) { a.networking, a.telemetry = "v1", "v1" }, "istio@1.22.0 manifests/charts/base/crds/crd-all.gen.yaml; 1.21.0 serves neither v1"},
		{"1.22", func(a *abilities) { a.http = true }, "istio@1.22.0 releasenotes/notes/47835-otlp-http-exporter.yaml"},
		{"1.24", func(a *abilities) { a.headers = true }, "istio@1.24.0 pilot/pkg/networking/core/tracing.go, otelConfig; 1.22.0's gRPC service has no metadata"},
		{"1.26", func(a *abilities) { a.headersFromEnv = true }, "istio@1.26.0 pilot/pkg/networking/core/tracing.go, getHeaderValue; 1.24.0 has no EnvName"},
	}
}

// of returns what a version takes.
func of(caps istio.Capabilities) (abilities, error) {
	a := abilities{Capabilities: caps}
	parsed, err := version.ParseGeneric(caps.Version)
	if err != nil {
		return abilities{}, fmt.Errorf("%q is not a version; write it as 1.24 or 1.24.0", caps.Version)
	}
	for _, c := range changes() {
		if parsed.AtLeast(version.MustParseGeneric(c.since)) {
			c.apply(&a)
		}
	}
	return a, nil
}
