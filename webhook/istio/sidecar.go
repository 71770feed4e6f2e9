package istio

import (
	"slices"
	"strings"
)

// The names that Istio's injector goes by (istio@1.31.0 pkg/kube/inject, istio.io/api annotation package).
const (
	// ProxyContainer is the sidecar's name, in containers or, native, in initContainers.
	ProxyContainer = "istio-proxy"
	// InjectKey is the label, and before 1.12 the annotation, by which a pod opts in or out.
	InjectKey = "sidecar.istio.io/inject"
	// StatusAnnotation is written by the injector.
	StatusAnnotation = "sidecar.istio.io/status"
	// NamespaceInjectionLabel is a namespace's istio-injection=enabled|disabled.
	NamespaceInjectionLabel = "istio-injection"
	// templatesAnnotation names the templates that a pod is injected by; those of a sidecar if it is not set.
	templatesAnnotation = "inject.istio.io/templates"
	sidecarTemplate     = "sidecar"
	// autoImage is what gateways and customised sidecars ship before injection.
	autoImage = "auto"
)

// Workload is what the rules read of one pod.
type Workload struct {
	HostNetwork bool
	Labels      map[string]string
	Annotations map[string]string
	// Proxy says that there is a container istio-proxy: a plain one, or an init container that restarts always.
	Proxy bool
	// ProxyImage is its image.
	ProxyImage string
	// NamespaceInjection is the value of the namespace's label istio-injection.
	NamespaceInjection string
	// Wanted says, in words, why namespace or pod ask for Istio; empty where they do not.
	Wanted string
	// Outside says, in words, why surely no control plane injects the pod; empty where one may.
	Outside string
	// Ambient says that the pod's traffic goes through the node's proxy.
	Ambient bool
	// Policy is that of the pod's control plane.
	Policy Policy
	// MeshUnproven says that nothing tells of a mesh but the pod itself: the offline case without an Istio version.
	MeshUnproven bool
}

// State is where a pod stands with its sidecar.
type State int

const (
	// Absent says that there is no sidecar and none will come.
	Absent State = iota
	// Expected says that Istio will inject one, or may.
	Expected
	// Present says that it is there.
	Present
)

// Sidecar is what Istio has done, or will do, to a pod.
type Sidecar struct {
	State State
	// Why says which rule tells so, in a few words for a reader of `explain`.
	Why string
}

// FindSidecar decides in the order of Istio's own rules.
func FindSidecar(w Workload, caps Capabilities) Sidecar {
	if w.Proxy && (w.Annotations[StatusAnnotation] != "" || w.ProxyImage != autoImage) {
		return Sidecar{Present, "the container istio-proxy is there"}
	}
	wish := wishOf(w, caps)
	refusal, refused := w.Policy.refuses(w.Labels)
	switch {
	case w.HostNetwork:
		return Sidecar{Absent, "the pod uses the host's network, which Istio leaves alone"}
	case wish == no:
		return Sidecar{Absent, InjectKey + " opts the pod out of the sidecar"}
	case w.NamespaceInjection == "disabled":
		return Sidecar{Absent, "the namespace has istio-injection=disabled"}
	case wish == unsaid && refused:
		return Sidecar{Absent, refusal}
	case w.Proxy:
		return Sidecar{Expected, "the container istio-proxy waits for Istio to fill it in (image: auto)"}
	case wish == yes:
		return Sidecar{Expected, InjectKey + " asks for the sidecar"}
	case w.Wanted != "":
		return Sidecar{Expected, w.Wanted}
	case w.Ambient:
		return Sidecar{Absent, "the pod is in the ambient mesh (" + DataplaneModeLabel + "), which has no sidecars: its own SDK alone can report spans"}
	case w.Outside != "":
		return Sidecar{Absent, w.Outside}
	case w.MeshUnproven:
		return Sidecar{Absent, "no Istio version is given and the pod does not ask for a sidecar"}
	}
	return Sidecar{Expected, "Istio may inject the pod"}
}

// SidecarTemplate tells whether a pod is injected by the template of sidecars: a gateway's mounts no satellite CA
// (istio@1.31.0 istio-discovery/files/gateway-injection-template.yaml).
func SidecarTemplate(annotations map[string]string) bool {
	templates, ok := annotations[templatesAnnotation]
	return !ok || slices.ContainsFunc(strings.Split(templates, ","), func(name string) bool { return strings.TrimSpace(name) == sidecarTemplate })
}

type wish int

const (
	unsaid wish = iota
	yes
	no
)

// wishOf reads sidecar.istio.io/inject as that version of Istio does.
func wishOf(w Workload, caps Capabilities) wish {
	value := w.Annotations[InjectKey]
	if label, ok := w.Labels[InjectKey]; ok && caps.LabelDecides {
		value = label
	}
	switch strings.ToLower(value) {
	case "":
		return unsaid
	case "true":
		return yes
	case "false":
		return no
	case "y", "yes", "on":
		if caps.StrictInject {
			return unsaid
		}
		return yes
	}
	if caps.Known && !caps.StrictInject {
		return no // anything that is not true is false, up to 1.12
	}
	return unsaid
}
