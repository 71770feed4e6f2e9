package attack

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	apiwait "k8s.io/apimachinery/pkg/util/wait"

	"github.com/lightstep-injector/lightstep-injector/e2e/attacker"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// flood is an attack over the network.
type flood struct {
	attack attacker.Attack
	// ports are the replica's that are attacked; the webhook's where there are none.
	ports []string
	// held is how many connections to each replica are open when the attack has come to its full strength, where it holds them.
	held int
	// perRequest bounds what is logged of each request, in bytes, where it is bounded.
	perRequest int64
}

// place is where attackers are.
type place struct {
	name string
	from []netip.Addr
	// shared says that it is the API server's own address: what may be lost there is on the page.
	shared bool
}

func places() []place {
	var many []netip.Addr
	for last := range 200 {
		many = append(many, netip.AddrFrom4([4]byte{127, 0, 1, byte(last + 1)}))
	}
	return []place{
		{name: "one address", from: []netip.Addr{netip.MustParseAddr("127.0.0.2")}},
		{name: "200 addresses", from: many},
		{name: "the API server's address", from: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, shared: true},
	}
}

// from attacks every replica at once, from each place in turn.
func (f flood) from(everywhere bool) func(*testing.T, *environment) string {
	return func(t *testing.T, e *environment) string {
		var seen []string
		for _, p := range places() {
			if !*full && !everywhere && p.name != "one address" {
				continue
			}
			t.Run(p.name, func(t *testing.T) { seen = append(seen, p.name+": "+f.run(t, e, p)) })
		}
		return strings.Join(seen, "<br>")
	}
}

// fullOnly is from, at full size only: in the short form others show the same.
func (f flood) fullOnly() func(*testing.T, *environment) string {
	return func(t *testing.T, e *environment) string {
		if !*full {
			t.Skip("at full size only")
		}
		return f.from(true)(t, e)
	}
}

// run attacks from a place, and sees that the other pods are injected meanwhile.
func (f flood) run(t *testing.T, e *environment, p place) string {
	t.Helper()
	e.recovers(t)
	ctx, stop := context.WithTimeout(t.Context(), ramp+sized(short, long)+patience)
	defer stop()
	var parties []*attacker.Party
	var ends []func() attacker.Counts
	var counts attacker.Counts
	o := e.during(t, func() {
		parties, ends = f.begin(ctx, t, e, p)
		f.strong(ctx, parties)
	}, func() {
		wait(t, sized(short, long))
		for _, end := range ends {
			counts = counts.And(end())
		}
	})
	t.Logf("%v; the slowest pod took %v, %d bytes were logged; %+v", &o, o.slowest.Round(time.Millisecond), o.logged, counts)
	if p.shared {
		o.lives(t)
	} else {
		o.holds(t)
	}
	if counts.Connections == 0 {
		t.Error("nothing was attacked")
	}
	if most := int64(counts.Requests)*f.perRequest + 1<<20; f.perRequest > 0 && o.logged > most {
		t.Errorf("%d bytes were logged of %d requests", o.logged, counts.Requests)
	}
	e.recovers(t)
	text := o.String()
	if f.perRequest > 0 {
		text += fmt.Sprintf("; %d requests, %d MB of log", counts.Requests, o.logged/1_000_000)
	}
	return text
}

const (
	// short and long are how long pods are created while an attack lasts, in either form.
	short, long = 2500 * time.Millisecond, 30 * time.Second
	// ramp bounds the time until an attack has come to its full strength.
	ramp = 5 * time.Second
)

// begin has the replicas attacked, all at once.
func (f flood) begin(ctx context.Context, t *testing.T, e *environment, p place) (parties []*attacker.Party, ends []func() attacker.Counts) {
	t.Helper()
	ports := f.ports
	if ports == nil {
		ports = []string{webhookPort}
	}
	for _, r := range e.node.Replicas() {
		for _, port := range ports {
			party, err := attacker.New(net.JoinHostPort(r.Address, port), port != webhookPort, p.from...)
			stage.Check(t, err)
			parties, ends = append(parties, party), append(ends, party.Begin(ctx, f.attack))
		}
	}
	return parties, ends
}

// strong waits until the attack has come to its full strength, or the server keeps it from that: for a while there have not been more
// connections at once than before.
func (f flood) strong(ctx context.Context, parties []*attacker.Party) {
	const kept = time.Second
	most, since := 0, time.Now()
	_ = apiwait.PollUntilContextTimeout(ctx, every, sized(ramp, 3*ramp), true, func(context.Context) (bool, error) {
		strong, held := true, 0
		for _, p := range parties {
			c := p.Counts()
			strong = strong && c.Connections > 0 && c.Held >= f.held*9/10
			held += c.Held
		}
		if held > most {
			most, since = held, time.Now()
		}
		return strong || most > 0 && time.Since(since) > kept, nil
	})
}

// unknownNamespaces are requests for namespaces that do not exist, each for another.
func unknownNamespaces() func(int) []byte {
	var made atomic.Int64
	return func(int) []byte {
		n := made.Add(1)
		return attacker.Review(fmt.Sprint(n), fmt.Sprintf("nowhere-%d", n), map[string]any{"name": "pod"})
	}
}

// longTexts are requests one of whose texts has so many bytes.
func longTexts(size int) func(int) []byte {
	text := strings.Repeat("x", size)
	bodies := [][]byte{
		attacker.Review(text, shop, map[string]any{"name": "pod"}),
		attacker.Review("1", text, map[string]any{"name": "pod"}),
		attacker.Review("1", shop, map[string]any{"name": text}),
		attacker.Review("1", shop, map[string]any{"name": "pod", "annotations": map[string]string{"lightstep.com/profile": text}}),
		attacker.Review("\u202e\u0085\x1b[31m\n", "\u009b31m", map[string]any{"name": "pod\u202e\n{}"}),
	}
	return func(n int) []byte { return bodies[n%len(bodies)] }
}
