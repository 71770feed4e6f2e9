package attack

import (
	"flag"
	"testing"
	"time"

	"github.com/lightstep-injector/lightstep-injector/e2e/attacker"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

var (
	full = flag.Bool("full", false, "attack at full size: takes about an hour")
	page = flag.String("page", "", "the Markdown `FILE` that takes the figures")
)

// sized is the short form's size, or the full one.
func sized[T any](short, fullSize T) T {
	if *full {
		return fullSize
	}
	return short
}

// row is one of the page's.
type row struct {
	// name is the attack; before is what it did before it was bounded.
	name, before string
	run          func(*testing.T, *environment) string
}

// rows are all, in their order.
func rows() []row {
	return append(networkRows(), append(tenantRows(), otherRows()...)...)
}

func networkRows() []row {
	header := attacker.Headers(600, 1<<20)
	return []row{
		{"HTTP/2 streams whose bodies do not come: 3 connections with 240 each", "132 of 139 requests overloaded", flood{attack: attacker.Streams(3, 240)}.from(false)},
		{"HTTP/2 streams whose bodies do not come: 200 connections with 250 each", "0 pods injected, 717 MiB", flood{attack: attacker.Streams(sized(20, 200), 250)}.from(false)},
		{"Requests for unknown namespaces: 4 connections with 240 streams each", "124 of 139 requests overloaded", flood{attack: attacker.StreamsOf(4, 240, unknownNamespaces()), perRequest: mostLogged}.from(false)},
		{"1,000 HTTP/1.1 requests for unknown namespaces at once", "-", flood{attack: attacker.Requests(1000, unknownNamespaces()), perRequest: mostLogged, held: sized(600, 1000)}.fullOnly()},
		{"4,000 TLS handshakes that do not end", "readiness failed, new calls lost", flood{attack: attacker.HalfOpen(4000), held: 4000}.from(false)},
		{"4,000 idle TLS connections", "readiness failed, new calls lost", flood{attack: attacker.Idle(sized(2400, 4000), "http/1.1"), held: 2000}.from(false)},
		{"4,000 idle HTTP/2 connections", "readiness failed, new calls lost", flood{attack: attacker.Idle(4000, "h2", "http/1.1"), held: 2000}.fullOnly()},
		{"2,500 requests whose bodies do not come", "-", flood{attack: attacker.UnfinishedBodies(2500, 100_000, 0), held: 2000}.fullOnly()},
		{"600 headers of 1 MB to the webhook", "690 MiB", flood{attack: header, held: sized(400, 600)}.from(false)},
		{"600 headers of 1 MB to the health port", "690 MiB", flood{attack: header, held: 600, ports: []string{healthPort}}.from(false)},
		{"600 headers of 1 MB to the metrics port", "690 MiB", flood{attack: header, held: 600, ports: []string{metricsPort}}.from(false)},
		{"4,000 idle connections to the health and metrics ports", "-", flood{attack: attacker.Idle(4000), held: 4000, ports: []string{healthPort, metricsPort}}.from(false)},
		{"HTTP/2 streams that are reset at once", "258 MiB", flood{attack: attacker.RapidReset(20)}.from(false)},
		{"4 connections that hold all of the shared 8 MiB", "no pod above 64 KiB injected", flood{attack: attacker.UnfinishedBodies(4, 2_110_000, 2_100_000), held: 4}.from(true)},
		{"200 connections with bodies of 1 MiB that do not end", "-", flood{attack: attacker.UnfinishedBodies(200, 1<<20, 1<<20-1000), held: 200}.fullOnly()},
		{"Requests with names of 5 MB", "2.6 GB of log in 18 s", flood{attack: attacker.Requests(sized(4, 8), longTexts(5_000_000)), perRequest: mostLogged}.from(false)},
		{"Failed handshakes", "a line of log for each", flood{attack: attacker.FailedHandshakes(20), perRequest: 100}.from(false)},
	}
}

// mostLogged bounds what is logged of a request, in bytes.
const mostLogged = 4 << 10

// TestAttack goes through the rows, against one API server and the same replicas.
func TestAttack(t *testing.T) {
	e := setUp(t)
	var seen []figure
	for _, r := range rows() {
		f := figure{r.name, r.before, "attacked at full size only"}
		t.Run(r.name, func(t *testing.T) {
			start := time.Now()
			f.now = r.run(t, e)
			t.Logf("%s (%.0f s)", f.now, time.Since(start).Seconds())
		})
		seen = append(seen, f)
	}
	if *page != "" && !t.Failed() {
		stage.Check(t, write(t.Context(), *page, seen))
	}
}
