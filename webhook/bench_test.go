package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/yaml"

	"github.com/lightstep-injector/lightstep-injector/certs/distribute"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
	"github.com/lightstep-injector/lightstep-injector/webhook/snapshot"
)

// These benchmarks print ratios. Whatever is compared takes turns, in short slices one after the other, so that a busy
// machine slows all of them alike; each ratio is the median over the rounds. docs/performance.md says what they mean.

// benchConfiguration is the common case: Istio's version is given, and its mesh does the tracing.
const benchConfiguration = `
apiVersion: injector.lightstep.com/v1alpha1
kind: InjectorConfiguration
profiles:
  default:
    satellite: {address: "lightstep-satellite.lightstep:9292"}
    mesh: {istioVersion: "1.24"}
`

// benchReview is the review of testdata/bench with as much environment as makes the size.
type benchReview struct {
	name       string
	kilobytes  float64
	containers int
	variables  int
	sidecar    bool
}

func benchReviews() []benchReview {
	return []benchReview{
		{name: "2.4KB", kilobytes: 2.4, containers: 1},
		{name: "9KB", kilobytes: 9, containers: 2, variables: 100},
		{name: "35KB", kilobytes: 35, containers: 2, variables: 520},
		{name: "9KB-sidecar", kilobytes: 9, containers: 2, variables: 54, sidecar: true},
	}
}

// body is the review as the apiserver sends it.
func (r benchReview) body(b testing.TB) []byte {
	b.Helper()
	var review admissionv1.AdmissionReview
	readYAML(b, "testdata/bench/review.yaml", &review)
	pod := typed(b, review.Request.Object.Raw)
	pod.Spec.Containers = pod.Spec.Containers[:r.containers]
	for i := range r.variables {
		c := &pod.Spec.Containers[i%r.containers]
		c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprintf("SETTING_NUMBER_%03d", i), Value: fmt.Sprintf("value-%03d.example.com", i)})
	}
	if r.sidecar {
		var proxy corev1.Container
		readYAML(b, "testdata/bench/istio-proxy.yaml", &proxy)
		pod.Spec.Containers = slices.Insert(pod.Spec.Containers, 0, proxy)
		pod.Annotations["sidecar.istio.io/status"] = `{"containers":["istio-proxy"]}`
	}
	raw, err := json.Marshal(pod)
	if err != nil {
		b.Fatal(err)
	}
	review.Request.Object.Raw = raw
	body := marshalReview(b, &review)
	if got := float64(len(body)) / 1000; math.Abs(got/r.kilobytes-1) > 0.05 {
		b.Fatalf("%s has %.1f KB", r.name, got)
	}
	return body
}

func readYAML(b testing.TB, file string, into any) {
	b.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(text, into); err != nil {
		b.Fatal(err)
	}
}

// newBenchHandler is the handler as the program runs it: it knows the namespace, and logs what is no plain success.
func newBenchHandler(b testing.TB) *Handler {
	b.Helper()
	config, err := settings.Parse([]byte(benchConfiguration))
	if err != nil {
		b.Fatal(err)
	}
	metrics, err := NewMetrics(prometheus.NewRegistry())
	if err != nil {
		b.Fatal(err)
	}
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(io.Discard), zap.InfoLevel))
	store := snapshot.NewStore(config, "lightstep-injector", "v1")
	learn(store, "shop")
	for _, secret := range config.SecretNames() {
		store.ReplaceSecrets(secret, map[string]*distribute.Found{"shop": {}})
	}
	return NewHandler(store, metrics, log)
}

// BenchmarkInProcess is the whole decision, bytes in and answer out, in process: beside one read of every byte, which is
// the limit, and beside the usual way. It reports x-read, how many such reads the decision takes, and x-usual, how many
// decisions the usual way takes; the rest are the decision's own.
func BenchmarkInProcess(b *testing.B) {
	for _, review := range benchReviews() {
		b.Run(review.name, func(b *testing.B) {
			body, handler := review.body(b), newBenchHandler(b)
			other, meter := newUsual(b, handler.Store.Current()), handler.meter()
			read := contender{run: inProcess(func() { sink(b, jsontext.Value(body).IsValid()) })}
			ours := contender{run: inProcess(func() { sink(b, handler.admit(b.Context(), meter, body).failure == nil) })}
			usual := contender{run: inProcess(func() { sink(b, post(other, body).Code == http.StatusOK) })}
			for b.Loop() {
				compare(b, &read, &ours, &usual)
			}
			b.ReportMetric(ratio(&ours, &read), "x-read")
			b.ReportMetric(ratio(&usual, &ours), "x-usual")
			ours.report(b)
			b.ReportMetric(usual.allocationsPerOp(), "usual-allocs")
		})
	}
}

// BenchmarkOverTLS is an exchange over TLS and HTTP/1.1 keep-alive, as the apiserver has it with a Service, all connections
// busy. The floor takes the body, decodes nothing and sends the very bytes that the webhook sends. It reports of-floor,
// the share of the floor's requests per second; read-of-floor, the same of a handler that also reads every byte once,
// which no decoder can beat; and x-usual, how many times the usual way's. The rest are the exchange's own, the client's
// part included.
func BenchmarkOverTLS(b *testing.B) {
	for _, review := range benchReviews() {
		for _, connections := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/%d", review.name, connections), func(b *testing.B) {
				s := newServing(b, review.body(b), connections)
				floor, read := contender{run: s.run("/floor")}, contender{run: s.run("/read")}
				ours, usual := contender{run: s.run(Path)}, contender{run: s.run("/usual")}
				for b.Loop() {
					compare(b, &floor, &read, &ours, &usual)
				}
				b.ReportMetric(ratio(&floor, &ours), "of-floor")
				b.ReportMetric(ratio(&floor, &read), "read-of-floor")
				b.ReportMetric(ratio(&usual, &ours), "x-usual")
				ours.report(b)
				b.ReportMetric(floor.allocationsPerOp(), "floor-allocs")
				b.ReportMetric(usual.allocationsPerOp(), "usual-allocs")
			})
		}
	}
}

