package serving

import (
	"context"
	"crypto/x509"
	"testing"
	"time"
)

func pairFor(t *testing.T, now time.Time, hosts ...string) *Pair {
	t.Helper()
	p, err := issue(hosts, now)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestStep(t *testing.T) {
	now := time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC)
	a, b, c := pairFor(t, now, host), pairFor(t, now, host), pairFor(t, now, host)
	aged := pairFor(t, now.Add(-life+renewBefore), host)
	gone := pairFor(t, now.Add(-2*life), host)
	other := pairFor(t, now, "other.svc")
	trust := func(pairs ...*Pair) (bundle []*x509.Certificate) {
		for _, p := range pairs {
			bundle = append(bundle, p.root)
		}
		return bundle
	}
	type bundles = [][]*x509.Certificate
	for _, test := range []struct {
		name  string
		state state
		held  time.Duration
		want  Step
		again time.Duration
	}{
		{"nothing there", state{}, 0, Propose, 0},
		{"no Secret", state{bundles: bundles{trust(a)}}, 0, Propose, 0},
		{"no webhook configuration", state{next: a}, 0, Await, 0},
		{"no webhook configuration any more", state{current: a}, time.Hour, Await, 0},
		{"the first, unknown", state{next: a, bundles: bundles{nil}}, time.Hour, Publish, 0},
		{"the first, unknown to one webhook", state{next: a, bundles: bundles{trust(a), nil}}, time.Hour, Publish, 0},
		{"the first, just published", state{next: a, bundles: bundles{trust(a)}}, time.Second, Hold, 4 * time.Second},
		{"the first, known", state{next: a, bundles: bundles{trust(a)}}, 5 * time.Second, Switch, 0},
		{"the first after a Secret was deleted", state{next: b, bundles: bundles{trust(a, b)}}, 5 * time.Second, Hold, 55 * time.Second},
		{"a next one", state{current: a, next: b, bundles: bundles{trust(a)}}, time.Hour, Publish, 0},
		{"a next one, published", state{current: a, next: b, bundles: bundles{trust(a, b)}}, 0, Hold, minute},
		{"a next one, known", state{current: a, next: b, bundles: bundles{trust(b, a)}}, minute, Switch, 0},
		{"a next one, the current one's CA taken out", state{current: a, next: b, bundles: bundles{trust(b)}}, minute, Publish, 0},
		{"a next one past its time", state{current: a, next: gone, bundles: bundles{trust(a, gone)}}, minute, Propose, 0},
		{"a next one for other names", state{current: a, next: other, bundles: bundles{trust(a, other)}}, minute, Propose, 0},
		{"switched", state{current: b, bundles: bundles{trust(a, b)}}, 0, Hold, minute},
		{"switched, and a new one wanted already", state{current: b, requested: true, bundles: bundles{trust(a, b)}}, 0, Hold, minute},
		{"switched, and known", state{current: b, bundles: bundles{trust(a, b)}}, minute, Drop, 0},
		{"switched, and one webhook has an old CA", state{current: b, bundles: bundles{trust(b), trust(c, b)}}, minute, Drop, 0},
		{"at rest", state{current: a, bundles: bundles{trust(a)}}, time.Hour, Rest, life - renewBefore},
		{"at rest, its CA taken out", state{current: a, bundles: bundles{nil}}, time.Hour, Publish, 0},
		{"wanted", state{current: a, requested: true, bundles: bundles{trust(a)}}, 0, Propose, 0},
		{"aged", state{current: aged, bundles: bundles{trust(aged)}}, 0, Propose, 0},
		{"past its time", state{current: gone, bundles: bundles{trust(gone)}}, 0, Propose, 0},
		{"for other names", state{current: other, bundles: bundles{trust(other)}}, 0, Propose, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.state.hosts = []string{host}
			if step, again := test.state.step(now, test.held, minute); step != test.want || again != test.again {
				t.Errorf("%s, again after %s; want %s, %s", step, again, test.want, test.again)
			}
		})
	}
}

// One writer goes through a first installation, and then a rotation, and nothing is left of it.
func TestRotation(t *testing.T) {
	w := newWorld(t)
	writer := w.writer(0)
	run := func() (steps []Step) {
		for range 50 {
			again, err := writer.take(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if len(steps) == 0 || steps[len(steps)-1] != writer.said {
				steps = append(steps, writer.said)
			}
			if writer.said == Rest {
				return steps
			}
			w.now = w.now.Add(again)
		}
		t.Fatalf("no end: %v", steps)
		return nil
	}
	same(t, run(), []Step{Propose, Publish, Hold, Switch, Rest})
	first := w.secret()
	asked := first.DeepCopy()
	asked.Annotations = map[string]string{RotateAnnotation: ""}
	w.setSecret(asked)
	same(t, run(), []Step{Propose, Publish, Hold, Switch, Hold, Drop, Rest})
	now := w.secret()
	if len(now.Data) != 3 || len(now.Annotations) != 0 || string(now.Data[chainKey]) == string(first.Data[chainKey]) {
		t.Errorf("the Secret is left with %d keys, annotations %v", len(now.Data), now.Annotations)
	}
	for _, webhook := range w.config().Webhooks {
		if string(webhook.ClientConfig.CABundle) != string(now.Data[caKey]) {
			t.Errorf("%s trusts\n%s, and not\n%s", webhook.Name, webhook.ClientConfig.CABundle, now.Data[caKey])
		}
	}
}

func same(t *testing.T, got, want []Step) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("steps %v, want %v", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("steps %v, want %v", got, want)
		}
	}
}
