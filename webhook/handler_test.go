package webhook

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/webhook/fairshare"
	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
	"github.com/lightstep-injector/lightstep-injector/webhook/snapshot"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testConfiguration = `
apiVersion: injector.lightstep.com/v1alpha1
kind: InjectorConfiguration
profiles:
  default:
    satellite: {address: "satellite.example.com:443"}
`

// edge is a handler with its real parts, and what can be seen of it.
type edge struct {
	*Handler
	logs     *bytes.Buffer
	registry *prometheus.Registry
}

func newEdge(t testing.TB) edge {
	t.Helper()
	config, err := settings.Parse([]byte(testConfiguration))
	if err != nil {
		t.Fatal(err)
	}
	e := edge{logs: new(bytes.Buffer), registry: prometheus.NewRegistry()}
	metrics, err := NewMetrics(e.registry)
	if err != nil {
		t.Fatal(err)
	}
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(e.logs), zap.DebugLevel))
	e.Handler = NewHandler(snapshot.NewStore(config, "lightstep-injector", "v1"), metrics, log)
	return e
}

// count is the value of a metric whose labels' values are the given ones.
func (e edge) count(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	families, err := e.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			var values []string
			for _, label := range metric.GetLabel() {
				values = append(values, label.GetValue())
			}
			if family.GetName() == name && strings.Join(values, " ") == strings.Join(labels, " ") {
				return metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("no metric %s %v", name, labels)
	return 0
}

// call sends a body as the apiserver does.
func (e edge) call(body []byte) *httptest.ResponseRecorder {
	request := httptest.NewRequest(http.MethodPost, Path, bytes.NewReader(body))
	request.Header.Set("Content-Type", "application/json")
	recorder := httptest.NewRecorder()
	e.ServeHTTP(recorder, request)
	return recorder
}

// admitted reads an answer as the apiserver does, and checks what holds for every one.
func admitted(t testing.TB, recorder *httptest.ResponseRecorder) *admissionv1.AdmissionResponse {
	t.Helper()
	if recorder.Code != http.StatusOK || recorder.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("status %d, %s: %s", recorder.Code, recorder.Header().Get("Content-Type"), recorder.Body)
	}
	var review admissionv1.AdmissionReview
	decoder := json.NewDecoder(recorder.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&review); err != nil {
		t.Fatal(err)
	}
	if review.Kind != "AdmissionReview" || review.APIVersion != "admission.k8s.io/v1" || review.Response == nil {
		t.Fatalf("not an answer: %+v", review)
	}
	answer := review.Response
	if !answer.Allowed || answer.Result != nil {
		t.Errorf("the pod is refused: %+v", answer)
	}
	if (len(answer.Patch) > 0) != (answer.PatchType != nil) {
		t.Errorf("patch of %d bytes with patchType %v", len(answer.Patch), answer.PatchType)
	}
	total := 0
	for _, warning := range answer.Warnings {
		total += len(warning)
		if len(warning) > 256 {
			t.Errorf("a warning of %d bytes", len(warning))
		}
	}
	if total > 4096 {
		t.Errorf("warnings of %d bytes", total)
	}
	return answer
}

func TestInject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the namespace is not known: the wait for it takes no time here
		e := newEdge(t)
		pod := testPod(3)
		answer := admitted(t, e.call(testReview(t, pod)))
		if answer.UID != testUID || answer.AuditAnnotations["reason"] == "" || answer.AuditAnnotations["config"] == "" {
			t.Errorf("answer: %+v", answer)
		}
		patched := apply(t, pod, answer.Patch)
		if n := len(patched.Spec.Volumes); n != 2 || patched.Spec.Volumes[1].Name != "lightstep-cacert" {
			t.Errorf("volumes: %+v", patched.Spec.Volumes)
		}
		for _, container := range patched.Spec.Containers {
			if last := container.VolumeMounts[len(container.VolumeMounts)-1]; last.MountPath != "/etc/lightstep" {
				t.Errorf("container %s has no satellite CA: %+v", container.Name, container.VolumeMounts)
			}
		}
		if got := e.count(t, "lightstep_injector_admissions_total", "injected", answer.AuditAnnotations["reason"]); got != 1 {
			t.Errorf("counted %v times", got)
		}
		var line map[string]any
		if err := json.Unmarshal(e.logs.Bytes(), &line); err != nil {
			t.Fatalf("not one line of JSON: %s", e.logs)
		}
		for key, want := range map[string]any{
			"uid": testUID, "namespace": "shop", "generateName": "reviews-6f4b9c7d8-", "owner": "ReplicaSet/reviews-6f4b9c7d8",
			"reason": answer.AuditAnnotations["reason"], "config": answer.AuditAnnotations["config"],
		} {
			if line[key] != want {
				t.Errorf("log line: %s is %v, want %v", key, line[key], want)
			}
		}
	})
}

