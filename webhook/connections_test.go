package webhook

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	kubetesting "k8s.io/client-go/testing"
)

// Header lines are counted in whatever pieces they are read, and only up to the empty line at the end.
func TestHeaderLines(t *testing.T) {
	lines := func(n int) string { return strings.Repeat("a: b\r\n", n) }
	for name, test := range map[string]struct {
		text  string
		holds bool
		ended bool
	}{
		"as many as there may be":  {"POST / HTTP/1.1\r\n" + lines(maxHeaderLines-1) + "\r\n" + strings.Repeat("\n", 1000), true, true},
		"one more":                 {"POST / HTTP/1.1\r\n" + lines(maxHeaderLines) + "\r\n", false, false},
		"no end":                   {"POST / HTTP/1.1\r\na: b\r\n\r", true, false},
		"line feeds only":          {"POST / HTTP/1.1\na: b\n\n", true, true},
		"short ones":               {strings.Repeat("a:\n", maxHeaderLines+1), false, false},
		"empty lines before":       {"\r\n\r\nPOST / HTTP/1.1\r\n" + lines(maxHeaderLines) + "\r\n", false, false},
		"nothing but empty lines":  {strings.Repeat("\r\n", 10_000), true, false},
		"a body with many lines":   {"POST / HTTP/1.1\r\n\r\n" + lines(10*maxHeaderLines), true, true},
		"a line with only a space": {"POST / HTTP/1.1\r\n \r\n" + lines(maxHeaderLines), false, false},
	} {
		for _, size := range []int{1, 2, 7, 4096} {
			t.Run(fmt.Sprint(name, size), func(t *testing.T) {
				var scan headerScan
				holds := true
				for rest := test.text; rest != "" && holds && !scan.ended; {
					n := min(size, len(rest))
					holds = scan.take([]byte(rest[:n]))
					rest = rest[n:]
				}
				if holds != test.holds || scan.ended != test.ended {
					t.Errorf("it holds: %t, it has ended: %t, after %d lines", holds, scan.ended, scan.lines)
				}
			})
		}
	}
}

// What net/http takes for the end of the headers is the end for the count, too; or it rejects the request.
func FuzzHeaderLines(f *testing.F) {
	f.Add("POST / HTTP/1.1\r\nHost: a\r\n\r\nbody")
	f.Add("\r\nGET / HTTP/1.1\nHost: a\r\r\n\nbody")
	f.Fuzz(func(t *testing.T, text string) {
		var scan headerScan
		if !scan.take([]byte(text)) {
			return
		}
		skipped := strings.TrimLeft(text, "\r\n") // as net/http does
		if len(text)-len(skipped) > 4 {
			return
		}
		request, err := http.ReadRequest(bufio.NewReader(strings.NewReader(skipped)))
		if err == nil && (!scan.ended || len(request.Header) > maxHeaderLines) {
			t.Errorf("%q is a request, and has not ended", text)
		}
	})
}

