package mesh

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"
	telemetry "istio.io/api/telemetry/v1alpha1"
	selector "istio.io/api/type/v1beta1"
	networkingclient "istio.io/client-go/pkg/apis/networking/v1"
	telemetryclient "istio.io/client-go/pkg/apis/telemetry/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/json"

	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

const (
	// SatelliteHost is the name by which the mesh knows the satellites, whatever their real one: an application that
	// itself opens TLS to that is left alone, and each namespace's ServiceEntry may lead to the satellites of its own profile.
	SatelliteHost = "satellite.lightstep.internal"
	// PortGRPC and PortHTTP are the ports that go with it. A sidecar takes whatever its pod sends to such a port, anywhere,
	// for HTTP, so they are ports that nobody else uses, neither 443 nor 4317.
	PortGRPC = 44317
	// PortHTTP is the port for OTLP over HTTP.
	PortHTTP = 44318

	networkingGroup = "networking.istio.io"
	telemetryGroup  = "telemetry.istio.io"

	// systemRoots has a proxy check against the roots of its own image (istio@1.16.1 and 1.31.0 pkg/security/security.go,
	// FileRootSystemCACert). Up to 1.20 at least, a rule without it takes any certificate (istio@1.20.0 pilot/pkg/features/pilot.go,
	// VERIFY_CERTIFICATE_AT_CLIENT).
	systemRoots = "system"
)

// Protocol is how proxies send spans.
type Protocol string

const (
	// GRPC is OTLP over gRPC.
	GRPC Protocol = "grpc"
	// HTTP is OTLP over HTTP.
	HTTP Protocol = "http"
)

// export is how the mesh's provider sends spans.
type export struct {
	// provider is its name, and that of every object that goes with it.
	provider string
	// direct says that it sends them to the satellites, and not to a collector.
	direct   bool
	protocol Protocol
	port     uint32
}

// namespaceObjects are the objects of one labelled namespace, in the order in which they are to be created. Each of them is
// for injected pods alone: the others have no satellite CA, and a proxy that waits for the file does not become ready.
func namespaceObjects(namespace string, s *settings.Resolved, e export, a abilities) ([]*unstructured.Unstructured, error) {
	var made []any
	if e.direct {
		entry, err := serviceEntry(e.provider, namespace, ".", s, e, a)
		if err != nil {
			return nil, err
		}
		made = append(made, entry)
		if s.Satellite.Secure {
			made = append(made, destinationRule(namespace, s, e, a))
		}
	}
	made = append(made, tracing(namespace, s, e, a))
	objects := make([]*unstructured.Unstructured, 0, len(made))
	for _, typed := range made {
		object, err := asObject(typed)
		if err != nil {
			return nil, err
		}
		objects = append(objects, object)
	}
	return objects, nil
}

