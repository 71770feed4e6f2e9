package meshes

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/istio/agent"
	"github.com/lightstep-injector/lightstep-injector/e2e/istio17"
	"github.com/lightstep-injector/lightstep-injector/e2e/order"
)

// Over all meshes these are more than a thousand for each Istio.
var pods = flag.Int("pods", 150, "how many pods to generate for each mesh of the oldest, and twice that of the newest")

// old is Istio 1.7.8 with one mesh.
type old struct {
	*environment
	mesh  mesh
	istio *istio17.Istio
}

// in is the namespace that picks a profile.
func (o *old) in(profile string) string { return o.mesh.name + "-" + profile }
func (o *old) alone() string            { return o.mesh.name + "-alone" }

// byDefault are the namespaces of the two profiles that differ in the token's delivery alone.
func (o *old) byDefault() []string { return []string{o.in("default"), o.in("annotation")} }

// token is the one that a plain pod's proxy reports with: the mesh's, where that trusts the same.
func (o *old) token(p *profile) string {
	if o.mesh.ours && p.caFile == caFile {
		return meshToken
	}
	return canary
}

func testOldest(t *testing.T, e *environment) {
	var all []*old // at once: a ClusterIP stays taken
	for _, m := range meshes() {
		all = append(all, e.startOldest(t, m))
	}
	for _, o := range all {
		t.Run(o.mesh.name, func(t *testing.T) {
			t.Run("Alone", func(t *testing.T) { testAlone(t, o) })
			o.waitForOurs(t)
			t.Run("Ours", func(t *testing.T) { testOurs(t, o) })
			t.Run("Profiles", func(t *testing.T) { testProfiles(t, o) })
			t.Run("StatefulSet", func(t *testing.T) { testStatefulSet(t, o) })
			t.Run("IstioFirst", func(t *testing.T) { testIstioFirst(t, o) })
			t.Run("MeshKept", func(t *testing.T) { testMeshKept(t, o) })
			t.Run("Order", func(t *testing.T) { testOrder(t, o) })
		})
	}
}

// startOldest starts a control plane for a mesh, a revision of its own, and makes the namespaces that ask for it.
func (e *environment) startOldest(t *testing.T, m mesh) *old {
	t.Helper()
	o := &old{environment: e, mesh: m}
	o.istio = e.Oldest(t, istio17.Options{Revision: m.name, Tracer: m.tracer, Mesh: m.config()})
	asks := map[string]string{"istio.io/rev": m.name}
	both := map[string]string{"istio.io/rev": m.name, "lightstep.com/injection": "enabled"}
	e.namespace(t, o.alone(), asks, nil)
	for _, p := range profiles() {
		e.namespace(t, o.in(p.name), both, map[string]string{"lightstep.com/profile": p.name})
	}
	return o
}

func (o *old) proxyOf(ctx context.Context, pod *corev1.Pod) (*proxy, error) {
	made, err := o.istio.Bootstrap(ctx, pod, map[string]string{"lightstep-access-token/token": canary})
	if err != nil {
		return nil, err
	}
	return readProxy((*agent.Bootstrap)(made))
}

// waitForOurs waits until the injector knows of the mesh, the namespaces and their Secrets.
func (o *old) waitForOurs(t *testing.T) {
	t.Helper()
	for _, p := range profiles() {
		if p.inTheWay(&o.mesh) {
			continue
		}
		namespace := o.in(p.name)
		eventually(t, func(ctx context.Context) error {
			pod, err := o.try(ctx, namespace, plain())
			if err != nil {
				return err
			}
			if status := statusOf(pod); status.Tracer != "lightstep" {
				return fmt.Errorf("pods of %s get the status %+v", namespace, status)
			}
			return nil
		})
	}
}

// Without us: Istio's own marks, and the mesh's own tracing in what it makes of the pod.
func testAlone(t *testing.T, o *old) {
	pod, err := o.try(t.Context(), o.alone(), plain())
	check(t, err)
	check(t, marked(pod, istio17.Version))
	made, err := o.proxyOf(t.Context(), pod)
	check(t, err)
	check(t, made.isMeshs(&o.mesh))
}

// Whatever the mesh has: a pod of ours reports to our satellite over TLS, and keeps what its user set. Where the mesh does
// it already, with a token of its own, that is left alone.
func testOurs(t *testing.T, o *old) {
	ours, _ := users()
	for name, sent := range ours {
		for _, namespace := range o.byDefault() {
			pod, err := o.try(t.Context(), namespace, sent)
			check(t, err)
			check(t, marked(pod, istio17.Version))
			made, err := o.proxyOf(t.Context(), pod)
			check(t, err)
			token := o.token(&profiles()[0])
			if name == "sampling" { // a block of ours, then
				token = canary
			}
			if err := errors.Join(mounted(pod), keeps(sent, pod), made.reports(token, caFile)); err != nil {
				t.Errorf("%s in %s: %v", name, namespace, err)
			}
		}
	}
}

func testStatefulSet(t *testing.T, o *old) {
	pod := o.statefulSet(t, o.in("default"))
	check(t, errors.Join(marked(pod, istio17.Version), mounted(pod)))
	made, err := o.proxyOf(t.Context(), pod)
	check(t, err)
	check(t, made.reports(o.token(&profiles()[0]), caFile))
}

// A pod that Istio went over before it was created, as istioctl kube-inject does: ours comes last, and Istio not again.
func testIstioFirst(t *testing.T, o *old) {
	injected, err := o.try(t.Context(), o.alone(), plain())
	check(t, err)
	manifest := plain()
	manifest.Labels, manifest.Annotations, manifest.Spec = injected.Labels, injected.Annotations, injected.Spec
	for _, namespace := range o.byDefault() {
		pod, err := o.try(t.Context(), namespace, manifest)
		check(t, err)
		check(t, marked(pod, istio17.Version))
		made, err := o.proxyOf(t.Context(), pod)
		check(t, err)
		if err := errors.Join(mounted(pod), made.reports(o.token(&profiles()[0]), caFile)); err != nil {
			t.Errorf("in %s: %v", namespace, err)
		}
	}
}

// Where ours is not in force, by the user's wish or the user's own tracing, the tracing is what it would be without us.
func testMeshKept(t *testing.T, o *old) {
	_, theirs := users()
	for name, sent := range theirs {
		pod, err := o.try(t.Context(), o.alone(), sent)
		check(t, err)
		without, err := o.proxyOf(t.Context(), pod)
		check(t, err)
		for _, namespace := range o.byDefault() {
			pod, err := o.try(t.Context(), namespace, sent)
			check(t, err)
			with, err := o.proxyOf(t.Context(), pod)
			check(t, err)
			with.config, without.config = nil, nil // they name their namespaces
			if !reflect.DeepEqual(with, without) {
				t.Errorf("%s in %s: with us %+v, without %+v", name, namespace, with, without)
			}
		}
	}
}

// In every namespace, whatever Istio mounts by itself.
func testOrder(t *testing.T, o *old) {
	var namespaces []string
	for _, p := range profiles() {
		namespaces = append(namespaces, o.in(p.name))
	}
	property := order.Property{
		Ours: o.injector.URL(), Istio: o.istio.URL(), Namespaces: namespaces,
		Answered: o.Answered, Certificate: o.ClientCertificate(t),
		Proxy:  func(ctx context.Context, pod *corev1.Pod) (any, error) { return o.proxyOf(ctx, pod) },
		Counts: func(found any) bool { p, ok := found.(*proxy); return ok && p.tracer == "lightstep" },
	}
	property.Check(t, *pods)
}
