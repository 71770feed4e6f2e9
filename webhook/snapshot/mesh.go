package snapshot

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/internal/clusterstate"
	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

// The names of the two ConfigMaps of a control plane, each followed by -REVISION where it was given one
// (istio@1.7.8 and 1.31.0 istio-discovery/templates/configmap.yaml, istiod-injector-configmap.yaml).
const (
	meshConfigMap     = "istio"
	injectorConfigMap = "istio-sidecar-injector"
)

// meshParts is what the watches have told of Istio.
type meshParts struct {
	telemetries

	// planes holds, for each of Istio's namespaces of which all is known, what its ConfigMaps say.
	planes map[string]map[string]Plane
	// tags gives each tag's webhook configuration the tag's name and its revision.
	tags map[string]tag
	// roots are the namespaces whose Telemetries matter, labelled or not: those of the control planes, and their root namespaces.
	roots map[string]bool
}

// Plane is what is kept of a ConfigMap of a control plane: the values of its injector or its MeshConfig.
type Plane struct {
	revision string
	values   *istio.Values
	mesh     *istio.MeshConfig
	// unreadable reports that the ConfigMap exceeds a bound.
	unreadable bool
}

// says reports whether the ConfigMap holds something of a control plane's.
func (p *Plane) says() bool { return p.values != nil || p.mesh != nil || p.unreadable }

// PlaneObject is a ConfigMap as it arrives.
type PlaneObject = clusterstate.Reduced[Plane]

type tag struct{ name, revision string }

// ReplaceControlPlanes takes all ConfigMaps of one of Istio's namespaces.
func (s *Store) ReplaceControlPlanes(namespace string, list []*PlaneObject) {
	s.changeMesh(func(m *meshParts) {
		planes := map[string]Plane{}
		for _, object := range list {
			if plane := planeOf(object); plane.says() {
				planes[object.Name] = plane
			}
		}
		m.planes[namespace] = planes
	})
}

// SetControlPlane takes a ConfigMap that is new or has changed.
func (s *Store) SetControlPlane(namespace string, object *PlaneObject) {
	plane := planeOf(object)
	if !plane.says() {
		s.RemoveControlPlane(namespace, object)
		return
	}
	s.changeMesh(func(m *meshParts) {
		if planes := m.planes[namespace]; planes != nil { // the configuration may have let go of the namespace
			planes[object.Name] = plane
		}
	})
}

// RemoveControlPlane takes a ConfigMap that is gone. Most of a namespace's are none of Istio's.
func (s *Store) RemoveControlPlane(namespace string, object *PlaneObject) {
	s.mu.Lock()
	_, known := s.mesh.planes[namespace][object.Name]
	s.mu.Unlock()
	if known {
		s.changeMesh(func(m *meshParts) { delete(m.planes[namespace], object.Name) })
	}
}

func planeOf(object *PlaneObject) Plane {
	if object.Unreadable {
		return Plane{revision: revisionOf(nil, ""), unreadable: true}
	}
	return object.Kept
}

// ReplaceTags takes all webhook configurations of tags.
func (s *Store) ReplaceTags(list []*metav1.PartialObjectMetadata) {
	s.changeMesh(func(m *meshParts) {
		m.tags = map[string]tag{}
		for _, object := range list {
			m.tags[object.Name] = reduceTag(object)
		}
	})
}

// SetTag takes one that is new or has changed.
func (s *Store) SetTag(object *metav1.PartialObjectMetadata) {
	s.changeMesh(func(m *meshParts) { m.tags[object.Name] = reduceTag(object) })
}

// RemoveTag takes one that is gone.
func (s *Store) RemoveTag(object *metav1.PartialObjectMetadata) {
	s.changeMesh(func(m *meshParts) { delete(m.tags, object.Name) })
}

// changeMesh changes the parts, and publishes a snapshot with the mesh that they make.
func (s *Store) changeMesh(change func(*meshParts)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.mesh)
	s.findRoots(s.Current().Settings)
	s.publishMesh()
}

// publishMesh publishes a snapshot with the mesh that the parts make now.
func (s *Store) publishMesh() {
	if s.mesh.publishing != nil {
		s.mesh.publishing.Stop()
		s.mesh.publishing = nil
	}
	next := *s.Current()
	next.Mesh = s.mesh.build(next.Settings.Istio().Namespaces)
	s.publish(&next)
}

