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
	// mountsAt is where Istio mounts the satellite CA by itself; empty where it does not.
	mountsAt string
}

const meshToken = "the-mesh-has-its-own"

// meshes are what an administrator may have set up before us: the chart's own; the same with all there is to set; the
// Lightstep task page's, with TLS, at our satellite and at another; the same with the CA at another path, and with the
// system's roots; and what the page gives on 1.7, which has no TLS.
func meshes() []mesh {
	return []mesh{
		{name: "zipkin", tracer: "zipkin", tracing: `{zipkin: {address: "zipkin.istio-system:9411"}}`, own: "zipkin"},
		{
			name: "zipkin-all", tracer: "zipkin", own: "zipkin", kept: []string{"mesh-tag", "77", "/etc/certs/zipkin.pem"},
			tracing: `{zipkin: {address: "zipkin.istio-system:9411"}, sampling: 7, maxPathTagLength: 77, customTags: {mesh-tag: {literal: {value: x}}},
				tlsSettings: {mode: SIMPLE, caCertificates: /etc/certs/zipkin.pem, sni: zipkin}}`,
		},
		{
			name: "lightstep-tls", tracer: "lightstep", own: "lightstep", kept: []string{meshToken}, ours: true, mountsAt: mountPath,
			tracing: `{lightstep: {address: "lightstep-satellite.lightstep:9292", accessToken: "` + meshToken + `"},
				tlsSettings: {mode: SIMPLE, caCertificates: /etc/lightstep/cacert.pem, sni: lightstep-satellite.lightstep}}`,
		},
		{
			name: "lightstep-elsewhere", tracer: "lightstep", own: "lightstep", kept: []string{"elsewhere"}, mountsAt: mountPath,
			tracing: `{lightstep: {address: "satellite.elsewhere:9292", accessToken: "` + meshToken + `"},
				tlsSettings: {mode: SIMPLE, caCertificates: /etc/lightstep/cacert.pem, sni: satellite.elsewhere}}`,
		},
		{
			name: "lightstep-own-path", tracer: "lightstep", own: "lightstep", kept: []string{"/etc/satellite/cacert.pem"}, mountsAt: "/etc/satellite",
			tracing: `{lightstep: {address: "satellite.elsewhere:9292", accessToken: "` + meshToken + `"},
				tlsSettings: {mode: SIMPLE, caCertificates: /etc/satellite/cacert.pem, sni: satellite.elsewhere}}`,
		},
		{
			name: "lightstep-roots", tracer: "lightstep", own: "lightstep", kept: []string{systemRoots}, mountsAt: "/etc/ssl/certs",
			tracing: `{lightstep: {address: "ingest.lightstep.com:443", accessToken: "` + meshToken + `"},
				tlsSettings: {mode: SIMPLE, caCertificates: ` + systemRoots + `, sni: ingest.lightstep.com}}`,
		},
		{
			name: "lightstep-plain", tracer: "lightstep", own: "lightstep", kept: []string{meshToken},
			tracing: `{lightstep: {address: "lightstep-satellite.lightstep:9292", accessToken: "` + meshToken + `"}}`,
		},
		{
			name: "lightstep-in-values", tracer: "lightstep", own: "zipkin",
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
