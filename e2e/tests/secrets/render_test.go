package secrets

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/lightstep-injector/lightstep-injector/e2e/cluster"
	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// rendering is what a set of values makes of the account's rights. A right is "where: resource [names]", where is a
// namespace, or "everywhere".
type rendering struct {
	// Writes are rights to change Secrets and webhook configurations, Reads those to list Secrets and ConfigMaps.
	Writes, Reads, Policies []string
}

// The renderings that several cases share.
const (
	everySecret = "everywhere: secrets [lightstep-access-token lightstep.cacert]"
	copyCA      = "everywhere: secrets [lightstep.cacert]"
	sourceCA    = own + ": secrets [lightstep.cacert]"
	served      = own + ": secrets [lightstep-injector-tls]"
)

// whoCopies are the policies where Secrets are copied, whoLeads those that there are in any case.
func whoCopies() []string {
	return []string{"lightstep-injector-events", "lightstep-injector-lease", "lightstep-injector-secrets"}
}

func whoLeads() []string { return []string{"lightstep-injector-lease"} }

func byDefault() rendering {
	return rendering{Writes: []string{copyCA}, Reads: []string{everySecret, served, sourceCA}, Policies: whoCopies()}
}

// copiesNothing is where there are no sources, nothingFenced where there are no means to fence what copying takes.
func copiesNothing() rendering {
	return rendering{Reads: []string{everySecret, served}, Policies: whoLeads()}
}

func nothingFenced() rendering { return rendering{Reads: []string{everySecret, served}} }

type renderCase struct {
	name  string
	flags []string
	want  rendering
}

// set sets values.
func set(values ...string) []string {
	var flags []string
	for _, value := range values {
		flags = append(flags, "--set", value)
	}
	return flags
}

// text has the configuration given as a file's text.
func text(t *testing.T, config string) []string {
	t.Helper()
	return []string{"--set-file", "config=" + file(t, config)}
}

// values sets those of a file.
func values(t *testing.T, content string) []string {
	t.Helper()
	return []string{"--values", file(t, content)}
}

func file(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file.yaml")
	stage.Check(t, os.WriteFile(name, []byte(content), 0o600))
	return name
}

const (
	ca          = "config.profiles.default.caCertificate"
	accessToken = "config.profiles.default.accessToken"
	// policyKind in a list of the cluster's APIs, beside secretKind, which every cluster has.
	policyKind = "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy"
	secretKind = "v1/Secret"
)

