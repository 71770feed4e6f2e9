package inject

import (
	"errors"
	"path"
	"slices"

	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

// TokenEnv is the sidecar's env that holds the access token, from its Secret.
const TokenEnv = "LIGHTSTEP_ACCESS_TOKEN"

// setUpMesh plans what the sidecar needs beside the mount: before Istio's injector its annotations, after it the env.
func (p *planner) setUpMesh() {
	if p.d.Settings.Tracer == istio.NoTracer || p.d.Sidecar.State == istio.Absent {
		return
	}
	p.askForMount()
	switch {
	case !p.d.NamespaceSeen:
		p.warnf(NamespaceNotSeen, "namespace %s is too new to be known: no tracer is set up; create the pod again", p.req.Namespace)
	case p.d.Settings.Tracer == istio.OpenTelemetry && !p.d.Istio.Known:
		p.Tracer = istio.OpenTelemetry
	case !p.d.Istio.Known:
		p.warnf(MeshVersionUnknown, "Istio's version is not known, so no tracer is set up: set profiles.%s.mesh.istioVersion", p.d.Settings.Profile)
	case p.d.Istio.Tracer == istio.Lightstep && p.d.Settings.Tracer != istio.OpenTelemetry:
		p.setUpLightstep()
	case p.d.Istio.Tracer == istio.OpenTelemetry && p.d.Settings.Tracer != istio.Lightstep:
		p.Tracer = istio.OpenTelemetry // the mesh's own: nothing is to be written into the pod
	default:
		p.warnf(TracerUnsupported, "%s", unsupported(p.d.Istio, p.d.Settings.Tracer))
	}
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

// sidecarHasCA tells whether the sidecar has, or will have, the satellite CA.
func (p *planner) sidecarHasCA() bool {
	if p.AskedIstio {
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
	if p.d.Settings.AccessToken.Delivery == settings.DeliverBySecret {
		p.setUpEnv(config)
		return
	}
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
	p.Tracer = istio.Lightstep
	p.annotate(istio.ProxyConfigAnnotation, merged)
}

func (p *planner) readyForLightstep() bool {
	s, namespace, missing := &p.d.Settings, p.req.Namespace, p.d.Namespace.Missing
	switch byAnnotation := s.AccessToken.Delivery == settings.DeliverByAnnotation; {
	case s.Satellite.Secure && s.CACertificate != nil && missing[s.CACertificate.SecretName]:
		p.warnf(CAMissing, "Secret %s is not in namespace %s, so no tracer is set up: create it", s.CACertificate.SecretName, namespace)
	case s.Satellite.Secure && s.CACertificate != nil && !p.sidecarHasCA():
		p.warnf(CAMissing, "the sidecar cannot have the satellite CA at %s, so no tracer is set up: mend the conflict", s.CACertificate.MountPath)
	case byAnnotation && !p.snap.Offline && !s.TokenAllowed(namespace):
		p.warnf(TokenNotAllowed, "namespace %s is not in accessToken.allowedNamespaces of profile %s, so no tracer is set up", namespace, s.Profile)
	case byAnnotation && !s.Token.Given():
		p.warnf(TokenMissing, "no access token is given for profile %s, so no tracer is set up: use --access-token-file", s.Profile)
	case !byAnnotation && missing[s.AccessToken.SecretName]:
		p.warnf(TokenMissing, "Secret %s is not in namespace %s, so no tracer is set up: create it", s.AccessToken.SecretName, namespace)
	default:
		return true
	}
	return false
}

// tracing is the native tracer under the settings, with the token or a reference to it.
func (p *planner) tracing(token string) istio.Tracing {
	s := &p.d.Settings
	tracing := istio.Tracing{
		Address:     s.Satellite.Address,
		AccessToken: token,
		Sampling:    s.Sampling,
		CustomTags:  s.CustomTags,
		Secure:      s.Satellite.Secure,
		CAFile:      istio.SystemRoots,
		ServerName:  s.Satellite.SNI(),
	}
	if s.CACertificate != nil {
		tracing.CAFile = path.Join(s.CACertificate.MountPath, s.CACertificate.Key)
	}
	return tracing
}

func (p *planner) warnProxyConfig(err error) {
	if errors.Is(err, istio.ErrUserTracing) {
		p.warnf(UserTracing, "annotation %s: %s, which wins: remove it and use %s and %s", istio.ProxyConfigAnnotation, err, settings.SamplingAnnotation, settings.CustomTagsAnnotation)
		return
	}
	p.warnf(ProxyConfigInvalid, "annotation %s: %s: mend it", istio.ProxyConfigAnnotation, err)
}