// apply applies a patch with the library that the apiserver uses.
func apply(t *testing.T, pod *corev1.Pod, patch []byte) *corev1.Pod {
	t.Helper()
	raw, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		t.Fatal(err)
	}
	raw, err = decoded.Apply(raw)
	if err != nil {
		t.Fatal(err)
	}
	patched := new(corev1.Pod)
	if err := json.Unmarshal(raw, patched); err != nil {
		t.Fatal(err)
	}
	return patched
}

func TestTheSameRequestTheSameBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bare := testPod(3)
		bare.Labels, bare.Annotations = nil, nil // both are then added as a whole
		e, body := newEdge(t), testReview(t, bare)
		first := e.call(body).Body.String()
		for range 20 {
			if again := e.call(body).Body.String(); again != first {
				t.Fatalf("first %s\nthen %s", first, again)
			}
		}
	})
}

// A fresh namespace is waited for, 500 ms at most.
func TestFreshNamespace(t *testing.T) {
	for _, test := range []struct {
		name        string
		after, want time.Duration
		seen        bool
	}{
		{"known in time", 200 * time.Millisecond, 200 * time.Millisecond, true},
		{"not known", time.Second, 500 * time.Millisecond, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEdge(t)
				var got *inject.Snapshot
				e.Run = func(request *inject.Request, snap *inject.Snapshot) inject.Result {
					got = snap
					return inject.Run(request, snap)
				}
				// The server's context has ended: a shutdown has begun, and this request is still answered well.
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				known := make(chan struct{})
				go func() {
					defer close(known)
					time.Sleep(test.after)
					learn(e.Store, "shop")
				}()
				start := time.Now()
				a := e.decide(ctx, e.meter(), testReview(t, testPod(1)), start)
				if took := time.Since(start); took != test.want {
					t.Errorf("took %s, want %s", took, test.want)
				}
				if _, seen := got.Namespaces.Get("shop"); seen != test.seen {
					t.Errorf("seen: %t", seen)
				}
				if strings.Contains(codes(a.result.Warnings), string(inject.NamespaceNotSeen)) == test.seen {
					t.Errorf("warnings: %v", a.result.Warnings)
				}
				<-known
			})
		})
	}
}

