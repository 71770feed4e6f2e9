package meshes

import (
	"errors"
	"fmt"
	"path"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/istio17"
)

// profile is one of testdata/config.yaml.
type profile struct {
	name string
	// secret is the satellite CA's; empty for the system's roots.
	secret string
	// caFile is what the proxy trusts.
	caFile       string
	byAnnotation bool
}

func profiles() []profile {
	return []profile{
		{"default", "lightstep.cacert", caFile, false},
		{"annotation", "lightstep.cacert", caFile, true},
		{"elsewhere", "satellite-ca", "/etc/satellite/cacert.pem", false},
		{"elsewhere-annotation", "satellite-ca", "/etc/satellite/cacert.pem", true},
		{"another", "satellite-ca", caFile, false},
		{"another-annotation", "satellite-ca", caFile, true},
		{"roots", "", systemRoots, false},
		{"roots-annotation", "", systemRoots, true},
	}
}

// inTheWay tells whether what Istio mounts by itself in a mesh hides what a profile's proxy is to trust.
func (p *profile) inTheWay(m *mesh) bool {
	return m.mountsAt == path.Dir(p.caFile) && p.secret != "lightstep.cacert"
}

// Whatever the satellite CA's Secret and path, and however the token is delivered: the sidecar has the file that its tracer
// trusts, and nothing is mounted over it. Where Istio itself stands in the way, there is no tracer, and the status says why.
func testProfiles(t *testing.T, o *old) {
	for _, p := range profiles() {
		pod, err := o.try(t.Context(), o.in(p.name), plain())
		check(t, err)
		check(t, marked(pod, istio17.Version))
		made, err := o.proxyOf(t.Context(), pod)
		check(t, err)
		if p.inTheWay(&o.mesh) {
			err = o.leftToMesh(t, pod, made)
		} else {
			err = errors.Join(p.seen(pod), made.reports(o.token(&p), p.caFile))
		}
		if err != nil {
			t.Errorf("profile %s: %v; the status is %+v", p.name, err, statusOf(pod))
		}
	}
}

// leftToMesh: the tracing that there would be without us, and a status that has no tracer, and a warning.
func (o *old) leftToMesh(t *testing.T, pod *corev1.Pod, made *proxy) error {
	alone, err := o.try(t.Context(), o.alone(), plain())
	check(t, err)
	without, err := o.proxyOf(t.Context(), alone)
	check(t, err)
	if !reflect.DeepEqual(made.tracing, without.tracing) {
		return fmt.Errorf("the tracing is %v, and %v without us", made.tracing, without.tracing)
	}
	if status := statusOf(pod); status.Tracer != "none" || len(status.Warnings) == 0 {
		return errors.New("the status tells of nothing that is in the way")
	}
	return nil
}

// seen: the sidecar has the profile's satellite CA where its tracer looks, once; or nothing over the system's roots.
func (p *profile) seen(pod *corev1.Pod) error {
	secrets := map[string]string{}
	for _, volume := range pod.Spec.Volumes {
		if volume.Secret != nil {
			secrets[volume.Name] = volume.Secret.SecretName
		}
	}
	var found []string
	for _, c := range containers(pod) {
		for _, mount := range c.VolumeMounts {
			at := path.Clean(mount.MountPath)
			if c.Name == proxyName && (strings.HasPrefix(p.caFile, at+"/") || strings.HasPrefix(at, path.Dir(p.caFile)+"/")) {
				found = append(found, secrets[mount.Name])
			}
		}
	}
	var want []string
	if p.secret != "" {
		want = []string{p.secret}
	}
	if !reflect.DeepEqual(found, want) {
		return fmt.Errorf("the sidecar has the Secrets %q over %s, not %q", found, p.caFile, want)
	}
	return nil
}
