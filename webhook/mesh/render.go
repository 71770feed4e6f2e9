package mesh

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"
	mesh "istio.io/api/mesh/v1alpha1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

// TokenHeader is the header by which satellites take the access token.
const TokenHeader = "lightstep-access-token"

// Request is what is to be rendered.
type Request struct {
	// Settings are those of the profile.
	Settings settings.Resolved
	// Provider is the name of MeshConfig's extensionProvider, and of the objects that go with it.
	Provider string
	// IstioNamespace is where the control plane runs.
	IstioNamespace string
	// Namespaces are those whose objects are wanted.
	Namespaces []string
	Protocol   Protocol
	// Collector is the host:port of an OpenTelemetry collector in the mesh; empty for the example's.
	Collector string
	// Direct sends spans from the proxies to the satellites.
	Direct bool
	// TokenInXDS has istiod send the access token to every proxy that uses the provider.
	TokenInXDS bool
}

// Part says what a section is for.
type Part string

const (
	// PartMesh is for whoever installs Istio.
	PartMesh Part = "mesh"
	// PartObjects is to be applied to the cluster.
	PartObjects Part = "objects"
	// PartCollector is an example to start from.
	PartCollector Part = "collector"
)

// Section is some objects, and what a reader should know of them.
type Section struct {
	Part    Part
	Says    []string
	Objects []*unstructured.Unstructured
}

// Rendered is all that a mesh needs.
type Rendered struct {
	Sections []Section
	// Notes are what whoever applies it should know first.
	Notes []string
}

// Render makes the objects that a mesh of the settings' Istio version needs. Errors name the field, its value, and the fix.
func Render(r *Request) (*Rendered, error) {
	a, err := r.check()
	if err != nil {
		return nil, err
	}
	if a.Tracer == istio.Lightstep {
		return r.renderLegacy()
	}
	var out Rendered
	if !r.Settings.Satellite.Secure {
		out.Notes = append(out.Notes, "profiles."+r.Settings.Profile+".satellite.secure is false: "+either(r.Direct, "spans go", "spans and the access token go")+" in the clear")
	}
	e, service := r.export(), r.IstioNamespace+"/"+SatelliteHost
	if r.Direct {
		r.noteDirect(&out, a)
	} else {
		if service, e.port, err = r.collector(&out); err != nil {
			return nil, err
		}
	}
	if err := r.renderMesh(&out, e, service); err != nil {
		return nil, err
	}
	if err := r.renderObjects(&out, e, a); err != nil {
		return nil, err
	}
	if !r.Direct && r.Collector == "" {
		err = r.renderCollector(&out, e)
	}
	return &out, err
}

// check refuses what the version of Istio, or the configuration, does not let work.
func (r *Request) check() (abilities, error) {
	profile := "profiles." + r.Settings.Profile
	if !r.Settings.Istio.Known {
		return abilities{}, fmt.Errorf("%s.mesh.istioVersion: \"\": write the mesh's version, such as 1.31, there or as --istio-version, or have it read in the cluster with --detect", profile)
	}
	a, err := of(r.Settings.Istio)
	if err != nil {
		return abilities{}, fmt.Errorf("%s.mesh.istioVersion: %w", profile, err)
	}
	version := r.Settings.Istio.Version
	switch {
	case r.Settings.Tracer == istio.NoTracer:
		return a, fmt.Errorf("%s.mesh.tracer: none: sidecars of this profile send no spans; write auto", profile)
	case a.Tracer == istio.NoTracer:
		return a, fmt.Errorf("Istio %s: its proxy has neither the Lightstep nor the OpenTelemetry tracer: upgrade to 1.16.1 or later, or have it send Zipkin's format to a collector of your own", version) //nolint:staticcheck // a name
	case r.Settings.Satellite.Address == "" && (r.Collector == "" || a.Tracer == istio.Lightstep):
		return a, fmt.Errorf("%s.satellite.address: \"\": write host:port, such as lightstep-satellite.lightstep:9292", profile)
	}
	return a, r.checkRoute(a)
}

