package inject

// Reason says why a pod was injected or left as it is. The same word stands in the log, in the metric's label, in the
// audit annotation, in `explain` and in docs/reasons.md.
type Reason string

// The reasons. The first group leaves the pod unchanged, the second comes with a patch.
const (
	// NamespaceNotLabelled: the namespace does not carry lightstep.com/injection=enabled (offline only).
	NamespaceNotLabelled Reason = "NamespaceNotLabelled"
	// NamespaceExempt: a system namespace, the injector's own, or one of exemptNamespaces.
	NamespaceExempt Reason = "NamespaceExempt"
	// OptedOut: the pod's label lightstep.com/inject is "false".
	OptedOut Reason = "OptedOut"
	// MirrorPod: a static pod's mirror, whose spec the kubelet does not read.
	MirrorPod Reason = "MirrorPod"
	// ControlPlane: istiod itself, which gets nothing.
	ControlPlane Reason = "ControlPlane"
	// WindowsPod: Istio's proxy, and the paths mounted here, exist on Linux alone.
	WindowsPod Reason = "WindowsPod"
	// ProfileUnknown: the namespace's annotation names a profile that the configuration does not have.
	ProfileUnknown Reason = "ProfileUnknown"
	// ProfileNotAllowed: the profile's namespaces do not include this one.
	ProfileNotAllowed Reason = "ProfileNotAllowed"
	// NotConfigured: the profile's satellite.address is empty.
	NotConfigured Reason = "NotConfigured"
	// NothingToDo: the settings ask for nothing that this pod could take.
	NothingToDo Reason = "NothingToDo"
	// Conflict: what the user wrote stood in the way of all of it; the warnings say what to mend.
	Conflict Reason = "Conflict"
	// UpToDate: an earlier pass, or the user, did all of it.
	UpToDate Reason = "UpToDate"

	// SidecarPresent: the pod has its istio-proxy.
	SidecarPresent Reason = "SidecarPresent"
	// SidecarExpected: Istio will, or may, inject after us.
	SidecarExpected Reason = "SidecarExpected"
	// SidecarNotExpected: the pod will have no sidecar; its containers get the mount alone.
	SidecarNotExpected Reason = "SidecarNotExpected"
	// MeshDisabled: mesh.tracer is none; the containers get the mount alone.
	MeshDisabled Reason = "MeshDisabled"

	// InternalError: a failure of ours; the pod passes unchanged.
	InternalError Reason = "InternalError"
	// BadRequest: not an AdmissionReview of a pod's creation.
	BadRequest Reason = "BadRequest"
	// Overloaded: more requests in flight than allowed; the pod passes unchanged.
	Overloaded Reason = "Overloaded"
)

// Code types a warning: a condition that does not stop the injection but leaves some part of it out.
type Code string

