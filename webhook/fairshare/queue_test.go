package fairshare

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// However many valid requests a client has sent, another client that waits gets the next slot.
func TestQueueWeight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slots = 8
		q, busy, other := NewQueue(slots, slots-2), new(Client), new(Client)
		busy.valid.Store(1_000_000)
		other.valid.Store(slots)
		for range slots {
			if !q.TryAcquire(busy) {
				t.Fatal("no slot is free")
			}
		}
		served := make(chan *Client, 2)
		for _, client := range []*Client{busy, other} {
			go func() {
				if err := q.Acquire(t.Context(), client); err != nil {
					t.Error(err)
				}
				served <- client
			}()
			synctest.Wait()
		}
		q.Release(busy)
		if <-served != other {
			t.Error("the client with all slots gets the next one, too")
		}
		q.Release(busy)
		<-served
	})
}

// Slots go to the client that has least running for its valid requests, and of one client in the order of their coming.
func TestQueueOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, busy, other, useful := NewQueue(2, 100), new(Client), new(Client), new(Client)
		useful.Valid()
		var mu sync.Mutex
		var order []string
		wait := func(name string, client *Client) {
			go func() {
				if err := q.Acquire(t.Context(), client); err != nil {
					t.Error(err)
				}
				mu.Lock()
				order = append(order, name)
				mu.Unlock()
				q.Release(client)
			}()
			synctest.Wait()
		}
		for range 2 {
			if err := q.Acquire(t.Context(), busy); err != nil {
				t.Fatal(err)
			}
		}
		wait("busy 1", busy)
		wait("busy 2", busy)
		wait("other", other)
		wait("useful", useful)
		q.Release(busy)
		synctest.Wait()
		if got := fmt.Sprint(order); got != "[useful other busy 1 busy 2]" {
			t.Errorf("the order is %s", got)
		}
		q.Release(busy)
		if q.free != 2 || len(q.running) != 0 || len(q.waiting) != 0 {
			t.Errorf("left: %+v", q)
		}
	})
}

// A waiter whose context ends has no slot, and keeps none from others.
func TestQueueGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, client := NewQueue(1, 100), new(Client)
		if err := q.Acquire(t.Context(), client); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { synctest.Wait(); cancel() }()
		if err := q.Acquire(ctx, client); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		q.Release(client)
		if err := q.Acquire(t.Context(), client); err != nil || len(q.waiting) != 0 {
			t.Errorf("%v, and %d wait", err, len(q.waiting))
		}
	})
}

// However many come and give up at once, no more run than there are slots, and all slots are free in the end.
func TestQueueUnderLoad(t *testing.T) {
	const slots = 3
	q, clients := NewQueue(slots, 100), []*Client{new(Client), new(Client)}
	var running atomic.Int64
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			for j := range 200 {
				ctx, cancel := context.WithCancel(t.Context())
				if j%3 == 0 {
					cancel()
				}
				if q.Acquire(ctx, clients[i%2]) == nil {
					if now := running.Add(1); now > slots {
						t.Errorf("%d run", now)
					}
					running.Add(-1)
					q.Release(clients[i%2])
				}
				cancel()
			}
		})
	}
	all.Wait()
	if q.free != slots || len(q.running) != 0 || len(q.waiting) != 0 {
		t.Errorf("left: %+v", q)
	}
}
