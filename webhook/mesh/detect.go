package mesh

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
)

// Detect finds the control plane to render for: that of the namespaces, or, where none is named, the one that the cluster has.
// Several of one version are as good as one. Errors say what was found, and the fix.
func Detect(snap *inject.Snapshot, namespaces []string) (*istio.Revision, error) {
	found, err := revisionsOf(snap, namespaces)
	if err != nil {
		return nil, err
	}
	versions := map[string]bool{}
	for _, revision := range found {
		if !revision.Capabilities.Known {
			return nil, fmt.Errorf("%s: write the version as --istio-version, in the place of --detect", revision.Problem)
		}
		versions[revision.Capabilities.Version] = true
	}
	if len(versions) > 1 {
		return nil, fmt.Errorf("the cluster has control planes of several versions (%s): name namespaces of one of them with --namespace, or the version with --istio-version", list(found))
	}
	return found[0], nil
}

// revisionsOf are the control planes of namespaces; all that there are where none is named.
func revisionsOf(snap *inject.Snapshot, namespaces []string) ([]*istio.Revision, error) {
	where := strings.Join(snap.Settings.Istio().Namespaces, ", ")
	if snap.Mesh == nil || len(snap.Mesh.Revisions) == 0 {
		return nil, fmt.Errorf("there is no Istio in %s (istio.namespaces): write its version as --istio-version, in the place of --detect", where)
	}
	if len(namespaces) == 0 {
		var all []*istio.Revision
		for _, name := range slices.Sorted(maps.Keys(snap.Mesh.Revisions)) {
			all = append(all, snap.Mesh.Revisions[name])
		}
		return all, nil
	}
	var theirs []*istio.Revision
	for _, name := range namespaces {
		namespace, _ := snap.Namespaces.Get(name)
		member := snap.Mesh.Find(istio.Labels{NamespaceInjection: namespace.IstioInjection, NamespaceRevision: namespace.IstioRevision})
		if member.Revision == nil {
			return nil, fmt.Errorf("namespace %s: %s, so it has no control plane of those that there are: label it for Istio, or write the version as --istio-version, in the place of --detect", name, member.Why)
		}
		if !slices.Contains(theirs, member.Revision) {
			theirs = append(theirs, member.Revision)
		}
	}
	return theirs, nil
}

func list(revisions []*istio.Revision) string {
	var names []string
	for _, r := range revisions {
		names = append(names, fmt.Sprintf("%s: Istio %s", r.Name, r.Capabilities.Version))
	}
	return strings.Join(names, ", ")
}

// Existing tells what whoever applies what is rendered should know of the control plane that is there.
func Existing(r *istio.Revision, provider string) []string {
	notes := []string{fmt.Sprintf("found Istio %s: revision %s in %s", r.Capabilities.Version, r.Name, r.Namespace)}
	if r.Mesh == nil {
		return append(notes, "its MeshConfig cannot be read, so nothing is known of its extensionProviders")
	}
	others := slices.DeleteFunc(slices.Sorted(maps.Keys(r.Mesh.Providers)), func(name string) bool { return name == provider })
	if len(others) > 0 {
		notes = append(notes, "its MeshConfig has the extensionProviders "+strings.Join(others, ", ")+" already: keep them in the list")
	}
	switch exporter, ours := r.Mesh.Exporters[provider]; {
	case ours:
		notes = append(notes, fmt.Sprintf("its MeshConfig has the provider %s already, which sends to %s, port %d", provider, exporter.Service, exporter.Port))
	case r.Mesh.Providers[provider] != "":
		notes = append(notes, fmt.Sprintf("its MeshConfig has a provider %s of type %s: choose another name (istio.provider)", provider, r.Mesh.Providers[provider]))
	}
	return notes
}
