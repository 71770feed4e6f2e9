package install

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/lightstep-injector/lightstep-injector/e2e/chart"
	"github.com/lightstep-injector/lightstep-injector/e2e/cluster"
	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/report"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// controlPlane is the binary that is kubectl among others.
func controlPlane(t *testing.T) string {
	t.Helper()
	binary, err := cluster.Build(t.Context(), root, report.New(os.Stdout).Progress)
	stage.Check(t, err)
	return binary
}

// output is what a program prints.
func output(t *testing.T, program string, args ...string) []byte {
	t.Helper()
	var complaint strings.Builder
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stderr = &complaint
	printed, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v: %s%s", filepath.Base(program), strings.Join(args, " "), err, printed, complaint.String())
	}
	return printed
}

func buildHelm(t *testing.T) *chart.Helm {
	t.Helper()
	helm, err := chart.Build(t.Context(), root, t.TempDir(), func() { report.New(os.Stdout).Linef("Helm is built from source the first time: a minute.") })
	stage.Check(t, err)
	return helm
}

// rendered is the part of a rendered chart that is looked at here.
type rendered struct {
	deployment appsv1.Deployment
	service    corev1.Service
	budget     policyv1.PodDisruptionBudget
	webhook    admissionv1.MutatingWebhookConfiguration
	network    networkingv1.NetworkPolicy
	role       rbacv1.ClusterRole
	secret     corev1.Secret
}

func (r *rendered) pod() *corev1.PodSpec         { return &r.deployment.Spec.Template.Spec }
func (r *rendered) container() *corev1.Container { return &r.pod().Containers[0] }

func render(t *testing.T, helm *chart.Helm, flags ...string) *rendered {
	t.Helper()
	objects, err := helm.Template(t.Context(), flags...)
	stage.Check(t, err)
	r := new(rendered)
	for kind, into := range map[string]any{
		"Deployment": &r.deployment, "Service": &r.service, "PodDisruptionBudget": &r.budget,
		"MutatingWebhookConfiguration": &r.webhook, "NetworkPolicy": &r.network, "ClusterRole": &r.role, "Secret": &r.secret,
	} {
		at := slices.IndexFunc(objects, func(o *unstructured.Unstructured) bool { return o.GetKind() == kind })
		if at >= 0 {
			stage.Check(t, runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(objects[at].Object, into, true))
		}
	}
	return r
}

// TestWebhook: the webhook configuration is that which all other tests here register, and has no caBundle unless it is given one.
func TestWebhook(t *testing.T) {
	helm := buildHelm(t)
	client := admissionv1.WebhookClientConfig{Service: &admissionv1.ServiceReference{
		Namespace: injector.Namespace, Name: injector.Name, Path: new("/inject"), Port: new(int32(443)),
	}}
	got := render(t, helm).webhook
	want := injector.WebhookConfiguration(client)
	if diff := cmp.Diff(want.Webhooks, got.Webhooks); diff != "" || got.Name != want.Name {
		t.Errorf("%s (-want +got):\n%s", got.Name, diff)
	}
	ca, err := injector.NewCA("webhook CA")
	stage.Check(t, err)
	file := filepath.Join(t.TempDir(), "ca.pem")
	stage.Check(t, os.WriteFile(file, ca.PEM, 0o600))
	if got := render(t, helm, "--set", "certificate.mode=existing", "--set-file", "certificate.caBundle="+file).webhook.Webhooks[0].ClientConfig.CABundle; string(got) != string(ca.PEM) {
		t.Errorf("the caBundle is %s", got)
	}
	elsewhere := render(t, helm, "--namespace", "elsewhere").webhook.Webhooks[0]
	if elsewhere.ClientConfig.Service.Namespace != "elsewhere" || elsewhere.NamespaceSelector.MatchExpressions[0].Values[0] != "elsewhere" {
		t.Errorf("elsewhere the webhook is %+v", elsewhere)
	}
}