// findRoots finds the namespaces of the control planes. Those that are new among them come to matter, those that are none any
// more do no longer, unless they are labelled.
func (s *Store) findRoots(config *settings.Settings) {
	before := s.mesh.roots
	roots := map[string]bool{}
	for _, namespace := range config.Istio().Namespaces {
		roots[namespace] = true
		for _, plane := range s.mesh.planes[namespace] {
			if plane.mesh != nil && plane.mesh.RootNamespace != "" {
				roots[plane.mesh.RootNamespace] = true
			}
		}
	}
	for namespace := range roots {
		if !s.isScope(namespace) {
			s.mesh.enters(namespace)
		}
	}
	s.mesh.roots = roots
	for namespace := range before {
		s.leave(namespace)
	}
}

// keep lets go of what was known of other namespaces: nobody watches those any more.
func (m *meshParts) keep(namespaces []string) {
	maps.DeleteFunc(m.planes, func(namespace string, _ map[string]Plane) bool { return !slices.Contains(namespaces, namespace) })
}

// build puts the parts together; nil while some of Istio's namespaces are not known. Of two revisions of one
// name, that of the namespace named first counts.
func (m *meshParts) build(namespaces []string) *istio.Mesh {
	mesh := &istio.Mesh{Revisions: map[string]*istio.Revision{}, Tags: map[string]string{}}
	for _, namespace := range namespaces {
		if m.planes[namespace] == nil {
			return nil
		}
		for name, revision := range revisions(namespace, m.planes[namespace]) {
			if mesh.Revisions[name] == nil {
				mesh.Revisions[name] = revision
			}
		}
	}
	for _, tag := range m.tags {
		mesh.Tags[tag.name] = tag.revision
	}
	mesh.Telemetry = m.telemetries.build()
	return mesh
}

// revisions joins the ConfigMaps of each revision.
func revisions(namespace string, planes map[string]Plane) map[string]*istio.Revision {
	joined := map[string]Plane{}
	for _, part := range planes {
		if part.unreadable {
			continue
		}
		whole := joined[part.revision]
		if part.values != nil {
			whole.values = part.values
		}
		if part.mesh != nil {
			whole.mesh = part.mesh
		}
		joined[part.revision] = whole
	}
	built := make(map[string]*istio.Revision, len(joined))
	for name, plane := range joined {
		built[name] = istio.NewRevision(name, namespace, plane.values, plane.mesh)
	}
	return built
}

// ReadPlane keeps what some rule reads of a ConfigMap, and false of one that is none of Istio's, as most are. An access token
// that stands in a mesh's configuration is not kept.
func ReadPlane(object *corev1.ConfigMap) (Plane, bool) {
	if suffix, ok := strings.CutPrefix(object.Name, injectorConfigMap); ok {
		plane := Plane{revision: revisionOf(object.Labels, suffix)}
		if values, found := object.Data["values"]; found {
			plane.values = istio.ReadValues(values, object.Labels["app.kubernetes.io/version"])
		}
		return plane, true
	}
	suffix, ok := strings.CutPrefix(object.Name, meshConfigMap)
	if !ok || (suffix != "" && suffix[0] != '-') {
		return Plane{}, false
	}
	plane := Plane{revision: revisionOf(object.Labels, suffix)}
	if mesh, found := object.Data["mesh"]; found {
		plane.mesh = istio.ReadMeshConfig(mesh)
	}
	return plane, true
}

// revisionOf is the label's, or else what the name ends in.
func revisionOf(labels map[string]string, suffix string) string {
	if revision := labels[istio.RevisionLabel]; revision != "" {
		return revision
	}
	if suffix = strings.TrimPrefix(suffix, "-"); suffix != "" {
		return suffix
	}
	return istio.DefaultRevision
}

func reduceTag(object *metav1.PartialObjectMetadata) tag {
	return tag{object.Labels[istio.TagLabel], object.Labels[istio.RevisionLabel]}
}

// Lacks tells what the mesh still lacks for each labelled namespace that is in it.
func Lacks(snap *inject.Snapshot) map[string]istio.Lack {
	lacks := map[string]istio.Lack{}
	for name, namespace := range snap.Namespaces.All() {
		member := snap.Mesh.Find(istio.Labels{NamespaceInjection: namespace.IstioInjection, NamespaceRevision: namespace.IstioRevision})
		lacks[name] = snap.Mesh.Lacks(member.Revision, name, snap.Settings.Istio().Provider)
	}
	return lacks
}
