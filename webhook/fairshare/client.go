package fairshare

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// halfLife is how long valid requests count fully: the count of each client is halved that often.
	halfLife = time.Minute
	// maxRemembered bounds the clients that are remembered without an open connection.
	maxRemembered = 4096
)

// Client is what is known of one remote address.
type Client struct {
	address netip.Addr
	// joined counts the open connections. Clients.mu guards it.
	joined int
	valid  atomic.Int64
}

// Valid counts a valid request of the client. The more of these an address has sent lately, the more it may hold.
func (c *Client) Valid() { c.valid.Add(1) }

// per is how much the client holds for each valid request, of which at most so many count: any client can send valid requests
// without end.
func (c *Client) per(held, most int64) float64 {
	return float64(held) / float64(1+min(c.valid.Load(), most))
}

// Clients are the remote addresses that have a connection or have sent valid requests lately. The zero value is ready.
type Clients struct {
	mu     sync.Mutex
	known  map[netip.Addr]*Client
	halved time.Time
}

// Join returns the client of an address for a new connection. Leave must be called once when the connection is closed.
func (c *Clients) Join(address netip.Addr) *Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.age(time.Now())
	client := c.known[address]
	if client == nil {
		c.makeRoom()
		client = &Client{address: address}
		c.known[address] = client
	}
	client.joined++
	return client
}

// Leave ends a connection of a client. A client that never sent a valid request is forgotten with its last connection.
func (c *Clients) Leave(client *Client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	client.joined--
	if client.joined == 0 && client.valid.Load() == 0 {
		delete(c.known, client.address)
	}
}

// age halves the count of each client once in a half-life, and forgets those that have nothing left.
func (c *Clients) age(now time.Time) {
	if c.known == nil {
		c.known, c.halved = map[netip.Addr]*Client{}, now
	}
	passed := now.Sub(c.halved).Truncate(halfLife)
	if passed == 0 {
		return
	}
	c.halved = c.halved.Add(passed)
	times := passed / halfLife
	for address, client := range c.known {
		left := client.valid.Load() >> min(times, 62) //nolint:mnd // the bits of a count
		client.valid.Store(left)                      // a request that is counted meanwhile may be lost: it is a weight, not a metric
		if left == 0 && client.joined == 0 {
			delete(c.known, address)
		}
	}
}

// makeRoom forgets clients without a connection once too many are remembered.
func (c *Clients) makeRoom() {
	if len(c.known) < maxRemembered {
		return
	}
	for address, client := range c.known {
		if client.joined == 0 {
			delete(c.known, address)
		}
	}
}
