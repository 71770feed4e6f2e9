package missed

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/lightstep-injector/lightstep-injector/internal/clusterstate"
	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

const configuration = `
apiVersion: injector.lightstep.com/v1alpha1
kind: InjectorConfiguration
exemptNamespaces: [exempt]
profiles: {default: {satellite: {address: "a:1"}}, empty: {}}
`

// cluster answers lists of pods, by namespace; of one that it does not have, that they may not be listed.
type cluster struct {
	mu    sync.Mutex
	pods  map[string][]metav1.ObjectMeta
	asked []string
	// pages has lists end where they are asked to, and slow is the namespace whose list does not come.
	pages bool
	slow  string
}

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if c.slow != "" && strings.Split(r.URL.Path, "/")[4] == c.slow {
		<-r.Context().Done()
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, r.URL.RequestURI())
	w.Header().Set("Content-Type", "application/json")
	pods, ok := c.pods[strings.Split(r.URL.Path, "/")[4]]
	if !ok {
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","message":"no list","code":403}`)
		return
	}
	list := metav1.PartialObjectMetadataList{TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadataList"}}
	if c.pages {
		from, _ := strconv.Atoi(r.URL.Query().Get("continue"))
		limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
		if to := from + limit; to < len(pods) {
			pods, list.Continue = pods[:to], strconv.Itoa(to)
		}
		pods = pods[from:]
	}
	for _, pod := range pods {
		pod.Namespace = strings.Split(r.URL.Path, "/")[4]
		list.Items = append(list.Items, metav1.PartialObjectMetadata{ObjectMeta: pod})
	}
	_ = json.NewEncoder(w).Encode(list)
}

// fixed is a snapshot that somebody may put another in the place of.
type fixed struct{ now *inject.Snapshot }

func (f *fixed) Current() *inject.Snapshot { return f.now }

func snapshotOf(t *testing.T, namespaces map[string]inject.Namespace) *inject.Snapshot {
	t.Helper()
	config, err := settings.Parse([]byte(configuration))
	if err != nil {
		t.Fatal(err)
	}
	snap := &inject.Snapshot{Settings: config, OwnNamespace: "own"}
	for name, namespace := range namespaces {
		snap.Namespaces = snap.Namespaces.With(name, namespace)
	}
	return snap
}

func newCounter(t *testing.T, c *cluster, snap *inject.Snapshot) (*Counter, *prometheus.Registry) {
	t.Helper()
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	cluster, err := clusterstate.NewReader(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	counter := &Counter{Snapshots: &fixed{snap}, Cluster: cluster, Log: zap.NewNop()}
	registry := prometheus.NewPedanticRegistry()
	if err := counter.Register(registry); err != nil {
		t.Fatal(err)
	}
	return counter, registry
}

func pod(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }

func annotated(key string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: "annotated", Annotations: map[string]string{key: "x"}}
}