func (r *Request) checkRoute(a abilities) error {
	version := r.Settings.Istio.Version
	switch legacy := a.Tracer == istio.Lightstep; {
	case legacy && (r.Direct || r.Collector != "" || r.TokenInXDS || r.Protocol != GRPC):
		return fmt.Errorf("--direct, --collector, --token-in-xds, --protocol: Istio %s has the native tracer, which knows none of it: leave them out", version)
	case r.Direct && r.Collector != "":
		return fmt.Errorf("--collector %s: spans go either to it or, with --direct, to the satellites: leave one out", r.Collector)
	case r.TokenInXDS && !r.Direct:
		return errors.New("--token-in-xds: without --direct the collector holds the token, and proxies need none: leave it out, or add --direct")
	case r.TokenInXDS && !a.headers && r.Protocol == GRPC:
		return fmt.Errorf("--token-in-xds: the provider of Istio %s sends no headers with gRPC (from 1.24), and reads none in istiod's environment (from 1.26): use a collector, or upgrade", version)
	case r.TokenInXDS && !a.headersFromEnv:
		return fmt.Errorf("--token-in-xds: Istio %s reads no header in istiod's environment (from 1.26), so the token would stand in MeshConfig: use a collector, or upgrade", version)
	case r.TokenInXDS && !r.Settings.Satellite.Secure:
		return fmt.Errorf("--token-in-xds: profiles.%s.satellite.secure is false, so the token would go in the clear: set it to true, or use a collector", r.Settings.Profile)
	case r.Protocol == HTTP && !a.http:
		return fmt.Errorf("--protocol http: the provider of Istio %s sends gRPC alone (HTTP from 1.22): leave it out, or upgrade", version)
	}
	return nil
}

func (r *Request) export() export {
	e := export{provider: r.Provider, direct: r.Direct, protocol: r.Protocol, port: PortGRPC}
	if r.Protocol == HTTP {
		e.port = PortHTTP
	}
	return e
}

// collector returns where the collector is.
func (r *Request) collector(out *Rendered) (service string, port uint32, err error) {
	service, port, err = splitAddress(cmp.Or(r.Collector, exampleAddress(r.export())))
	if err != nil {
		return "", 0, fmt.Errorf("--collector %s: %w", r.Collector, err)
	}
	if _, err := netip.ParseAddr(service); err == nil {
		return "", 0, fmt.Errorf("--collector %s: proxies find a collector by a name that the mesh knows: write its Service's full name, such as %s", r.Collector, exampleAddress(r.export()))
	}
	if !strings.Contains(service, ".svc.") {
		out.Notes = append(out.Notes, service+" is not the full name of a Service (NAME.NAMESPACE.svc.cluster.local): the mesh must know it by a ServiceEntry of yours")
	}
	return service, port, nil
}

func (r *Request) noteDirect(out *Rendered, a abilities) {
	if r.TokenInXDS {
		out.Notes = append(out.Notes,
			"the access token is exposed: istiod sends it to every proxy that uses provider "+r.Provider+", and any tenant who can name the provider in a Telemetry reads it in its own proxy")
	} else {
		out.Notes = append(out.Notes, "no access token is sent: satellites that ask for one refuse the spans; use a collector"+either(a.headersFromEnv, ", or --token-in-xds", " (--token-in-xds needs Istio 1.26)"))
	}
	out.Notes = append(out.Notes,
		"the satellites are asked for by the name "+SatelliteHost+" (:authority, not the SNI): where a load balancer before them goes by that name, use a collector")
}

func either(first bool, yes, no string) string {
	if first {
		return yes
	}
	return no
}

