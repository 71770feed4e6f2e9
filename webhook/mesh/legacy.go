package mesh

import (
	"fmt"
	"path"

	mesh "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
)

// TokenPlaceholder stands where Istio 1.7 to 1.14 wants the token. It is one that Istio takes and satellites refuse: with
// none at all istiod drops the whole MeshConfig and goes on with a default one (istio@1.7.8 pkg/config/validation/validation.go,
// ValidateLightstepCollector, and pilot/pkg/bootstrap/mesh.go).
const TokenPlaceholder = "<access-token>"

// renderLegacy renders the native tracer's settings for the whole mesh, which replace those of Istio 1.7's page about
// Lightstep: its global.tracer.lightstep.secure and cacertPath went with 1.6.
func (r *Request) renderLegacy() (*Rendered, error) {
	s := &r.Settings
	needsNothing := fmt.Sprintf("Istio %s needs nothing for the mesh: the injector sets the tracer up pod by pod", s.Istio.Version)
	if s.Satellite.Secure && s.CACertificate == nil {
		return &Rendered{Notes: []string{needsNothing, fmt.Sprintf("nothing is printed that does it for every pod: with that, Istio's injector would mount the Secret %s over each sidecar's %s, which profiles.%s.caCertificate: null asks to trust", istio.CASecret, path.Dir(istio.SystemRoots), s.Profile)}}, nil
	}
	tags := map[string]*mesh.Tracing_CustomTag{}
	for name, value := range s.CustomTags {
		if value != "" {
			tags[name] = &mesh.Tracing_CustomTag{Type: &mesh.Tracing_CustomTag_Literal{Literal: &mesh.Tracing_Literal{Value: value}}}
		}
	}
	tracing := &mesh.Tracing{Sampling: s.Sampling, CustomTags: tags}
	if s.Satellite.Secure {
		tracing.TlsSettings = &networking.ClientTLSSettings{
			Mode: networking.ClientTLSSettings_SIMPLE, CaCertificates: caFile(s.CACertificate), Sni: s.Satellite.SNI(),
		}
	}
	operator, err := istioOperator(&mesh.MeshConfig{
		EnableTracing: true,
		DefaultConfig: &mesh.ProxyConfig{Tracing: tracing},
	}, map[string]any{"global": map[string]any{
		"proxy":  map[string]any{"tracer": string(istio.Lightstep)},
		"tracer": map[string]any{"lightstep": map[string]any{"address": s.Satellite.Address, "accessToken": TokenPlaceholder}},
	}})
	if err != nil {
		return nil, err
	}
	says := []string{
		"The native tracer for the whole mesh, labelled namespaces or not. The injector does not need it: it sets the tracer",
		"up in each pod of labelled namespaces, with the token from its Secret. Here the token would have to stand in the place",
		"of " + TokenPlaceholder + ", and in the ConfigMap istio, for whoever reads that.",
	}
	out := &Rendered{Sections: []Section{{PartMesh, append(says, installation("what is under values, are")...), []*unstructured.Unstructured{operator}}}}
	out.Notes = append(out.Notes, needsNothing+". What is printed does it for every pod, where you want that")
	if s.Satellite.Secure {
		out.Notes = append(out.Notes, "every proxy would then want the satellite CA: a namespace without the Secret, and each gateway (into which Istio mounts nothing), may not become ready")
		if s.CACertificate.SecretName != istio.CASecret {
			out.Notes = append(out.Notes, fmt.Sprintf("Istio's injector then mounts the Secret %s at %s, whatever profiles.%s.caCertificate.secretName says", istio.CASecret, s.CACertificate.MountPath, s.Profile))
		}
	}
	if s.Satellite.Secure && !s.Istio.ServerName {
		out.Notes = append(out.Notes, fmt.Sprintf("Istio %s does not send the sni (from 1.9): a public satellite endpoint may need one", s.Istio.Version))
	}
	for _, tag := range emptyTags(s.CustomTags) {
		out.Notes = append(out.Notes, fmt.Sprintf("the custom tag %q is left out: Istio takes none without a value", tag))
	}
	return out, nil
}
