package webhook

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// freeAddress is one that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// running runs a server until the test ends, and waits for its end: TestMain sees any goroutine that it leaves behind.
func running(t *testing.T, run func(context.Context) error) {
	t.Helper()
	ctx, done := t.Context(), make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// reach calls an address until something answers.
func reach(t *testing.T, client *http.Client, method, url string, body []byte) *http.Response {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		request, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", contentType)
		response, err := client.Do(request)
		if err == nil {
			t.Cleanup(func() { _ = response.Body.Close() })
			return response
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// newServer makes a server with some certificate.
func newServer(t *testing.T, address string, handler http.Handler) *Server {
	t.Helper()
	certificate := newCertificate(t)
	server, err := NewServer(Options{
		Name: "webhook", Listen: address, Handler: handler, Connections: newConnections(t),
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &certificate, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return server
}

// newCertificate makes a certificate with the kind of key that the program makes.
func newCertificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"injector"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func newConnections(t testing.TB) *Connections {
	t.Helper()
	connections, err := NewConnections(prometheus.NewRegistry(), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	return connections
}

// newClient makes a client that trusts anybody.
func newClient(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // the certificate is not what is tested
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestServer(t *testing.T) {
	e, address := newEdge(t), freeAddress(t)
	learn(e.Store, "shop")
	server := newServer(t, address, e)
	running(t, server.Start)
	for _, http2 := range []bool{false, true} { // whatever a client prefers, it is HTTP/1.1
		transport := &http.Transport{
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // the certificate is not what is tested
			ForceAttemptHTTP2: http2,
		}
		defer transport.CloseIdleConnections()
		client := &http.Client{Transport: transport}
		response := reach(t, client, http.MethodPost, "https://"+address+Path, testReview(t, testPod(1)))
		if body, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusOK || response.Proto != "HTTP/1.1" {
			t.Errorf("%s: %s %s", response.Proto, response.Status, body)
		}
		response = reach(t, client, http.MethodGet, "https://"+address+"/elsewhere", nil)
		if response.StatusCode != http.StatusNotFound {
			t.Errorf("elsewhere: %s", response.Status)
		}
	}
	if err := server.Answers(httptest.NewRequest(http.MethodGet, "/readyz", nil)); err != nil {
		t.Errorf("not ready: %s", err)
	}
}

// A request that is under way when serving ends is answered, and its context is not that of anything that has ended.
func TestServingEndsAfterItsRequests(t *testing.T) {
	address, reached, ended := freeAddress(t), make(chan struct{}), make(chan error, 1)
	ctx, end := context.WithCancel(t.Context())
	server := newServer(t, address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(reached)
		<-ctx.Done()
		awaitRefusal(t, address)
		if err := r.Context().Err(); err != nil {
			t.Errorf("the request is cancelled: %v", err)
		}
		_, _ = io.WriteString(w, "answered")
	}))
	go func() { ended <- server.Start(ctx) }()
	go func() { <-reached; end() }()
	response := reach(t, newClient(t), http.MethodPost, "https://"+address+Path, []byte("{}"))
	if body, err := io.ReadAll(response.Body); string(body) != "answered" {
		t.Errorf("it is answered with %q, %v", body, err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// awaitRefusal waits until nobody listens on an address any more.
func awaitRefusal(t *testing.T, address string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		connection, err := net.Dial("tcp", address)
		if err != nil {
			return
		}
		_ = connection.Close()
	}
	t.Error("it goes on listening")
}

func TestListenAddresses(t *testing.T) {
	for _, address := range []string{"", "10250", ":0", ":http", "a:b:c", ":70000"} {
		if _, err := NewServer(Options{Listen: address, Handler: http.NotFoundHandler()}); err == nil {
			t.Errorf("%q is taken for an address", address)
		}
	}
	if err := ListenAndServe(t.Context(), Options{Listen: "256.0.0.1:1", Handler: http.NotFoundHandler()}); err == nil {
		t.Error("an address that is none is listened on")
	}
}

func TestHealth(t *testing.T) {
	address := freeAddress(t)
	problem := errors.New("stopping")
	running(t, func(ctx context.Context) error {
		return ListenAndServe(ctx, Options{Name: "health", Listen: address, Connections: newConnections(t), Handler: Health(func(r *http.Request) error {
			if r.URL.Query().Has("fail") {
				return problem
			}
			return nil
		})})
	})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/readyz?fail": 503, "/healthz?fail": 200} {
		if got := reach(t, client, http.MethodGet, "http://"+address+path, nil); got.StatusCode != want {
			t.Errorf("%s: %s, want %d", path, got.Status, want)
		}
	}
}

// A client that announces a body and does not send it is answered when its time is over, on every path.
func TestSlowBodies(t *testing.T) {
	for path, want := range map[string]int{Path: http.StatusRequestTimeout, "/elsewhere": http.StatusNotFound} {
		t.Run(path, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mux := http.NewServeMux()
				mux.Handle(Path, newEdge(t))
				mux.HandleFunc("/", notFound)
				near, far := net.Pipe()
				server, closed := http.Server{Handler: mux}, make(chan struct{})
				go func() {
					defer close(closed)
					_ = server.Serve(&oneConnection{conn: far, done: make(chan struct{})})
				}()
				start := time.Now()
				_, _ = fmt.Fprintf(near, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", path)
				response, err := http.ReadResponse(bufio.NewReader(near), nil)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
				if took := time.Since(start); response.StatusCode != want || took > readTimeout {
					t.Errorf("%s after %s", response.Status, took)
				}
				_, _ = near.Read(make([]byte, 1)) // returns when the server gives the connection up
				if took := time.Since(start); took > writeTimeout {
					t.Errorf("the connection was held for %s", took)
				}
				_ = near.Close()
				_ = server.Close()
				<-closed
			})
		})
	}
}

// oneConnection listens for the one connection that it has.
type oneConnection struct {
	conn net.Conn
	done chan struct{}
}

// Accept returns the connection, and then nothing until Close.
func (l *oneConnection) Accept() (net.Conn, error) {
	if conn := l.conn; conn != nil {
		l.conn = nil
		return conn, nil
	}
	<-l.done
	return nil, net.ErrClosed
}

// Close ends Accept.
func (l *oneConnection) Close() error { close(l.done); return nil }

// Addr is nowhere.
func (l *oneConnection) Addr() net.Addr { return &net.UnixAddr{} }