// TestPods: what selects the pods does so, and they have what a reviewer looks for.
func TestPods(t *testing.T) {
	r := render(t, buildHelm(t))
	labels := r.deployment.Spec.Template.Labels
	for what, selector := range map[string]map[string]string{
		"Deployment": r.deployment.Spec.Selector.MatchLabels, "Service": r.service.Spec.Selector, "PodDisruptionBudget": r.budget.Spec.Selector.MatchLabels,
		"affinity": r.pod().Affinity.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution[0].PodAffinityTerm.LabelSelector.MatchLabels,
		"spread":   r.pod().TopologySpreadConstraints[0].LabelSelector.MatchLabels,
	} {
		for key, value := range selector {
			if labels[key] != value {
				t.Errorf("the %s selects %s=%s, and the pods have %v", what, key, value, labels)
			}
		}
		if len(selector) != 2 {
			t.Errorf("the %s selects by %v", what, selector)
		}
	}
	pod, container := r.pod(), r.container()
	security := container.SecurityContext
	for what, holds := range map[string]bool{
		"two replicas":              *r.deployment.Spec.Replicas == 2,
		"none away in a roll-out":   r.deployment.Spec.Strategy.RollingUpdate.MaxUnavailable.IntValue() == 0,
		"not root":                  *pod.SecurityContext.RunAsNonRoot && *pod.SecurityContext.RunAsUser != 0,
		"seccomp":                   pod.SecurityContext.SeccompProfile.Type == corev1.SeccompProfileTypeRuntimeDefault,
		"read-only root":            *security.ReadOnlyRootFilesystem,
		"no escalation":             !*security.AllowPrivilegeEscalation,
		"no capabilities":           slices.Equal(security.Capabilities.Drop, []corev1.Capability{"ALL"}) && len(security.Capabilities.Add) == 0,
		"memory is bounded":         !container.Resources.Limits.Memory().IsZero() && container.Resources.Limits.Cpu().IsZero(),
		"live":                      container.LivenessProbe.HTTPGet.Path == "/healthz",
		"ready":                     container.ReadinessProbe.HTTPGet.Path == "/readyz",
		"time to drain":             *pod.TerminationGracePeriodSeconds == 30,
		"spread over nodes":         pod.TopologySpreadConstraints[0].TopologyKey == "kubernetes.io/hostname",
		"spread over zones":         pod.Affinity.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution[0].PodAffinityTerm.TopologyKey == "topology.kubernetes.io/zone",
		"the budget is of one":      r.budget.Spec.MaxUnavailable.IntValue() == 1,
		"the Service is at 443":     r.service.Spec.Ports[0].Port == 443 && r.service.Spec.Ports[0].TargetPort.StrVal == "webhook",
		"no NetworkPolicy":          r.network.Name == "",
		"nothing on the host's net": !pod.HostNetwork,
	} {
		if !holds {
			t.Errorf("not so: %s", what)
		}
	}
}

func args(r *rendered) string { return strings.Join(r.container().Args, " ") }

// TestValues: each value comes to where it has its effect.
func TestValues(t *testing.T) {
	helm := buildHelm(t)
	for _, c := range values() {
		t.Run(c.set, func(t *testing.T) {
			if r := render(t, helm, "--set", c.set); !c.holds(r) {
				t.Errorf("it has no effect: %+v", r)
			}
		})
	}
}

// value is a value of the chart's, or some that belong together, and the effect.
type value struct {
	set   string
	holds func(*rendered) bool
}

