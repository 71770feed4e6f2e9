package meshes

import (
	"testing"

	"github.com/lightstep-injector/lightstep-injector/e2e/istio/agent"
)

// mesh is one that traces in its own way.
type mesh struct {
	name string
	// tracer is the values' global.proxy.tracer: with lightstep, Istio may mount the satellite CA by itself.
	tracer string
	// tracing is defaultConfig.tracing.
	tracing string
	// own is the cluster that the bootstrap's own tracer sends spans to, without us.
	own string
	// kept are words of the effective tracing that only the mesh's own has.
	kept []string
	// ours: the mesh sends spans to our satellite already, with a token of its own, and that is left alone.
	ours bool
	// startsToMount: Istio mounts the satellite CA by itself once a pod's own block has TLS, as ours in the annotation has,
	// and not before. A pod that it saw first has our volume at that path, one that we saw first Istio's, of the same Secret.
	startsToMount bool
	// orderMatters says why the order of the webhooks makes a difference here, which it should not: known, and not mended.
	orderMatters string
}

const meshToken = "the-mesh-has-its-own"

// meshes are what an administrator may have set up before us: the chart's own; the same with all there is to set; the
// Lightstep task page's, with TLS, at our satellite and at another; and what the page gives on 1.7, which has no TLS.
func meshes() []mesh {
	return []mesh{
		{name: "zipkin", tracer: "zipkin", tracing: `{zipkin: {address: "zipkin.istio-system:9411"}}`, own: "zipkin"},
		{
			name: "zipkin-all", tracer: "zipkin", own: "zipkin", kept: []string{"mesh-tag", "77", "/etc/certs/zipkin.pem"},
			tracing: `{zipkin: {address: "zipkin.istio-system:9411"}, sampling: 7, maxPathTagLength: 77, customTags: {mesh-tag: {literal: {value: x}}},
				tlsSettings: {mode: SIMPLE, caCertificates: /etc/certs/zipkin.pem, sni: zipkin}}`,
		},
		{
			name: "lightstep-tls", tracer: "lightstep", own: "lightstep", kept: []string{meshToken}, ours: true,
			tracing: `{lightstep: {address: "lightstep-satellite.lightstep:9292", accessToken: "` + meshToken + `"},
				tlsSettings: {mode: SIMPLE, caCertificates: /etc/lightstep/cacert.pem, sni: lightstep-satellite.lightstep}}`,
		},
		{
			name: "lightstep-elsewhere", tracer: "lightstep", own: "lightstep", kept: []string{"elsewhere"},
			tracing: `{lightstep: {address: "satellite.elsewhere:9292", accessToken: "` + meshToken + `"},
				tlsSettings: {mode: SIMPLE, caCertificates: /etc/lightstep/cacert.pem, sni: satellite.elsewhere}}`,
		},
		{
			name: "lightstep-plain", tracer: "lightstep", own: "lightstep", kept: []string{meshToken}, startsToMount: true,
			tracing: `{lightstep: {address: "lightstep-satellite.lightstep:9292", accessToken: "` + meshToken + `"}}`,
		},
		{
			name: "lightstep-in-values", tracer: "lightstep", own: "zipkin", startsToMount: true,
			tracing: `{zipkin: {address: "zipkin.istio-system:9411"}}`,
		},
	}
}

func (m *mesh) config() string { return "defaultConfig: {tracing: " + m.tracing + "}\n" }

func TestMeshes(t *testing.T) {
	e := setUp(t)
	t.Run("Oldest", func(t *testing.T) { testOldest(t, e) })
	t.Run("Newest", func(t *testing.T) { testNewest(t, e) })
	t.Run("NoToken", func(t *testing.T) { e.NoToken(t, agent.Made) })
}
