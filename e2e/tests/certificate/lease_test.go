package certificate

import (
	"context"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"

	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// takeLease makes somebody the leader who is not there.
func (e *environment) takeLease(t *testing.T) {
	t.Helper()
	leases := e.admin.CoordinationV1().Leases(own)
	stage.Check(t, retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		lease, err := leases.Get(t.Context(), account, metav1.GetOptions{})
		if err != nil {
			return err
		}
		take(&lease.Spec)
		_, err = leases.Update(context.WithoutCancel(t.Context()), lease, metav1.UpdateOptions{})
		return err
	}))
}

func take(lease *coordinationv1.LeaseSpec) {
	lease.HolderIdentity, lease.RenewTime = new("nobody"), new(metav1.NewMicroTime(time.Now()))
}
