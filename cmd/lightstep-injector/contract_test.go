package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/text"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/lightstep-injector/lightstep-injector/certs/serving"
	"github.com/lightstep-injector/lightstep-injector/webhook"
	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
	"github.com/lightstep-injector/lightstep-injector/webhook/snapshot"
)

// manifests is what the chart renders to with its defaults: e2e/tests/install holds the two together.
const manifests = "../../manifests/kustomize"

// installed are the objects that the program has to agree with.
type installed struct {
	deployment appsv1.Deployment
	service    corev1.Service
	webhook    admissionv1.MutatingWebhookConfiguration
	config     corev1.ConfigMap
	account    corev1.ServiceAccount
	roles      []rbacv1.ClusterRole // a Role has nothing else
}

func readInstalled(t *testing.T) *installed {
	t.Helper()
	var in installed
	for file, into := range map[string]any{
		"overlays/self-managed/deployment.yaml":                   &in.deployment,
		"overlays/self-managed/mutatingwebhookconfiguration.yaml": &in.webhook,
		"base/service.yaml":        &in.service,
		"base/configmap.yaml":      &in.config,
		"base/serviceaccount.yaml": &in.account,
	} {
		if err := yaml.UnmarshalStrict(readFile(t, filepath.Join(manifests, file)), into); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	for _, file := range []string{"overlays/self-managed/clusterrole.yaml", "overlays/self-managed/role.yaml"} {
		decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(readFile(t, filepath.Join(manifests, file))), 4096)
		for {
			var role rbacv1.ClusterRole
			if err := decoder.Decode(&role); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			in.roles = append(in.roles, role)
		}
	}
	return &in
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func (in *installed) container() *corev1.Container {
	return &in.deployment.Spec.Template.Spec.Containers[0]
}

// TestContractFlags: the Deployment's arguments are flags of serve's, and the ports that they name are the container's, the probes'
// and the Service's.
func TestContractFlags(t *testing.T) {
	in := readInstalled(t)
	args := in.container().Args
	serve := serveCommand(streams{})
	if args[0] != serve.Name() {
		t.Fatalf("the command is %s", args[0])
	}
	if err := serve.ParseFlags(args[1:]); err != nil {
		t.Fatal(err)
	}
	ports := map[string]string{}
	for _, port := range in.container().Ports {
		ports[port.Name] = ":" + strconv.Itoa(int(port.ContainerPort))
	}
	for name, flag := range map[string]string{"webhook": "listen", "metrics": "metrics-listen", "health": "health-listen"} {
		if got := serve.Flag(flag); ports[name] != got.Value.String() || ports[name] != got.DefValue {
			t.Errorf("port %s is %s, --%s is %s, and its default %s", name, ports[name], flag, got.Value, got.DefValue)
		}
	}
	if target := in.service.Spec.Ports[0].TargetPort; target != intstr.FromString("webhook") {
		t.Errorf("the Service leads to %s", target.String())
	}
	config := serve.Flag("config").Value.String()
	mount := in.container().VolumeMounts[0]
	if volume := in.deployment.Spec.Template.Spec.Volumes[0]; config != mount.MountPath+"/"+configMapKey || volume.ConfigMap.Name != objectName || in.config.Name != objectName {
		t.Errorf("--config is %s, mounted is %s from %s", config, mount.MountPath, volume.ConfigMap.Name)
	}
	if _, err := settings.Parse([]byte(in.config.Data[configMapKey])); err != nil {
		t.Errorf("the ConfigMap's configuration: %v", err)
	}
	if serve.Flag("tls-secret").Value.String() != serve.Flag("tls-secret").DefValue {
		t.Errorf("the Secret is %s", serve.Flag("tls-secret").Value)
	}
	if env := in.container().Env[0]; env.Name != "POD_NAMESPACE" || env.ValueFrom.FieldRef.FieldPath != "metadata.namespace" {
		t.Errorf("%+v is not how the program knows its namespace", env)
	}
}

// TestContractProbes: what the probes ask for is answered.
func TestContractProbes(t *testing.T) {
	in := readInstalled(t)
	handler := webhook.Health(func(*http.Request) error { return nil })
	for _, probe := range []*corev1.Probe{in.container().LivenessProbe, in.container().ReadinessProbe} {
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, probe.HTTPGet.Path, http.NoBody))
		if answer.Code != http.StatusOK || probe.HTTPGet.Port.StrVal != "health" {
			t.Errorf("%s at port %s: %d", probe.HTTPGet.Path, probe.HTTPGet.Port.String(), answer.Code)
		}
	}
}

