package inject_test

import (
	"flag"
	"fmt"
	"maps"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-json-experiment/json"
	corev1 "k8s.io/api/core/v1"
	psa "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"

	"github.com/lightstep-injector/lightstep-injector/webhook"
	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
	"github.com/lightstep-injector/lightstep-injector/webhook/inject/injecttest"
	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

var (
	pods = flag.Int("pods", 100_000, "how many pods to generate")
	seed = flag.Uint64("seed", 1, "the first pod's seed; a failure names its own")
)

// TestProperties checks over generated pods and settings: every patch applies with the library that the apiserver uses;
// it holds additions and the listed replaces alone; every field of the user's is as it was; a second pass adds nothing; a
// pod that passed the restricted Pod Security Standard still does. It fails, too, if a reason or a warning was hardly
// ever reached, since then nothing was shown of it.
func TestProperties(t *testing.T) {
	worlds := snapshots(t)
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	workers := runtime.GOMAXPROCS(0)
	tallies := make([]map[string]int, workers)
	var group sync.WaitGroup
	for w := range workers {
		tallies[w] = map[string]int{}
		group.Go(func() {
			for i := w; i < *pods && !t.Failed(); i += workers {
				p := property{t: t, seed: *seed + uint64(i), evaluator: evaluator, tally: tallies[w]}
				p.check(worlds)
			}
		})
	}
	group.Wait()
	if !t.Failed() {
		checkCoverage(t, tallies)
	}
}

// property is one generated case.
type property struct {
	t         *testing.T
	seed      uint64
	evaluator policy.Evaluator
	tally     map[string]int
}

func (p *property) check(worlds []*inject.Snapshot) {
	g := newGenerator(p.seed)
	snap := worlds[g.IntN(len(worlds))]
	namespace := one(g, "shop", "shop", "shop", "shop", "pay", "lost", "odd", "dark", "kube-system", "unlabelled", "fresh", "mesh-off", "classic", "canary", "lost-rev", "ambient", "istio-system")
	tree := g.pod()
	before, err := json.Marshal(tree, json.Deterministic(true))
	if err != nil {
		p.failf("marshal: %v", err)
		return
	}
	result := run(p.t, snap, namespace, before)
	p.count(result)
	p.checkOperations(result.Patch)
	after := apply(p.t, before, result.Patch)
	var patched any
	if err := json.Unmarshal(after, &patched); err != nil {
		p.failf("the patched pod is not JSON: %v", err)
		return
	}
	var original any
	_ = json.Unmarshal(before, &original)
	if lost := changed("", original, patched); lost != "" {
		p.failf("a field of the user's was changed: %s\nbefore %s\nafter  %s", lost, before, after)
	}
	again := run(p.t, snap, namespace, after)
	p.count(again)
	if len(again.Patch) > 0 {
		p.failf("the second pass adds %v\nbefore %s\nafter  %s", again.Patch, before, after)
	}
	p.checkLeftAlone(snap, namespace, after, again)
	if p.restricted(before) && !p.restricted(after) {
		p.failf("the pod no longer passes the restricted standard\nbefore %s\nafter  %s", before, after)
	}
}

// checkLeftAlone: what metadata alone tell is what the whole pod's decision is, but where the pod's spec decides; and a pod
// that has passed is not taken for one that was missed.
func (p *property) checkLeftAlone(snap *inject.Snapshot, namespace string, passed []byte, result inject.Result) {
	pod, err := webhook.DecodePod(passed)
	if err != nil {
		p.failf("decode: %v", err)
		return
	}
	whole := pod
	pod.Spec = nil
	reason := inject.LeftAlone(&inject.Request{Namespace: namespace, Pod: pod}, snap)
	decided := inject.Decide(&inject.Request{Namespace: namespace, Pod: whole}, snap).Reason
	switch {
	case decided == inject.WindowsPod || decided == inject.NothingToDo || reason == inject.Conflict:
	case reason != "" && reason != decided:
		p.failf("by its metadata it is left alone for %s, by all of it for %s\n%s", reason, decided, passed)
	case reason == "" && result.Reason != inject.NothingToDo:
		p.failf("it has passed, with %s, and its metadata do not tell\n%s", result.Reason, passed)
	}
}

func (p *property) failf(format string, args ...any) {
	p.t.Errorf("-seed=%d -pods=1: %s", p.seed, fmt.Sprintf(format, args...))
}

func (p *property) count(r inject.Result) {
	p.tally[string(r.Reason)]++
	seen := map[inject.Code]bool{}
	for _, w := range r.Warnings {
		if !seen[w.Code] {
			seen[w.Code] = true
			p.tally["warning "+string(w.Code)]++
		}
	}
}

// checkOperations: additions, and replaces of what is ours or merged.
func (p *property) checkOperations(ops []inject.Operation) {
	for _, op := range ops {
		replaceable := op.Path == "/metadata/labels/lightstep.com~1injected" || op.Path == "/metadata/annotations/lightstep.com~1status" ||
			op.Path == "/metadata/annotations/proxy.istio.io~1config" || op.Path == "/metadata/annotations/sidecar.istio.io~1userVolumeMount" ||
			(strings.Contains(op.Path, "/env/") && strings.HasSuffix(op.Path, "/value"))
		if op.Op != "add" && (op.Op != "replace" || !replaceable) {
			p.failf("operation %s %s", op.Op, op.Path)
		}
	}
}

func (p *property) restricted(pod []byte) bool {
	var typed corev1.Pod
	if err := json.Unmarshal(pod, &typed); err != nil {
		return false
	}
	level := psa.LevelVersion{Level: psa.LevelRestricted, Version: psa.LatestVersion()}
	return policy.AggregateCheckResults(p.evaluator.EvaluatePod(level, &typed.ObjectMeta, &typed.Spec)).Allowed
}

// changed returns where something of the user's is not as it was; empty if nothing is. What we own or merge into is
// looked at field by field.
func changed(path string, before, after any) string {
	switch b := before.(type) {
	case map[string]any:
		a, ok := after.(map[string]any)
		if !ok {
			return path
		}
		for key, value := range b {
			if lost := changedField(path+"/"+key, key, value, a[key]); lost != "" {
				return lost
			}
		}
		return ""
	case []any:
		a, _ := after.([]any)
		return changedList(path, b, a)
	case nil:
		return ""
	default:
		if !reflect.DeepEqual(before, after) {
			return path
		}
		return ""
	}
}

func changedField(path, key string, before, after any) string {
	switch key {
	case inject.StatusAnnotation, inject.InjectedLabel:
		return ""
	case "proxy.istio.io/config", "sidecar.istio.io/userVolumeMount":
		return changedText(path, before, after)
	case "value":
		if text, ok := after.(string); ok && strings.Contains(text, inject.TokenEnv) {
			return changedText(path, before, after)
		}
	}
	return changed(path, before, after)
}

// changedText compares what a merge may add to: every member that was there still is.
func changedText(path string, before, after any) string {
	if reflect.DeepEqual(before, after) {
		return ""
	}
	var was, is any
	if yaml.Unmarshal([]byte(before.(string)), &was) != nil || yaml.Unmarshal([]byte(after.(string)), &is) != nil {
		return path
	}
	if fields, ok := was.(map[string]any); ok && strings.Contains(path, "/env/") {
		delete(fields, "tracing") // the mesh's, which ours replaces
	}
	return changed(path, was, is)
}

// changedList: every element is still there, in the same order.
func changedList(path string, before, after []any) string {
	next := 0
	for i, element := range before {
		for next < len(after) && changed(path+"/-", element, after[next]) != "" {
			next++
		}
		if next == len(after) {
			return fmt.Sprintf("%s/%d", path, i)
		}
		next++
	}
	return ""
}

// checkCoverage fails where a reason or a code came up too seldom for the properties to mean anything about it.
func checkCoverage(t *testing.T, tallies []map[string]int) {
	t.Helper()
	total := map[string]int{}
	for _, tally := range tallies {
		for name, n := range tally {
			total[name] += n
		}
	}
	var expected []string
	for _, r := range inject.Reasons() {
		if r.OfPod {
			expected = append(expected, string(r.Reason))
		}
	}
	for _, c := range inject.Codes() {
		expected = append(expected, "warning "+string(c.Code))
	}
	least := *pods / 1000
	for _, name := range expected {
		if total[name] < least {
			t.Errorf("%s came up %d times in %d pods; at least %d are wanted", name, total[name], *pods, least)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(total)) {
		t.Logf("%8d %s", total[name], name)
		if !slices.Contains(expected, name) {
			t.Errorf("%s is not listed", name)
		}
	}
}

// generatedMeshes are the Istios that there may be: none known, none there, and every kind of control plane.
func generatedMeshes() []*istio.Mesh {
	mesh := func(telemetry map[string][]string, revisions map[string]injecttest.Revision) *istio.Mesh {
		m := injecttest.Mesh{Revisions: revisions, Tags: map[string]string{"stable": "default"}, Telemetry: telemetry}
		return m.Known()
	}
	type plane = map[string]injecttest.Revision
	const lightstep = "defaultConfig: {tracing: {lightstep: {address: 'satellite:9292', accessToken: t}, tlsSettings: {mode: SIMPLE, caCertificates: /etc/lightstep/cacert.pem}}}"
	const roots = "defaultConfig: {tracing: {zipkin: {address: 'z:9411'}, tlsSettings: {mode: SIMPLE, caCertificates: /etc/ssl/certs/own.pem}}}"
	const modern = "defaultConfig: {tracing: {zipkin: {address: 'z:9411'}, customTags: {a: {literal: {value: b}}}}}\nextensionProviders: [{name: lightstep, opentelemetry: {service: c, port: 4317}}]"
	return []*istio.Mesh{
		nil,
		mesh(nil, nil),
		mesh(nil, plane{"default": {Values: "{global: {tag: 1.7.8, proxy: {tracer: lightstep}}}", Mesh: lightstep}, "canary": {Values: "{global: {tag: 1.31.0}}", Mesh: modern}}),
		mesh(map[string][]string{}, plane{"default": {Values: "{global: {tag: 1.24.0}}", Mesh: modern}, "canary": {Values: "{global: {tag: 1.31.0}}", Mesh: "{}"}}),
		mesh(nil, plane{"default": {Values: "{global: {tag: latest}}", Mesh: modern}, "canary": {Values: "{global: {tag: 1.16.1}, sidecarInjectorWebhook: {enableNamespacesByDefault: true}}", Mesh: modern}}),
		mesh(nil, plane{"default": {Values: "{global: {tag: 1.12.0}}", Mesh: ""}}),
		mesh(nil, plane{"default": {Values: "{global: {tag: 1.14.6, proxy: {tracer: lightstep}}}", Mesh: roots}}),
		mesh(map[string][]string{"istio-system": {"lightstep"}}, plane{"canary": {Values: "{global: {tag: 1.7.8, proxy: {tracer: lightstep}}}", Mesh: lightstep}}),
	}
}

// snapshots are the worlds that pods are born into: every Istio generation, delivery, tracer and mount.
func snapshots(t *testing.T) []*inject.Snapshot {
	t.Helper()
	const address = "satellite: {address: 'satellite:9292'}"
	const annotation = "accessToken: {delivery: annotation, allowedNamespaces: [shop, lost, odd]}"
	profiles := []string{
		"{" + address + "}",
		"{" + address + ", mesh: {istioVersion: '1.7.8'}}",
		"{" + address + ", mesh: {istioVersion: '1.7.8'}, " + annotation + "}",
		"{" + address + ", mesh: {istioVersion: '1.9.0'}, customTags: {cluster: eu}, " + annotation + "}",
		"{" + address + ", mesh: {istioVersion: '1.12.0'}, caCertificate: {mountInto: proxy}}",
		"{" + address + ", mesh: {istioVersion: '1.14.1'}, caCertificate: null, " + annotation + "}",
		"{" + address + ", mesh: {istioVersion: '1.15.0'}}",
		"{" + address + ", mesh: {istioVersion: '1.24.0'}}",
		"{" + address + ", mesh: {istioVersion: '1.31.1'}, caCertificate: {mountInto: proxy}}",
		"{" + address + "}",
		"{" + address + ", " + annotation + "}",
		"{" + address + ", caCertificate: {secretName: other}}",
		"{" + address + ", mesh: {tracer: opentelemetry}}",
		"{" + address + ", mesh: {tracer: lightstep}}",
		"{" + address + ", mesh: {tracer: none}}",
		"{" + address + ", mesh: {tracer: none}, caCertificate: null}",
		"{}",
	}
	meshes := generatedMeshes()
	var all []*inject.Snapshot
	for i, profile := range slices.Concat(profiles, profiles) {
		w := injecttest.World{Namespace: "shop", Seen: &injecttest.Seen{}, Offline: i%5 == 4}
		if err := yaml.Unmarshal([]byte("{overrides: {pod: ["+[]string{"sampling, customTags", "sampling"}[i%2]+"]}, profiles: {default: "+profile+", kept: {namespaces: [nowhere], "+address+"}}}"), &w.Config); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(profile, "delivery: annotation") && i != 3 {
			w.Tokens = map[string]string{settings.DefaultProfile: "seed-token"}
		}
		snap := w.Snapshot(t)
		snap.Namespaces = snap.Namespaces.With("pay", inject.Namespace{Annotations: map[string]string{"lightstep.com/profile": "kept"}})
		snap.Namespaces = snap.Namespaces.With("odd", inject.Namespace{Annotations: map[string]string{"lightstep.com/sampling": "50", "lightstep.com/custom-tags": "x=y"}})
		snap.Namespaces = snap.Namespaces.With("dark", inject.Namespace{Annotations: map[string]string{"lightstep.com/profile": "unheard-of"}})
		snap.Namespaces = snap.Namespaces.With("lost", inject.Namespace{Missing: map[string]bool{[]string{"lightstep.cacert", "lightstep-access-token"}[i%2]: true}})
		snap.Namespaces = snap.Namespaces.With("unlabelled", inject.Namespace{Unlabelled: true})
		snap.Namespaces = snap.Namespaces.With("mesh-off", inject.Namespace{IstioInjection: "disabled"})
		snap.Namespaces = snap.Namespaces.With("classic", inject.Namespace{IstioInjection: "enabled", Annotations: map[string]string{"lightstep.com/custom-tags": "x=y"}})
		snap.Namespaces = snap.Namespaces.With("canary", inject.Namespace{IstioRevision: "canary"})
		snap.Namespaces = snap.Namespaces.With("lost-rev", inject.Namespace{IstioRevision: "gone"})
		snap.Namespaces = snap.Namespaces.With("ambient", inject.Namespace{IstioDataplane: "ambient"})
		snap.Namespaces = snap.Namespaces.With("istio-system", inject.Namespace{})
		snap.Mesh = meshes[i%len(meshes)]
		all = append(all, snap)
	}
	return all
}
