package fairshare

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// holds is one holding of a test: whose it is, how much, and when it should be kept until, in seconds.
type holds struct {
	client    string
	units     int64
	until     int
	protected bool
}

// TestVictims: which holdings a newcomer of a client takes the place of.
func TestVictims(t *testing.T) {
	for _, test := range []struct {
		name     string
		fair     int64
		held     []holds
		valid    map[string]int
		newcomer holds
		displace bool
		// lost are indexes of held, and taken whether the newcomer has its units.
		lost  []int
		taken bool
	}{
		{
			name: "nothing, while there is room", held: []holds{{"a", 5, 0, false}, {"b", 4, 0, false}},
			newcomer: holds{"c", 1, 0, false}, taken: true,
		},
		{
			name: "of the client with most, the one worth least",
			held: []holds{{"a", 3, 9, false}, {"a", 3, 2, false}, {"b", 4, 1, false}}, newcomer: holds{"b", 1, 0, false}, lost: []int{1}, taken: true,
		},
		{
			name: "as many as it takes", held: []holds{{"a", 1, 3, false}, {"a", 1, 2, false}, {"a", 8, 9, false}},
			newcomer: holds{"b", 2, 0, false}, lost: []int{0, 1}, taken: true,
		},
		{
			name: "a client with valid requests counts for less", held: []holds{{"a", 8, 1, false}, {"b", 2, 1, false}}, valid: map[string]int{"a": 99},
			newcomer: holds{"c", 1, 0, false}, lost: []int{1}, taken: true,
		},
		{
			name: "unless it holds more than its share", fair: 5, held: []holds{{"a", 8, 1, false}, {"b", 2, 1, false}}, valid: map[string]int{"a": 99},
			newcomer: holds{"c", 1, 0, false}, lost: []int{0}, taken: true,
		},
		{
			name: "clients that hold the same: the one worth least of all", held: []holds{{"a", 5, 2, false}, {"b", 5, 1, false}},
			newcomer: holds{"c", 1, 0, false}, lost: []int{1}, taken: true,
		},
		{
			name: "a protected one never", held: []holds{{"a", 8, 1, true}, {"b", 2, 1, false}}, newcomer: holds{"c", 1, 0, false}, lost: []int{1}, taken: true,
		},
		{
			name: "none, where all are protected", held: []holds{{"a", 8, 1, true}, {"b", 2, 1, true}}, newcomer: holds{"c", 1, 0, false},
		},
		{
			name: "its own, past its time", held: []holds{{"a", 8, -1, false}, {"b", 2, -9, false}}, newcomer: holds{"a", 1, 5, false}, lost: []int{0}, taken: true,
		},
		{
			name: "none, where its client holds most, and all in time", held: []holds{{"a", 8, 1, false}, {"b", 2, 1, false}}, newcomer: holds{"a", 1, 5, false},
		},
		{
			name: "the last units are for clients within their share", fair: 4, held: []holds{{"a", 8, 1, false}}, newcomer: holds{"a", 1, 5, false},
		},
		{
			name: "which get them", fair: 4, held: []holds{{"a", 8, 1, true}}, newcomer: holds{"b", 2, 5, false}, taken: true,
		},
		{
			name: "its own in any case", displace: true, held: []holds{{"a", 8, 1, false}, {"b", 2, 1, false}}, newcomer: holds{"a", 1, 0, false}, lost: []int{0}, taken: true,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			const limit = 10
			fair, start, revoked := test.fair, time.Now(), 0
			if fair == 0 {
				fair = limit
			}
			pool, clients := NewPool(limit, fair, 100, func() { revoked++ }), map[string]*Client{}
			hold := func(h holds) *Holding {
				if clients[h.client] == nil {
					clients[h.client] = new(Client)
				}
				held := pool.Hold(clients[h.client], func() {})
				held.KeepUntil(start.Add(time.Duration(h.until) * time.Hour))
				return held
			}
			var all []*Holding
			for _, h := range test.held {
				held := hold(h)
				if !held.Grow(h.units) || h.protected && !held.Protect() {
					t.Fatalf("%+v is not had", h)
				}
				all = append(all, held)
			}
			for client, valid := range test.valid {
				for range valid {
					clients[client].Valid()
				}
			}
			newcomer, take := hold(test.newcomer), (*Holding).Grow
			if test.displace {
				take = (*Holding).Displace
			}
			if taken := take(newcomer, test.newcomer.units); taken != test.taken {
				t.Errorf("taken: %t", taken)
			}
			var lost []int
			for i, held := range all {
				if held.Lost() {
					lost = append(lost, i)
				}
			}
			if fmt.Sprint(lost) != fmt.Sprint(test.lost) || revoked != len(lost) {
				t.Errorf("lost: %v, want %v; %d were counted", lost, test.lost, revoked)
			}
			for _, held := range append(all, newcomer) {
				held.Release()
			}
			if used := pool.Used(); used != 0 || len(pool.holders) != 0 || len(pool.all) != 0 {
				t.Errorf("%d units are still held", used)
			}
		})
	}
}

