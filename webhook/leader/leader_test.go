package leader_test

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/lightstep-injector/lightstep-injector/webhook/leader"
)

// TestBlockedLease: no Lease that an account wrote before it was revoked keeps a replica from leading for long: neither its
// duration, nor times in the future, nor its counter.
func TestBlockedLease(t *testing.T) {
	future := metav1.NewMicroTime(time.Date(2090, 1, 1, 0, 0, 0, 0, time.UTC))
	for name, c := range map[string]struct {
		spec coordinationv1.LeaseSpec
		wait time.Duration
	}{
		"63 years":             {coordinationv1.LeaseSpec{HolderIdentity: new("gone"), LeaseDurationSeconds: new(int32(math.MaxInt32))}, leader.MaxDuration},
		"renewed in 2090":      {coordinationv1.LeaseSpec{HolderIdentity: new("gone"), LeaseDurationSeconds: new(int32(15)), AcquireTime: &future, RenewTime: &future}, 15 * time.Second},
		"the most transitions": {coordinationv1.LeaseSpec{HolderIdentity: new("gone"), LeaseDurationSeconds: new(int32(1)), LeaseTransitions: new(int32(math.MaxInt32))}, time.Second},
		"empty":                {coordinationv1.LeaseSpec{}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testBlockedLease(t, c.spec, c.wait) })
		})
	}
}

func testBlockedLease(t *testing.T, spec coordinationv1.LeaseSpec, wait time.Duration) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	client := fake.NewClientset(&coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "own", Name: "lease"}, Spec: spec})
	lease := &leader.Lease{
		Client: client.CoordinationV1(), Namespace: "own", Name: "lease", Identity: "me", Log: zap.NewNop(),
		Owners: func(context.Context) []metav1.OwnerReference { return nil },
	}
	begun, led := time.Now(), time.Time{}
	err := lease.Lead(ctx, func(context.Context) {
		led = time.Now()
		stop()
	})
	if err != nil {
		t.Fatal(err)
	}
	const retries = 10 * time.Second
	if took := led.Sub(begun); led.IsZero() || took < wait || took > wait+retries {
		t.Errorf("the lease was acquired after %v, want %v", took, wait)
	}
	now, err := client.CoordinationV1().Leases("own").Get(t.Context(), "lease", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if n := now.Spec.LeaseTransitions; n == nil || *n < 0 {
		t.Errorf("leaseTransitions is %v", n)
	}
}