func TestBadRequests(t *testing.T) {
	pods := `"resource":{"group":"","version":"v1","resource":"pods"},"operation":"CREATE","namespace":"shop"`
	review := func(request string) string {
		return `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{` + request + `}}`
	}
	object := func(object string) string { return review(`"uid":"u",` + pods + `,"object":` + object) }
	for _, test := range []struct {
		name, method, contentType, body string
		status                          int
		says                            string
	}{
		{"GET", "GET", "application/json", "", 405, "by POST"},
		{"no content type", "POST", "", object("{}"), 415, "application/json"},
		{"YAML", "POST", "application/yaml", "a: b", 415, "application/json"},
		{"empty", "POST", "application/json", "", 400, "invalid JSON"},
		{"not JSON", "POST", "application/json", "kind: AdmissionReview", 400, "invalid JSON"},
		{"an array", "POST", "application/json", "[]", 400, "a JSON ["},
		{"null", "POST", "application/json", "null", 400, "AdmissionReview of admission.k8s.io/v1 is needed"},
		{"no request", "POST", "application/json", `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}`, 400, "uid"},
		{"no uid", "POST", "application/json", review(pods), 400, "uid"},
		{"uid too long", "POST", "application/json", review(`"uid":"` + strings.Repeat("u", maxUID+1) + `",` + pods), 400, "request.uid has 257 bytes"},
		{"uid too long, and cut", "POST", "application/json", review(`"uid":"` + strings.Repeat("u", maxUID+1) + `",` + pods)[:400], 400, "request.uid has 257 bytes"},
		{"uid of another type", "POST", "application/json", review(`"uid":1,` + pods), 400, "cannot be read as string"},
		{"cut before the uid", "POST", "application/json", `{"kind":"AdmissionReview","request":{"ui`, 400, "invalid JSON"},
		{"too deep", "POST", "application/json", object(strings.Repeat(`{"a":`, 100_000)), 200, "invalid JSON"},
		{"too deep, at once", "POST", "application/json", strings.Repeat("[", maxBody), 400, ""},
		{"too long", "POST", "application/json", strings.Repeat(" ", maxBody+1), 413, "at most"},
		{"cut after the uid", "POST", "application/json", object("{}")[:150], 200, "invalid JSON"},
		{"two documents", "POST", "application/json", object("{}") + object("{}"), 200, "invalid JSON"},
		{"v1beta1", "POST", "application/json", strings.Replace(object("{}"), "k8s.io/v1", "k8s.io/v1beta1", 1), 200, "admission.k8s.io/v1 is needed"},
		{"another kind", "POST", "application/json", strings.Replace(object("{}"), "AdmissionReview", "Review", 1), 200, "AdmissionReview"},
		{"a name twice", "POST", "application/json", object(`{"spec":{},"spec":{}}`), 200, "twice"},
		{"a pod of another form", "POST", "application/json", object(`{"spec":{"containers":"none"}}`), 200, "cannot be read"},
		{"containers without end", "POST", "application/json", object(`{"spec":{"containers":[` + strings.Repeat("{},", maxList) + `{}]}}`), 200, "more than 1000"},
		{"annotations without end", "POST", "application/json", object(`{"metadata":{"annotations":{` + members(maxTexts) + `,"z":""}}}`), 200, "more than 10000"},
		{"a sidecar's env without end", "POST", "application/json", object(`{"spec":{"containers":[{"name":"istio-proxy","env":[` + strings.Repeat("{},", maxList) + `{}]}]}}`), 200, "more than 1000"},
		{"a sidecar of another form", "POST", "application/json", object(`{"spec":{"containers":[{"name":"istio-proxy","env":{}}]}}`), 200, "env"},
		{"a deletion", "POST", "application/json", strings.Replace(object("null"), "CREATE", "DELETE", 1), 200, "creation of pods"},
		{"a subresource", "POST", "application/json", review(`"uid":"u","subResource":"ephemeralcontainers",` + pods), 200, "creation of pods"},
		{"a Deployment", "POST", "application/json", strings.Replace(object("{}"), `"pods"`, `"deployments"`, 1), 200, "creation of pods"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := newEdge(t)
			request := httptest.NewRequest(test.method, Path, strings.NewReader(test.body))
			request.Header.Set("Content-Type", test.contentType)
			recorder := httptest.NewRecorder()
			e.ServeHTTP(recorder, request)
			if recorder.Code != test.status || !strings.Contains(recorder.Body.String(), test.says) {
				t.Errorf("status %d, want %d: %s", recorder.Code, test.status, recorder.Body)
			}
			if got := e.count(t, "lightstep_injector_admissions_total", "failed", "BadRequest"); got != 1 {
				t.Errorf("counted %v times", got)
			}
			if !strings.Contains(e.logs.String(), `"reason":"BadRequest"`) {
				t.Errorf("log: %s", e.logs)
			}
			if test.status == http.StatusOK {
				if answer := admitted(t, recorder); answer.UID != "u" || answer.Patch != nil || len(answer.Warnings) != 1 {
					t.Errorf("answer: %+v", answer)
				}
			}
		})
	}
}

// An object that is null, or has nothing in it, is a pod with nothing in it: the core's business, and no failure.
func TestSparsePods(t *testing.T) {
	for _, object := range []string{`null`, `{}`, `{"metadata":null,"spec":null}`, `{"spec":{"containers":[]}}`, `{"spec":{"containers":[{}]}}`} {
		t.Run(object, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				answer := admitted(t, newEdge(t).call(fmt.Appendf(nil, `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1",
					"request":{"uid":"u","resource":{"version":"v1","resource":"pods"},"operation":"CREATE","namespace":"shop","object":%s}}`, object)))
				if reason := answer.AuditAnnotations["reason"]; reason == "InternalError" || reason == "BadRequest" {
					t.Errorf("reason %s: %v", reason, answer.Warnings)
				}
			})
		})
	}
}

func TestAPanicLeavesThePodUnchanged(t *testing.T) {
	var nothing *inject.Pod
	for _, test := range []struct {
		name, logged string
		run          func()
	}{
		{"runtime error", "nil pointer dereference", func() { _ = nothing.Spec }},
		{"value that quotes the pod", "panic: a string", func() { panic("canary") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEdge(t)
				e.Run = func(*inject.Request, *inject.Snapshot) inject.Result { test.run(); return inject.Result{} }
				leavesUnchanged(t, e, test.logged)
			})
		})
	}
}

