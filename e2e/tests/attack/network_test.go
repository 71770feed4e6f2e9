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

	"github.com/lightstep-injector/lightstep-injector/e2e/attacker"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// flood is an attack over the network.
type flood struct {
	attack attacker.Attack
	// ports are the replica's that are attacked; the webhook's where there are none.
	ports []string
	// lines bounds what is logged of each request, in bytes, where it is bounded.
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
		return strings.Join(seen, ". ")
	}
}

// run attacks from a place, and sees that the other pods are injected meanwhile.
func (f flood) run(t *testing.T, e *environment, p place) string {
	t.Helper()
	e.recovers(t)
	var counts attacker.Counts
	o := e.during(t, func() { counts = f.begin(t, e, p) })
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

// begin attacks for a while.
func (f flood) begin(t *testing.T, e *environment, p place) (all attacker.Counts) {
	t.Helper()
	ports := f.ports
	if ports == nil {
		ports = []string{webhookPort}
	}
	ctx, cancel := context.WithTimeout(t.Context(), sized(lasting*time.Second/10, lasting*time.Second)+patience)
	defer cancel()
	var ends []func() attacker.Counts
	for _, r := range e.node.Replicas() {
		for _, port := range ports {
			party, err := attacker.New(net.JoinHostPort(r.Address, port), port != webhookPort, p.from...)
			stage.Check(t, err)
			ends = append(ends, party.Begin(ctx, f.attack))
		}
	}
	select {
	case <-time.After(sized(lasting*time.Second/10, lasting*time.Second)):
	case <-ctx.Done():
	}
	for _, end := range ends {
		c := end()
		all.Connections, all.Refused = all.Connections+c.Connections, all.Refused+c.Refused
		all.Requests, all.Answered, all.Held = all.Requests+c.Requests, all.Answered+c.Answered, all.Held+c.Held
	}
	return all
}

// lasting is how long each attack goes on, in seconds.
const lasting = 30

// unknownNamespaces are requests for namespaces that do not exist, each for another.
func unknownNamespaces() func(int) []byte {
	var made atomic.Int64
	return func(int) []byte {
		n := made.Add(1)
		return attacker.Review(fmt.Sprint(n), fmt.Sprintf("nowhere-%d", n), map[string]any{"name": "pod"})
	}
}

// long are requests one of whose texts has so many bytes.
func long(size int) func(int) []byte {
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