// watched is a server whose connections can be seen.
func watched(t *testing.T, address string, handler http.Handler) (*Connections, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	connections, err := NewConnections(prometheus.NewRegistry(), zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	server := newServer(t, address, handler)
	server.options.Connections = connections
	running(t, server.Start)
	reach(t, newClient(t), http.MethodGet, "https://"+address+"/", nil)
	return connections, logs
}

// Each failed handshake is counted by its cause, and the first few of a cause are logged.
func TestHandshakeErrors(t *testing.T) {
	address := freeAddress(t)
	connections, logs := watched(t, address, http.NotFoundHandler())
	send := func(text string) func(net.Conn) error {
		return func(c net.Conn) error {
			_, _ = io.WriteString(c, text)
			_ = c.(*net.TCPConn).CloseWrite()
			return drain(c)
		}
	}
	for cause, act := range map[string]func(net.Conn) error{
		causeNotTLS: send("GET / HTTP/1.1\r\n\r\n"),
		causeGone:   send(""),
		causeAlert:  func(c net.Conn) error { return tls.Client(c, &tls.Config{ServerName: "elsewhere"}).Handshake() },
		causeOther:  send("\x16\x03\x01\x40\x00\x01\x00\xff\xff" + strings.Repeat("x", 64<<10)),
	} {
		t.Run(cause, func(t *testing.T) {
			const times = errorsLogged + 2
			for range times {
				c, err := net.Dial("tcp", address)
				if err != nil {
					t.Fatal(err)
				}
				_ = act(c)
				_ = c.Close()
			}
			counted := connections.failed.WithLabelValues("webhook", cause)
			eventually(t, func() bool { return testutil.ToFloat64(counted) == times })
			if logged := logs.FilterMessage("connection failed: " + cause).Len(); logged != errorsLogged {
				t.Errorf("%d lines, want %d", logged, errorsLogged)
			}
		})
	}
	open := connections.open.WithLabelValues("webhook")
	eventually(t, func() bool { return testutil.ToFloat64(open) <= 1 }) // the one that reached it first
}

// At the bound, the least useful connection of the address with the most is closed: in this order.
func TestLeastUsefulConnections(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const limit = 5
	bounded := newListener(inner, limit, nil, newConnections(t).of(&Options{Name: "test"}))
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := connectionOf(r.Context())
		c.arrived()
		c.complete()
		if r.URL.Path == "/slow" {
			_, _ = io.WriteString(w, "begun")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}
		c.answered(r.URL.Path == "/valid")
	})
	server := (&Options{Name: "test", Handler: handler}).server(bounded)
	served := make(chan error, 1)
	go func() { served <- server.Serve(bounded) }()
	defer func() { _ = server.Close(); <-served }()

	dial := func(from string) net.Conn {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := dialer.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	ask := func(c net.Conn, path string) {
		t.Helper()
		_, _ = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path)
		response, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		_ = response.Body.Close()
	}
	closed := func(name string, c net.Conn) {
		t.Helper()
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Read(make([]byte, 1<<10)); err == nil || errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
			t.Fatalf("%s is not closed: %v", name, err)
		}
	}
	silent := dial("127.0.0.2") // will be the one that has sent nothing
	valid, junk, other := dial("127.0.0.2"), dial("127.0.0.2"), dial("127.0.0.3")
	eventually(t, func() bool { return bounded.pool.Used() == 4 })
	ask(valid, "/valid")
	ask(junk, "/junk")
	ask(other, "/junk")
	time.Sleep(10 * time.Millisecond)
	first := dial("127.0.0.3") // the last that there is room for
	ask(first, "/junk")
	dial("127.0.0.4")
	closed("an idle one of the address with no valid request", eitherClosed(t, other, first))
	dial("127.0.0.4")
	closed("the one that has sent nothing", silent)
	dial("127.0.0.2")
	ask(valid, "/valid")
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// eitherClosed is the one of two connections that ends.
func eitherClosed(t *testing.T, connections ...net.Conn) net.Conn {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		for _, c := range connections {
			_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
			if _, err := c.Read(make([]byte, 1)); !isTimeout(err) {
				return c
			}
		}
	}
	t.Fatal("neither is closed")
	return nil
}

// The kubelet is answered while strangers hold as many connections to the health port as they like.
func TestHealthUnderAttack(t *testing.T) {
	address := freeAddress(t)
	running(t, func(ctx context.Context) error {
		return ListenAndServe(ctx, Options{Name: "health", Listen: address, Connections: newConnections(t), Handler: Health(func(*http.Request) error { return nil })})
	})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second} // the kubelet's patience
	reach(t, client, http.MethodGet, "http://"+address+"/readyz", nil)
	for i := range 4 * maxPlainConnections {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(fromMany(i))}}
		c, err := dialer.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		switch i % 3 {
		case 0:
			_, _ = io.WriteString(c, "GET /readyz HTTP/1.1\r\nX: "+strings.Repeat("x", 10<<10))
		case 1:
			_, _ = io.WriteString(c, "GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n")
		}
		if i%100 != 0 {
			continue
		}
		response, err := client.Get("http://" + address + "/readyz")
		if err != nil {
			t.Fatalf("after %d connections: %v", i, err)
		}
		_ = response.Body.Close()
	}
}

