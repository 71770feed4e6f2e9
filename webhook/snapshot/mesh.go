package snapshot

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
)

// The names of the two ConfigMaps of a control plane, each followed by -REVISION where it was given one
// (istio@1.7.8 and 1.31.0 istio-discovery/templates/configmap.yaml, istiod-injector-configmap.yaml).
const (
	meshConfigMap     = "istio"
	injectorConfigMap = "istio-sidecar-injector"
)

// meshParts is what the watches have told of Istio.
type meshParts struct {
	// planes holds, for each of Istio's namespaces of which all is known, what its ConfigMaps say.
	planes map[string]map[string]controlPlane
	// tags gives each tag's webhook configuration the tag's name and its revision.
	tags map[string]tag
	// telemetries holds each Telemetry, by namespace and name; nil until the watch has told all.
	telemetries map[string]map[string]reducedTelemetry
}

// controlPlane is one ConfigMap, reduced: of the two, one is set.
type controlPlane struct {
	revision string
	values   *istio.Values
	mesh     *istio.MeshConfig
}

type tag struct{ name, revision string }

// ReplaceControlPlanes takes all ConfigMaps of one of Istio's namespaces.
func (s *Store) ReplaceControlPlanes(namespace string, list []*unstructured.Unstructured) {
	s.changeMesh(func(m *meshParts) {
		planes := map[string]controlPlane{}
		for _, object := range list {
			if plane, ok := reduceConfigMap(object); ok {
				planes[object.GetName()] = plane
			}
		}
		m.planes[namespace] = planes
	})
}

// SetControlPlane takes a ConfigMap that is new or has changed.
func (s *Store) SetControlPlane(namespace string, object *unstructured.Unstructured) {
	plane, ok := reduceConfigMap(object)
	if !ok {
		s.RemoveControlPlane(namespace, object)
		return
	}
	s.changeMesh(func(m *meshParts) {
		if planes := m.planes[namespace]; planes != nil { // the configuration may have let go of the namespace
			planes[object.GetName()] = plane
		}
	})
}

// RemoveControlPlane takes a ConfigMap that is gone. Most of a namespace's are none of Istio's.
func (s *Store) RemoveControlPlane(namespace string, object *unstructured.Unstructured) {
	s.mu.Lock()
	_, known := s.mesh.planes[namespace][object.GetName()]
	s.mu.Unlock()
	if known {
		s.changeMesh(func(m *meshParts) { delete(m.planes[namespace], object.GetName()) })
	}
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

// ReplaceTelemetries takes all Telemetry resources.
func (s *Store) ReplaceTelemetries(list []*unstructured.Unstructured) {
	s.changeMesh(func(m *meshParts) {
		m.telemetries = map[string]map[string]reducedTelemetry{}
		for _, object := range list {
			m.setTelemetry(object)
		}
	})
}

// SetTelemetry takes one that is new or has changed.
func (s *Store) SetTelemetry(object *unstructured.Unstructured) {
	s.changeMesh(func(m *meshParts) { m.setTelemetry(object) })
}

// RemoveTelemetry takes one that is gone.
func (s *Store) RemoveTelemetry(object *unstructured.Unstructured) {
	s.changeMesh(func(m *meshParts) { delete(m.telemetries[object.GetNamespace()], object.GetName()) })
}

func (m *meshParts) setTelemetry(object *unstructured.Unstructured) {
	namespace := object.GetNamespace()
	if m.telemetries[namespace] == nil {
		m.telemetries[namespace] = map[string]reducedTelemetry{}
	}
	m.telemetries[namespace][object.GetName()] = reduceTelemetry(object)
}

// changeMesh changes the parts, and publishes a snapshot with the mesh that they make.
func (s *Store) changeMesh(change func(*meshParts)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.mesh)
	next := *s.Current()
	next.Mesh = s.mesh.build(next.Settings.Istio().Namespaces)
	s.publish(&next)
}

// keep lets go of what was known of other namespaces: nobody watches those any more.
func (m *meshParts) keep(namespaces []string) {
	maps.DeleteFunc(m.planes, func(namespace string, _ map[string]controlPlane) bool { return !slices.Contains(namespaces, namespace) })
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
	mesh.Telemetry = m.telemetry()
	return mesh
}

// revisions joins the ConfigMaps of each revision.
func revisions(namespace string, planes map[string]controlPlane) map[string]*istio.Revision {
	joined := map[string]controlPlane{}
	for _, part := range planes {
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

// telemetry lists each namespace's in the order in which Istio asks them: by their age, then by name.
func (m *meshParts) telemetry() map[string][]istio.Telemetry {
	if m.telemetries == nil {
		return nil
	}
	all := make(map[string][]istio.Telemetry, len(m.telemetries))
	for namespace, byName := range m.telemetries {
		sorted := slices.SortedFunc(maps.Values(byName), func(a, b reducedTelemetry) int {
			return cmp.Or(a.created.Compare(b.created), strings.Compare(a.Name, b.Name))
		})
		for _, t := range sorted {
			all[namespace] = append(all[namespace], t.Telemetry)
		}
	}
	return all
}

// reduceConfigMap keeps what some rule reads; of most ConfigMaps, that is nothing. An access token that stands in a mesh's
// configuration is not kept.
func reduceConfigMap(object *unstructured.Unstructured) (controlPlane, bool) {
	name, labels := object.GetName(), object.GetLabels()
	if suffix, ok := strings.CutPrefix(name, injectorConfigMap); ok {
		values, found, err := unstructured.NestedString(object.Object, "data", "values")
		plane := controlPlane{revision: revisionOf(labels, suffix), values: istio.ReadValues(values, labels["app.kubernetes.io/version"])}
		return plane, found && err == nil
	}
	suffix, ok := strings.CutPrefix(name, meshConfigMap)
	mesh, found, err := unstructured.NestedString(object.Object, "data", "mesh")
	if !ok || !found || err != nil || (suffix != "" && suffix[0] != '-') {
		return controlPlane{}, false
	}
	return controlPlane{revision: revisionOf(labels, suffix), mesh: istio.ReadMeshConfig(mesh)}, true
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