// renderMesh renders what belongs to Istio's own installation, and the ServiceEntry that goes with it.
func (r *Request) renderMesh(out *Rendered, e export, service string) error {
	provider := &mesh.MeshConfig_ExtensionProvider_OpenTelemetryTracingProvider{Service: service, Port: e.port}
	if e.protocol == HTTP {
		// Envoy needs a time-out, and Istio sets none by itself (istio@1.31.0 pilot/pkg/networking/core/tracing.go, otelConfig).
		provider.Http = &mesh.MeshConfig_ExtensionProvider_HttpService{Path: "/v1/traces", Timeout: durationpb.New(exportTimeout)}
	}
	values := map[string]any{}
	if r.TokenInXDS {
		r.sendToken(provider, values)
	}
	operator, err := istioOperator(&mesh.MeshConfig{ExtensionProviders: []*mesh.MeshConfig_ExtensionProvider{{
		Name:     e.provider,
		Provider: &mesh.MeshConfig_ExtensionProvider_Opentelemetry{Opentelemetry: provider},
	}}}, values)
	if err != nil {
		return err
	}
	says := []string{
		"Istio's own installation: MeshConfig's provider through which spans go. Where yours has extensionProviders already, add",
		"this one to them: the list is replaced, not merged.",
	}
	if r.TokenInXDS {
		says = append(says, "istiod reads the token in its environment, from the Secret in its own namespace.")
	}
	says = append(says, installation("what is under values.pilot, are")...)
	out.Sections = append(out.Sections, Section{PartMesh, says, []*unstructured.Unstructured{operator}})
	return nil
}

// sendToken has istiod read the token in its environment, and send it to the proxies.
func (r *Request) sendToken(provider *mesh.MeshConfig_ExtensionProvider_OpenTelemetryTracingProvider, values map[string]any) {
	headers := []*mesh.MeshConfig_ExtensionProvider_HttpHeader{{
		Name:        TokenHeader,
		HeaderValue: &mesh.MeshConfig_ExtensionProvider_HttpHeader_EnvName{EnvName: inject.TokenEnv},
	}}
	if provider.GetHttp() != nil {
		provider.Http.Headers = headers
	} else {
		provider.Grpc = &mesh.MeshConfig_ExtensionProvider_GrpcService{InitialMetadata: headers}
	}
	secret := map[string]any{"name": r.Settings.AccessToken.SecretName, "key": r.Settings.AccessToken.Key}
	values["pilot"] = map[string]any{"envVarFrom": []any{
		map[string]any{"name": inject.TokenEnv, "valueFrom": map[string]any{"secretKeyRef": secret}},
	}}
}

// renderObjects renders what is to be applied to the cluster.
func (r *Request) renderObjects(out *Rendered, e export, a abilities) error {
	if r.Direct {
		entry, err := serviceEntry(e.provider+"-provider", r.IstioNamespace, "~", &r.Settings, e, a)
		if err != nil {
			return err
		}
		object, err := asObject(entry)
		if err != nil {
			return err
		}
		out.Sections = append(out.Sections, Section{PartObjects, []string{
			"By this one istiod knows the provider's service. No proxy sees it: exportTo is \"~\".",
		}, []*unstructured.Unstructured{object}})
	}
	for _, namespace := range r.Namespaces {
		objects, err := namespaceObjects(namespace, &r.Settings, e, a)
		if err != nil {
			return err
		}
		out.Sections = append(out.Sections, Section{PartObjects, []string{"Namespace " + namespace + ": for its injected pods, and seen in it alone."}, objects})
	}
	if len(r.Namespaces) == 0 {
		out.Notes = append(out.Notes, "no namespace is given: add --namespace for each one that is labelled, or have the injector keep their objects (istio.manage: true)")
	}
	for _, tag := range emptyTags(r.Settings.CustomTags) {
		out.Notes = append(out.Notes, fmt.Sprintf("the custom tag %q is left out: Istio takes none without a value", tag))
	}
	return nil
}

// istioOperator is the form in which istioctl takes an installation's settings.
func istioOperator(config *mesh.MeshConfig, values map[string]any) (*unstructured.Unstructured, error) {
	written, err := asObject(config)
	if err != nil {
		return nil, err
	}
	spec := map[string]any{"meshConfig": written.Object}
	if len(values) > 0 {
		spec["values"] = values
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "install.istio.io/v1alpha1",
		"kind":       "IstioOperator",
		"spec":       spec,
	}}, nil
}

// installation says where the settings go.
func installation(values string) []string {
	return []string{
		"With istioctl: istioctl install -f FILE. With Helm: meshConfig, and " + values + " values of the chart istiod.",
		"It is not for kubectl apply: --print objects leaves it out.",
	}
}