// The codes, each with what is left out.
const (
	// NamespaceNotSeen: the namespace is too new; the default profile's mount only, no tracer.
	NamespaceNotSeen Code = "NamespaceNotSeen"
	// OptOutIsALabel: lightstep.com/inject stands as an annotation, where it does nothing.
	OptOutIsALabel Code = "OptOutIsALabel"
	// OptOutValue: the label lightstep.com/inject is neither "true" nor "false".
	OptOutValue Code = "OptOutValue"
	// SettingNotAllowed: an annotation sets what overrides does not list.
	SettingNotAllowed Code = "SettingNotAllowed"
	// SettingUnknown: an annotation lightstep.com/* that does not exist.
	SettingUnknown Code = "SettingUnknown"
	// ProfileUnknownCode, ProfileNotAllowedCode and NotConfiguredCode tell the user of the reasons of those names.
	ProfileUnknownCode    Code = Code(ProfileUnknown)
	ProfileNotAllowedCode Code = Code(ProfileNotAllowed)
	NotConfiguredCode     Code = Code(NotConfigured)
	// SettingInvalid: an annotation's value cannot be used.
	SettingInvalid Code = "SettingInvalid"

	// VolumeConflict: a volume of our name has another source; nothing is mounted.
	VolumeConflict Code = "VolumeConflict"
	// MountConflict: a container mounts something at, above or below our path; it is left as it is.
	MountConflict Code = "MountConflict"
	// UserVolumeMountInvalid: sidecar.istio.io/userVolumeMount cannot be read; it is left as it is.
	UserVolumeMountInvalid Code = "UserVolumeMountInvalid"
	// UserVolumeMountConflict: sidecar.istio.io/userVolumeMount already uses our name or path otherwise.
	UserVolumeMountConflict Code = "UserVolumeMountConflict"

	// CAMissing: the satellite CA is not in place; no tracer.
	CAMissing Code = "CAMissing"
	// RootsCovered: Istio's injector mounts the satellite CA's Secret over the sidecar's system roots; no tracer. Offline it
	// may, which the tracer does not wait for.
	RootsCovered Code = "RootsCovered"
	// TokenMissing: the access token is not in place; no tracer.
	TokenMissing Code = "TokenMissing"
	// TokenNotAllowed: the namespace is not in accessToken.allowedNamespaces; no tracer.
	TokenNotAllowed Code = "TokenNotAllowed"
	// UserTracing: the user's own tracing block wins whole; no tracer of ours.
	UserTracing Code = "UserTracing"
	// ProxyConfigInvalid: proxy.istio.io/config cannot be read; it is left as it is, no tracer.
	ProxyConfigInvalid Code = "ProxyConfigInvalid"
	// ProxyEnvInvalid: the sidecar's PROXY_CONFIG cannot be read or merged; no tracer.
	ProxyEnvInvalid Code = "ProxyEnvInvalid"
	// EnvConflict: the sidecar's env for the token is taken, or envFrom may carry it; no tracer.
	EnvConflict Code = "EnvConflict"
	// MeshVersionUnknown: Istio's version is not known; no tracer.
	MeshVersionUnknown Code = "MeshVersionUnknown"
	// MeshProviderMissing: MeshConfig lacks the OpenTelemetry provider that spans are to go through.
	MeshProviderMissing Code = "MeshProviderMissing"
	// MeshTelemetryMissing: no Telemetry switches that provider on for the namespace.
	MeshTelemetryMissing Code = "MeshTelemetryMissing"
	// SettingNotApplied: an annotation's value cannot take effect on this mesh.
	SettingNotApplied Code = "SettingNotApplied"
	// AmbientMesh: the pod has no sidecar to trace it; its own SDK alone can.
	AmbientMesh Code = "AmbientMesh"
	// NativeTracerRemoved: the pod's own annotation asks for tracing.lightstep, with which this proxy does not start.
	NativeTracerRemoved Code = "NativeTracerRemoved"
	// TracerUnsupported: this Istio's proxy has no tracer that takes our settings.
	TracerUnsupported Code = "TracerUnsupported"
)

// Warning is one thing left out, said to the user: what, at which field, and what mends it.
type Warning struct {
	Code    Code
	Message string
}

// ReasonInfo describes a reason, for the docs' table and for whoever must know them all beforehand.
type ReasonInfo struct {
	Reason Reason
	// OfPod says that the core gives it; the others are the edge's.
	OfPod bool
	Means string
}

