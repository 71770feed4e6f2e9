package webhook

import (
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// costly is the review that the costs are stated for: about 9 KB, 2 containers, 100 environment variables.
func costly(t testing.TB) (edge, []byte) {
	e := newEdge(t)
	learn(e.Store, "shop")
	return e, testReview(t, testPod(50))
}

// The allocations of a whole decision, bytes in and answer out, do not grow with what no rule reads.
func TestAllocations(t *testing.T) {
	const most = 82
	e, body := costly(t)
	got := testing.AllocsPerRun(100, func() {
		if a := e.admit(t.Context(), body); a.answer == nil || a.failure != nil {
			t.Fatal(a.failure)
		}
	})
	if got > most {
		t.Errorf("%v allocations for %d bytes; at most %d", got, len(body), most)
	}
}

// BenchmarkDecision is the whole decision; BenchmarkReadOnce is its limit: every byte validated once.
func BenchmarkDecision(b *testing.B) {
	e, body := costly(b)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if a := e.admit(b.Context(), body); a.answer == nil {
			b.Fatal(a.failure)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	_, body := costly(b)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := decodeReview(body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadOnce(b *testing.B) {
	_, body := costly(b)
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if !jsontext.Value(body).IsValid() {
			b.Fatal("not valid")
		}
	}
}
