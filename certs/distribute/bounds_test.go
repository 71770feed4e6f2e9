package distribute

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/internal/ssa"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

// What is kept of a Secret is bounded, whatever somebody has filled it with. A copy that exceeds a bound counts as edited, and
// no key of such a Secret is claimed to be missing.
func TestFoundIsBounded(t *testing.T) {
	secret := &corev1.Secret{ObjectMeta: asApplied(strings.Repeat("h", 1<<10), `"f:cacert.pem":{}`), Type: corev1.SecretTypeOpaque, Data: map[string][]byte{}}
	for i := range mostKeys + 1 {
		secret.Data[fmt.Sprintf("key%02d", i)] = []byte("x")
	}
	found := OfSecret(secret)
	if len(found.Keys) != mostKeys || !found.Unreadable || !found.Ours || !found.Edited || len(found.Hash) != mostText || !found.Has(settings.Secret{Key: "zzz"}) {
		t.Errorf("with too many keys: %+v", found)
	}
	delete(secret.Data, "key00")
	if found := OfSecret(secret); len(found.Keys) != mostKeys || found.Unreadable || found.Has(settings.Secret{Key: "zzz"}) {
		t.Errorf("with as many keys as may be: %+v", found)
	}
	fields := `{"f:data":{"f:` + strings.Repeat("k", mostFields) + `":{}}}`
	for name, c := range map[string]struct {
		by   string
		ours bool
	}{"another's": {"kubectl", true}, "in our name": {ssa.FieldManager, true}} {
		meta := asApplied("h", `"f:cacert.pem":{}`)
		meta.ManagedFields = append(meta.ManagedFields, managed(c.by, metav1.ManagedFieldsOperationApply, fields))
		if found := OfMetadata(&meta); found.Ours != c.ours || !found.Edited || found.Applied != "cacert.pem" {
			t.Errorf("%s fields that are too many: %+v", name, found)
		}
	}
}
