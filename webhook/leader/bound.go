package leader

import (
	"context"
	"math"
	"time"

	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// boundedLock is a lock whose record cannot block later elections. client-go waits for as long as the record says, which may
// be 68 years, and its counter of transitions overflows into a number that the API server rejects.
type boundedLock struct{ resourcelock.Interface }

// Get returns the record within its bounds. The raw record, by which client-go notices a renewal, is as it was read.
func (b boundedLock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, raw, err := b.Interface.Get(ctx)
	if err != nil {
		return nil, nil, err //nolint:wrapcheck // client-go compares it
	}
	record.LeaseDurationSeconds = min(record.LeaseDurationSeconds, int(MaxDuration/time.Second))
	if record.LeaderTransitions == math.MaxInt32 {
		record.LeaderTransitions = 0
	}
	return record, raw, nil
}
