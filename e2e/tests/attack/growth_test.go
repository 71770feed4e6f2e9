package attack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lightstep-injector/lightstep-injector/e2e/node"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// grow is a kind whose objects a replica sees.
type grow struct {
	name string
	kind kind
	in   string
	// size is how large what makes a large one large is, in bytes.
	size int
}

func grows() []grow {
	return []grow{
		{"pods", pods(), tenant, annotations}, // the rest of a large one is not metadata
		{"Telemetries", telemetries(), tenant, large},
		{"ServiceEntries", serviceEntries(), tenant, large},
		{"DestinationRules", destinationRules(), tenant, large},
		{"Secrets", secrets(), "", large},
		{"namespaces", namespaces(), "", annotations},
	}
}

// most is how much more of a replica's live memory a large object may take than a small one. The short form has so few of them that
// what else a replica has in use comes to some 100 KiB for each. What keeps the object takes at least its size: half of it tells the
// two apart. At full size there are enough for a bound of 20 KiB, whatever the size.
func (g grow) most() int { return sized(g.size/2, 20<<10) }

// growth: what an object takes of a replica's memory does not depend on how large it is. At full size the objects of each kind are
// deleted before there are others.
func growth(t *testing.T, e *environment) string {
	e.recovers(t)
	var seen []string
	count := sized(50, 1000)
	o := e.during(t, nil, func() {
		for _, g := range grows() {
			prefix := kindPrefix(g.kind) + "-"
			e.write(t, g.kind, g.in, prefix+"first", 1, large) // what is read into grows once, whatever there will be
			before := e.live(t)
			e.write(t, g.kind, g.in, prefix+"small", count, small)
			between := e.live(t)
			e.write(t, g.kind, g.in, prefix+"large", count, large)
			after := e.live(t)
			each := func(less, more int) float64 { return max(0, float64(more-less)/float64(count)/1024) }
			perSmall, perLarge := each(before, between), each(between, after)
			grown := func() bool { return perLarge-perSmall > float64(g.most())/1024 }
			for again := 0; grown() && again < 3; again++ { // what is kept stays; what is still being read goes
				t.Logf("of %s a large one takes %.0f KiB, a small one %.0f KiB: measured again", g.name, perLarge, perSmall)
				wait(t, 2*time.Second)
				perLarge = each(between, e.live(t))
			}
			if grown() {
				t.Errorf("of %s a large one takes %.0f KiB, a small one %.0f KiB", g.name, perLarge, perSmall)
			}
			seen = append(seen, fmt.Sprintf("%s %.0f and %.0f", g.name, perSmall, perLarge))
			if *full {
				e.clear(t, g.kind, g.in, prefix+"small", count)
				e.clear(t, g.kind, g.in, prefix+"large", count)
				stage.Check(t, e.Cluster.Compact(t.Context()))
			}
		}
	})
	o.lives(t)
	return fmt.Sprintf("KiB for a small and for a large one: %s; %v", strings.Join(seen, ", "), &o)
}

// scale: there are very many objects of each kind, one kind after the other.
func scale(t *testing.T, e *environment) string {
	e.recovers(t)
	const crowded = "crowded"
	spaces, podCount := sized(1000, 10_000), sized(5000, 100_000)
	e.Namespace(t, crowded, nil, nil)
	e.awaitAccount(t, crowded)
	var live, withNamespaces, withPods int
	o := e.during(t, nil, func() {
		live = e.live(t)
		e.write(t, namespaces(), "", "many", spaces, small)
		withNamespaces = e.live(t)
		e.write(t, pods(), crowded, "many", podCount, small)
		e.label(t, crowded) // only now: a call of the webhook for one of these could be cut off when a connection is to be new
		withPods = e.live(t)
	})
	o.lives(t)
	if *full {
		e.clear(t, pods(), crowded, "many", podCount)
	}
	return fmt.Sprintf("%d namespaces took %.1f KiB each, %d pods %.2f KiB each; %v", spaces, float64(withNamespaces-live)/float64(spaces)/1024,
		podCount, math.Max(0, float64(withPods-withNamespaces)/float64(podCount)/1024), &o)
}

// live is the memory that is in use after a collection, of the replica that has most of it.
func (e *environment) live(t *testing.T) (most int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), stage.Deadline)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	var mu sync.Mutex
	for _, r := range e.staying() {
		group.Go(func() error {
			used, err := liveOf(ctx, r)
			mu.Lock()
			defer mu.Unlock()
			most = max(most, used)
			return err
		})
	}
	stage.Check(t, group.Wait())
	return most
}

// liveOf reads metrics until the garbage that this makes has been collected three times, and returns the least that was in use.
func liveOf(ctx context.Context, r node.Replica) (least int, err error) {
	const enough = 3
	least = math.MaxInt
	last, collections := 0.0, -1
	for collections < enough {
		text, err := metrics(ctx, r)
		if err != nil {
			return 0, fmt.Errorf("wait until %s has collected its garbage: %w", r.Pod, err)
		}
		if at := valueOf(text, "go_memstats_last_gc_time_seconds"); at != last {
			last = at
			collections++
		}
		if collections > 0 {
			least = min(least, int(valueOf(text, "go_memstats_heap_alloc_bytes")))
		}
	}
	return least, nil
}

// metrics reads a replica's.
func metrics(ctx context.Context, r node.Replica) (string, error) {
	response, err := get(ctx, metricsURL(r))
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(response.Body)
	return string(text), errors.Join(err, response.Body.Close())
}

// valueOf is the value of a metric without labels.
func valueOf(text, name string) float64 {
	_, rest, _ := strings.Cut(text, "\n"+name+" ")
	value, _, _ := strings.Cut(rest, "\n")
	number, err := strconv.ParseFloat(value, 64)
	if err != nil {
		return 0
	}
	return number
}