func values() []value {
	const pem = "-----BEGIN CERTIFICATE-----"
	digest := "sha256:" + strings.Repeat("a", 64)
	return []value{
		{"replicas=3", func(r *rendered) bool { return *r.deployment.Spec.Replicas == 3 }},
		{"image.repository=r/i,image.tag=t", func(r *rendered) bool { return r.container().Image == "r/i:t" }},
		{"image.repository=r/i,image.digest=" + digest, func(r *rendered) bool { return r.container().Image == "r/i@"+digest }},
		{"image.pullPolicy=Always,image.pullSecrets={a}", func(r *rendered) bool {
			return r.container().ImagePullPolicy == corev1.PullAlways && r.pod().ImagePullSecrets[0].Name == "a"
		}},
		{"logLevel=debug", func(r *rendered) bool { return strings.Contains(args(r), "--log-level=debug") }},
		{"ports.webhook=9443", func(r *rendered) bool {
			return strings.Contains(args(r), "--listen=:9443") && r.container().Ports[0].ContainerPort == 9443 && r.service.Spec.Ports[0].Port == 443
		}},
		{"ports.metrics=1,ports.health=2", func(r *rendered) bool {
			return strings.Contains(args(r), "--metrics-listen=:1 --health-listen=:2") && r.container().Ports[1].ContainerPort == 1 && r.container().Ports[2].ContainerPort == 2
		}},
		{"resources.limits.memory=1Gi", func(r *rendered) bool { return r.container().Resources.Limits.Memory().String() == "1Gi" }},
		{"goMemoryLimit=1GiB", func(r *rendered) bool { return r.container().Env[1].Value == "1GiB" }},
		{"goMemoryLimit=", func(r *rendered) bool { return len(r.container().Env) == 1 }},
		{"priorityClassName=p", func(r *rendered) bool { return r.pod().PriorityClassName == "p" }},
		{"hostNetwork=true", func(r *rendered) bool {
			return r.pod().HostNetwork && r.pod().DNSPolicy == corev1.DNSClusterFirstWithHostNet && r.deployment.Spec.Strategy.RollingUpdate.MaxSurge.IntValue() == 0
		}},
		{"nodeSelector.a=b", func(r *rendered) bool { return r.pod().NodeSelector["a"] == "b" }},
		{"tolerations[0].key=a", func(r *rendered) bool { return r.pod().Tolerations[0].Key == "a" }},
		{"affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey=a", func(r *rendered) bool {
			return r.pod().Affinity.PodAntiAffinity == nil && r.pod().Affinity.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution[0].TopologyKey == "a"
		}},
		{"topologySpreadConstraints[0].topologyKey=a,topologySpreadConstraints[0].maxSkew=1,topologySpreadConstraints[0].whenUnsatisfiable=DoNotSchedule", func(r *rendered) bool {
			return len(r.pod().TopologySpreadConstraints) == 1 && r.pod().TopologySpreadConstraints[0].TopologyKey == "a"
		}},
		{"podLabels.a=b,podAnnotations.c=d", func(r *rendered) bool {
			return r.deployment.Spec.Template.Labels["a"] == "b" && r.deployment.Spec.Template.Annotations["c"] == "d"
		}},
		{"certificate.secretName=mine", func(r *rendered) bool { return strings.HasSuffix(args(r), "--tls-secret=mine --self-signed") }},
		{"certificate.mode=existing", func(r *rendered) bool { return strings.HasSuffix(args(r), "--tls-secret=lightstep-injector-tls") }},
		{"certificate.mode=certManager,certificate.secretName=mine", func(r *rendered) bool {
			return strings.HasSuffix(args(r), "--tls-secret=mine") && r.webhook.Annotations["cert-manager.io/inject-ca-from"] == "lightstep-system/lightstep-injector-root"
		}},
		{"certificate.mode=certManager,certificate.issuerRef.name=yours", func(r *rendered) bool {
			return r.webhook.Annotations["cert-manager.io/inject-ca-from"] == "lightstep-system/lightstep-injector"
		}},
		{"satelliteCA.pem=" + pem, func(r *rendered) bool {
			return r.secret.Name == "lightstep.cacert" && r.secret.Namespace == chart.Namespace && string(r.secret.Data["cacert.pem"]) == pem
		}},
		{"satelliteCA.pem=" + pem + ",config.profiles.default.caCertificate.key=k,config.profiles.default.caCertificate.source.name=s", func(r *rendered) bool {
			return r.secret.Name == "s" && string(r.secret.Data["k"]) == pem
		}},
		{"serviceAccount.name=mine", func(r *rendered) bool { return r.pod().ServiceAccountName == "mine" }},
		{"webhook.failurePolicy=Fail,webhook.timeoutSeconds=9", func(r *rendered) bool {
			return *r.webhook.Webhooks[0].FailurePolicy == admissionv1.Fail && *r.webhook.Webhooks[0].TimeoutSeconds == 9
		}},
		{"webhook.clientCA.secretName=ca,webhook.clientNames={a b,c}", func(r *rendered) bool {
			return strings.HasSuffix(args(r), "--client-ca-secret=ca:ca.crt --client-name=a b --client-name=c")
		}},
		{"webhook.clientCA.secretName=ca,webhook.clientCA.key=k,webhook.clientNames={a}", func(r *rendered) bool {
			return strings.HasSuffix(args(r), "--client-ca-secret=ca:k --client-name=a")
		}},
		{"networkPolicy.enabled=true", func(r *rendered) bool {
			return len(r.network.Spec.Ingress) == 3 && len(r.network.Spec.Ingress[0].From) == 0 && len(r.network.Spec.PolicyTypes) == 1
		}},
		{"networkPolicy.enabled=true,networkPolicy.apiServerCIDRs={10.0.0.0/28},networkPolicy.metricsFrom[0].ipBlock.cidr=10.1.0.0/16", func(r *rendered) bool {
			in := r.network.Spec.Ingress
			return len(in[0].From) == 1 && in[0].From[0].IPBlock.CIDR == "10.0.0.0/28" && len(in[1].From) == 0 && in[2].From[0].IPBlock.CIDR == "10.1.0.0/16"
		}},
		{"metrics.auth=true", func(r *rendered) bool {
			return slices.Contains(r.container().Args, "--metrics-auth") && mayReview(r, "tokenreviews") && mayReview(r, "subjectaccessreviews")
		}},
		{"metrics.auth=false", func(r *rendered) bool {
			return !slices.Contains(r.container().Args, "--metrics-auth") && !mayReview(r, "tokenreviews") && !mayReview(r, "subjectaccessreviews")
		}},
	}
}

