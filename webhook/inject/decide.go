package inject

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

// The names of the contract with users.
const (
	// NamespaceLabel opts a namespace in, with the value enabled.
	NamespaceLabel        = "lightstep.com/injection"
	NamespaceLabelEnabled = "enabled"
	// OptOutLabel opts a pod out, with the value "false".
	OptOutLabel = "lightstep.com/inject"
	// InjectedLabel is set to "true" on every injected pod.
	InjectedLabel = "lightstep.com/injected"
	// StatusAnnotation says what was done to a pod. It is written, never believed.
	StatusAnnotation = "lightstep.com/status"

	mirrorAnnotation = "kubernetes.io/config.mirror"
	osLabel          = "kubernetes.io/os"
	// controlPlaneApp is the label app of istiod's pods (istio@1.7.8 and 1.31.0 istio-discovery/templates/deployment.yaml).
	controlPlaneApp = "istiod"
)

// Decision is what becomes of a pod, and why.
type Decision struct {
	// Reason is the rule that decided.
	Reason Reason
	// Inject says whether a plan is to be made.
	Inject bool
	// Settings are those that hold for this pod.
	Settings settings.Resolved
	// Sidecar is what Istio has done, or will do, to the pod; Istio is what its version can do.
	Sidecar istio.Sidecar
	// Ambient says that the pod is in the ambient mesh, without a sidecar.
	Ambient bool
	Istio   istio.Capabilities
	// Member is how the pod stands with Istio's control planes.
	Member istio.Membership
	// Namespace is what is known of the pod's namespace; NamespaceSeen is false where that is nothing.
	Namespace     Namespace
	NamespaceSeen bool
	// Warnings holds what was wrong with the request's own settings.
	Warnings []Warning
}

// rule leaves a pod unchanged where it applies.
type rule struct {
	reason  Reason
	says    string
	applies func(*Request, *Snapshot) bool
	// readsSpec says that it takes more than the pod's metadata.
	readsSpec bool
}

// rules stand in the order in which they are asked. A new reason not to inject is one more row.
func rules() [7]rule {
	return [7]rule{
		{NamespaceExempt, "the namespace is a system's, the injector's own, or in exemptNamespaces", inExemptNamespace, false},
		{NamespaceNotLabelled, "the namespace does not carry " + NamespaceLabel + "=" + NamespaceLabelEnabled, inUnlabelledNamespace, false},
		{OptedOut, "the pod's label " + OptOutLabel + ` is "false"`, optedOut, false},
		{MirrorPod, "the pod mirrors a static pod, whose spec the kubelet does not read from here", isMirror, false},
		{ControlPlane, "the pod is istiod, Istio's control plane", isControlPlane, false},
		{WindowsPod, "the pod runs on Windows, where neither Istio's proxy nor the mount's path exists", isWindows, true},
		{NothingToDo, "the pod has no containers", hasNoContainers, true},
	}
}

// Decide says whether the pod is injected: the rules first, in order, then the profile that its namespace picks.
func Decide(req *Request, snap *Snapshot) Decision {
	for _, rule := range rules() {
		if rule.applies(req, snap) {
			return Decision{Reason: rule.reason}
		}
	}
	var d Decision
	d.Namespace, d.NamespaceSeen = snap.Namespaces.Get(req.Namespace)
	d.NamespaceSeen = d.NamespaceSeen || snap.Offline
	d.warnOptOut(&req.Pod)
	d.resolve(req, snap)
	if d.Reason != "" {
		return d
	}
	d.findSidecar(req, snap)
	d.Inject = true
	d.Reason = d.injectedReason()
	return d
}

// LeftAlone is the reason for which a pod is left alone, as far as its metadata and its namespace tell; empty where they
// give none, and the pod is injected unless its spec has a say in it. An annotation that an earlier pass has left without
// the label says that something stood in the way of all of it.
func LeftAlone(req *Request, snap *Snapshot) Reason {
	for _, rule := range rules() {
		if !rule.readsSpec && rule.applies(req, snap) {
			return rule.reason
		}
	}
	if _, seen := req.Pod.Annotations()[StatusAnnotation]; seen {
		return Conflict
	}
	var d Decision
	d.Namespace, _ = snap.Namespaces.Get(req.Namespace)
	d.resolve(req, snap)
	return d.Reason
}

// resolve picks the settings, or says why there are none.
func (d *Decision) resolve(req *Request, snap *Snapshot) {
	resolved, ignored, err := snap.Settings.Resolve(req.Namespace, d.Namespace.Annotations, req.Pod.Annotations())
	for _, i := range ignored {
		d.warnIgnored(i)
	}
	switch {
	case errors.Is(err, settings.ErrProfileUnknown):
		d.Reason = ProfileUnknown
		d.warnf(ProfileUnknownCode, "namespace annotation %s: %s", settings.ProfileAnnotation, err)
	case errors.Is(err, settings.ErrProfileNotAllowed):
		d.Reason = ProfileNotAllowed
		d.warnf(ProfileNotAllowedCode, "namespace annotation %s: %s", settings.ProfileAnnotation, err)
	case resolved.Satellite.Address == "":
		d.Reason = NotConfigured
		d.warnf(NotConfiguredCode, "set profiles.%s.satellite.address to host:port; until then pods pass unchanged", resolved.Profile)
	}
	d.Settings = resolved
}

