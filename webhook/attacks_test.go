package webhook

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
)

// These attacks go over real TCP and TLS, from addresses of the loopback network. While each goes on, normal requests
// come from 127.0.0.1, by kept and by new connections, and at least 99 of 100 of them are injected.

const (
	// attackLasts is how long each attack goes on once it is under way.
	attackLasts = 1500 * time.Millisecond
	// apiServerWaits is the webhook's timeoutSeconds.
	apiServerWaits = 3 * time.Second
)

// The addresses that an attack comes from.
func fromOne(int) string    { return "127.0.0.2" }
func fromMany(i int) string { return fmt.Sprintf("127.0.1.%d", 1+i%200) }
func fromOwn(int) string    { return "127.0.0.1" }

// attack is one way to keep a server busy.
type attack struct {
	name string
	// attackers is how many connections are made at once; each is made again, after the rest, when it ends.
	attackers int
	rest      time.Duration
	// raw: without TLS.
	raw bool
	// large: normal requests have 100 KB.
	large bool
	// everywhere: it comes from many addresses and from the API server's own, too.
	everywhere bool
	// act acts over a connection until it ends.
	act func(net.Conn) error
}

func attacks(t *testing.T) []attack {
	t.Helper()
	post := func(length int) string {
		return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n", Path, length)
	}
	review := testReview(t, testPod(1))
	strange := bytes.Replace(review, []byte(`"namespace":"shop"`), []byte(`"namespace":"no-such"`), 1)
	long := bytes.Replace(review, []byte(testUID), bytes.Repeat([]byte("u"), 5<<20), 1)
	many := bytes.Replace(review, []byte(`"containers":[`), []byte(`"containers":[`+strings.Repeat(`{"name":"c"},`, 900)), 1)
	whole := func(body []byte) string { return post(len(body)) + "\r\n" + string(body) }
	send := func(text string) func(net.Conn) error {
		return func(c net.Conn) error { _, _ = io.WriteString(c, text); return drain(c) }
	}
	var lines strings.Builder
	for i := range 5000 {
		_, _ = fmt.Fprintf(&lines, "%x:\r\n", i)
	}
	return []attack{
		{name: "unfinished handshakes", everywhere: true, attackers: 4000, raw: true, rest: 2 * time.Second, act: drain},
		{name: "endless client hellos", attackers: 1500, raw: true, rest: 2 * time.Second, act: send("\x16\x03\x01\x40\x00\x01\x00\xff\xff" + strings.Repeat("x", 64<<10))},
		{name: "idle connections", attackers: 1100, rest: 2 * time.Second, act: drain},
		{name: "idle after a request", everywhere: true, attackers: 1100, rest: 2 * time.Second, act: send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")},
		{name: "bodies that do not come", attackers: 720, act: send(post(100) + "\r\n{")},
		{name: "unknown namespace", everywhere: true, attackers: 300, rest: 50 * time.Millisecond, act: repeat(whole(strange))},
		{name: "headers of 1 MB", attackers: 600, rest: time.Second, act: send(post(100) + "X: " + strings.Repeat("x", 1<<20))},
		{name: "5000 header lines", attackers: 600, rest: time.Second, act: send(post(100) + lines.String())},
		{name: "headers byte by byte", attackers: 600, act: byByte(post(100) + lines.String())},
		{name: "bodies of 7 MiB that stop", everywhere: true, attackers: 32, large: true, rest: time.Second, act: send(post(maxBody) + "\r\n" + string(review[:1000]) + strings.Repeat("x", 1<<20))},
		{name: "large bodies for an unknown namespace", attackers: 16, large: true, rest: 100 * time.Millisecond, act: repeat(whole(append(bytes.Clone(strange[:len(strange)-1]), `,"x":"`+strings.Repeat("x", 1<<20)+`"}`...)))},
		{name: "uids of 5 MB", attackers: 4, rest: 100 * time.Millisecond, act: repeat(whole(long))},
		{name: "answers that are not read", attackers: 10, rest: time.Second, act: neverRead(whole(many))},
	}
}

func TestAttacks(t *testing.T) {
	for from, address := range map[string]func(int) string{"one address": fromOne, "200 addresses": fromMany, "the API server's address": fromOwn} {
		for _, a := range attacks(t) {
			if from != "one address" && !a.everywhere {
				continue
			}
			t.Run(a.name+" from "+from, func(t *testing.T) { a.run(t, address) })
		}
	}
}

func (a *attack) run(t *testing.T, from func(int) string) {
	e, address := newEdge(t), freeAddress(t)
	learn(e.Store, "shop")
	server := newServer(t, address, e)
	running(t, server.Start)
	for range 20 { // the API server has called before the attack
		reach(t, newClient(t), http.MethodPost, "https://"+address+Path, testReview(t, testPod(1)))
	}

	ctx, stop := context.WithCancel(t.Context())
	var attackers sync.WaitGroup
	var begun atomic.Int64
	dialing := make(chan struct{}, 16)
	for i := range a.attackers {
		attackers.Go(func() {
			for ctx.Err() == nil {
				dialing <- struct{}{}
				c, err := a.dial(ctx, address, from(i))
				<-dialing
				begun.Add(1)
				if err == nil {
					end := context.AfterFunc(ctx, func() { _ = c.Close() })
					_ = a.act(c)
					end()
					_ = c.Close()
				}
				rest(ctx, a.rest)
			}
		})
	}
	eventually(t, func() bool { return begun.Load() >= int64(a.attackers) })
	kept, fresh := &normal{address: address}, &normal{address: address, fresh: true}
	if a.large {
		kept.pad, fresh.pad = 100<<10, 100<<10
	}
	var clients sync.WaitGroup
	for _, n := range []*normal{kept, fresh} {
		clients.Go(func() { n.run(t, attackLasts) })
	}
	clients.Wait()
	if err := server.Answers(httptest.NewRequest(http.MethodGet, "/readyz", nil)); err != nil {
		t.Errorf("not ready: %s", err)
	}
	stop()
	attackers.Wait()
	for _, n := range []*normal{kept, fresh} {
		t.Logf("new connections: %t: %d of %d injected, the slowest in %s", n.fresh, n.injected, n.sent, n.slowest)
		if n.injected*100 < n.sent*99 {
			t.Errorf("new connections: %t: %d of %d injected: %v", n.fresh, n.injected, n.sent, n.missed)
		}
	}
	if logged := e.logs.Len(); logged > 16<<20 {
		t.Errorf("%d bytes of log", logged)
	}
}

// dial connects from an address.
func (a *attack) dial(ctx context.Context, address, from string) (net.Conn, error) {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
	if a.raw {
		return dialer.DialContext(ctx, "tcp", address)
	}
	return (&tls.Dialer{NetDialer: dialer, Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(ctx, "tcp", address)
}

// normal is a client that behaves as the API server does.
type normal struct {
	address string
	// fresh: each request has a connection of its own.
	fresh bool
	// pad makes each request larger.
	pad int

	sent, injected int
	slowest        time.Duration
	missed         map[string]int
}

// run sends a request every 10 ms for a while, several at once, and some however slow the machine is.
func (n *normal) run(t *testing.T, lasts time.Duration) {
	const workers, atLeast = 4, 40
	n.missed = map[string]int{}
	body := testReview(t, testPod(1))
	if n.pad > 0 {
		body = append(body[:len(body)-1], `,"padding":"`+strings.Repeat("x", n.pad)+`"}`...)
	}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: n.fresh, MaxIdleConnsPerHost: workers,
		DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.0.1")}}).DialContext,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: apiServerWaits}
	var mu sync.Mutex
	var running sync.WaitGroup
	end := time.Now().Add(lasts)
	for range workers {
		running.Go(func() {
			for more := true; more; {
				start := time.Now()
				missed := n.ask(client, body)
				mu.Lock()
				n.sent++
				n.slowest = max(n.slowest, time.Since(start))
				if missed == "" {
					n.injected++
				} else {
					n.missed[missed]++
				}
				more = time.Now().Before(end) || n.sent < atLeast
				mu.Unlock()
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	running.Wait()
}

// ask sends one request, and returns why its pod is not injected.
func (n *normal) ask(client *http.Client, body []byte) string {
	response, err := client.Post("https://"+n.address+Path, contentType, bytes.NewReader(body))
	if err != nil {
		return err.Error()
	}
	defer func() { _ = response.Body.Close() }()
	var review admissionv1.AdmissionReview
	if err := json.NewDecoder(response.Body).Decode(&review); err != nil || review.Response == nil {
		return fmt.Sprintf("%s %v", response.Status, err)
	}
	if review.Response.Patch == nil {
		return review.Response.AuditAnnotations["reason"]
	}
	return ""
}

// drain reads until the connection ends.
func drain(c net.Conn) error {
	_, err := io.Copy(io.Discard, c)
	return err
}

// repeat sends a request, reads the answer, and so on.
func repeat(request string) func(net.Conn) error {
	return func(c net.Conn) error {
		for reader := bufio.NewReader(c); ; {
			if _, err := io.WriteString(c, request); err != nil {
				return err
			}
			response, err := http.ReadResponse(reader, nil)
			if err != nil {
				return err
			}
			if _, err := io.Copy(io.Discard, response.Body); err != nil {
				return err
			}
			_ = response.Body.Close()
		}
	}
}

// byByte sends a byte now and then.
func byByte(text string) func(net.Conn) error {
	return func(c net.Conn) error {
		for i := range text {
			if _, err := io.WriteString(c, text[i:i+1]); err != nil {
				return err
			}
			time.Sleep(200 * time.Millisecond)
		}
		return nil
	}
}

// neverRead sends requests, and reads no answer.
func neverRead(request string) func(net.Conn) error {
	return func(c net.Conn) error {
		for {
			if _, err := io.WriteString(c, request); err != nil {
				return err
			}
		}
	}
}

func rest(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not come about")
		}
	}
}