// Headers that are too large are rejected on every server, whatever net/http adds to the limit that it is given.
func TestHeaderBytes(t *testing.T) {
	address := freeAddress(t)
	running(t, newServer(t, address, http.NotFoundHandler()).Start)
	client := newClient(t)
	reach(t, client, http.MethodGet, "https://"+address+"/", nil)
	for size, want := range map[int]int{maxHeader - 1<<10: http.StatusNotFound, maxHeader: http.StatusRequestHeaderFieldsTooLarge} {
		request, err := http.NewRequest(http.MethodGet, "https://"+address+"/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X", strings.Repeat("x", size))
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%d bytes: %s, want %d", size, response.Status, want)
		}
	}
}

// Slow readers of metrics do not keep another address out.
func TestScrapesUnderAttack(t *testing.T) {
	address, reached := freeAddress(t), make(chan struct{}, 3*maxScrapes)
	handler := LimitScrapes(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("slow") {
			reached <- struct{}{}
			<-r.Context().Done()
			return
		}
		_, _ = io.WriteString(w, "up 1")
	}))
	running(t, func(ctx context.Context) error {
		return ListenAndServe(ctx, Options{Name: "metrics", Listen: address, Connections: newConnections(t), Handler: handler})
	})
	reach(t, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, http.MethodGet, "http://"+address+"/metrics", nil)
	for range 2 * maxScrapes {
		c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.0.2")}}).Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_, _ = io.WriteString(c, "GET /metrics?slow HTTP/1.1\r\nHost: a\r\n\r\n")
		<-reached
	}
	response := reach(t, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, http.MethodGet, "http://"+address+"/metrics", nil)
	if body, _ := io.ReadAll(response.Body); string(body) != "up 1" {
		t.Errorf("%s: %s", response.Status, body)
	}
}

// The API server says whose token it is, and whether that user may get the path. It is asked once in a while.
func TestMetricsAuth(t *testing.T) {
	for _, test := range []struct {
		name, header string
		fails        bool
		status       int
		// asked is how often the API server is asked, by two requests, and a third one later.
		asked int
	}{
		{"no token", "", false, 401, 0},
		{"another scheme", "Basic abc", false, 401, 0},
		{"a token of nobody's", "Bearer stranger", false, 401, 2},
		{"a user who may not", "Bearer other", false, 403, 4},
		{"a user who may", "Bearer prometheus", false, 200, 4},
		{"the API server is away", "Bearer prometheus", true, 503, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cluster := fake.NewClientset()
				cluster.PrependReactor("create", "tokenreviews", func(action kubetesting.Action) (bool, runtime.Object, error) {
					review := action.(kubetesting.CreateAction).GetObject().(*authenticationv1.TokenReview)
					review.Status.Authenticated = review.Spec.Token != "stranger"
					review.Status.User.Username = review.Spec.Token
					if test.fails {
						return true, nil, errors.New("away")
					}
					return true, review, nil
				})
				cluster.PrependReactor("create", "subjectaccessreviews", func(action kubetesting.Action) (bool, runtime.Object, error) {
					review := action.(kubetesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview)
					of := review.Spec.NonResourceAttributes
					review.Status.Allowed = review.Spec.User == "prometheus" && of.Verb == "get" && of.Path == "/metrics"
					return true, review, nil
				})
				handler := NewMetricsAuth(cluster.AuthenticationV1(), cluster.AuthorizationV1()).Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
				ask := func() int {
					request := httptest.NewRequest(http.MethodGet, "/metrics", nil)
					request.Header.Set("Authorization", test.header)
					recorder := httptest.NewRecorder()
					handler.ServeHTTP(recorder, request)
					return recorder.Code
				}
				for range 2 {
					if got := ask(); got != test.status {
						t.Errorf("status %d, want %d", got, test.status)
					}
				}
				time.Sleep(acceptedFor + time.Second)
				ask()
				if got := len(cluster.Actions()); got != test.asked {
					t.Errorf("the API server was asked %d times, want %d", got, test.asked)
				}
			})
		})
	}
}
