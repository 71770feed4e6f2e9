package istio

import "slices"

// Telemetry is what one Telemetry resource says of tracing.
type Telemetry struct {
	Name string
	// Selector are the labels of the workloads that it is for; empty for all of its namespace, or of the mesh.
	Selector map[string]string
	// Targeted says that it is for what it refers to, and no sidecar's.
	Targeted bool
	// Providers are those that it switches on. For some workloads alone, they count for the namespace all the same: a mesh is
	// not said to lack what may be there.
	Providers []string
	// Sampling is its randomSamplingPercentage; nil where it sets none.
	Sampling *float64
	// CustomTags are its literal tags. SetsTags says that it has some, of whatever kind: they take the place of a proxy's.
	CustomTags map[string]string
	SetsTags   bool
}

// Beaten is a Telemetry that keeps a setting of the proxy's from having effect.
type Beaten struct {
	// By is it, as NAMESPACE/NAME; empty where there is none.
	By string
	// Field is what it sets: FieldSampling or FieldTags.
	Field string
}

// The fields of a Telemetry's tracing that beat a proxy's own.
const (
	FieldSampling = "randomSamplingPercentage"
	FieldTags     = "customTags"
)

// Beaten tells which of a pod's settings have no effect, for a Telemetry sets them otherwise: one of the root namespace, of
// the pod's own, or, there, for its labels, of which the last counts (istio@1.31.0 pilot/pkg/model/telemetry.go and
// pilot/pkg/networking/core/tracing.go).
func (m *Mesh) Beaten(r *Revision, namespace string, pod map[string]string, e Explicit) []Beaten {
	if m == nil || r == nil || r.Mesh == nil {
		return nil
	}
	var sampling, tags Beaten
	for _, scope := range []string{r.Mesh.RootNamespace, namespace} {
		for _, t := range applicable(m.Telemetry[scope], pod, scope == namespace) {
			by := scope + "/" + t.Name
			if t.Sampling != nil {
				sampling = Beaten{}
				if e.Sampling != 0 && e.Sampling != *t.Sampling {
					sampling = Beaten{by, FieldSampling}
				}
			}
			if t.SetsTags {
				tags = Beaten{}
				if !has(t.CustomTags, e.CustomTags) {
					tags = Beaten{by, FieldTags}
				}
			}
		}
	}
	return slices.DeleteFunc([]Beaten{sampling, tags}, func(b Beaten) bool { return b.By == "" })
}

// applicable are those of a namespace's that hold for a pod: the first for all of it, and, in the pod's own, those for the
// pod's labels.
func applicable(all []Telemetry, pod map[string]string, own bool) []Telemetry {
	var found []Telemetry
	if i := slices.IndexFunc(all, func(t Telemetry) bool { return len(t.Selector) == 0 && !t.Targeted }); i >= 0 {
		found = append(found, all[i])
	}
	for _, t := range all {
		if own && len(t.Selector) > 0 && has(pod, t.Selector) {
			found = append(found, t)
		}
	}
	return found
}

// has tells whether all of some are in a map.
func has(all, some map[string]string) bool {
	for key, want := range some {
		if value, ok := all[key]; !ok || value != want {
			return false
		}
	}
	return true
}

// providersOf joins what a namespace's Telemetry resources name.
func providersOf(all []Telemetry) []string {
	var names []string
	for _, t := range all {
		names = append(names, t.Providers...)
	}
	return names
}
