package faults

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// each is how many clients of a kind there are at once; those that ask without end are fewer, to leave others some of the machine.
const each, few = 20, 3

const headers = "POST /inject HTTP/1.1\r\nHost: injector\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"

// stuck is a kind of client that gets stuck, and how long its connection may last.
type stuck struct {
	name   string
	count  int
	lasts  time.Duration
	behave func(*tls.Conn) error
}

// kinds of clients: each returns when its connection has ended. The bounds have a second or two to spare.
func kinds(namespace string) []stuck {
	return []stuck{
		{"half a request", each, 7 * time.Second, func(c *tls.Conn) error { return say(c, headers+"\r\n{") }},
		{"half the headers", each, 7 * time.Second, func(c *tls.Conn) error { return say(c, headers) }},
		{"a byte now and then", each, 7 * time.Second, func(c *tls.Conn) error { return slowly(c, 100*time.Millisecond) }},
		{"requests, and reads no answer", few, 20 * time.Second, func(c *tls.Conn) error { return neverRead(c, namespace) }},
	}
}

// stickClients has clients of each kind get stuck, and others that are idle. Their connections end in time; the idle ones, which
// the API server's are, too, last.
func stickClients(t *testing.T, e *environment) func() {
	t.Helper()
	namespace, err := e.labelled(t.Context(), nil)
	stage.Check(t, err)
	var running sync.WaitGroup
	for _, kind := range kinds(namespace) {
		for range kind.count {
			connection := e.dial(t)
			running.Go(func() {
				began := time.Now()
				_ = kind.behave(connection)
				if took := time.Since(began); took > kind.lasts {
					t.Errorf("a client that sends %s held its connection for %s", kind.name, took)
				}
			})
		}
	}
	var idle []*tls.Conn
	for range each {
		connection := e.dial(t)
		stage.Check(t, answered(connection))
		idle = append(idle, connection, e.dial(t)) // the API server may also open one that it uses later
	}
	return func() {
		running.Wait()
		for _, connection := range idle {
			stage.Check(t, answered(connection))
		}
	}
}

// dial connects as anybody in the cluster can: nobody is asked for a certificate.
func (e *environment) dial(t *testing.T) *tls.Conn {
	t.Helper()
	connection, err := tls.Dial("tcp", e.injector.Address(), &tls.Config{InsecureSkipVerify: true})
	stage.Check(t, err)
	t.Cleanup(func() { _ = connection.Close() })
	return connection
}

// say says something, and then listens until the connection ends.
func say(c *tls.Conn, text string) error {
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, c)
	return err
}

// slowly says a byte now and then, of headers without end.
func slowly(c io.Writer, now time.Duration) error {
	ticker := time.NewTicker(now)
	defer ticker.Stop()
	text := headers + strings.Repeat("X-Header: x\r\n", 1000)
	for i := range text {
		if _, err := io.WriteString(c, text[i:i+1]); err != nil {
			return err
		}
		<-ticker.C
	}
	return nil
}

// neverRead asks, and asks, for answers that are longer than the questions, and reads none, until the server has had enough.
func neverRead(c *tls.Conn, namespace string) error {
	body := review(namespace, `{"spec":{"containers":[`+strings.TrimSuffix(strings.Repeat(`{"name":"c"},`, 900), ",")+`]}}`)
	request := fmt.Appendf(nil, "POST /inject HTTP/1.1\r\nHost: injector\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	for {
		if _, err := c.Write(request); err != nil {
			return err
		}
	}
}

// answered asks for something, and reads the answer.
func answered(c *tls.Conn) error {
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: injector\r\n\r\n"); err != nil {
		return err
	}
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

// flood has so many attackers at work, all at once and again after a rest, until it is told to stop. They share the machine with
// whom they attack: without a rest they would take it away from all.
func (e *environment) flood(t *testing.T, attackers int, rest time.Duration, attack func(context.Context) error) (end func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	var mu sync.Mutex
	attacks, failed := 0, map[string]int{}
	looked := e.most(t)
	for range attackers {
		running.Go(func() {
			for ctx.Err() == nil {
				err := attack(ctx)
				mu.Lock()
				attacks++
				if err != nil && ctx.Err() == nil {
					failed[fmt.Sprintf("%T", err)]++
				}
				mu.Unlock()
				select {
				case <-time.After(rest):
				case <-ctx.Done():
				}
			}
		})
	}
	stage.Eventually(t, func(context.Context) error {
		mu.Lock()
		defer mu.Unlock()
		if attacks < attackers {
			return fmt.Errorf("%d attacks of %d", attacks, attackers)
		}
		return nil
	})
	return func() {
		stop()
		running.Wait()
		peak, most := e.peak(t), looked()
		t.Logf("%d attacks, of which these had no answer: %v; the injector took %d MiB at most, of which Go managed %d MiB", attacks, failed, peak>>20, most>>20)
		if most > mostManaged {
			t.Errorf("Go managed %d MiB, with a limit of %d MiB", most>>20, memoryLimit>>20)
		}
		if peak > mostMemory {
			t.Errorf("it took %d MiB, and is to take %d at most", peak>>20, mostMemory>>20)
		}
	}
}
