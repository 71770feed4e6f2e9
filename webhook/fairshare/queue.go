package fairshare

import (
	"context"
	"slices"
	"sync"
)

// Queue lets only so many run at once. When a slot is free, it goes to the client that has the fewest running for its
// valid requests, and of one client to those that came first.
type Queue struct {
	mu      sync.Mutex
	free    int
	weight  int64
	running map[*Client]int64
	waiting []*waiter
}

// waiter waits for a slot.
type waiter struct {
	client *Client
	ready  chan struct{}
}

// NewQueue returns a queue with so many slots. Of a client's valid requests, at most weight count: with fewer than there are
// slots, no client can have them all while another waits.
func NewQueue(slots int, weight int64) *Queue {
	return &Queue{free: slots, weight: weight, running: map[*Client]int64{}}
}

// TryAcquire takes a slot for a client if one is free.
func (q *Queue) TryAcquire(client *Client) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.take(client)
}

// Acquire takes a slot for a client, and waits for it until the context ends. Release must be called once for each slot
// that is taken.
func (q *Queue) Acquire(ctx context.Context, client *Client) error {
	q.mu.Lock()
	if q.take(client) {
		q.mu.Unlock()
		return nil
	}
	w := &waiter{client: client, ready: make(chan struct{})}
	q.waiting = append(q.waiting, w)
	q.mu.Unlock()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	at := slices.Index(q.waiting, w)
	if at < 0 { // it has got a slot meanwhile
		return nil
	}
	q.waiting = slices.Delete(q.waiting, at, at+1)
	return ctx.Err()
}

// Release gives a slot of a client's back.
func (q *Queue) Release(client *Client) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.free++
	if q.running[client]--; q.running[client] == 0 {
		delete(q.running, client)
	}
	if len(q.waiting) == 0 {
		return
	}
	next := 0
	for i, w := range q.waiting {
		if q.load(w.client) < q.load(q.waiting[next].client) {
			next = i
		}
	}
	w := q.waiting[next]
	q.waiting = slices.Delete(q.waiting, next, next+1)
	q.take(w.client)
	close(w.ready)
}

// take takes a slot if one is free.
func (q *Queue) take(client *Client) bool {
	if q.free == 0 {
		return false
	}
	q.free--
	q.running[client]++
	return true
}

// load is how much a client would have running, for its valid requests.
func (q *Queue) load(client *Client) float64 { return client.per(q.running[client]+1, q.weight) }