func renderCases(t *testing.T) []renderCase {
	t.Helper()
	onlyToken := rendering{Reads: []string{"everywhere: secrets [lightstep-access-token]", served}, Policies: whoLeads()}
	otherName := rendering{
		Writes:   []string{"everywhere: secrets [mine.cacert]"},
		Reads:    []string{"everywhere: secrets [lightstep-access-token mine.cacert]", served, sourceCA},
		Policies: whoCopies(),
	}
	listed := rendering{
		Writes: []string{"a: secrets [lightstep.cacert]", "b: secrets [lightstep.cacert]"},
		Reads:  []string{everySecret, served, sourceCA},
	}
	listedAndFenced := listed
	listedAndFenced.Policies = whoCopies()
	managed := rendering{
		Writes: []string{
			"everywhere: mutatingwebhookconfigurations [0-lightstep-injector]", copyCA, served,
		},
		Reads:    []string{everySecret, served, sourceCA},
		Policies: append(whoCopies(), "lightstep-injector-webhook"),
	}
	managedAlone := managed
	managedAlone.Writes = []string{managed.Writes[0], managed.Writes[2]}
	managedAlone.Reads = managed.Reads[:2]
	managedAlone.Policies = []string{"lightstep-injector-lease", "lightstep-injector-secrets", "lightstep-injector-webhook"}
	several := rendering{
		Writes: []string{"everywhere: secrets [a.cacert b.token lightstep.cacert]"},
		Reads: []string{
			"everywhere: secrets [a.cacert b.token d.cacert lightstep-access-token lightstep.cacert]",
			own + ": secrets [a.source b.source lightstep.cacert]", served,
		},
		Policies: whoCopies(),
	}
	beside := func(namespaces ...string) rendering {
		r := byDefault()
		for _, namespace := range namespaces {
			r.Reads = append(r.Reads, namespace+": configmaps")
		}
		slices.Sort(r.Reads)
		return r
	}
	unmanaged := []renderCase{
		{"nothing else set", nil, byDefault()},
		{"no source", set(ca + ".source=null"), copiesNothing()},
		{"no source, as text", text(t, "profiles: {default: {caCertificate: {source: null}}}"), copiesNothing()},
		{"no satellite CA", set(ca + "=null"), onlyToken},
		{"no satellite CA, in a file", values(t, "config: {profiles: {default: {caCertificate: null}}}"), onlyToken},
		{"no satellite CA, as text", text(t, "profiles: {default: {caCertificate: null}}"), onlyToken},
		{"a satellite CA of another name", set(ca + ".secretName=mine.cacert"), otherName},
		{"an empty profile", set("config.profiles.default.sampling=50"), byDefault()},
		{"an empty profile, as text", text(t, "profiles: {default: {}}"), byDefault()},
		{"no profiles, as text", text(t, "profiles: null"), byDefault()},
		{"an empty source, as text", text(t, "profiles: {default: {caCertificate: {source: {}}}}"), byDefault()},
		{"a token without a source", set(accessToken + ".source=null"), byDefault()},
		{"several profiles", []string{"--values", "testdata/several.yaml"}, several},

		{"Kubernetes 1.30", []string{"--kube-version", "1.30.0"}, byDefault()},
		{"Kubernetes 1.30 of a vendor", []string{"--kube-version", "v1.30.4-gke.100"}, byDefault()},
		{"Kubernetes 1.29", []string{"--kube-version", "1.29.9"}, nothingFenced()},
		{"Kubernetes 1.29 of a vendor", []string{"--kube-version", "v1.29.9-eks-100"}, nothingFenced()},
		{"a cluster without policies", []string{"--api-versions", secretKind}, nothingFenced()},
		{"a cluster with policies", []string{"--api-versions", secretKind + "," + policyKind}, byDefault()},
		{"listed namespaces without policies", append(set("distribution.namespaces={a,b}"), "--kube-version", "1.28.0"), listed},
		{"listed namespaces", set("distribution.namespaces={a,b}"), listedAndFenced},

		{"its own certificate", set("certificate.mode=selfManaged"), managed},
		{"its own certificate, no source", set("certificate.mode=selfManaged", ca+".source=null"), managedAlone},
		{"its own certificate without policies", append(set("certificate.mode=selfManaged"), "--kube-version", "1.29.0"), nothingFenced()},

		{"Istio's kinds", []string{"--api-versions", "networking.istio.io/v1beta1"}, beside(istioSpace)},
		{"Istio elsewhere", set("config.istio.namespaces={mesh-a,mesh-b}"), beside("mesh-a", "mesh-b")},
		{"Istio nowhere", []string{"--set-json", "config.istio.namespaces=[]", "--api-versions", "networking.istio.io/v1beta1"}, byDefault()},
	}
	for i := range unmanaged {
		unmanaged[i].flags = append(set("certificate.mode=existing"), unmanaged[i].flags...)
	}
	return append(unmanaged, renderCase{"nothing set", nil, managed}, renderCase{"by cert-manager", set("certificate.mode=certManager"), byDefault()})
}

