package secrets

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// TestAccount runs every test of the account's rights against one cluster, in this order: the last gives the account all
// rights.
func TestAccount(t *testing.T) {
	e := setUp(t)
	t.Run("PoliciesAreSound", e.policiesAreSound)
	t.Run("ClausesAreTested", e.clausesAreTested)
	t.Run("CanDo", e.works)
	t.Run("Program", e.program)
	e.prepareTargets(t)
	t.Run("Rights", e.rights)
	t.Run("Attacks", func(t *testing.T) { e.attacks(t, allAttacks(), underRBAC) })
	t.Run("Retype", e.retype)
	t.Run("Race", e.race)
	t.Run("Remains", e.remains)
	t.Run("Tenant", e.tenant)
	t.Run("Audited", e.audited)
	t.Run("SecondRelease", e.secondRelease)
	e.allowEverything(t)
	t.Run("AttacksPastRBAC", func(t *testing.T) { e.attacks(t, allAttacks(), underPolicies) })
	t.Run("DeleteCertificate", e.deleteCertificate)
}

// secondRelease sees that Helm does not install the chart a second time: what has one name in the cluster belongs to the first.
func (e *environment) secondRelease(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), e.helm.Binary(), "install", "second", filepath.Join(root, "manifests", "chart", "lightstep-injector"),
		"--namespace", "elsewhere", "--create-namespace")
	home := t.TempDir()
	cmd.Env = append(os.Environ(), "KUBECONFIG="+e.cluster.Kubeconfig, "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
	output, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(output), "invalid ownership metadata") {
		t.Errorf("helm install: %v: %s", err, output)
	}
}

// clausesAreTested sees that each clause of each policy is what refuses some attack: without the clause, that attack would fail.
func (e *environment) clausesAreTested(t *testing.T) {
	for _, name := range policies() {
		policy, err := e.admin.AdmissionregistrationV1().ValidatingAdmissionPolicies().Get(t.Context(), name, metav1.GetOptions{})
		stage.Check(t, err)
		for _, validation := range policy.Spec.Validations {
			message := validation.Message
			if validation.MessageExpression != "" {
				message, _, _ = strings.Cut(strings.TrimPrefix(validation.MessageExpression, `"`), `"`)
			}
			says := fmt.Sprintf("ValidatingAdmissionPolicy '%s' with binding '%[1]s' denied request: %s", name, message)
			if !slices.ContainsFunc(allAttacks(), func(a attack) bool { return a.clause != "" && strings.Contains(says+"labels", a.clause) }) {
				t.Errorf("no attack is refused by the clause of %s that says %q", name, message)
			}
		}
	}
}

// policiesAreSound sees that the API server finds nothing to warn of in the policies' expressions.
func (e *environment) policiesAreSound(t *testing.T) {
	for _, name := range policies() {
		stage.Eventually(t, func(ctx context.Context) error {
			policy, err := e.admin.AdmissionregistrationV1().ValidatingAdmissionPolicies().Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if policy.Status.TypeChecking == nil {
				return fmt.Errorf("policy %s has not been looked at", name)
			}
			for _, warning := range policy.Status.TypeChecking.ExpressionWarnings {
				t.Errorf("policy %s: %s: %s", name, warning.FieldRef, warning.Warning)
			}
			return nil
		})
	}
}