// findSidecar asks Istio's rules. Once the proxy is there, its image is the last word on the version.
func (d *Decision) findSidecar(req *Request, snap *Snapshot) {
	labels := istio.Labels{
		NamespaceInjection: d.Namespace.IstioInjection,
		NamespaceRevision:  d.Namespace.IstioRevision,
		NamespaceDataplane: d.Namespace.IstioDataplane,
		Pod:                req.Pod.Labels(),
	}
	d.Member = snap.Mesh.Find(labels)
	d.Istio = d.version()
	proxy := findProxy(&req.Pod)
	workload := istio.Workload{
		HostNetwork:        req.Pod.Spec.HostNetwork,
		Labels:             req.Pod.Labels(),
		Annotations:        req.Pod.Annotations(),
		NamespaceInjection: d.Namespace.IstioInjection,
		Ambient:            labels.Ambient(),
		MeshUnproven:       snap.Offline && !d.Istio.Known,
	}
	if d.Member.Revision != nil {
		workload.Policy = d.Member.Revision.Policy
	}
	switch {
	case d.Member.Wanted != "":
		workload.Wanted = d.Member.Why
	case d.Member.Outside && d.NamespaceSeen && !d.Settings.Istio.Known:
		workload.Outside = d.Member.Why
	}
	if proxy != nil {
		workload.Proxy, workload.ProxyImage = true, proxy.Image
	}
	d.Sidecar = istio.FindSidecar(workload, d.Istio)
	d.Ambient = workload.Ambient && d.Sidecar.State == istio.Absent
	if d.Sidecar.State == istio.Present {
		d.readProxy(proxy, snap)
	}
}

// version is the one that the configuration gives or else that of the pod's control plane.
func (d *Decision) version() istio.Capabilities {
	if !d.Settings.Istio.Known && d.Member.Revision != nil {
		return d.Member.Revision.Capabilities
	}
	return d.Settings.Istio
}

// readProxy takes the version from the proxy's image. One that names none, by a digest alone, falls back to the pod's
// control plane; a gateway that no injector made may name that nowhere, and then it is the one that there is.
func (d *Decision) readProxy(proxy *Container, snap *Snapshot) {
	if d.Member.Revision == nil && d.Member.Wanted == "" {
		d.Member.Revision = snap.Mesh.Only()
		d.Istio = d.version()
	}
	if caps, ok := istio.OfImage(proxy.Image); ok {
		d.Istio = caps
	}
}

func (d *Decision) injectedReason() Reason {
	switch {
	case d.Settings.Tracer == istio.NoTracer:
		return MeshDisabled
	case d.Sidecar.State == istio.Present:
		return SidecarPresent
	case d.Sidecar.State == istio.Expected:
		return SidecarExpected
	}
	return SidecarNotExpected
}

func inExemptNamespace(req *Request, snap *Snapshot) bool {
	return (snap.OwnNamespace != "" && req.Namespace == snap.OwnNamespace) || snap.Settings.Exempt(req.Namespace)
}

func inUnlabelledNamespace(req *Request, snap *Snapshot) bool {
	namespace, _ := snap.Namespaces.Get(req.Namespace)
	return namespace.Unlabelled
}

func optedOut(req *Request, _ *Snapshot) bool { return req.Pod.Labels()[OptOutLabel] == "false" }

func isControlPlane(req *Request, snap *Snapshot) bool {
	return req.Pod.Labels()["app"] == controlPlaneApp && slices.Contains(snap.Settings.Istio().Namespaces, req.Namespace)
}

func isMirror(req *Request, _ *Snapshot) bool {
	_, ok := req.Pod.Annotations()[mirrorAnnotation]
	return ok
}

func isWindows(req *Request, _ *Snapshot) bool {
	spec := req.Pod.Spec
	return spec != nil && (spec.OS.Name == "windows" || spec.NodeSelector[osLabel] == "windows")
}

func hasNoContainers(req *Request, _ *Snapshot) bool {
	return req.Pod.Spec == nil || len(req.Pod.Spec.Containers) == 0
}

func (d *Decision) warnf(code Code, format string, args ...any) {
	d.Warnings = append(d.Warnings, Warning{code, fmt.Sprintf(format, args...)})
}

// warnOptOut tells of an opt-out that is none.
func (d *Decision) warnOptOut(pod *Pod) {
	if value, ok := pod.Labels()[OptOutLabel]; ok && value != "true" {
		d.warnf(OptOutValue, `label %s: %q: write "false" to opt out; the pod is injected`, OptOutLabel, value)
	}
	if _, ok := pod.Annotations()[OptOutLabel]; ok {
		d.warnf(OptOutIsALabel, "annotation %s does nothing: it is a label", OptOutLabel)
	}
	for _, key := range unknownAnnotations(pod.Annotations()) {
		d.warnf(SettingUnknown, "annotation %s is unknown: check its spelling", key)
	}
}

func unknownAnnotations(annotations map[string]string) []string {
	var unknown []string
	for key := range annotations {
		if !strings.HasPrefix(key, settings.Prefix) {
			continue
		}
		switch key {
		case OptOutLabel, StatusAnnotation, settings.ProfileAnnotation, settings.SamplingAnnotation, settings.CustomTagsAnnotation:
		default:
			unknown = append(unknown, key)
		}
	}
	slices.Sort(unknown)
	return unknown
}

func (d *Decision) warnIgnored(i settings.Ignored) {
	code := SettingInvalid
	if i.NotAllowed {
		code = SettingNotAllowed
	}
	d.warnf(code, "%s annotation %s: %q: %s", i.Scope, i.Annotation, i.Value, i.Fix)
}

// findProxy returns the container istio-proxy: a plain one, or a native sidecar.
func findProxy(pod *Pod) *Container {
	for i := range pod.Spec.Containers {
		if c := &pod.Spec.Containers[i]; c.Name == istio.ProxyContainer {
			return c
		}
	}
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; c.Name == istio.ProxyContainer && c.native() {
			return c
		}
	}
	return nil
}
