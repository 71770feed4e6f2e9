package istio

import "testing"

// TestCapabilities: the table's rows, at both sides of each change.
func TestCapabilities(t *testing.T) {
	for version, want := range map[string]Tracer{
		"1.7": Lightstep, "1.7.0": Lightstep, "v1.9.5": Lightstep, "1.14.99": Lightstep,
		"1.15.0": NoTracer, "1.15.7": NoTracer, "1.16.0": NoTracer, "1.16": NoTracer,
		"1.16.1": OpenTelemetry, "1.24.0-distroless": OpenTelemetry, "1.31.1": OpenTelemetry, "2.0": OpenTelemetry,
	} {
		if caps, err := Of(version); err != nil || caps.Tracer != want || !caps.Known {
			t.Errorf("Of(%q) = %+v, %v; want tracer %s", version, caps, err, want)
		}
	}
	for _, version := range []string{"1.6.14", "0.9", "latest", "1", "one.two", "-1.7"} {
		if caps, err := Of(version); err == nil {
			t.Errorf("Of(%q) = %+v; want an error", version, caps)
		}
	}
	if caps, err := Of(""); err != nil || caps.Known || caps.Tracer != NoTracer {
		t.Errorf("an unknown version: %+v, %v; want the safe choice", caps, err)
	}
}

func TestOfImage(t *testing.T) {
	for image, want := range map[string]string{
		"docker.io/istio/proxyv2:1.24.0":                "1.24.0",
		"localhost:5000/istio/proxyv2:1.7.8-distroless": "1.7.8-distroless",
		"istio/proxyv2:1.9.0@sha256:abc":                "1.9.0",
		"localhost:5000/istio/proxyv2":                  "",
		"istio/proxyv2@sha256:abc":                      "",
		"istio/proxyv2:latest":                          "",
		"auto":                                          "",
		"":                                              "",
	} {
		if caps, ok := OfImage(image); caps.Version != want || ok != (want != "") {
			t.Errorf("OfImage(%q) = %q, %v; want %q", image, caps.Version, ok, want)
		}
	}
}

// TestFindSidecar: Istio's own rules, in their order.
func TestFindSidecar(t *testing.T) {
	old, newest, unknown := mustOf(t, "1.7.8"), mustOf(t, "1.31"), mustOf(t, "")
	inject := func(value string) map[string]string { return map[string]string{InjectKey: value} }
	for name, c := range map[string]struct {
		w    Workload
		caps Capabilities
		want State
	}{
		"nothing said":                    {Workload{}, newest, Expected},
		"nothing said, offline":           {Workload{MeshUnproven: true}, unknown, Absent},
		"asked for, offline":              {Workload{MeshUnproven: true, Labels: inject("true")}, unknown, Expected},
		"host network":                    {Workload{HostNetwork: true, Labels: inject("true")}, newest, Absent},
		"there, on the host's network":    {Workload{HostNetwork: true, Proxy: true, ProxyImage: "istio/proxyv2:1.7.8"}, newest, Present},
		"placeholder":                     {Workload{Proxy: true, ProxyImage: "auto"}, newest, Expected},
		"placeholder, injected":           {Workload{Proxy: true, ProxyImage: "auto", Annotations: map[string]string{StatusAnnotation: "{}"}}, newest, Present},
		"placeholder, opted out":          {Workload{Proxy: true, ProxyImage: "auto", Labels: inject("false")}, newest, Absent},
		"label false":                     {Workload{Labels: inject("false")}, newest, Absent},
		"label false, unknown":            {Workload{Labels: inject("false")}, unknown, Absent},
		"label false, 1.7 does not read":  {Workload{Labels: inject("false")}, old, Expected},
		"label beats annotation":          {Workload{Labels: inject("true"), Annotations: inject("false"), NamespaceInjection: ""}, newest, Expected},
		"annotation false":                {Workload{Annotations: inject("false")}, newest, Absent},
		"annotation off, 1.7":             {Workload{Annotations: inject("off")}, old, Absent},
		"annotation off, newest ignores":  {Workload{Annotations: inject("off")}, newest, Expected},
		"annotation yes, 1.7, offline":    {Workload{Annotations: inject("yes"), MeshUnproven: true}, old, Expected},
		"annotation yes, newest, offline": {Workload{Annotations: inject("yes"), MeshUnproven: true}, newest, Absent},
		"namespace disabled":              {Workload{NamespaceInjection: "disabled"}, newest, Absent},
		"namespace enabled":               {Workload{NamespaceInjection: "enabled"}, newest, Expected},
	} {
		if got := FindSidecar(c.w, c.caps); got.State != c.want || got.Why == "" {
			t.Errorf("%s: %+v; want state %d", name, got, c.want)
		}
	}
}

func mustOf(t *testing.T, version string) Capabilities {
	t.Helper()
	caps, err := Of(version)
	if err != nil {
		t.Fatal(err)
	}
	return caps
}
