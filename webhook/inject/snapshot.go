package inject

import (
	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

// Snapshot is everything outside the pod that a decision depends on: one immutable value. Whoever knows something new
// builds another and swaps it whole (webhook/snapshot); a decision reads one snapshot from beginning to end.
type Snapshot struct {
	// Settings is the configuration in force.
	Settings *settings.Settings
	// OwnNamespace is the injector's own namespace, whose pods are never touched; empty offline.
	OwnNamespace string
	// Namespaces holds the namespaces that carry the label lightstep.com/injection=enabled.
	Namespaces Namespaces
	// Mesh is what is known of the cluster's Istio; nil where that is nothing.
	Mesh *istio.Mesh
	// Version is the injector's own, for the status annotation.
	Version string
	// Offline says that no cluster has decided anything: a sidecar is expected only where an Istio version is given or
	// the pod asks for one, and the Secrets are taken to be in place.
	Offline bool
}

// Namespace is what is known of one namespace.
type Namespace struct {
	// Unlabelled is true where the namespace is known not to carry the label. Offline only: to the webhook, being called
	// is the proof that it carries it.
	Unlabelled bool
	// Annotations holds the namespace's annotations lightstep.com/*.
	Annotations map[string]string
	// IstioInjection, IstioRevision and IstioDataplane are the values of its labels istio-injection, istio.io/rev and
	// istio.io/dataplane-mode.
	IstioInjection, IstioRevision, IstioDataplane string
	// Missing names the Secrets that are known not to be there (of those that the configuration names), and NoKey those
	// that are, and are known not to have the key.
	Missing map[string]bool
	NoKey   map[settings.Secret]bool
	// Awaits says that a Secret that is missing may be expected to come from the injector any moment.
	Awaits bool
	// Terminating says that the namespace is being deleted.
	Terminating bool
}

// Lacks tells whether a Secret is known not to be of use: it is not there, or has not the key.
func (n *Namespace) Lacks(secret settings.Secret) bool {
	return n.Missing[secret.Name] || n.NoKey[secret]
}