func TestAPatchThatCannotBeEncodedLeavesThePodUnchanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEdge(t)
		e.Run = func(request *inject.Request, snap *inject.Snapshot) inject.Result {
			result := inject.Run(request, snap)
			result.Patch = append(result.Patch, inject.Operation{Op: "add", Path: "/canary", Value: make(chan int)})
			return result
		}
		leavesUnchanged(t, e, "encode patch")
	})
}

// leavesUnchanged calls a handler that fails inside.
func leavesUnchanged(t *testing.T, e edge, logged string) {
	t.Helper()
	answer := admitted(t, e.call(testReview(t, testPod(1))))
	if answer.UID != testUID || answer.Patch != nil || len(answer.Warnings) != 1 || !strings.Contains(answer.Warnings[0], "InternalError") {
		t.Errorf("answer: %+v", answer)
	}
	if got := e.count(t, "lightstep_injector_admissions_total", "failed", "InternalError"); got != 1 {
		t.Errorf("counted %v times", got)
	}
	if log := e.logs.String(); !strings.Contains(log, logged) || !strings.Contains(log, testUID) || strings.Contains(log, "canary") {
		t.Errorf("log: %s", log)
	}
}

// members are so many of an object of strings.
func members(count int) string {
	var out strings.Builder
	for i := range count {
		_, _ = fmt.Fprintf(&out, `"%d":"",`, i)
	}
	return strings.TrimSuffix(out.String(), ",")
}

// Whatever holds the budget, the next request is answered at once, and named: the apiserver accepts no other answer.
func TestShed(t *testing.T) {
	e := newEdge(t)
	e.Run = func(*inject.Request, *inject.Snapshot) inject.Result { return inject.Result{Reason: inject.OptedOut} }
	learn(e.Store, "shop")
	usual, large := testReview(t, testPod(1)), testReview(t, testPod(2000))
	passes := func(body []byte) {
		t.Helper()
		if answer := admitted(t, e.call(body)); answer.AuditAnnotations["reason"] != "OptedOut" {
			t.Errorf("it is shed: %+v", answer)
		}
	}
	sheds := func(body []byte) {
		t.Helper()
		before := e.count(t, "lightstep_injector_shed_total")
		answer := admitted(t, e.call(body))
		if answer.UID != testUID || answer.Patch != nil || answer.AuditAnnotations["reason"] != "Overloaded" {
			t.Errorf("it is not shed: %+v", answer)
		}
		if got := e.count(t, "lightstep_injector_shed_total"); got != before+1 {
			t.Errorf("counted %v times", got-before)
		}
	}
	passes(large)
	var complete []*fairshare.Holding
	for range quarter {
		held := e.budget.bytes.Hold(new(fairshare.Client), func() { t.Error("a complete body is given up") })
		if !held.Grow(maxBytes/quarter) || !held.Protect() {
			t.Fatal("the budget is not free: an earlier request has kept its share")
		}
		complete = append(complete, held)
	}
	sheds(large)
	passes(usual)
	for _, held := range complete {
		held.Release()
	}
	passes(large)
	for range maxDecisions {
		passes(usual)
		if err := e.budget.decisions.Acquire(t.Context(), new(fairshare.Client)); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(*testing.T) { sheds(usual) }) // once it has waited for a slot
	for _, metric := range []string{"in_flight", "bodies_cut_total"} {
		if got := e.count(t, "lightstep_injector_"+metric); got != 0 {
			t.Errorf("%s is %v", metric, got)
		}
	}
}

// meter is one of a body that was read.
func (h *Handler) meter() *meter { return &meter{bytes: h.budget.bytes, client: h.budget.unknown} }

// Nothing of a pod but its names is logged, or said, whatever is wrong with it.
func TestLogsHoldNothingOfAPod(t *testing.T) {
	const canary = "Y2FuYXJ5canary"
	pod := testPod(1)
	pod.Annotations = map[string]string{
		"lightstep.com/sampling": canary, "lightstep.com/profile": canary, "proxy.istio.io/config": canary,
		"sidecar.istio.io/userVolumeMount": canary, "lightstep.com/inject": canary, canary: canary,
	}
	pod.Labels["lightstep.com/inject"] = canary
	pod.Spec.Containers[0].Env[0].Value = canary
	pod.Spec.Containers[0].Args = []string{canary}
	whole := testReview(t, pod)
	for name, body := range map[string][]byte{
		"whole":        whole,
		"cut":          whole[:len(whole)-1],
		"wrong type":   bytes.Replace(whole, []byte(`"spec":{`), []byte(`"spec":{"hostNetwork":"`+canary+`",`), 1),
		"twice":        bytes.Replace(whole, []byte(`"spec":{`), []byte(`"spec":{"`+canary+`":1,"`+canary+`":2,`), 1),
		"not utf-8":    bytes.Replace(whole, []byte(canary), []byte(canary+"\xff"), 1),
		"not a string": bytes.Replace(whole, []byte(`"`+canary+`":"`+canary+`"`), []byte(`"`+canary+`":1`), 1),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEdge(t)
				recorder := e.call(body)
				encoded := base64.StdEncoding.EncodeToString([]byte(canary))
				if log := e.logs.String(); strings.Contains(log, canary) || strings.Contains(log, encoded) {
					t.Errorf("log: %s", log)
				}
				if name != "whole" && strings.Contains(recorder.Body.String(), canary) {
					t.Errorf("answer: %s", recorder.Body)
				}
			})
		})
	}
}

