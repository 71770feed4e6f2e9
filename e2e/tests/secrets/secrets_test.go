package secrets

import "testing"

// TestAccount runs every test of the account's rights against one cluster, in this order: the last gives the account all
// rights.
func TestAccount(t *testing.T) {
	e := setUp(t)
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
