package install

import (
	"flag"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/lightstep-injector/lightstep-injector/e2e/chart"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

var update = flag.Bool("update", false, "write manifests/kustomize anew, from the chart")

// kustomization is its folder, and overlays are what the certificate's modes are called there.
const kustomization = root + "/manifests/kustomize"

func overlays() map[string]string {
	return map[string]string{"self-managed": "selfManaged", "cert-manager": "certManager"}
}

// TestKustomize: manifests/kustomize is what the chart renders: what its modes have in common is the base, and the rest is in the
// overlays; what it has beside Istio is in istio.
func TestKustomize(t *testing.T) {
	want := kustomize(t, buildHelm(t))
	if *update {
		stage.Check(t, os.RemoveAll(kustomization))
		for name, content := range want {
			file := filepath.Join(kustomization, name)
			stage.Check(t, os.MkdirAll(filepath.Dir(file), 0o755))
			stage.Check(t, os.WriteFile(file, []byte(content), 0o644)) //nolint:gosec // for everybody to read
		}
	}
	got := map[string]string{}
	stage.Check(t, filepath.WalkDir(kustomization, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(kustomization, path)
		stage.Check(t, err)
		content, err := os.ReadFile(path)
		got[name] = string(content)
		return err
	}))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the chart has changed: make manifests (-want +got):\n%s", diff)
	}
}

// TestKustomizeBuilds: kustomize makes of each overlay what the chart does in that mode, but for Helm's own labels, and the
// namespace, which Helm makes itself.
func TestKustomizeBuilds(t *testing.T) {
	helm := buildHelm(t)
	kubectl := filepath.Join(t.TempDir(), "kubectl")
	stage.Check(t, os.Symlink(controlPlane(t), kubectl))
	for overlay, mode := range overlays() {
		built, err := chart.Decode(output(t, kubectl, "kustomize", filepath.Join(kustomization, "overlays", overlay)))
		stage.Check(t, err)
		want := rendering(t, helm, mode)
		want = append(want, namespaceObject())
		for _, objects := range [][]*unstructured.Unstructured{built, want} {
			slices.SortFunc(objects, func(a, b *unstructured.Unstructured) int { return strings.Compare(identity(a), identity(b)) })
		}
		if diff := cmp.Diff(want, built); diff != "" {
			t.Errorf("%s (-want +got):\n%s", overlay, diff)
		}
	}
}

// kustomize are the files of manifests/kustomize.
func kustomize(t *testing.T, helm *chart.Helm) map[string]string {
	t.Helper()
	modes := map[string][]*unstructured.Unstructured{}
	for overlay, mode := range overlays() {
		modes[overlay] = rendering(t, helm, mode)
	}
	files := map[string]string{}
	base := append(common(modes), namespaceObject())
	writeFolder(t, files, "base", nil, base)
	for overlay, objects := range modes {
		own := slices.DeleteFunc(objects, func(o *unstructured.Unstructured) bool { return contains(base, o) })
		writeFolder(t, files, filepath.Join("overlays", overlay), []string{"../../base"}, own)
	}
	// What the chart adds where there is Istio, in whose namespace it is.
	besideIstio := rendering(t, helm, "selfManaged", "--api-versions", "networking.istio.io/v1beta1")
	writeFolder(t, files, "istio", nil, slices.DeleteFunc(besideIstio, func(o *unstructured.Unstructured) bool { return o.GetNamespace() != "istio-system" }))
	return files
}

// rendering is what the chart renders in a mode, without what is Helm's own: its labels, and its test.
func rendering(t *testing.T, helm *chart.Helm, mode string, flags ...string) []*unstructured.Unstructured {
	t.Helper()
	objects, err := helm.Template(t.Context(), append(flags, "--set", "certificate.mode="+mode)...)
	stage.Check(t, err)
	objects = slices.DeleteFunc(objects, func(o *unstructured.Unstructured) bool { return o.GetAnnotations()["helm.sh/hook"] != "" })
	for _, o := range objects {
		labels := o.GetLabels()
		delete(labels, "app.kubernetes.io/managed-by")
		delete(labels, "helm.sh/chart")
		o.SetLabels(labels)
	}
	return objects
}

// namespaceObject is the injector's own namespace, in which its pods pass the restricted Pod Security Standard.
func namespaceObject() *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Namespace",
		"metadata": map[string]any{"name": own, "labels": map[string]any{"pod-security.kubernetes.io/enforce": "restricted"}},
	}}
}

// common are the objects that every mode has, and has alike.
func common(modes map[string][]*unstructured.Unstructured) []*unstructured.Unstructured {
	rest := slices.Collect(maps.Values(modes))
	return slices.DeleteFunc(slices.Clone(rest[0]), func(o *unstructured.Unstructured) bool {
		return slices.ContainsFunc(rest[1:], func(other []*unstructured.Unstructured) bool { return !contains(other, o) })
	})
}

func contains(objects []*unstructured.Unstructured, o *unstructured.Unstructured) bool {
	return slices.ContainsFunc(objects, func(other *unstructured.Unstructured) bool { return reflect.DeepEqual(o, other) })
}

func identity(o *unstructured.Unstructured) string {
	return o.GetAPIVersion() + "/" + o.GetKind() + " " + o.GetNamespace() + "/" + o.GetName()
}

// writeFolder writes a kustomization of objects, a file for each kind, and of other folders.
func writeFolder(t *testing.T, files map[string]string, folder string, resources []string, objects []*unstructured.Unstructured) {
	t.Helper()
	kinds := map[string][]string{}
	for _, o := range objects {
		text, err := yaml.Marshal(o.Object)
		stage.Check(t, err)
		name := strings.ToLower(o.GetKind()) + ".yaml"
		kinds[name] = append(kinds[name], string(text))
	}
	for name, texts := range kinds {
		files[filepath.Join(folder, name)] = strings.Join(texts, "---\n")
	}
	text, err := yaml.Marshal(map[string]any{
		"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
		"resources": append(resources, slices.Sorted(maps.Keys(kinds))...),
	})
	stage.Check(t, err)
	files[filepath.Join(folder, "kustomization.yaml")] = "# Made from manifests/chart by `make manifests`.\n" + string(text)
}
