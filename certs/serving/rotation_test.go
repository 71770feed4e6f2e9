package serving

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"flag"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

var worlds = flag.Int("worlds", 20, "how many random histories of rotations")

const day = 24 * time.Hour

func quiet() *zap.Logger { return zap.NewNop() }

// history is a world in which anything happens at any time.
type history struct {
	*world
	random  *rand.Rand
	writers []*Writer
	busy    []bool
	// verified remembers which bundle verifies which certificate.
	verified map[[2][32]byte]bool
	checked  int
}

// TestRotationNeverFails has several writers, with wrong clocks, rotate at random, crash between any two requests, and be held
// up for any time in any request, while replicas and API servers lag behind by almost the propagation time. At every moment
// each caBundle that some API server may still hold verifies each certificate that some replica may still serve.
func TestRotationNeverFails(t *testing.T) {
	checked, switches := 0, 0
	for seed := range *worlds {
		h := &history{
			world: newWorld(t), random: rand.New(rand.NewPCG(uint64(seed), 5)), busy: make([]bool, 3), verified: map[[2][32]byte]bool{},
		}
		for range h.busy {
			h.writers = append(h.writers, h.newWriter())
		}
		h.changed = func() { h.check(seed) }
		h.before = h.interfere
		for range 400 {
			h.happen(0)
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
		h.settle()
		checked, switches = checked+h.checked, switches+h.switches
	}
	t.Logf("%d rotations, %d pairs of a bundle and a certificate looked at", switches, checked)
	if switches < 5**worlds {
		t.Errorf("only %d rotations in %d histories: too little was tried", switches, *worlds)
	}
}

func (h *history) newWriter() *Writer {
	return h.writer(time.Duration(h.random.Int64N(int64(200*day))) - 100*day)
}

// interfere is what happens while a request is under way.
func (h *history) interfere() {
	switch n := h.random.IntN(100); {
	case n < 70:
	case n < 98:
		h.happen(1)
	default:
		for range 40 {
			h.happen(1)
		}
	}
}

// happen has one thing happen. Within one, fewer things may.
func (h *history) happen(depth int) {
	at := h.random.IntN(len(h.writers))
	switch n := h.random.IntN(1000); {
	case n < 550 && !h.busy[at]:
		h.take(at)
	case n < 900:
		h.pass(time.Duration(h.random.Int64N(int64(40 * time.Second))))
	case n < 930:
		h.annotate()
	case n < 960 && !h.busy[at]:
		h.writers[at] = h.newWriter() // a crash: what it had in memory is gone
	case n < 965:
		h.setSecret(nil)
	case n < 968 && depth == 0:
		h.pass(250 * day)
	}
}

func (h *history) take(at int) {
	h.busy[at] = true
	defer func() { h.busy[at] = false }()
	if _, err := h.writers[at].take(context.Background()); err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		h.t.Errorf("take: %v", err)
	}
}

func (h *history) pass(span time.Duration) {
	h.now = h.now.Add(span)
}

func (h *history) annotate() {
	if h.secret() == nil {
		return
	}
	asked := h.secret().DeepCopy()
	asked.Annotations = map[string]string{RotateAnnotation: "now"}
	h.setSecret(asked)
}

// settle leaves one writer alone, which must come to rest.
func (h *history) settle() {
	h.before = func() {}
	alone := h.writer(0)
	for range 1000 {
		if _, err := alone.take(context.Background()); err != nil {
			h.t.Fatalf("alone: %v", err)
		}
		if alone.said == Rest {
			return
		}
		h.pass(10 * time.Second)
	}
	h.t.Fatalf("it never came to rest; last: %s", alone.said)
}

// lag is how far behind replicas and API servers may be: all but as far as they are given.
const lag = minute - time.Second

// check looks at what may be held and served now.
func (h *history) check(seed int) {
	for _, certificate := range h.served() {
		for _, config := range h.held() {
			h.checked++
			if !h.verifies(&config.Webhooks[0].ClientConfig, certificate) || !h.verifies(&config.Webhooks[1].ClientConfig, certificate) {
				h.t.Fatalf("seed %d: a caBundle of version %s, which some API server may hold, does not verify the certificate %x, which some replica may serve",
					seed, config.ResourceVersion, certificate.Leaf.SerialNumber)
			}
			if earliest := h.now.Add(-100 * day); earliest.Before(certificate.Leaf.NotBefore) {
				h.t.Fatalf("seed %d: the certificate is good from %s on, and for some API server it may be %s", seed, certificate.Leaf.NotBefore, earliest)
			}
		}
	}
}

// served are the certificates that some replica may serve: one that lags has an older Secret's, and one whose Secret has
// none keeps what it had.
func (h *history) served() []*tls.Certificate {
	var all []*tls.Certificate
	for _, v := range slices.Backward(h.secrets) {
		if v.served != nil && !slices.Contains(all, v.served) {
			all = append(all, v.served)
		}
		if v.at.Before(h.now.Add(-lag)) { // whoever lags has seen this one by now
			break
		}
	}
	return all
}

// held are the webhook configurations that some API server may hold. Those that trust nobody are from before the first
// certificate.
func (h *history) held() []*admissionv1.MutatingWebhookConfiguration {
	var all []*admissionv1.MutatingWebhookConfiguration
	for _, v := range slices.Backward(h.configs) {
		if len(v.config.Webhooks[0].ClientConfig.CABundle) > 0 {
			all = append(all, v.config)
		}
		if v.at.Before(h.now.Add(-lag)) {
			break
		}
	}
	return all
}

func (h *history) verifies(client *admissionv1.WebhookClientConfig, certificate *tls.Certificate) bool {
	key := [2][32]byte{sha256.Sum256(client.CABundle), sha256.Sum256(certificate.Leaf.Raw)}
	known, ok := h.verified[key]
	if !ok {
		known = trusts(client, certificate, certificate.Leaf.NotAfter.Add(-time.Hour)) == nil
		h.verified[key] = known
	}
	return known
}
