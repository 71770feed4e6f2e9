package install

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/issuer"
	"github.com/lightstep-injector/lightstep-injector/e2e/operator"
	"github.com/lightstep-injector/lightstep-injector/e2e/report"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// TestAccepted: whatever the chart renders, the API server takes, and knows each field of it; with the kinds of cert-manager and of
// prometheus-operator, strictly, in a dry run.
func TestAccepted(t *testing.T) {
	s, helm := stage.New(t, root), buildHelm(t)
	s.Namespace(t, own, map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}, nil)
	s.Namespace(t, "istio-system", nil, nil)
	for _, account := range []string{"lightstep-injector", "mine"} { // helm test's pod takes an account that is there
		_, err := s.Client.CoreV1().ServiceAccounts(own).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: account}}, metav1.CreateOptions{})
		stage.Check(t, err)
	}
	certManager, err := issuer.Build(t.Context(), root, func() { report.New(os.Stdout).Linef("cert-manager is built from source the first time: two minutes.") })
	stage.Check(t, err)
	stage.Check(t, certManager.Install(s.Cluster))
	stage.Check(t, operator.Install(t.Context(), s.Cluster))

	apply, seen := dryRun(t, s), map[string]bool{}
	renderings := renderings(t)
	for _, flags := range renderings {
		objects, err := helm.Template(t.Context(), flags...)
		stage.Check(t, err)
		for _, object := range objects {
			text, err := json.Marshal(object)
			stage.Check(t, err)
			if seen[string(text)] {
				continue
			}
			seen[string(text)] = true
			if err := apply(object, text); err != nil {
				t.Errorf("%s: %s %s: %v", strings.Join(flags, " "), object.GetKind(), object.GetName(), err)
			}
		}
	}
	t.Logf("%d renderings, of which the API server has been asked for %d objects that differ", len(renderings), len(seen))
}

// renderings are flags of Helm's: each value by itself, and all combinations of those that templates decide by together.
func renderings(t *testing.T) [][]string {
	t.Helper()
	ca, err := injector.NewCA("webhook CA")
	stage.Check(t, err)
	file := filepath.Join(t.TempDir(), "ca.pem")
	stage.Check(t, os.WriteFile(file, ca.PEM, 0o600))
	all := [][]string{nil}
	for _, choices := range [][][]string{
		{nil, {"--kube-version=1.29.0"}, {"--api-versions=networking.istio.io/v1beta1"}},
		{
			nil,
			{"--set", "certificate.mode=existing"},
			{"--set", "certificate.mode=existing", "--set-file", "certificate.caBundle=" + file},
			{"--set", "certificate.mode=certManager"},
			{"--set", "certificate.mode=certManager,certificate.issuerRef.kind=ClusterIssuer,certificate.issuerRef.name=yours"},
		},
		{nil, {"--set", "distribution.namespaces={default}"}},
		{
			nil,
			{"--set", "config.profiles.default.caCertificate.source=null"},
			{"--set-file", "satelliteCA.pem=" + file},
			{"--set", "config.profiles.default.accessToken.source.name=token"},
		},
		{nil, {"--set", "config.istio.manage=true,config.istio.namespaces={default}"}},
	} {
		var more [][]string
		for _, flags := range all {
			for _, choice := range choices {
				more = append(more, slices.Concat(flags, choice))
			}
		}
		all = more
	}
	for _, v := range values() {
		all = append(all, []string{"--set", v.set})
	}
	return append(all,
		[]string{"--set", "monitoring.podMonitor.enabled=true,monitoring.prometheusRule.enabled=true,monitoring.dashboard.enabled=true"},
		[]string{"--set", "monitoring.podMonitor.enabled=true,monitoring.podMonitor.labels.a=b,monitoring.prometheusRule.enabled=true,monitoring.prometheusRule.labels.a=b"},
		[]string{"--set", `serviceAccount.create=false,serviceAccount.name=mine`},
		[]string{"--set", `serviceAccount.annotations.iam\.example\.com/role=r`},
	)
}

// dryRun returns what has the API server apply an object, strictly, and say what it thinks.
func dryRun(t *testing.T, s *stage.Stage) func(object *unstructured.Unstructured, text []byte) error {
	t.Helper()
	config := rest.CopyConfig(s.Cluster.Config)
	config.QPS, config.WarningHandler = -1, rest.NoWarnings{}
	client, err := dynamic.NewForConfig(config)
	stage.Check(t, err)
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(s.Client.Discovery()))
	return func(object *unstructured.Unstructured, text []byte) error {
		kind := object.GroupVersionKind()
		mapping, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
		if err != nil {
			return err
		}
		_, err = client.Resource(mapping.Resource).Namespace(object.GetNamespace()).Patch(t.Context(), object.GetName(), types.ApplyPatchType, text,
			metav1.PatchOptions{FieldManager: "test", Force: new(true), FieldValidation: metav1.FieldValidationStrict, DryRun: []string{metav1.DryRunAll}})
		return err
	}
}