const (
	// rounds is how often each contender has its turn, and slice how long that is.
	rounds = 21
	slice  = 100 * time.Millisecond
)

// contender is one of those compared.
type contender struct {
	// run does its work for a slice, and returns how often.
	run func() int
	// took is the time of one piece of work, a value for each round.
	took []time.Duration

	done, allocations, bytes uint64
}

// compare gives each contender its turns; another one begins each round.
func compare(b *testing.B, contenders ...*contender) {
	b.Helper()
	for _, c := range contenders {
		c.run()
	}
	for round := range rounds {
		for i := range contenders {
			contenders[(i+round)%len(contenders)].turn()
		}
	}
}

// turn is one slice. The garbage of whoever came before is not its own.
func (c *contender) turn() {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	done := c.run()
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	c.took = append(c.took, took/time.Duration(done))
	c.done += uint64(done)
	c.allocations += after.Mallocs - before.Mallocs
	c.bytes += after.TotalAlloc - before.TotalAlloc
}

func (c *contender) allocationsPerOp() float64 { return float64(c.allocations / c.done) }

// report says what one piece of work costs, in place of what the benchmark's loop cost.
func (c *contender) report(b *testing.B) {
	b.ReportMetric(float64(median(c.took)), "ns/op")
	b.ReportMetric(c.allocationsPerOp(), "allocs/op")
	b.ReportMetric(float64(c.bytes/c.done), "B/op")
}

// ratio is the median of a's time over b's, each round by itself.
func ratio(a, b *contender) float64 {
	ratios := make([]float64, len(a.took))
	for i := range ratios {
		ratios[i] = float64(a.took[i]) / float64(b.took[i])
	}
	return median(ratios)
}

func median[T float64 | time.Duration](values []T) T {
	return slices.Sorted(slices.Values(values))[len(values)/2]
}

// inProcess repeats work for a slice, looking at the clock now and then.
func inProcess(work func()) func() int {
	const between = 8
	return func() int {
		done := 0
		for start := time.Now(); time.Since(start) < slice; done += between {
			for range between {
				work()
			}
		}
		return done
	}
}

func sink(b *testing.B, ok bool) {
	if !ok {
		b.Error("the work was not done")
	}
}

// post hands a body to a handler, past any network.
func post(handler http.Handler, body []byte) *httptest.ResponseRecorder {
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, &http.Request{
		Method: http.MethodPost,
		Header: http.Header{"Content-Type": {contentType}},
		Body:   io.NopCloser(bytes.NewReader(body)),
	})
	return recorder
}

// serving is one TLS server with all that is compared, and a client with a number of connections.
type serving struct {
	b           *testing.B
	url         string
	client      *http.Client
	connections int
	body        []byte
}

func newServing(b *testing.B, body []byte, connections int) *serving {
	b.Helper()
	handler := newBenchHandler(b)
	other := newUsual(b, handler.Store.Current())
	answer := post(handler, body).Body.Bytes()
	checkSame(b, body, answer, post(other, body).Body.Bytes())
	mux := http.NewServeMux()
	mux.Handle(Path, handler)
	mux.Handle("/usual", other)
	mux.HandleFunc("/floor", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		send(w, &admission{answer: answer})
	})
	mux.HandleFunc("/read", func(w http.ResponseWriter, r *http.Request) {
		buffer := handler.buffers.Get().(*bytes.Buffer)
		defer handler.putBack(buffer)
		_, _ = buffer.ReadFrom(r.Body)
		sink(b, jsontext.Value(buffer.Bytes()).IsValid())
		send(w, &admission{answer: answer})
	})
	server := httptest.NewTLSServer(mux) // HTTP/1.1 alone
	b.Cleanup(server.Close)
	client := server.Client()
	client.Transport.(*http.Transport).MaxIdleConnsPerHost = connections
	return &serving{b, server.URL, client, connections, body}
}

// checkSame fails unless both answers lead to the same pod.
func checkSame(b *testing.B, body []byte, answers ...[]byte) {
	b.Helper()
	var pods []*corev1.Pod
	for _, text := range answers {
		var request, answer admissionv1.AdmissionReview
		if err := json.Unmarshal(body, &request); err != nil {
			b.Fatal(err)
		}
		if err := json.Unmarshal(text, &answer); err != nil {
			b.Fatal(err)
		}
		pods = append(pods, typed(b, applied(b, request.Request.Object.Raw, answer.Response.Patch)))
	}
	if !equality.Semantic.DeepEqual(pods[0], pods[1]) {
		b.Fatal("the webhook and the usual way do not make the same pod")
	}
}

// run calls a path for a slice over all connections.
func (s *serving) run(path string) func() int {
	return func() int {
		var done atomic.Int64
		var workers sync.WaitGroup
		end := time.Now().Add(slice)
		for range s.connections {
			workers.Go(func() {
				for time.Now().Before(end) && s.call(path) {
					done.Add(1)
				}
			})
		}
		workers.Wait()
		return max(int(done.Load()), 1)
	}
}

// call is one exchange.
func (s *serving) call(path string) bool {
	response, err := s.client.Post(s.url+path, contentType, bytes.NewReader(s.body))
	if err != nil {
		s.b.Error(err)
		return false
	}
	_, err = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	if err != nil || response.StatusCode != http.StatusOK {
		s.b.Error(response.Status, err)
		return false
	}
	return true
}
