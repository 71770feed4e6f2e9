package faults

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"golang.org/x/sync/semaphore"

	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

const (
	// memoryLimit is what the injector is told to keep to. Go collects whenever it would pass it, so under a flood what Go manages
	// comes right up to it, and by a little beyond while a collection runs: the limit is a soft one. mostManaged is what it may be
	// at any time that it is looked at, mostMemory what it may ever have had in RAM, with the pages of its program.
	memoryLimit = 128 << 20
	mostManaged = memoryLimit * 105 / 100
	mostMemory  = 192 << 20
)

// bounded runs it with a memory limit.
func bounded(*testing.T, *environment) injector.Options {
	return injector.Options{Env: []string{fmt.Sprintf("GOMEMLIMIT=%d", memoryLimit)}}
}

// peak is the most memory that the injector has had in RAM.
func (e *environment) peak(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", e.injector.PID()))
	stage.Check(t, err)
	_, rest, _ := bytes.Cut(status, []byte("VmHWM:"))
	var kilobytes int
	_, err = fmt.Sscan(string(rest), &kilobytes)
	stage.Check(t, err)
	return kilobytes << 10
}

// managed is how much memory Go manages just now, which is what GOMEMLIMIT is about.
func (e *environment) managed(ctx context.Context) (int, error) {
	text, err := e.injector.Metrics(ctx)
	if err != nil {
		return 0, err
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		return 0, err
	}
	bytes := func(name string) float64 { return families[name].GetMetric()[0].GetGauge().GetValue() }
	return int(bytes("go_memstats_sys_bytes") - bytes("go_memstats_heap_released_bytes")), nil
}

// most looks, until it is told to stop, how much memory Go manages, and returns the most.
func (e *environment) most(t *testing.T) (stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	most, looks := 0, 0
	var looking sync.WaitGroup
	looking.Go(func() {
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for ctx.Err() == nil {
			if now, err := e.managed(ctx); err == nil {
				most, looks = max(most, now), looks+1
			}
			<-ticker.C
		}
	})
	return func() int {
		cancel()
		looking.Wait()
		t.Logf("%d looks at what Go manages", looks)
		if looks == 0 {
			t.Error("nobody has seen how much memory Go manages")
		}
		return most
	}
}

// connectSlowly keeps a thousand connections open: on every other one nothing is ever said, on the others hardly anything.
func connectSlowly(t *testing.T, e *environment) func() {
	t.Helper()
	const connections, atOnce = 1000, 4 // an attack is no attack if it keeps the machine busy that it comes from
	address := e.injector.Address()
	dialing := semaphore.NewWeighted(atOnce)
	var open, turn atomic.Int64
	dial := func(ctx context.Context, silent bool) (net.Conn, error) {
		if err := dialing.Acquire(ctx, 1); err != nil {
			return nil, err
		}
		defer dialing.Release(1)
		if silent {
			return (&net.Dialer{}).DialContext(ctx, "tcp", address)
		}
		return (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(ctx, "tcp", address)
	}
	end := e.flood(t, connections, 0, func(ctx context.Context) error {
		silent := turn.Add(1)%2 == 0
		c, err := dial(ctx, silent)
		if err != nil {
			return err
		}
		open.Add(1)
		defer open.Add(-1)
		defer func() { _ = c.Close() }()
		defer context.AfterFunc(ctx, func() { _ = c.Close() })()
		if silent {
			_, err = io.Copy(io.Discard, c)
			return err
		}
		return slowly(c, time.Second)
	})
	stage.Eventually(t, func(context.Context) error {
		if now := open.Load(); now < connections*9/10 {
			return fmt.Errorf("%d connections of %d are open", now, connections)
		}
		return nil
	})
	return end
}

// sendLarge sends the largest bodies that are read, of the shapes that cost most: one string, and many.
func sendLarge(t *testing.T, e *environment) func() {
	t.Helper()
	const size, most = 7 << 20, 64
	long := review("default", `{"metadata":{"annotations":{"a":"`+strings.Repeat("x", size-1000)+`"}}}`)
	var many strings.Builder
	for i := 0; many.Len() < size-1000; i++ {
		fmt.Fprintf(&many, `"%x":"",`, i)
	}
	names := strings.TrimSuffix(many.String(), ",")
	bodies := [][]byte{long, review("default", `{"metadata":{"annotations":{`+names+`}}}`), review("default", `{"other":{`+names+`}}`)}
	var turn atomic.Int64
	return e.flood(t, most, 3*time.Second, e.poster(func() []byte { return bodies[int(turn.Add(1))%len(bodies)] }))
}

// sendDeep sends JSON that is nested so deeply that a recursive decoder runs out of its stack.
func sendDeep(t *testing.T, e *environment) func() {
	t.Helper()
	const depth = 100_000
	lists := review("default", strings.Repeat("[", depth)+strings.Repeat("]", depth))
	objects := review("default", strings.Repeat(`{"a":`, depth)+"1"+strings.Repeat("}", depth))
	var turn atomic.Int64
	return e.flood(t, 16, time.Second, e.poster(func() []byte {
		if turn.Add(1)%2 == 0 {
			return lists
		}
		return objects
	}))
}

// sendNonsense sends what comes to nothing: no TLS, other paths and methods, no JSON.
func sendNonsense(t *testing.T, e *environment) func() {
	t.Helper()
	address := e.injector.Address()
	noise := bytes.Repeat([]byte{0x16, 0x03, 0x01, 0xff, 0xff, '{', '[', 0}, 1000)
	post := e.poster(func() []byte { return noise })
	var turn atomic.Int64
	return e.flood(t, 32, time.Second, func(ctx context.Context) error {
		if turn.Add(1)%2 == 0 {
			return post(ctx)
		}
		c, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		defer context.AfterFunc(ctx, func() { _ = c.Close() })()
		_, _ = c.Write(noise)
		_, err = io.Copy(io.Discard, c)
		return err
	})
}

// poster sends bodies, over connections that are kept.
func (e *environment) poster(body func() []byte) func(context.Context) error {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxIdleConnsPerHost: 64}}
	url := e.injector.URL()
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body()))
		if err != nil {
			return err
		}
		request.Header.Set("Content-Type", "application/json")
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		return err
	}
}

// review is one of a pod's creation.
func review(namespace, object string) []byte {
	return []byte(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"1","resource":{"group":"","version":"v1","resource":"pods"},` +
		`"namespace":"` + namespace + `","operation":"CREATE","object":` + object + `}}`)
}