// Reasons lists every reason there is: a metric's label has no other value.
func Reasons() []ReasonInfo {
	return []ReasonInfo{
		{SidecarPresent, true, "injected: the pod has its istio-proxy"},
		{SidecarExpected, true, "injected: Istio will, or may, inject after us"},
		{SidecarNotExpected, true, "injected: the pod will have no sidecar; its containers have the satellite CA"},
		{MeshDisabled, true, "injected: mesh.tracer is none; the containers have the satellite CA"},
		{UpToDate, true, "unchanged: an earlier pass, or the user, did all of it"},
		{NamespaceNotLabelled, true, "unchanged: the namespace does not carry " + NamespaceLabel + "=" + NamespaceLabelEnabled},
		{NamespaceExempt, true, "unchanged: a system namespace, the injector's own, or one of exemptNamespaces"},
		{OptedOut, true, "unchanged: the pod's label " + OptOutLabel + ` is "false"`},
		{MirrorPod, true, "unchanged: a static pod's mirror"},
		{ControlPlane, true, "unchanged: istiod itself"},
		{WindowsPod, true, "unchanged: the pod runs on Windows"},
		{ProfileUnknown, true, "unchanged: the namespace names a profile that does not exist"},
		{ProfileNotAllowed, true, "unchanged: the namespace may not pick the profile that it names"},
		{NotConfigured, true, "unchanged: the profile's satellite.address is empty"},
		{NothingToDo, true, "unchanged: the settings ask for nothing that this pod could take"},
		{Conflict, true, "what the user wrote stood in the way of all of it; the status annotation says what"},
		{InternalError, false, "failed: a failure of the injector's own; the pod passes unchanged"},
		{BadRequest, false, "failed: not the creation of a pod"},
		{Overloaded, false, "failed: more requests in flight than allowed; the pod passes unchanged"},
	}
}

// CodeInfo describes a warning's code.
type CodeInfo struct {
	Code  Code
	Means string
}

// Codes lists every code there is.
func Codes() []CodeInfo {
	return []CodeInfo{
		{NamespaceNotSeen, "the namespace is too new to be known: the default profile's mount only, no tracer"},
		{OptOutIsALabel, OptOutLabel + " stands as an annotation, where it does nothing"},
		{OptOutValue, "the label " + OptOutLabel + ` is neither "true" nor "false"; the pod is injected`},
		{SettingUnknown, "an annotation lightstep.com/* that does not exist"},
		{SettingNotAllowed, "an annotation sets what overrides does not list; it is not followed"},
		{SettingInvalid, "an annotation's value cannot be used; it is not followed"},
		{ProfileUnknownCode, "see the reason"},
		{ProfileNotAllowedCode, "see the reason"},
		{NotConfiguredCode, "see the reason"},
		{VolumeConflict, "a volume of our name has another source; nothing is mounted"},
		{MountConflict, "a container mounts something at, above or below our path; it is left as it is"},
		{UserVolumeMountInvalid, "sidecar.istio.io/userVolumeMount cannot be read; it is left as it is"},
		{UserVolumeMountConflict, "sidecar.istio.io/userVolumeMount uses our name or path otherwise; it is left as it is"},
		{CAMissing, "the satellite CA is not in place; no tracer"},
		{RootsCovered, "with `caCertificate: null`, Istio's injector mounts the Secret lightstep.cacert over the sidecar's system roots; no tracer (offline: it may, and the message says where)"},
		{TokenMissing, "the access token is not in place; no tracer"},
		{TokenNotAllowed, "the namespace is not in accessToken.allowedNamespaces; no tracer"},
		{UserTracing, "the pod has a tracing block of its own, which wins whole; no tracer of ours"},
		{ProxyConfigInvalid, "proxy.istio.io/config cannot be read; it is left as it is, no tracer"},
		{ProxyEnvInvalid, "the sidecar's PROXY_CONFIG cannot be read or merged; no tracer"},
		{EnvConflict, "the sidecar's env for the token is taken, or envFrom may carry it; no tracer"},
		{MeshVersionUnknown, "Istio's version is not known; no tracer"},
		{MeshProviderMissing, "MeshConfig lacks the OpenTelemetry provider that spans are to go through; `render istio` prints it"},
		{MeshTelemetryMissing, "no Telemetry switches the provider on for the namespace; `render istio` prints one"},
		{SettingNotApplied, "an annotation's value cannot take effect on this mesh"},
		{AmbientMesh, "the pod is in the ambient mesh and has no sidecar; its own SDK alone can report spans"},
		{NativeTracerRemoved, "the pod's own proxy.istio.io/config has tracing.lightstep, with which this proxy does not start"},
		{TracerUnsupported, "this proxy does not have the tracer that is asked for; no tracer"},
	}
}
