package fairshare

import (
	"cmp"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// protected is the worth of a holding that cannot be revoked.
const protected = math.MaxInt64

// Pool is a bounded resource. Its methods, and those of its holdings, may be called from several goroutines.
type Pool struct {
	limit, fair, weight int64
	revoked             func()

	mu      sync.Mutex
	used    int64
	holders map[*Client]*holder
	// released is closed when units are given back; nil while nobody waits for some.
	released chan struct{}
	// all are the holders, in no order: to find the one that loses something, slices are read faster than maps.
	all []*holder
}

// holder is what one client holds of a pool.
type holder struct {
	client   *Client
	held     int64
	holdings []*Holding
	// index is its place in Pool.all.
	index int
}

// NewPool returns a pool of limit units. When it is used up, a client that holds more than fair units loses some of them
// before any other does, and cannot have the last units, half as many as fair: those are for clients within their share.
// With fair equal to limit, only what a client holds per valid request counts. Of a client's valid requests, at most weight
// count. revoked is called for each holding that is revoked.
func NewPool(limit, fair, weight int64, revoked func()) *Pool {
	return &Pool{limit: limit, fair: fair, weight: weight, revoked: revoked, holders: map[*Client]*holder{}}
}

// Used returns how many units are held.
func (p *Pool) Used() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used
}

// Holding is a part of a pool that is held for one purpose, such as a connection. A holding of nothing costs nothing.
type Holding struct {
	pool   *Pool
	client *Client
	// worth is the time, in nanoseconds since the epoch, until when the holding should be kept. The holding with the
	// smallest is revoked first.
	worth atomic.Int64
	lost  atomic.Bool

	// The pool's lock guards these.
	units  int64
	revoke func()
	// index is its place in holder.holdings.
	index int
}

// Hold returns a holding of nothing. revoke is called, at most once and under the pool's lock, when the holding is
// revoked: it must not block or call the pool, and has the holder stop using what it holds.
func (p *Pool) Hold(client *Client, revoke func()) *Holding {
	h := &Holding{pool: p, client: client, revoke: revoke}
	h.KeepUntil(time.Now())
	return h
}

// Client returns the client that the holding belongs to.
func (h *Holding) Client() *Client { return h.client }

// KeepUntil sets until when the holding should be kept. It takes no lock.
func (h *Holding) KeepUntil(t time.Time) { h.worth.Store(t.UnixNano()) }

// Lost reports whether the holding was revoked.
func (h *Holding) Lost() bool { return h.lost.Load() }

// Grow takes more units from the pool, revoking others' where necessary; of its own client's, only those that are past
// their time. It returns false where the holding was revoked, or where its client holds most and none can be revoked.
func (h *Holding) Grow(units int64) bool { return h.take(units, time.Now().UnixNano()) }

// growRetry is how long GrowWithin waits for a release before it looks whether a holding is past its time.
const growRetry = 50 * time.Millisecond

// GrowWithin is Grow that waits for units that others give back, for the patience at most.
func (h *Holding) GrowWithin(patience time.Duration, units int64) bool {
	for end := time.Now().Add(patience); ; {
		released := h.pool.awaitRelease()
		if h.Grow(units) {
			return true
		}
		left := time.Until(end)
		if h.Lost() || left <= 0 {
			return false
		}
		retry := time.NewTimer(min(left, growRetry))
		select {
		case <-released:
		case <-retry.C:
		}
		retry.Stop()
	}
}

// awaitRelease returns a channel that is closed when units are given back.
func (p *Pool) awaitRelease() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.released == nil {
		p.released = make(chan struct{})
	}
	return p.released
}

// Displace is Grow at the expense of any other holding, of its own client's, too.
func (h *Holding) Displace(units int64) bool { return h.take(units, protected) }

// take revokes holdings of its own client's only if these are worth less than own.
func (h *Holding) take(units, own int64) bool {
	p := h.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	for !h.lost.Load() && p.used+units > p.limitOf(h.client, units) {
		victim := p.victim(h, own)
		if victim == nil {
			return false
		}
		p.drop(victim)
		victim.lost.Store(true)
		victim.revoke()
		p.revoked()
	}
	if h.lost.Load() {
		return false
	}
	p.add(h, units)
	return true
}

