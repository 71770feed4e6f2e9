package inject

import (
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

// TokenEnv is the sidecar's env that holds the access token, from its Secret.
const TokenEnv = "LIGHTSTEP_ACCESS_TOKEN"

// setUpMesh plans what the sidecar needs beside the mount: before Istio's injector its annotations, after it the env.
func (p *planner) setUpMesh() {
	if p.d.Ambient && p.d.Settings.Tracer != istio.NoTracer {
		p.warnf(AmbientMesh, "the pod is in the ambient mesh and has no sidecar: set up its own SDK, or give it a sidecar")
	}
	if p.d.Settings.Tracer == istio.NoTracer || p.d.Sidecar.State == istio.Absent {
		return
	}
	p.askForMount()
	switch {
	case !p.d.NamespaceSeen:
		p.warnf(NamespaceNotSeen, "namespace %s is too new to be known: no tracer is set up; create the pod again", p.req.Namespace)
	case p.d.Settings.Tracer == istio.OpenTelemetry && !p.d.Istio.Known:
		p.Tracer, p.MeshTraces = istio.OpenTelemetry, true
	case !p.d.Istio.Known:
		p.warnf(MeshVersionUnknown, "%s, so no tracer is set up: set profiles.%s.mesh.istioVersion", p.unknownMesh(), p.d.Settings.Profile)
	case p.d.Istio.Tracer == istio.Lightstep && p.d.Settings.Tracer != istio.OpenTelemetry:
		p.setUpLightstep()
	case p.d.Istio.Tracer == istio.OpenTelemetry && p.d.Settings.Tracer != istio.Lightstep:
		p.setUpOpenTelemetry()
	default:
		p.warnf(TracerUnsupported, "%s", unsupported(p.d.Istio, p.d.Settings.Tracer))
	}
}

// unknownMesh says why Istio's version is not known.
func (p *planner) unknownMesh() string {
	switch m := &p.d.Member; {
	case m.Revision != nil && m.Revision.Problem != "":
		return "Istio's version is not known (" + m.Revision.Problem + ")"
	case p.snap.Mesh != nil && m.Wanted != "":
		return m.Why + ", and there is no control plane of revision or tag " + m.Wanted
	}
	return "Istio's version is not known"
}

func unsupported(caps istio.Capabilities, wanted istio.Tracer) string {
	if caps.Tracer == istio.NoTracer {
		return "the proxy of Istio " + caps.Version + " has neither the Lightstep nor the OpenTelemetry tracer: upgrade to 1.16.1 or later"
	}
	return "the proxy of Istio " + caps.Version + " has the tracer " + string(caps.Tracer) + ", not " + string(wanted) + ": set mesh.tracer to auto"
}

// askForMount has Istio's injector mount the volume into the sidecar to come. A placeholder for it is mounted into like
// any other container: Istio merges what it finds there.
func (p *planner) askForMount() {
	ca := p.d.Settings.CACertificate
	if ca == nil || p.d.Sidecar.State != istio.Expected || findProxy(p.pod) != nil || p.warned(VolumeConflict) {
		return
	}
	if p.leftToIstio(ca) {
		return
	}
	existing := p.pod.Annotations()[istio.UserVolumeMountAnnotation]
	merged, err := istio.MergeUserVolumeMount(existing, VolumeName, ca.MountPath, settings.Collide)
	switch {
	case errors.Is(err, istio.ErrMountTaken):
		p.warnf(UserVolumeMountConflict, "annotation %s: %s (%s, %s): remove that entry", istio.UserVolumeMountAnnotation, err, VolumeName, ca.MountPath)
		return
	case err != nil:
		p.warnf(UserVolumeMountInvalid, "annotation %s: %s: mend it", istio.UserVolumeMountAnnotation, err)
		return
	}
	p.AskedIstio = true
	p.annotate(istio.UserVolumeMountAnnotation, merged)
}

// leftToIstio tells whether Istio's injector itself will mount into the sidecar to come at, above or below our path: the
// satellite CA, or what is in its way.
func (p *planner) leftToIstio(ca *settings.CACertificate) bool {
	at := p.istioMount()
	if at == "" || !settings.Collide(ca.MountPath, at) {
		return false
	}
	p.istioMountsCA = ca.MountPath == at && ca.SecretName == istio.CASecret
	if !p.istioMountsCA {
		p.warnf(MountConflict, "Istio's injector mounts the Secret %s at %s into the sidecar, in the way of %s: change caCertificate.secretName or mountPath, or the mesh's tracer", istio.CASecret, at, ca.MountPath)
	}
	return true
}

// istioMount tells where Istio's injector will mount the satellite CA into the sidecar to come by itself; empty where it
// will not. It goes by what it finds in the annotation, which is the user's alone: see writesConfig.
func (p *planner) istioMount() string {
	if p.d.Sidecar.State != istio.Expected || !istio.SidecarTemplate(p.pod.Annotations()) {
		return ""
	}
	return p.d.Member.Revision.CAMount(p.pod.Annotations()[istio.ProxyConfigAnnotation])
}

// writesConfig tells whether this pass may write into the annotation proxy.istio.io/config. The proxy reads it when it
// starts, and so counts what came after Istio's injector. That, where its values name the tracer lightstep, would mount by
// what is there before: another volume than in a pod that it saw first, or one over the system's roots. Offline, and where
// no control plane is found, there is no pass to wait for.
func (p *planner) writesConfig() bool {
	return p.snap.Offline || p.d.Sidecar.State == istio.Present || p.d.Member.Outside
}

// rootsCovered tells whether Istio's injector mounts the satellite CA's Secret over the system's roots of the sidecar, or
// has done so.
func (p *planner) rootsCovered() bool {
	folder := path.Dir(istio.SystemRoots)
	if at := p.istioMount(); at != "" {
		return settings.Collide(at, folder)
	}
	proxy := findProxy(p.pod)
	return proxy != nil && slices.ContainsFunc(proxy.Mounts, func(m Mount) bool {
		return m.Name == istio.CAVolume && settings.Collide(m.MountPath, folder)
	})
}

// sidecarHasCA tells whether the sidecar has, or will have, the satellite CA.
func (p *planner) sidecarHasCA() bool {
	if p.AskedIstio || p.istioMountsCA {
		return true
	}
	return slices.Contains(p.Containers, istio.ProxyContainer)
}

// setUpLightstep plans the native tracer, unless something that it needs is not there: a block without its token has the
// pod rejected by Istio, and one without its CA keeps the proxy from becoming ready.
func (p *planner) setUpLightstep() {
	if !p.readyForLightstep() {
		return
	}
	config := p.pod.Annotations()[istio.ProxyConfigAnnotation]
	if p.meshHasLightstep(config) {
		p.Tracer, p.MeshTraces = istio.Lightstep, true
		return
	}
	if p.d.Settings.AccessToken.Delivery == settings.DeliverBySecret {
		p.setUpEnv(config)
		return
	}
	p.setUpAnnotation(config)
}

// setUpAnnotation plans the native tracer in the annotation proxy.istio.io/config, as it stands in the pod.
func (p *planner) setUpAnnotation(config string) {
	block, err := p.tracing(p.d.Settings.Token.Reveal()).Block()
	if err != nil {
		p.warnf(ProxyConfigInvalid, "the tracing block cannot be written: %s", err)
		return
	}
	merged, err := istio.MergeAnnotation(config, block)
	if err != nil {
		p.warnProxyConfig(err)
		return
	}
	if merged != config && !p.writesConfig() {
		return // a later pass will
	}
	valuesUnknown := p.d.Sidecar.State == istio.Expected && p.d.Member.Revision == nil
	if valuesUnknown && p.d.Settings.Satellite.Secure && p.d.Settings.CACertificate == nil {
		p.warnf(RootsCovered, "if Istio's values name the tracer lightstep, its injector mounts the Secret %s over the sidecar's %s, which this block asks to trust: set profiles.%s.caCertificate where they do", istio.CASecret, istio.SystemRoots, p.d.Settings.Profile)
	}
	p.Tracer = istio.Lightstep
	p.annotate(istio.ProxyConfigAnnotation, merged)
}

// meshHasLightstep tells whether the mesh itself sends this pod's spans where ours would, so that nothing but the satellite
// CA can be missing.
func (p *planner) meshHasLightstep(config string) bool {
	s := &p.d.Settings
	return s.Satellite.Secure && s.Explicit.Empty() && p.d.Member.Revision.HasLightstep(s.Satellite.Address, p.caFile()) && istio.CheckAnnotation(config) == nil
}

// setUpOpenTelemetry leaves the tracer to the mesh, says what that still lacks, and plans what the pod or its namespace set
// explicitly.
func (p *planner) setUpOpenTelemetry() {
	p.Tracer, p.MeshTraces = istio.OpenTelemetry, true
	config := p.pod.Annotations()[istio.ProxyConfigAnnotation]
	if istio.HasNativeTracer(config) {
		p.warnf(NativeTracerRemoved, "annotation %s has tracing.lightstep, with which the proxy of Istio %s does not start: remove it", istio.ProxyConfigAnnotation, p.d.Istio.Version)
		return
	}
	p.tellLack()
	if p.d.Settings.Explicit.Empty() {
		return
	}
	revision := p.d.Member.Revision
	if revision == nil || revision.Mesh == nil || revision.Mesh.Lightstep != nil {
		p.warnf(SettingNotApplied, "%s and %s need the mesh's own tracing to be known, and free of lightstep, since a pod's block replaces it", settings.SamplingAnnotation, settings.CustomTagsAnnotation)
		return
	}
	merged, clashes, err := istio.MergeExplicit(config, revision.Mesh.Tracing, p.d.Settings.Explicit)
	if err != nil {
		p.warnProxyConfig(err)
		return
	}
	for _, field := range clashes {
		p.warnf(SettingNotApplied, "annotation %s sets tracing.%s itself, which stays: remove it there", istio.ProxyConfigAnnotation, field)
	}
	p.tellBeaten()
	if p.writesConfig() {
		p.annotate(istio.ProxyConfigAnnotation, merged)
	}
}

// tellBeaten says which of the explicit settings a Telemetry keeps from having effect. They are written all the same: the
// Telemetry may go.
func (p *planner) tellBeaten() {
	annotations := map[string]string{istio.FieldSampling: settings.SamplingAnnotation, istio.FieldTags: settings.CustomTagsAnnotation}
	for _, beaten := range p.snap.Mesh.Beaten(p.d.Member.Revision, p.req.Namespace, p.pod.Labels(), p.d.Settings.Explicit) {
		p.warnf(SettingNotApplied, "Telemetry %s sets %s, which beats %s: set it there", beaten.By, beaten.Field, annotations[beaten.Field])
	}
}

// CodeOf is the warning that tells of what a mesh lacks; empty where it lacks nothing.
func CodeOf(lack istio.Lack) Code {
	switch lack {
	case istio.LacksProvider:
		return MeshProviderMissing
	case istio.LacksTelemetry:
		return MeshTelemetryMissing
	}
	return ""
}

// tellLack says what the mesh still lacks for spans to go anywhere.
func (p *planner) tellLack() {
	provider := p.snap.Settings.Istio().Provider
	switch p.snap.Mesh.Lacks(p.d.Member.Revision, p.req.Namespace, provider) {
	case istio.LacksProvider:
		p.warnf(MeshProviderMissing, "MeshConfig of revision %s has no opentelemetry extensionProvider %q, so no spans are sent: add what `lightstep-injector render istio` prints", p.d.Member.Revision.Name, provider)
	case istio.LacksTelemetry:
		p.warnf(MeshTelemetryMissing, "no Telemetry switches provider %q on for namespace %s, so no spans are sent: apply what `lightstep-injector render istio` prints", provider, p.req.Namespace)
	}
}

func (p *planner) readyForLightstep() bool {
	s, namespace := &p.d.Settings, p.req.Namespace
	switch byAnnotation := s.AccessToken.Delivery == settings.DeliverByAnnotation; {
	case s.Satellite.Secure && s.CACertificate != nil && p.lacksCA():
		p.tellCAMissing()
	case s.Satellite.Secure && s.CACertificate != nil && !p.sidecarHasCA():
		p.warnf(CAMissing, "the sidecar cannot have the satellite CA at %s, so no tracer is set up: mend the conflict", s.CACertificate.MountPath)
	case s.Satellite.Secure && s.CACertificate == nil && p.rootsCovered():
		p.warnf(RootsCovered, "Istio's injector mounts the Secret %s over the sidecar's %s, which caCertificate: null asks to trust, so no tracer is set up: set profiles.%s.caCertificate, or in Istio's values another global.proxy.tracer than lightstep", istio.CASecret, istio.SystemRoots, s.Profile)
	case byAnnotation && !p.snap.Offline && !s.TokenAllowed(namespace):
		p.warnf(TokenNotAllowed, "namespace %s is not in accessToken.allowedNamespaces of profile %s, so no tracer is set up", namespace, s.Profile)
	case byAnnotation && !s.Token.Given():
		p.warnf(TokenMissing, "no access token is given for profile %s, so no tracer is set up: use --access-token-file", s.Profile)
	case !byAnnotation && p.d.Namespace.Lacks(s.AccessToken.Secret()):
		p.warnf(TokenMissing, "%s, so no tracer is set up: %s", p.lack(s.AccessToken.Secret()), p.tokenFix())
	default:
		return true
	}
	return false
}

// lacksCA tells whether the satellite CA is known not to be in the namespace.
func (p *planner) lacksCA() bool { return p.d.Namespace.Lacks(p.d.Settings.CACertificate.Secret()) }

// tellCAMissing warns, once, that what is mounted is empty.
func (p *planner) tellCAMissing() {
	if ca := p.d.Settings.CACertificate; !p.warned(CAMissing) {
		p.warnf(CAMissing, "%s, so the satellite CA is not to be had and no tracer is set up: %s", p.lack(ca.Secret()), copyFix(ca.Source))
	}
}

// lack says what is not there.
func (p *planner) lack(secret settings.Secret) string {
	if p.d.Namespace.Missing[secret.Name] {
		return fmt.Sprintf("Secret %s is not in namespace %s", secret.Name, p.req.Namespace)
	}
	return fmt.Sprintf("Secret %s in namespace %s has no key %s", secret.Name, p.req.Namespace, secret.Key)
}

// copyFix says what brings a Secret that is not there.
func copyFix(source *settings.Source) string {
	if source == nil {
		return "create it"
	}
	return "the injector copies it; see the Events in the injector's namespace"
}

func (p *planner) tokenFix() string {
	token := &p.d.Settings.AccessToken
	if token.Source != nil && !p.d.Settings.TokenAllowed(p.req.Namespace) {
		return "add the namespace to accessToken.allowedNamespaces, or create it"
	}
	return copyFix(token.Source)
}

// tracing is the native tracer under the settings, with the token or a reference to it.
func (p *planner) tracing(token string) istio.Tracing {
	s := &p.d.Settings
	return istio.Tracing{
		Address:     s.Satellite.Address,
		AccessToken: token,
		Sampling:    s.Sampling,
		CustomTags:  s.CustomTags,
		Secure:      s.Satellite.Secure,
		CAFile:      p.caFile(),
		ServerName:  s.Satellite.SNI(),
	}
}

// caFile is the file that the sidecar is to trust the satellites by.
func (p *planner) caFile() string {
	if ca := p.d.Settings.CACertificate; ca != nil {
		return path.Join(ca.MountPath, ca.Key)
	}
	return istio.SystemRoots
}

func (p *planner) warnProxyConfig(err error) {
	if errors.Is(err, istio.ErrUserTracing) {
		p.warnf(UserTracing, "annotation %s: %s, which wins: remove it and use %s and %s", istio.ProxyConfigAnnotation, err, settings.SamplingAnnotation, settings.CustomTagsAnnotation)
		return
	}
	p.warnf(ProxyConfigInvalid, "annotation %s: %s: mend it", istio.ProxyConfigAnnotation, err)
}
