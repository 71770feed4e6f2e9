package mesh

import (
	"reflect"
	"slices"
	"strings"

	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

// State is how it stands with a namespace's objects.
type State string

// The states. Only with Kept is there anything of ours; with Unknown everything stays as it is.
const (
	// Kept: the objects are there, as they should be.
	Kept State = "Kept"
	// NotLabelled: the namespace does not carry the label, is exempt, or is Istio's own or the injector's.
	NotLabelled State = "NotLabelled"
	// NotNeeded: its pods have no sidecar, one with the native tracer, or none that is to send spans.
	NotNeeded State = "NotNeeded"
	// Unknown: its control plane, or that one's version or MeshConfig, is not known.
	Unknown State = "Unknown"
	// ProfileInvalid: the profile that it picks does not exist, or may not be picked there.
	ProfileInvalid State = "ProfileInvalid"
	// ProviderMissing: MeshConfig lacks the provider; a Telemetry that names one that is not there switches tracing off.
	ProviderMissing State = "ProviderMissing"
	// NotConfigured: the satellites' address is not set.
	NotConfigured State = "NotConfigured"
	// CAMissing: the satellite CA is not in the namespace; a proxy that waits for it does not become ready.
	CAMissing State = "CAMissing"
	// Foreign: an object of our name is not ours.
	Foreign State = "Foreign"
	// Conflict: somebody else has changed an object of ours.
	Conflict State = "Conflict"
	// Failed: the apiserver did not do it; it is tried again.
	Failed State = "Failed"
)

// want is what is to become of a namespace.
type want struct {
	// state is Kept where something is to be kept.
	state    State
	settings settings.Resolved
	export   export
}

// wanted tells what is to become of a namespace.
func wanted(snap *inject.Snapshot, name string) want {
	namespace, labelled := snap.Namespaces.Get(name)
	// In Istio's root namespace a Telemetry or DestinationRule applies to pods of every namespace.
	if !labelled || snap.Settings.Exempt(name) || name == snap.OwnNamespace || slices.Contains(snap.Settings.Istio().Namespaces, name) {
		return want{state: NotLabelled}
	}
	resolved, _, err := snap.Settings.Resolve(name, namespace.Annotations, nil)
	if err != nil {
		return want{state: ProfileInvalid}
	}
	w := want{settings: resolved}
	var exporter istio.Exporter
	if exporter, w.state = findExporter(snap, &namespace, &resolved); w.state != Kept {
		return w
	}
	w.export = export{provider: snap.Settings.Istio().Provider, protocol: GRPC, port: exporter.Port}
	if exporter.HTTP != nil {
		w.export.protocol = HTTP
	}
	_, host, _ := strings.Cut(exporter.Service, "/")
	switch w.export.direct = host == SatelliteHost; {
	case w.export.direct:
		w.state = ready(&namespace, &resolved)
	case exporter.Service == SatelliteHost: // without a namespace it finds no cluster, since the host is in several
		w.state = ProviderMissing
	}
	return w
}

// alike reports whether two snapshots differ in nothing that wanted reads.
func alike(a, b *inject.Snapshot) bool {
	if a.Settings != b.Settings || a.Namespaces != b.Namespaces || (a.Mesh == nil) != (b.Mesh == nil) {
		return false
	}
	return a.Mesh == nil || (reflect.DeepEqual(a.Mesh.Revisions, b.Mesh.Revisions) && reflect.DeepEqual(a.Mesh.Tags, b.Mesh.Tags))
}

// findExporter finds how the namespace's control plane sends spans.
func findExporter(snap *inject.Snapshot, namespace *inject.Namespace, s *settings.Resolved) (istio.Exporter, State) {
	provider := snap.Settings.Istio().Provider
	member := snap.Mesh.Find(istio.Labels{
		NamespaceInjection: namespace.IstioInjection,
		NamespaceRevision:  namespace.IstioRevision,
		Pod:                map[string]string{istio.InjectKey: "true"}, // pods of any namespace may ask for a sidecar
	})
	caps := s.Istio
	if !caps.Known && member.Revision != nil {
		caps = member.Revision.Capabilities
	}
	switch {
	case s.Tracer == istio.NoTracer, s.Tracer == istio.Lightstep:
		return istio.Exporter{}, NotNeeded
	case member.Revision == nil && member.Outside && len(snap.Mesh.Revisions) > 0:
		return istio.Exporter{}, NotNeeded
	case member.Revision == nil || member.Revision.Mesh == nil || !caps.Known:
		return istio.Exporter{}, Unknown
	case caps.Tracer != istio.OpenTelemetry:
		return istio.Exporter{}, NotNeeded
	case member.Revision.Mesh.Providers[provider] != string(istio.OpenTelemetry):
		return istio.Exporter{}, ProviderMissing
	}
	return member.Revision.Mesh.Exporters[provider], Kept
}

// ready tells what is lacking for proxies to reach the satellites.
func ready(namespace *inject.Namespace, s *settings.Resolved) State {
	switch {
	case s.Satellite.Address == "":
		return NotConfigured
	case s.Satellite.Secure && s.CACertificate != nil && namespace.Lacks(s.CACertificate.Secret()):
		return CAMissing
	}
	return Kept
}