// TestRenderedIsRead: the program reads the configuration that is rendered, and so knows every key that the chart does.
func TestRenderedIsRead(t *testing.T) {
	run, err := cluster.NewRun(root)
	stage.Check(t, err)
	t.Cleanup(func() { stage.Check(t, run.Remove()) })
	binary, err := injector.Build(t.Context(), root, run)
	stage.Check(t, err)
	helm := buildHelm(t)
	for _, c := range renderCases(t) {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			objects, err := helm.Template(t.Context(), c.flags...)
			stage.Check(t, err)
			output, err := exec.CommandContext(t.Context(), binary, "config", "validate", file(t, configuration(t, objects))).CombinedOutput()
			if err != nil {
				t.Errorf("%v: %s", err, output)
			}
		})
	}
}

// TestRendering: what the account may do follows from the configuration, and from what the cluster can fence.
func TestRendering(t *testing.T) {
	helm := buildHelm(t)
	for _, c := range renderCases(t) {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			objects, err := helm.Template(t.Context(), c.flags...)
			stage.Check(t, err)
			if diff := cmp.Diff(c.want, renderingOf(t, objects)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// renderingOf finds the rights in a rendered chart.
func renderingOf(t *testing.T, objects []*unstructured.Unstructured) rendering {
	t.Helper()
	var r rendering
	for _, object := range objects {
		switch object.GetKind() {
		case "ClusterRole", "Role":
			var role rbacv1.ClusterRole // which has all that a Role has
			stage.Check(t, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &role))
			for _, rule := range role.Rules {
				r.add(&role, rule)
			}
		case "ValidatingAdmissionPolicy":
			r.Policies = append(r.Policies, object.GetName())
		}
	}
	slices.Sort(r.Writes)
	slices.Sort(r.Reads)
	slices.Sort(r.Policies)
	return r
}

// rightOf names what a rule is about.
func rightOf(role *rbacv1.ClusterRole, rule *rbacv1.PolicyRule) string {
	right := "everywhere: "
	if role.Namespace != "" {
		right = role.Namespace + ": "
	}
	right += strings.Join(rule.Resources, " ")
	if len(rule.ResourceNames) > 0 {
		right += " [" + strings.Join(rule.ResourceNames, " ") + "]"
	}
	return right
}

func (r *rendering) add(role *rbacv1.ClusterRole, rule rbacv1.PolicyRule) {
	right := rightOf(role, &rule)
	writes, reads := slices.Contains(rule.Verbs, "patch"), slices.Contains(rule.Verbs, "list")
	switch rule.Resources[0] {
	case "secrets", "mutatingwebhookconfigurations", "configmaps":
		if writes {
			r.Writes = append(r.Writes, right)
		}
		if reads && rule.Resources[0] != "mutatingwebhookconfigurations" {
			r.Reads = append(r.Reads, right)
		}
	}
}

// TestRenderedConfiguration: the injector's configuration is what was written; but that nothing is said to be copied where
// nothing can be.
func TestRenderedConfiguration(t *testing.T) {
	helm := buildHelm(t)
	const head = "apiVersion: injector.lightstep.com/v1alpha1\nkind: InjectorConfiguration\n"
	for _, c := range []struct {
		name  string
		flags []string
		want  string
	}{
		{"nothing set", nil, head},
		{"null", set(ca + "=null"), head + "profiles:\n  default:\n    caCertificate: null\n"},
		{
			"text", text(t, head+"profiles: {default: {sampling: 0.5, mesh: {istioVersion: \"1.10\"}}}"),
			head + "profiles:\n  default:\n    mesh:\n      istioVersion: \"1.10\"\n    sampling: 0.5\n",
		},
		{
			"without policies",
			[]string{"--kube-version", "1.29.0"},
			head + "profiles:\n  default:\n    caCertificate:\n      source: null\n",
		},
		{
			"without policies, Istio's objects",
			append(set("config.istio.manage=true", ca+"=null"), "--kube-version", "1.29.0"),
			"apiVersion: injector.lightstep.com/v1alpha1\nistio:\n  manage: false\nkind: InjectorConfiguration\nprofiles:\n  default:\n    caCertificate: null\n",
		},
		{"without policies, null", append(set(ca+"=null"), "--kube-version", "1.29.0"), head + "profiles:\n  default:\n    caCertificate: null\n"},
		{
			"without policies, a token", append(set(accessToken+".source.name=x", ca+"=null"), "--kube-version", "1.29.0"),
			head + "profiles:\n  default:\n    accessToken:\n      source: null\n    caCertificate: null\n",
		},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			objects, err := helm.Template(t.Context(), c.flags...)
			stage.Check(t, err)
			if diff := cmp.Diff(c.want, configuration(t, objects)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestRenderedElsewhere: bindings and policies are of the account, wherever it is and whatever it is called.
func TestRenderedElsewhere(t *testing.T) {
	flags := append(set("serviceAccount.name=mine", "serviceAccount.create=false"), "--namespace", "elsewhere")
	objects, err := buildHelm(t).Template(t.Context(), flags...)
	stage.Check(t, err)
	for _, object := range objects {
		switch object.GetKind() {
		case "ServiceAccount":
			t.Error("there is a ServiceAccount")
		case "ClusterRoleBinding", "RoleBinding":
			subjects, _, err := unstructured.NestedSlice(object.Object, "subjects")
			stage.Check(t, err)
			want := []any{map[string]any{"kind": "ServiceAccount", "name": "mine", "namespace": "elsewhere"}}
			if diff := cmp.Diff(want, subjects); diff != "" {
				t.Errorf("%s %s: subjects (-want +got):\n%s", object.GetKind(), object.GetName(), diff)
			}
		case "ValidatingAdmissionPolicy":
			conditions, _, err := unstructured.NestedSlice(object.Object, "spec", "matchConditions")
			stage.Check(t, err)
			want := `request.userInfo.username == "system:serviceaccount:elsewhere:mine"`
			if got := conditions[0].(map[string]any)["expression"]; got != want || len(conditions) != 1 {
				t.Errorf("policy %s is for %v, wanted %s", object.GetName(), conditions, want)
			}
		}
	}
}

// TestRefusedValues: what cannot be meant is refused, and the message names it.
func TestRefusedValues(t *testing.T) {
	helm := buildHelm(t)
	for _, c := range []struct {
		name  string
		flags []string
		names string
	}{
		{"unknown value", set("certificates=x"), "certificates"},
		{"unknown key of a profile", set("config.profiles.default.caCert=x"), "'caCert'"},
		{"no default profile", set("config.profiles.other.sampling=1"), "'default'"},
		{"null profile", set("config.profiles.default=null"), "/config/profiles/default"},
		{"token source without a name", set(accessToken + ".source.namespace=x"), "/config/profiles/default/accessToken/source"},
		{"token source without a name, as text", text(t, "profiles: {default: {accessToken: {source: {a: b}}}}"), "profiles.default.accessToken.source.name"},
		{"a Secret's name", set(ca + ".secretName=A"), "/config/profiles/default/caCertificate/secretName"},
		{"an address without a port", set("config.profiles.default.satellite.address=x"), "/config/profiles/default/satellite/address"},
		{"no YAML", text(t, "profiles: ["), "config is not YAML"},
		{"no map", text(t, "- x"), "config is not YAML"},
		{"Kubernetes before 1.28", []string{"--kube-version", "1.27.0"}, ">=1.28"},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			_, err := helm.Template(t.Context(), c.flags...)
			stage.Check(t, refused(err, c.names))
		})
	}
}

// TestRenderedTwice: the same values give the same objects.
func TestRenderedTwice(t *testing.T) {
	helm := buildHelm(t)
	render := func() []*unstructured.Unstructured {
		objects, err := helm.Template(t.Context(), "--values", "testdata/several.yaml")
		stage.Check(t, err)
		return objects
	}
	if diff := cmp.Diff(render(), render()); diff != "" {
		t.Errorf("(-once +again):\n%s", diff)
	}
}

// configuration is the file that a rendered chart gives to the injector.
func configuration(t *testing.T, objects []*unstructured.Unstructured) string {
	t.Helper()
	for _, object := range objects {
		if object.GetKind() == "ConfigMap" {
			config, _, err := unstructured.NestedString(object.Object, "data", "config.yaml")
			stage.Check(t, err)
			return config
		}
	}
	t.Fatal("the chart has no ConfigMap")
	return ""
}

// TestRenderedRights: every right of the account's, for configurations that need more or fewer of them.
func TestRenderedRights(t *testing.T) {
	helm := buildHelm(t)
	always := []string{
		"everywhere: namespaces: list watch", "everywhere: pods: list", "everywhere: secrets [lightstep-access-token]: list watch",
		own + ": deployments [lightstep-injector]: get", own + ": leases: create", own + ": leases [lightstep-injector]: get update",
		own + ": secrets [lightstep-injector-tls]: list watch",
	}
	beside := []string{"everywhere: mutatingwebhookconfigurations: list watch", "everywhere: telemetries: list watch"}
	kept := []string{
		"everywhere: destinationrules serviceentries: list watch", "everywhere: destinationrules serviceentries [lightstep]: create delete get patch",
		"everywhere: events: create patch", "everywhere: telemetries [lightstep]: create delete get patch",
	}
	copied := []string{
		"everywhere: events: create patch", "everywhere: secrets [lightstep-access-token]: create delete get patch",
		own + ": events: create patch", own + ": secrets [x]: list watch",
	}
	least := append(set("certificate.mode=existing"), set(ca+"=null")...)
	for _, c := range []struct {
		name  string
		flags []string
		want  []string
	}{
		{"neither copies nor a certificate", least, slices.Concat(always, beside)},
		{"no Istio", append([]string{"--set-json", "config.istio.namespaces=[]"}, least...), append(always, "everywhere: mutatingwebhookconfigurations [0-lightstep-injector]: list watch")},
		{"Istio's objects", append(set("config.istio.manage=true"), least...), slices.Concat(always, beside, kept)},
		{"Istio's objects without policies", append(append(set("config.istio.manage=true"), least...), "--kube-version", "1.29.0"), slices.Concat(always, beside)},
		{"a token", append(set(accessToken+".source.name=x"), least...), slices.Concat(always, beside, copied)},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			objects, err := helm.Template(t.Context(), c.flags...)
			stage.Check(t, err)
			if diff := cmp.Diff(slices.Sorted(slices.Values(c.want)), allRights(t, objects)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// allRights are the rules of a rendered chart, a line each, sorted.
func allRights(t *testing.T, objects []*unstructured.Unstructured) []string {
	t.Helper()
	var lines []string
	for _, object := range objects {
		if kind := object.GetKind(); kind != "ClusterRole" && kind != "Role" {
			continue
		}
		var role rbacv1.ClusterRole // which has all that a Role has
		stage.Check(t, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &role))
		for _, rule := range role.Rules {
			lines = append(lines, rightOf(&role, &rule)+": "+strings.Join(rule.Verbs, " "))
		}
	}
	slices.Sort(lines)
	return lines
}

// TestRenderedExemptions: a glob of exemptNamespaces is a regular expression of the same names.
func TestRenderedExemptions(t *testing.T) {
	objects, err := buildHelm(t).Template(t.Context(), values(t, "config: {exemptNamespaces: ['team-*', 'x[0-9]', 'a?c', 'a.b']}")...)
	stage.Check(t, err)
	for _, object := range objects {
		if object.GetName() == "lightstep-injector-secrets" && object.GetKind() == "ValidatingAdmissionPolicy" {
			want := `^(kube-system|kube-public|kube-node-lease|local-path-storage|team-.*|x[0-9]|a.c|a\\.b)$`
			text, err := object.MarshalJSON()
			stage.Check(t, err)
			if !strings.Contains(string(text), strings.ReplaceAll(want, `\`, `\\`)) {
				t.Errorf("the policy lacks %s: %s", want, text)
			}
		}
	}
}