// However many valid requests a client has sent, it loses what it holds before a client that holds little.
func TestPoolWeight(t *testing.T) {
	const limit, few = 1024, 5
	pool, stranger, useful := NewPool(limit, limit, limit/4, func() {}), new(Client), new(Client)
	stranger.valid.Store(1_000_000)
	useful.valid.Store(few)
	hold := func(client *Client, revoke func()) {
		held := pool.Hold(client, revoke)
		held.KeepUntil(time.Now().Add(time.Minute))
		if !held.Displace(1) {
			t.Fatal("it is not had")
		}
	}
	for range few {
		hold(useful, func() { t.Error("the client with few holdings loses one") })
	}
	for range 2 * limit {
		hold(stranger, func() {})
	}
}

// A protected holding can be exposed again; it is revoked in the new way, and a holding that grows never takes its own place.
func TestExpose(t *testing.T) {
	pool := NewPool(10, 10, 100, func() {})
	first, second := "", ""
	held := pool.Hold(new(Client), func() { first = "revoked" })
	if !held.Grow(10) || held.Grow(1) || !held.Protect() {
		t.Fatal("it does not hold all")
	}
	held.Expose(func() { second = "revoked" })
	if !pool.Hold(new(Client), func() {}).Grow(1) || first != "" || second != "revoked" || held.Protect() || held.Grow(1) {
		t.Errorf("first %q, second %q", first, second)
	}
	second = ""
	if held.Expose(func() { second = "at once" }); second != "at once" {
		t.Error("one that was revoked before is not told so")
	}
}

// A holding that finds no room waits until others give some back, or are past their time, and not for longer than its patience.
func TestGrowWithin(t *testing.T) {
	for _, c := range []struct {
		name string
		// then happens after a second.
		then  func(other *Holding)
		after time.Duration
		taken bool
	}{
		{"given back", (*Holding).Release, time.Second, true},
		{"past its time", func(other *Holding) { other.Expose(func() {}) }, time.Second + growRetry, true},
		{"neither", func(*Holding) {}, 3 * time.Second, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pool, start := NewPool(10, 10, 100, func() {}), time.Now()
				other, held := pool.Hold(new(Client), func() {}), pool.Hold(new(Client), func() {})
				if !other.Grow(10) || !other.Protect() {
					t.Fatal("it is not had")
				}
				time.AfterFunc(time.Second, func() { c.then(other) })
				if taken := held.GrowWithin(3*time.Second, 1); taken != c.taken {
					t.Errorf("taken: %t", taken)
				}
				if took := time.Since(start); took < c.after-growRetry || took > c.after {
					t.Errorf("after %s, want %s", took, c.after)
				}
			})
		})
	}
}

// However many take and give back at once, no more than the limit is held, and nothing in the end.
func TestManyAtOnce(t *testing.T) {
	const limit = 100
	pool, clients := NewPool(limit, limit/4, 100, func() {}), new(Clients)
	var running sync.WaitGroup
	for i := range 16 {
		running.Go(func() {
			for range 500 {
				client := clients.Join(netip.AddrFrom4([4]byte{10, 0, 0, byte(i % 5)}))
				held := pool.Hold(client, func() {})
				for range 5 {
					held.Grow(7)
				}
				if used := pool.Used(); used > limit {
					t.Errorf("%d units are held", used)
				}
				held.Protect()
				client.Valid()
				held.Release()
				clients.Leave(client)
			}
		})
	}
	running.Wait()
	if used := pool.Used(); used != 0 {
		t.Errorf("%d units are still held", used)
	}
}

// Clients are remembered while they have connections, and as long as their valid requests count.
func TestClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clients, a, b := new(Clients), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
		one := clients.Join(a)
		if clients.Join(a) != one || clients.Join(b) == one {
			t.Error("an address is not a client")
		}
		for range 8 {
			one.Valid()
		}
		clients.Leave(one)
		clients.Leave(one)
		if again := clients.Join(a); again != one || again.per(9, 100) != 1 {
			t.Error("its valid requests are forgotten")
		}
		clients.Leave(one)
		for range 4 {
			time.Sleep(halfLife)
			clients.Leave(clients.Join(b))
		}
		if clients.known[a] != nil || clients.known[b] == nil {
			t.Errorf("remembered: %v", clients.known)
		}
		for i := range 2 * maxRemembered {
			of := clients.Join(netip.AddrFrom4([4]byte{11, 0, byte(i >> 8), byte(i)}))
			of.Valid()
			clients.Leave(of)
		}
		if n := len(clients.known); n > maxRemembered || clients.known[b] == nil {
			t.Errorf("%d are remembered", n)
		}
	})
}

// BenchmarkDisplace is what a new connection costs at the bound, with all of one client, and with one of each.
func BenchmarkDisplace(b *testing.B) {
	for _, each := range []int{1, 1024} {
		b.Run(fmt.Sprint(each), func(b *testing.B) {
			pool := NewPool(1024, 1024, 256, func() {})
			var client *Client
			for i := range 1024 {
				if i%each == 0 {
					client = new(Client)
				}
				pool.Hold(client, func() {}).Grow(1)
			}
			for b.Loop() {
				pool.Hold(client, func() {}).Displace(1)
			}
		})
	}
}