// mayReview tells whether the account may create objects of a resource in the whole cluster.
func mayReview(r *rendered, resource string) bool {
	return slices.ContainsFunc(r.role.Rules, func(rule rbacv1.PolicyRule) bool {
		return slices.Contains(rule.Resources, resource) && slices.Equal(rule.Verbs, []string{"create"})
	})
}

// TestNetworkPolicy: with the API server's CIDRs, the policy is of our pods, admits nobody else to the webhook's port, and has no
// rule by which somebody else could reach it.
func TestNetworkPolicy(t *testing.T) {
	r := render(t, buildHelm(t), "--set", "networkPolicy.enabled=true,networkPolicy.apiServerCIDRs={10.0.0.0/28,fd00::/120}")
	if diff := cmp.Diff(r.deployment.Spec.Selector, &r.network.Spec.PodSelector); diff != "" {
		t.Errorf("the policy selects other pods (-Deployment +policy):\n%s", diff)
	}
	if !slices.Equal(r.network.Spec.PolicyTypes, []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}) {
		t.Errorf("the policy is for %v", r.network.Spec.PolicyTypes)
	}
	var from []string
	for _, rule := range r.network.Spec.Ingress {
		if len(rule.Ports) == 0 {
			t.Fatalf("a rule is for every port: %+v", rule)
		}
		for _, port := range rule.Ports {
			if port.Port.StrVal != "webhook" {
				if port.Port.StrVal != "health" && port.Port.StrVal != "metrics" || port.EndPort != nil {
					t.Errorf("a rule is for port %s", port.Port)
				}
				continue
			}
			for _, peer := range rule.From {
				if peer.PodSelector != nil || peer.NamespaceSelector != nil || len(peer.IPBlock.Except) > 0 {
					t.Errorf("the webhook's port is open to %+v", peer)
				}
				from = append(from, peer.IPBlock.CIDR)
			}
		}
	}
	if !slices.Equal(from, []string{"10.0.0.0/28", "fd00::/120"}) {
		t.Errorf("the webhook's port is open to %v", from)
	}
}

