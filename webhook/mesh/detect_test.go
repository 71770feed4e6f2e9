package mesh

import (
	"strings"
	"testing"

	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

func plane(name, version string) *istio.Revision {
	return istio.NewRevision(name, "istio-system", istio.ReadValues(`{"global":{"tag":"`+version+`"}}`, ""), istio.ReadMeshConfig("{}"))
}

// TestDetect: which control plane is rendered for, or why none.
func TestDetect(t *testing.T) {
	namespaces := inject.Namespaces{}.
		With("new", inject.Namespace{IstioInjection: "enabled"}).
		With("old", inject.Namespace{IstioRevision: "v1-7"}).
		With("gone", inject.Namespace{IstioRevision: "v1-8"}).
		With("none", inject.Namespace{})
	one := map[string]*istio.Revision{"default": plane("default", "1.31.0")}
	two := map[string]*istio.Revision{"default": plane("default", "1.31.0"), "v1-7": plane("v1-7", "1.7.8")}
	same := map[string]*istio.Revision{"default": plane("default", "1.31.0"), "v1-7": plane("v1-7", "1.31.0")}
	for name, c := range map[string]struct {
		revisions  map[string]*istio.Revision
		namespaces []string
		want       string
		problem    string
	}{
		"the only one":             {one, nil, "default", ""},
		"that of the namespace":    {two, []string{"old"}, "v1-7", ""},
		"several":                  {two, nil, "", "default: Istio 1.31.0, v1-7: Istio 1.7.8"},
		"several namespaces":       {two, []string{"new", "old"}, "", "of several versions"},
		"several of one version":   {same, []string{"old", "new"}, "v1-7", ""},
		"no Istio":                 {nil, nil, "", "there is no Istio in istio-system (istio.namespaces)"},
		"of no revision":           {two, []string{"gone"}, "", "namespace gone: the namespace has istio.io/rev=v1-8"},
		"asks for none":            {two, []string{"none"}, "", "namespace none: neither namespace nor pod asks for Istio"},
		"of a version not written": {map[string]*istio.Revision{"default": plane("default", "latest")}, nil, "", `global.tag "latest" names no version`},
	} {
		t.Run(name, func(t *testing.T) {
			snap := &inject.Snapshot{Settings: settings.Default(), Namespaces: namespaces, Mesh: &istio.Mesh{Revisions: c.revisions}}
			found, err := Detect(snap, c.namespaces)
			switch {
			case c.problem != "" && (err == nil || !strings.Contains(err.Error(), c.problem) || !strings.Contains(err.Error(), "--istio-version")):
				t.Errorf("the error is %v, wanted %s, and the fix", err, c.problem)
			case c.problem == "" && (err != nil || found.Name != c.want):
				t.Errorf("found %+v, %v, wanted %s", found, err, c.want)
			}
		})
	}
}

// TestExisting: what is there already is said, as far as it matters.
func TestExisting(t *testing.T) {
	for mesh, want := range map[string]string{
		`{}`: "found Istio 1.31.0: revision default in istio-system",
		`{extensionProviders: [{name: zipkin, zipkin: {}}, {name: a, zipkin: {}}]}`:                   "the extensionProviders a, zipkin already: keep them",
		`{extensionProviders: [{name: lightstep, opentelemetry: {service: otel.shop.svc, port: 1}}]}`: "has the provider lightstep already, which sends to otel.shop.svc, port 1",
		`{extensionProviders: [{name: lightstep, zipkin: {}}]}`:                                       "a provider lightstep of type zipkin: choose another name",
		`[`: "cannot be read",
	} {
		revision := istio.NewRevision("default", "istio-system", istio.ReadValues(`{"global":{"tag":"1.31.0"}}`, ""), istio.ReadMeshConfig(mesh))
		if said := strings.Join(Existing(revision, "lightstep"), "\n"); !strings.Contains(said, want) {
			t.Errorf("of %s it says %s, wanted %s", mesh, said, want)
		}
	}
}