// serviceEntry leads from SatelliteHost to the satellites, where exportTo lets it be seen.
func serviceEntry(name, namespace, exportTo string, s *settings.Resolved, e export, a abilities) (*networkingclient.ServiceEntry, error) {
	host, port, err := splitAddress(s.Satellite.Address)
	if err != nil {
		return nil, err
	}
	named := &networking.ServicePort{Number: e.port, Name: portName(e), Protocol: strings.ToUpper(string(e.protocol))}
	resolution := networking.ServiceEntry_DNS
	if _, err := netip.ParseAddr(host); err == nil {
		resolution = networking.ServiceEntry_STATIC
	}
	return &networkingclient.ServiceEntry{
		TypeMeta:   metav1.TypeMeta{APIVersion: networkingGroup + "/" + a.networking, Kind: "ServiceEntry"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Spec: networking.ServiceEntry{
			Hosts:      []string{SatelliteHost},
			Location:   networking.ServiceEntry_MESH_EXTERNAL,
			Resolution: resolution,
			Ports:      []*networking.ServicePort{named},
			Endpoints:  []*networking.WorkloadEntry{{Address: host, Ports: map[string]uint32{portName(e): port}}},
			ExportTo:   []string{exportTo},
		},
	}, nil
}

// destinationRule has injected pods open TLS to the satellites.
func destinationRule(namespace string, s *settings.Resolved, e export, a abilities) *networkingclient.DestinationRule {
	name := s.Satellite.SNI()
	tls := &networking.ClientTLSSettings{Mode: networking.ClientTLSSettings_SIMPLE, CaCertificates: systemRoots, Sni: name}
	if s.CACertificate != nil {
		tls.CaCertificates = caFile(s.CACertificate)
	}
	if name == "" { // the address is an IP address, which is what the certificate has to name
		name, _, _ = splitAddress(s.Satellite.Address)
	}
	tls.SubjectAltNames = []string{name}
	return &networkingclient.DestinationRule{
		TypeMeta:   metav1.TypeMeta{APIVersion: networkingGroup + "/" + a.networking, Kind: "DestinationRule"},
		ObjectMeta: metav1.ObjectMeta{Name: e.provider, Namespace: namespace},
		Spec: networking.DestinationRule{
			Host:             SatelliteHost,
			TrafficPolicy:    &networking.TrafficPolicy{Tls: tls},
			WorkloadSelector: injectedPods(),
			ExportTo:         []string{"."},
		},
	}
}

// caFile is where a container finds the satellite CA.
func caFile(ca *settings.CACertificate) string { return path.Join(ca.MountPath, ca.Key) }

// tracing switches the provider on for injected pods.
func tracing(namespace string, s *settings.Resolved, e export, a abilities) *telemetryclient.Telemetry {
	return &telemetryclient.Telemetry{
		TypeMeta:   metav1.TypeMeta{APIVersion: telemetryGroup + "/" + a.telemetry, Kind: "Telemetry"},
		ObjectMeta: metav1.ObjectMeta{Name: e.provider, Namespace: namespace},
		Spec: telemetry.Telemetry{
			Selector: injectedPods(),
			Tracing: []*telemetry.Tracing{{
				Providers:                []*telemetry.ProviderRef{{Name: e.provider}},
				RandomSamplingPercentage: wrapperspb.Double(s.Sampling),
				CustomTags:               literalTags(s.CustomTags),
			}},
		},
	}
}

func injectedPods() *selector.WorkloadSelector {
	return &selector.WorkloadSelector{MatchLabels: map[string]string{inject.InjectedLabel: "true"}}
}

// literalTags leaves out tags without a value, which Istio refuses (istio@1.31.0 pkg/config/validation/validation.go,
// validateTelemetryTracing).
func literalTags(tags map[string]string) map[string]*telemetry.Tracing_CustomTag {
	literal := make(map[string]*telemetry.Tracing_CustomTag, len(tags))
	for name, value := range tags {
		if value != "" {
			literal[name] = &telemetry.Tracing_CustomTag{
				Type: &telemetry.Tracing_CustomTag_Literal{Literal: &telemetry.Tracing_Literal{Value: value}},
			}
		}
	}
	return literal
}

// emptyTags names the tags that literalTags leaves out.
func emptyTags(tags map[string]string) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(tags)), func(name string) bool { return tags[name] != "" })
}

// portName names the port of a ServiceEntry or a Service: Istio takes the protocol from a Service's.
func portName(e export) string { return string(e.protocol) + "-otlp" }

// splitAddress splits a validated host:port; an IPv6 address comes without its brackets.
func splitAddress(address string) (host string, port uint32, err error) {
	u, err := url.Parse("//" + address)
	if err != nil || u.Hostname() == "" {
		return "", 0, errors.New("write host:port, with IPv6 in brackets")
	}
	number, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil || number == 0 {
		return "", 0, errors.New("add a port from 1 to 65535")
	}
	return u.Hostname(), uint32(number), nil
}

// asObject turns an object of some Go type into what an apiserver takes of it: without a status.
func asObject(typed any) (*unstructured.Unstructured, error) {
	text, err := json.Marshal(typed)
	if err != nil {
		return nil, fmt.Errorf("write a %T: %w", typed, err)
	}
	object := &unstructured.Unstructured{}
	if err := json.Unmarshal(text, &object.Object); err != nil {
		return nil, fmt.Errorf("read a %T: %w", typed, err)
	}
	unstructured.RemoveNestedField(object.Object, "status")
	unstructured.RemoveNestedField(object.Object, "metadata", "creationTimestamp")
	unstructured.RemoveNestedField(object.Object, "spec", "template", "metadata", "creationTimestamp")
	return object, nil
}

// kinds are those of the objects that the controller keeps, in the order in which they are created; the newest API version
// of each first.
func kinds() []kind {
	return []kind{
		{networkingGroup, "ServiceEntry", "serviceentries", []string{"v1", "v1beta1", "v1alpha3"}},
		{networkingGroup, "DestinationRule", "destinationrules", []string{"v1", "v1beta1", "v1alpha3"}},
		{telemetryGroup, "Telemetry", "telemetries", []string{"v1", "v1alpha1"}},
	}
}

type kind struct {
	group, name, resource string
	versions              []string
}

func (k kind) at(version string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: k.group, Version: version, Resource: k.resource}
}