// Missed is what the rules would have injected, as far as metadata tell; a namespace that cannot be looked at keeps its
// number, and one that is labelled no more has none.
func TestCount(t *testing.T) {
	going := metav1.ObjectMeta{Name: "going", DeletionTimestamp: &metav1.Time{Time: time.Now()}}
	istiod := metav1.ObjectMeta{Name: "istiod", Labels: map[string]string{"app": "istiod"}}
	c := &cluster{pods: map[string][]metav1.ObjectMeta{
		"shop":         {pod("a"), pod("b"), going, annotated("kubernetes.io/config.mirror"), annotated("lightstep.com/status"), annotated("other")},
		"fine":         nil,
		"istio-system": {istiod, pod("gateway")},
		"exempt":       {pod("a")},
		"own":          {pod("a")},
		"empty":        {pod("a")},
		"lost":         {pod("a")},
		"unlabelled":   {pod("a")},
	}}
	profile := func(name string) inject.Namespace {
		return inject.Namespace{Annotations: map[string]string{"lightstep.com/profile": name}}
	}
	counter, registry := newCounter(t, c, snapshotOf(t, map[string]inject.Namespace{
		"shop": {}, "fine": {}, "istio-system": {}, "exempt": {}, "own": {}, "empty": profile("empty"), "lost": profile("nosuch"),
	}))
	gauge := func(series string) {
		t.Helper()
		const head = "# HELP lightstep_injector_missed_pods Pods that run in a labelled namespace and were never injected, for each namespace that has any; of the leader alone.\n" +
			"# TYPE lightstep_injector_missed_pods gauge\n"
		if err := testutil.GatherAndCompare(registry, strings.NewReader(head+series), "lightstep_injector_missed_pods"); err != nil {
			t.Error(err)
		}
	}
	looked := func(want int) {
		t.Helper()
		if got, err := testutil.GatherAndCount(registry, "lightstep_injector_missed_pods_last_look_timestamp_seconds"); err != nil || got != want {
			t.Errorf("the time of the last look: %d series, %v", got, err)
		}
	}
	round := func() error {
		err := counter.round(t.Context(), flowcontrol.NewFakeAlwaysRateLimiter())
		counter.note(t.Context(), err)
		return err
	}
	counter.begin(map[string]int{})
	looked(0)
	if err := round(); err != nil {
		t.Fatal(err)
	}
	gauge("lightstep_injector_missed_pods{namespace=\"istio-system\"} 1\nlightstep_injector_missed_pods{namespace=\"shop\"} 3\n")
	looked(1)
	for _, uri := range c.asked {
		if !strings.Contains(uri, "labelSelector=lightstep.com%2Finjected%21%3Dtrue%2Clightstep.com%2Finject%21%3Dfalse&limit=500") || strings.Contains(uri, "resourceVersion") ||
			!strings.Contains(uri, "fieldSelector=status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed") || strings.Contains(uri, "unlabelled") {
			t.Errorf("it asked for %s", uri)
		}
	}

	delete(c.pods, "shop")
	counter.Snapshots = &fixed{snapshotOf(t, map[string]inject.Namespace{"shop": {}, "fine": {}})}
	if err := round(); err == nil || !strings.Contains(err.Error(), "list the pods of namespace shop") {
		t.Errorf("of a namespace that may not be listed it says %v", err)
	}
	gauge("lightstep_injector_missed_pods{namespace=\"shop\"} 3\n")

	c.pods["shop"] = nil
	if err := round(); err != nil {
		t.Fatal(err)
	}
	if got, err := testutil.GatherAndCount(registry, "lightstep_injector_missed_pods"); err != nil || got != 0 {
		t.Errorf("with nothing missed there are %d series, %v", got, err)
	}
	counter.begin(nil)
	looked(0)
}

// However many namespaces there are, the gauge has a bounded number of series, and their sum is right.
func TestSeries(t *testing.T) {
	counter, registry := newCounter(t, &cluster{}, snapshotOf(t, nil))
	counter.begin(map[string]int{})
	for i := range mostSeries + 5 {
		counter.set(fmt.Sprintf("n%04d", i), 2)
	}
	counter.set("worst", 9)
	families, err := registry.Gather()
	if err != nil || len(families) != 1 {
		t.Fatal(families, err)
	}
	sum, byName := 0.0, map[string]float64{}
	for _, series := range families[0].GetMetric() {
		byName[series.GetLabel()[0].GetValue()] = series.GetGauge().GetValue()
		sum += series.GetGauge().GetValue()
	}
	if len(byName) != mostSeries+1 || byName["worst"] != 9 || byName[""] != 12 || sum != 2*(mostSeries+5)+9 {
		t.Errorf("%d series; worst %v, others %v, sum %v", len(byName), byName["worst"], byName[""], sum)
	}
}

// A namespace with large pods is counted page by page; one whose answer does not come keeps no other from being counted.
func TestLargeAndSlowNamespaces(t *testing.T) {
	large := make([]metav1.ObjectMeta, 40)
	for i := range large {
		large[i] = pod(fmt.Sprint("pod", i))
		large[i].Annotations = map[string]string{"big": strings.Repeat("x", 250<<10)}
	}
	c := &cluster{pages: true, slow: "slow", pods: map[string][]metav1.ObjectMeta{"large": large, "small": {pod("a")}, "slow": {pod("a")}}}
	counter, _ := newCounter(t, c, snapshotOf(t, map[string]inject.Namespace{"large": {}, "slow": {}, "small": {}}))
	counter.begin(map[string]int{})
	counter.set("slow", 7)
	for name, want := range map[string]int{"large": 40, "small": 1} {
		if got, err := counter.count(t.Context(), counter.Snapshots.Current(), name); err != nil || got != want {
			t.Errorf("of namespace %s: %d, %v", name, got, err)
		}
	}
	c.pods["large"] = nil
	counter.patience = time.Second
	err := counter.round(t.Context(), flowcontrol.NewFakeAlwaysRateLimiter())
	if err == nil || !strings.Contains(err.Error(), "namespace slow") || counter.known("slow") != 7 {
		t.Errorf("of the slow one it says %v, and counts %d", err, counter.known("slow"))
	}
	if counter.known("small") != 1 {
		t.Errorf("of the small one, after the slow one, it counts %d", counter.known("small"))
	}
}