// TestContractWebhook: the webhook configuration is the one that the program knows, calls the path that it answers, and selects the
// namespaces that it watches.
func TestContractWebhook(t *testing.T) {
	in := readInstalled(t)
	hook := in.webhook.Webhooks[0]
	service := hook.ClientConfig.Service
	if in.webhook.Name != serving.Configuration || *service.Path != webhook.Path {
		t.Errorf("%s calls %s", in.webhook.Name, *service.Path)
	}
	if service.Name != in.service.Name || service.Namespace != in.service.Namespace || *service.Port != in.service.Spec.Ports[0].Port {
		t.Errorf("it calls %+v, and the Service is %s/%s", service, in.service.Namespace, in.service.Name)
	}
	var selects []string
	for key, value := range hook.NamespaceSelector.MatchLabels {
		selects = append(selects, key+"="+value)
	}
	if want := []string{snapshot.NamespaceSelector}; !slices.Equal(selects, want) || !strings.HasPrefix(want[0], inject.NamespaceLabel+"=") {
		t.Errorf("it selects %v, and the program watches %v", selects, want)
	}
	for key, value := range in.service.Spec.Selector {
		if in.deployment.Spec.Template.Labels[key] != value {
			t.Errorf("the Service selects %s=%s", key, value)
		}
	}
}

// TestContractRights: the names in the account's rights are those that the program asks for.
func TestContractRights(t *testing.T) {
	in := readInstalled(t)
	named := map[string][]string{}
	for i := range in.roles {
		for _, rule := range in.roles[i].Rules {
			if len(rule.ResourceNames) > 0 && in.roles[i].Namespace != "" {
				named[rule.Resources[0]] = append(named[rule.Resources[0]], rule.ResourceNames...)
			}
			if len(rule.ResourceNames) > 0 && in.roles[i].Namespace == "" {
				named["everywhere: "+rule.Resources[0]] = append(named["everywhere: "+rule.Resources[0]], rule.ResourceNames...)
			}
		}
	}
	config, err := settings.Parse([]byte(in.config.Data[configMapKey]))
	if err != nil {
		t.Fatal(err)
	}
	sources := []string{serveCommand(streams{}).Flag("tls-secret").DefValue}
	for _, source := range config.Sources() {
		sources = append(sources, source.Name)
	}
	want := map[string][]string{
		"leases": {objectName}, "deployments": {objectName}, "secrets": sources,
		"everywhere: secrets":                       slices.Concat(config.SecretNames(), config.CopiedNames()),
		"everywhere: mutatingwebhookconfigurations": {serving.Configuration},
	}
	for _, names := range []map[string][]string{named, want} {
		for key := range names {
			slices.Sort(names[key])
			names[key] = slices.Compact(names[key])
		}
	}
	if diff := cmp.Diff(want, named); diff != "" {
		t.Errorf("(-the program +RBAC):\n%s", diff)
	}
	if in.deployment.Name != objectName || in.deployment.Spec.Template.Spec.ServiceAccountName != in.account.Name {
		t.Errorf("Deployment %s runs as %s", in.deployment.Name, in.deployment.Spec.Template.Spec.ServiceAccountName)
	}
}

// valuesSchema is what of a JSON schema says which keys there are.
type valuesSchema struct {
	Ref                  string `json:"$ref"`
	Properties           map[string]*valuesSchema
	AdditionalProperties any
	Items                *valuesSchema
	Definitions          map[string]*valuesSchema
}

// TestContractConfiguration: the chart's schema has the very keys that the configuration has, and docs/configuration.md speaks of each.
func TestContractConfiguration(t *testing.T) {
	var values valuesSchema
	if err := yaml.Unmarshal(readFile(t, "../../manifests/chart/lightstep-injector/values.schema.json"), &values); err != nil {
		t.Fatal(err)
	}
	document := string(readFile(t, "../../docs/configuration.md"))
	for definition, of := range map[string]any{"config": settings.Configuration{}, "profile": settings.Profile{}, "source": settings.Source{}} {
		compareKeys(t, definition, values.Definitions[definition], reflect.TypeOf(of), document)
	}
}