// A pod is decoded whole: what happens to the body's buffer afterwards does not reach it.
func TestDecodedPodOutlivesItsBytes(t *testing.T) {
	pod := testPod(3)
	pod.Spec.Containers[1].Name = "istio-proxy"
	body := testReview(t, pod)
	_, decoded, err := decodeReview(body)
	if err != nil {
		t.Fatal(err)
	}
	before, err := json.Marshal(decoded.Spec.Containers)
	if err != nil {
		t.Fatal(err)
	}
	for i := range body {
		body[i] = 'x'
	}
	if after, _ := json.Marshal(decoded.Spec.Containers); !bytes.Equal(before, after) {
		t.Errorf("before %s\nafter %s", before, after)
	}
	if got := len(decoded.Spec.Containers[1].Env); got != 3 || decoded.Spec.Containers[0].Env != nil {
		t.Errorf("%d env of the sidecar", got)
	}
}

func TestWarningsAreBounded(t *testing.T) {
	var many []inject.Warning
	for range 100 {
		many = append(many, inject.Warning{Code: inject.MountConflict, Message: strings.Repeat("é", 150) + "\r\nX-Header: y"})
	}
	lines := warnings(many)
	total := 0
	for _, line := range lines {
		total += len(line)
		if len(line) > maxWarning || strings.ContainsAny(line, "\r\n") || strings.ToValidUTF8(line, "") != line {
			t.Errorf("warning %q", line)
		}
	}
	if last := lines[len(lines)-1]; total > maxWarnings || !strings.Contains(last, fmt.Sprintf(" %d more", 100-len(lines)+1)) {
		t.Errorf("%d lines of %d bytes, the last: %s", len(lines), total, last)
	}
	if got := codes(many); got != "MountConflict" {
		t.Errorf("codes %q", got)
	}
}

// FuzzReview: whatever comes in, the handler answers: in plain text with a status of 4xx, or by admitting the pod, with
// a patch that the apiserver's own library can apply to what was sent.
func FuzzReview(f *testing.F) {
	f.Add(testReview(f, testPod(1)))
	f.Add([]byte(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u"}}`))
	f.Add([]byte(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","resource":{"version":"v1","resource":"pods"},"operation":"CREATE","namespace":"shop","object":{"metadata":{"annotations":{"sidecar.istio.io/status":"{}"}},"spec":{"initContainers":[{"name":"istio-proxy","restartPolicy":"Always","env":[{"name":"PROXY_CONFIG","value":"{}"}]}],"containers":[{"name":"a","volumeMounts":[{"name":"v","mountPath":"/etc"}]}],"volumes":[]}}}}`))
	e := newEdge(f)
	learn(e.Store, "shop")
	f.Fuzz(func(t *testing.T, body []byte) {
		var in admissionv1.AdmissionReview
		if json.Unmarshal(body, &in) == nil && in.Request != nil && in.Request.Namespace != "shop" {
			t.Skip("another namespace is waited for")
		}
		e.logs.Reset()
		recorder := e.call(body)
		if recorder.Code >= 400 && recorder.Code < 500 {
			return
		}
		answer := admitted(t, recorder)
		if answer.AuditAnnotations["reason"] == "InternalError" {
			t.Fatalf("log: %s", e.logs)
		}
		if answer.Patch == nil {
			return
		}
		patch, err := jsonpatch.DecodePatch(answer.Patch)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := patch.Apply(in.Request.Object.Raw); err != nil {
			t.Fatalf("%s does not apply: %s", answer.Patch, err)
		}
	})
}

// learn makes a namespace known, as the watch does.
func learn(store *snapshot.Store, namespace string) {
	store.SetNamespace(&metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
}