// limitOf is how many units may be in use after a client has taken some more.
func (p *Pool) limitOf(client *Client, units int64) int64 {
	of := p.holders[client]
	if p.fair == p.limit || of == nil && units <= p.fair || of != nil && of.held+units <= p.fair {
		return p.limit
	}
	return p.limit - p.fair/2 //nolint:mnd // a half
}

// Protect keeps a holding from being revoked, until Expose is called. It returns false where it was revoked before.
func (h *Holding) Protect() bool {
	h.pool.mu.Lock()
	defer h.pool.mu.Unlock()
	h.worth.Store(protected)
	return !h.lost.Load()
}

// Expose lets a holding be revoked again, in another way. Of a holding that was revoked before, it calls revoke at once.
func (h *Holding) Expose(revoke func()) {
	h.pool.mu.Lock()
	defer h.pool.mu.Unlock()
	h.revoke = revoke
	h.KeepUntil(time.Now())
	if h.lost.Load() {
		revoke()
	}
}

// Release gives everything back. The holding is not revoked after that.
func (h *Holding) Release() {
	h.pool.mu.Lock()
	defer h.pool.mu.Unlock()
	h.pool.drop(h)
}

// add enters units of a holding.
func (p *Pool) add(h *Holding, units int64) {
	of := p.holders[h.client]
	if of == nil {
		of = &holder{client: h.client, index: len(p.all)}
		p.holders[h.client] = of
		p.all = append(p.all, of)
	}
	if h.units == 0 {
		h.index = len(of.holdings)
		of.holdings = append(of.holdings, h)
	}
	of.held += units
	h.units += units
	p.used += units
}

// drop removes all units of a holding.
func (p *Pool) drop(h *Holding) {
	of := p.holders[h.client]
	if of == nil || h.units == 0 {
		return
	}
	p.used -= h.units
	of.held -= h.units
	h.units = 0
	if p.released != nil {
		close(p.released)
		p.released = nil
	}
	last := len(of.holdings) - 1
	of.holdings[h.index] = of.holdings[last]
	of.holdings[h.index].index = h.index
	of.holdings[last] = nil
	of.holdings = of.holdings[:last]
	if last == 0 {
		p.forget(of)
	}
}

// forget removes a holder that holds nothing.
func (p *Pool) forget(of *holder) {
	delete(p.holders, of.client)
	last := len(p.all) - 1
	p.all[of.index] = p.all[last]
	p.all[of.index].index = of.index
	p.all[last] = nil
	p.all = p.all[:last]
}

// victim is the holding to revoke so that newcomer can grow: of the client that holds most, the one worth least. It is
// nil where the newcomer's own client holds most and has no other that is worth less than own.
func (p *Pool) victim(newcomer *Holding, own int64) *Holding {
	var best rank
	for _, of := range p.all {
		r := rank{unfair: of.held > p.fair, per: of.client.per(of.held, p.weight), worth: protected}
		if r.compare(&best) < 0 {
			continue
		}
		if of.client == newcomer.client {
			r.least(of, newcomer, own)
		} else if r.least(of, nil, protected); r.holding == nil {
			continue
		}
		if r.compare(&best) > 0 || r.worth < best.worth {
			best = r
		}
	}
	return best.holding
}

// rank orders clients by what they hold.
type rank struct {
	unfair  bool
	per     float64
	holding *Holding
	worth   int64
}

// least finds the holding that is worth least, and less than below.
func (r *rank) least(of *holder, except *Holding, below int64) {
	r.worth = below
	for _, h := range of.holdings {
		if w := h.worth.Load(); w < r.worth && h != except {
			r.holding, r.worth = h, w
		}
	}
	if r.holding == nil {
		r.worth = protected
	}
}

func (r *rank) compare(other *rank) int {
	if r.unfair != other.unfair {
		if r.unfair {
			return 1
		}
		return -1
	}
	return cmp.Compare(r.per, other.per)
}