// TestRefusedValues: what cannot be meant is refused, and the message names it.
func TestRefusedValues(t *testing.T) {
	helm := buildHelm(t)
	for set, names := range map[string]string{
		"replicas=two":                 "/replicas",
		"image=x":                      "/image",
		"image.name=x":                 "'name'",
		"image.digest=abc":             "/image/digest",
		"image.pullPolicy=Sometimes":   "/image/pullPolicy",
		"image.pullSecrets={A}":        "/image/pullSecrets/0",
		"logLevel=loud":                "/logLevel",
		"ports.webhook=0":              "/ports/webhook",
		"ports.https=1":                "'https'",
		"resources=x":                  "/resources",
		"goMemoryLimit=200Mi":          "/goMemoryLimit",
		"priorityClassName=1":          "/priorityClassName",
		"hostNetwork=yes":              "/hostNetwork",
		"nodeSelector=x":               "/nodeSelector",
		"tolerations=x":                "/tolerations",
		"affinity=x":                   "/affinity",
		"topologySpreadConstraints=x":  "/topologySpreadConstraints",
		"podLabels.a=1":                "/podLabels/a",
		"podAnnotations.a=true":        "/podAnnotations/a",
		"certificate.mode=selfSigned":  "/certificate/mode",
		"certificate.secretName=":      "/certificate/secretName",
		"certificate.existingSecret=x": "'existingSecret'",
		"certificate.caBundle=x":       "/certificate/caBundle",
		"certificate.caBundle=-----BEGIN CERTIFICATE-----":                      "certificate.caBundle",
		"certificate.mode=certManager,certificate.issuerRef.kind=ClusterIssuer": "/certificate/issuerRef",
		"satelliteCA.pem=x": "/satelliteCA/pem",
		"satelliteCA.pem=-----BEGIN CERTIFICATE-----,config.profiles.default.caCertificate=null":        "satelliteCA.pem: config.profiles.default.caCertificate is null",
		"satelliteCA.pem=-----BEGIN CERTIFICATE-----,config.profiles.default.caCertificate.source=null": "satelliteCA.pem: config.profiles.default.caCertificate.source is null",
		"webhook.failurePolicy=ignore":                             "/webhook/failurePolicy",
		"webhook.timeoutSeconds=31":                                "/webhook/timeoutSeconds",
		"webhook.reinvocationPolicy=Never":                         "'reinvocationPolicy'",
		"metrics.auth=yes":                                         "/metrics/auth",
		"monitoring.podMonitor.tokenSecret.name=x":                 "/monitoring/podMonitor/tokenSecret",
		"networkPolicy.enabled=1":                                  "/networkPolicy/enabled",
		"networkPolicy.apiServerCIDRs={x}":                         "/networkPolicy/apiServerCIDRs/0",
		"networkPolicy.metricsFrom={x}":                            "/networkPolicy/metricsFrom/0",
		"networkPolicy.apiServerCIDR=1.1/16":                       "'apiServerCIDR'",
		"webhook.clientCA.secretName=ca":                           "webhook.clientNames: is empty",
		"webhook.clientNames={a}":                                  "webhook.clientCA.secretName: is empty",
		"webhook.clientNames=a":                                    "/webhook/clientNames",
		"webhook.clientCA=x":                                       "/webhook/clientCA",
		"webhook.clientCA.name=x":                                  "'name'",
		"webhook.clientCA.secretName=ca,webhook.clientNames={*}":   "/webhook/clientNames/0",
		"webhook.clientCA.secretName=ca,webhook.clientNames={a,a}": "/webhook/clientNames",
		"webhook.clientCA.secretName=ca,webhook.clientCA.key=a/b,webhook.clientNames={a}": "/webhook/clientCA/key",
	} {
		t.Run(set, func(t *testing.T) {
			_, err := helm.Template(t.Context(), "--set", set)
			if err == nil || !strings.Contains(err.Error(), names) {
				t.Errorf("it is not refused by %s: %v", names, err)
			}
		})
	}
}

