package istio

import (
	"fmt"
	"strings"
	"testing"
)

// TestExporters: where each opentelemetry provider sends spans, and nothing of its headers.
func TestExporters(t *testing.T) {
	mesh := ReadMeshConfig(`
extensionProviders:
- {name: grpc, opentelemetry: {service: istio-system/satellite.lightstep.internal, port: 44317, grpc: {initialMetadata: [{name: x, value: canary}]}}}
- {name: http, opentelemetry: {service: otel.shop.svc.cluster.local, port: 4318, http: {path: /v1/traces, headers: [{name: x, value: canary}]}}}
- {name: wrong, opentelemetry: {port: many}}
- {name: zipkin, zipkin: {service: zipkin, port: 9411}}
- {opentelemetry: {service: nameless}}`)
	if got := mesh.Exporters["grpc"]; got.Service != "istio-system/satellite.lightstep.internal" || got.Port != 44317 || got.HTTP != nil {
		t.Errorf("grpc: %+v", got)
	}
	if got := mesh.Exporters["http"]; got.Service != "otel.shop.svc.cluster.local" || got.Port != 4318 || got.HTTP == nil {
		t.Errorf("http: %+v", got)
	}
	if got, ok := mesh.Exporters["wrong"]; !ok || got != (Exporter{}) {
		t.Errorf("wrong: %+v, %v", got, ok)
	}
	if len(mesh.Exporters) != 3 || strings.Contains(fmt.Sprintf("%#v", mesh), "canary") {
		t.Errorf("%#v", mesh)
	}
}