func compareKeys(t *testing.T, path string, known *valuesSchema, of reflect.Type, document string) {
	t.Helper()
	keys := map[string]reflect.Type{}
	for field := range of.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		keys[name] = field.Type
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(keys)), slices.Sorted(maps.Keys(known.Properties))); diff != "" {
		t.Errorf("%s (-the program +the chart's schema):\n%s", path, diff)
		return
	}
	for key, kind := range keys {
		if !strings.Contains(document, key) {
			t.Errorf("docs/configuration.md does not speak of %s.%s", path, key)
		}
		if kind.Kind() == reflect.Pointer {
			kind = kind.Elem()
		}
		if inner := known.Properties[key]; kind.Kind() == reflect.Struct && inner.Ref == "" && inner.Properties != nil {
			compareKeys(t, path+"."+key, inner, kind, document)
		}
	}
}

// TestContractDocuments: every command and flag of the program's, and every target of make's, that a document names is there; and
// every command, and every flag of serve's, is named by one.
func TestContractDocuments(t *testing.T) {
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	everything := ""
	for _, file := range append(files, "../../README.md", "../../CONTRIBUTING.md") {
		code := codeOf(t, file)
		everything += code
		checkCommands(t, file, code)
		checkTargets(t, file, code)
	}
	for _, cmd := range rootCommand("lightstep-injector", streams{}).Commands() {
		if !strings.Contains(everything, "\nlightstep-injector "+cmd.Name()) {
			t.Errorf("no document names the command %s", cmd.Name())
		}
	}
}

// codeOf is the code of a document, a line for each span.
func codeOf(t *testing.T, file string) string {
	t.Helper()
	source := readFile(t, file)
	var code strings.Builder
	_ = ast.Walk(goldmark.DefaultParser().Parse(text.NewReader(source)), func(node ast.Node, entering bool) (ast.WalkStatus, error) {
		switch n := node.(type) {
		case *ast.FencedCodeBlock:
			if entering {
				_, _ = code.Write(n.Lines().Value(source))
			}
		case *ast.Text:
			if _, span := n.Parent().(*ast.CodeSpan); span && entering {
				_, _ = fmt.Fprintf(&code, "%s\n", n.Value(source))
			}
		}
		return ast.WalkContinue, nil
	})
	return code.String()
}

// checkCommands looks at the lines that begin with the program's name.
func checkCommands(t *testing.T, file, code string) {
	t.Helper()
	for _, match := range regexp.MustCompile("(?m)^lightstep-injector ([a-z][^\n|#]*)").FindAllStringSubmatch(code, -1) {
		words := strings.Fields(match[1])
		cmd, rest, err := rootCommand("lightstep-injector", streams{}).Find(words)
		if err != nil || !cmd.HasParent() {
			t.Errorf("%s: lightstep-injector %s: %v", file, match[1], err)
			continue
		}
		for _, word := range rest {
			if name, isFlag := strings.CutPrefix(word, "-"); isFlag && flagOf(cmd, name) == nil {
				t.Errorf("%s: lightstep-injector %s: there is no %s", file, match[1], word)
			}
		}
	}
}

// flagOf finds a flag by what follows its first dash.
func flagOf(cmd *cobra.Command, name string) any {
	cmd.InitDefaultHelpFlag()
	if long, isLong := strings.CutPrefix(name, "-"); isLong {
		long, _, _ = strings.Cut(long, "=")
		if found := cmd.Flag(long); found != nil {
			return found
		}
		return nil
	}
	if found := cmd.Flags().ShorthandLookup(name[:1]); found != nil {
		return found
	}
	return nil
}

func checkTargets(t *testing.T, file, code string) {
	t.Helper()
	makefile := string(readFile(t, "../../Makefile"))
	for _, match := range regexp.MustCompile("(?m)^make ([a-z0-9-]+)").FindAllStringSubmatch(code, -1) {
		if !strings.Contains(makefile, "\n"+match[1]+":") {
			t.Errorf("%s: there is no make %s", file, match[1])
		}
	}
}