// TestWrongTypes: each value there is, of a type that it cannot have, is refused by a message that names it; and so is a key beside
// it that nobody knows.
func TestWrongTypes(t *testing.T) {
	helm := buildHelm(t)
	var values map[string]any
	text, err := os.ReadFile(filepath.Join(root, "manifests", "chart", "lightstep-injector", "values.yaml"))
	stage.Check(t, err)
	stage.Check(t, yaml.Unmarshal(text, &values))
	refused := func(set, names string) {
		t.Helper()
		if _, err := helm.Template(t.Context(), "--set-json", set); err == nil || !strings.Contains(err.Error(), names) {
			t.Errorf("%s is not refused by %s: %v", set, names, err)
		}
	}
	var walk func(path string, value any)
	walk = func(path string, value any) {
		switch of := value.(type) {
		case map[string]any:
			refused(path+"=7", "/"+strings.ReplaceAll(path, ".", "/"))
			for key, inner := range of {
				if path != "resources" && path != "monitoring.dashboard.labels" { // which are Kubernetes' own
					walk(path+"."+key, inner)
				}
			}
		case bool, string, float64:
			refused(path+`=["x"]`, "/"+strings.ReplaceAll(path, ".", "/"))
		default:
			refused(path+"=7", "/"+strings.ReplaceAll(path, ".", "/"))
		}
	}
	for key, value := range values {
		walk(key, value)
		if inner, isMap := value.(map[string]any); isMap && len(inner) > 0 && key != "resources" {
			refused(key+".nobodyKnows=1", "'nobodyKnows'")
		}
	}
	refused("nobodyKnows=1", "'nobodyKnows'")
}

// TestLint: Helm finds nothing to say.
func TestLint(t *testing.T) {
	helm := buildHelm(t)
	for _, mode := range []string{"selfManaged", "certManager", "existing"} {
		stage.Check(t, helm.Lint(t.Context(), "--set", "certificate.mode="+mode))
	}
}

// TestVersions: the chart renders for each Kubernetes that it is for.
func TestVersions(t *testing.T) {
	helm := buildHelm(t)
	const oldest, newest = 28, 36
	for minor := oldest; minor <= newest; minor++ {
		if r := render(t, helm, "--kube-version", fmt.Sprintf("1.%d.0", minor)); r.deployment.Name == "" || r.webhook.Name == "" {
			t.Errorf("1.%d: %+v", minor, r)
		}
	}
}

// schema is the part of a JSON schema by which it knows a value's keys.
type schema struct {
	Properties           map[string]*schema
	AdditionalProperties any
}

// TestSchema: the schema knows every value there is, and no other; and lets nothing through that it does not know, but in what is
// Kubernetes' own.
func TestSchema(t *testing.T) {
	var known schema
	var values map[string]any
	for file, into := range map[string]any{"values.schema.json": &known, "values.yaml": &values} {
		text, err := os.ReadFile(filepath.Join(root, "manifests", "chart", "lightstep-injector", file))
		stage.Check(t, err)
		stage.Check(t, yaml.Unmarshal(text, into))
	}
	delete(known.Properties, "global") // Helm's own
	known.compare(t, "values", values)
}

func (s *schema) compare(t *testing.T, path string, values map[string]any) {
	t.Helper()
	if s.AdditionalProperties != false {
		t.Errorf("%s may have keys that nobody knows", path)
	}
	for key := range s.Properties {
		if _, there := values[key]; !there {
			t.Errorf("values.yaml does not have %s.%s", path, key)
		}
	}
	for key, value := range values {
		of, there := s.Properties[key]
		if !there {
			t.Errorf("the schema does not have %s.%s", path, key)
		} else if inner, isMap := value.(map[string]any); isMap && of.Properties != nil {
			of.compare(t, path+"."+key, inner)
		}
	}
}
