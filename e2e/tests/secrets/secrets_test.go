package secrets

import (
	"context"
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// TestAccount runs every test of the account's rights against one cluster, in this order: the last gives the account all
// rights.
func TestAccount(t *testing.T) {
	e := setUp(t)
	t.Run("PoliciesAreSound", e.policiesAreSound)
	t.Run("CanDo", e.works)
	e.prepareTargets(t)
	t.Run("Rights", e.rights)
	t.Run("Attacks", func(t *testing.T) { e.attacks(t, allAttacks(), underRBAC) })
	t.Run("Retype", e.retype)
	t.Run("Race", e.race)
	t.Run("Tenant", e.tenant)
	t.Run("Audited", e.audited)
	e.allowEverything(t)
	t.Run("AttacksPastRBAC", func(t *testing.T) { e.attacks(t, allAttacks(), underPolicies) })
	t.Run("DeleteCertificate", e.deleteCertificate)
}

// policiesAreSound sees that the API server finds nothing to warn of in the policies' expressions.
func (e *environment) policiesAreSound(t *testing.T) {
	for _, name := range []string{"lightstep-injector-secrets", "lightstep-injector-webhook"} {
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
