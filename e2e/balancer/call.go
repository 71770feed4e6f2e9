package balancer

import (
	"io"
	"sync"
)

// goodbye is how many bytes a client sends that has heard of the end: the alert close_notify, encrypted (RFC 8446, 5.2 and 6.1: a
// header of 5, the alert's 2, its type's 1, a tag of 16). A call is longer.
const goodbye = 24

// call tells whether a replica ends a connection while it owes an answer. What is said is encrypted, so it goes by who spoke
// last: with HTTP/1.1 there is one call at a time.
type call struct {
	balancer *Balancer

	mu sync.Mutex
	// owed is set from when the client has sent something until the replica does.
	owed bool
	// gone is set once the replica has ended the connection.
	gone bool
	// over is set once the client has, or the call was counted.
	over bool
}

// asked is what the client sends.
type asked struct {
	io.Reader
	*call
}

func (a asked) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	a.note(func() { a.owed, a.over = a.owed || n > goodbye, a.over || err != nil })
	return n, err
}

// answered is what the replica sends.
type answered struct {
	io.Reader
	*call
}

func (a answered) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	a.note(func() { a.owed, a.gone = a.owed && n == 0, err != nil })
	return n, err
}

// idle reports whether no answer is owed.
func (c *call) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.owed
}

// note changes what is known, and counts the call once it is lost.
func (c *call) note(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	if c.over || !c.owed || !c.gone {
		return
	}
	c.over = true
	c.balancer.mu.Lock()
	defer c.balancer.mu.Unlock()
	c.balancer.lost.Cut++
}
