package webhook

import "testing"

// TestAllocations: a whole decision, bytes in and answer out, makes at most 60 allocations, however much stands in the
// pod that no rule reads.
func TestAllocations(t *testing.T) {
	const most = 60
	for _, review := range benchReviews() {
		if review.sidecar {
			continue // the proxy's env is read
		}
		body, handler := review.body(t), newBenchHandler(t)
		meter := handler.meter()
		got := testing.AllocsPerRun(100, func() {
			if a := handler.admit(t.Context(), meter, body); a.answer == nil || a.failure != nil {
				t.Fatal(a.failure)
			}
		})
		if got > most {
			t.Errorf("%s: %v allocations for %d bytes; at most %d", review.name, got, len(body), most)
		}
	}
}
