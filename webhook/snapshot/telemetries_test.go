package snapshot

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// sampled is a Telemetry of a namespace that switches a provider on.
func sampled(t *testing.T, namespace, name string) *telemetryObject {
	t.Helper()
	return arrived(t, sampledRaw(namespace, name, "lightstep"))
}

func sampledRaw(namespace, name, provider string) *unstructured.Unstructured {
	tracing := []any{map[string]any{"providers": []any{map[string]any{"name": provider}}}}
	return telemetry(namespace, name, "telemetry.istio.io/v1", map[string]any{"tracing": tracing})
}

// telemetryNames lists, for each namespace of the snapshot, the Telemetries that it has.
func telemetryNames(store *Store) map[string]string {
	all := map[string]string{}
	for namespace, list := range store.Current().Mesh.Telemetry {
		var names []string
		for _, t := range list {
			names = append(names, t.Name)
		}
		all[namespace] = strings.Join(names, " ")
	}
	return all
}

// A Telemetry above its bounds is ignored, and reported; the others of its namespace, and of others, are kept.
func TestTelemetryBounds(t *testing.T) {
	many := func(count int) map[string]any {
		all := map[string]any{}
		for i := range count {
			all[fmt.Sprint("label", i)] = "x"
		}
		return all
	}
	tags := map[string]any{}
	for i := range mostEntries + 1 {
		tags[fmt.Sprint("tag", i)] = map[string]any{"literal": map[string]any{"value": "x"}}
	}
	for name, c := range map[string]struct {
		spec       map[string]any
		unreadable bool
	}{
		"small":                    {map[string]any{}, false},
		"large elsewhere":          {map[string]any{"metrics": []any{strings.Repeat("x", 1<<20)}}, false},
		"large":                    {map[string]any{"tracing": []any{map[string]any{"customTags": map[string]any{"a": strings.Repeat("x", mostTelemetry)}}}}, true},
		"many labels":              {map[string]any{"selector": map[string]any{"matchLabels": many(mostEntries + 1)}}, true},
		"as many labels as may be": {map[string]any{"selector": map[string]any{"matchLabels": many(mostEntries)}}, false},
		"many entries":             {map[string]any{"tracing": slices.Repeat([]any{map[string]any{}}, mostEntries+1)}, true},
		"many tags":                {map[string]any{"tracing": []any{map[string]any{"customTags": tags}}}, true},
		"other types":              {map[string]any{"selector": "x", "tracing": map[string]any{"a": 1}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			store := NewStore(configuration(t, ca), "", "")
			store.ReplaceControlPlanes("istio-system", nil)
			store.SetNamespace(namespace("shop", nil))
			got := store.replaceTelemetries([]*telemetryObject{sampled(t, "shop", "a"), arrived(t, telemetry("shop", "b", "telemetry.istio.io/v1", c.spec)), sampled(t, "shop", "c")})
			want := map[string]string{"shop": "a b c"}
			if c.unreadable {
				want["shop"] = "a c"
			}
			if names := telemetryNames(store); !maps.Equal(names, want) || (len(got) == 1) != c.unreadable || (store.Unreadable()[telemetryKind] == 1) != c.unreadable {
				t.Errorf("%v; unreadable %v, %v", names, got, store.Unreadable())
			}
		})
	}
}

// However many a namespace has, few are read, and a bounded number is remembered; when some go, others have their place.
func TestTelemetriesOfANamespaceAreBounded(t *testing.T) {
	for name, take := range map[string]func(*Store, *telemetryObject){
		"as they arrive at first": func(s *Store, o *telemetryObject) {
			s.mu.Lock()
			s.mesh.stream = initialStream
			s.mu.Unlock()
			if s.admitTelemetry(o.Namespace, &o.Kept) {
				s.mesh.set(o.Namespace, o.Kept)
			}
		},
		"as they change": func(s *Store, o *telemetryObject) { s.setTelemetry(o) },
	} {
		t.Run(name, func(t *testing.T) {
			store := NewStore(configuration(t, ca), "", "")
			store.SetNamespace(namespace("shop", nil))
			store.replaceTelemetries(nil)
			for i := range mostOfNamespace + 10 {
				take(store, sampled(t, "shop", fmt.Sprintf("t%04d", i)))
			}
			set := store.mesh.byNamespace["shop"]
			if len(set.byName) != mostOfNamespace || len(set.readable()) != mostRead || store.Unreadable()[telemetryKind] != mostOfNamespace-mostRead {
				t.Errorf("%d are remembered, %d read, %v unreadable", len(set.byName), len(set.readable()), store.Unreadable())
			}
			for name := range maps.Clone(set.byName) {
				store.removeTelemetry(&telemetryObject{PartialObjectMetadata: metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}}})
			}
			if set.used != (budget{}) {
				t.Errorf("with none there, %+v is used", set.used)
			}
		})
	}
	large := func(name string) *telemetryObject {
		return arrived(t, sampledRaw("shop", name, strings.Repeat("x", mostTelemetry/2)))
	}
	store := NewStore(configuration(t, ca), "", "")
	store.SetNamespace(namespace("shop", nil))
	store.replaceTelemetries(nil)
	for i := range 20 {
		store.setTelemetry(large(fmt.Sprint(i)))
	}
	if set := store.mesh.byNamespace["shop"]; set.used.bytes > mostBytes || set.used.read < mostBytes/mostTelemetry {
		t.Errorf("of large ones, %+v is used", set.used)
	}
}

// Of Telemetries are kept those that matter. One whose namespace comes to matter after the stream has begun is listed, and
// what the stream reports meanwhile is newer.
func TestLateNamespaces(t *testing.T) {
	label := func(s *Store, name string) { s.SetNamespace(namespace(name, nil)) }
	for name, c := range map[string]struct {
		news func(t *testing.T, s *Store)
		late []string
		want map[string]string
	}{
		"not labelled":       {func(t *testing.T, s *Store) { s.setTelemetry(sampled(t, "other", "x")) }, nil, map[string]string{"shop": "a"}},
		"the root namespace": {func(t *testing.T, s *Store) { s.setTelemetry(sampled(t, "istio-system", "x")) }, nil, map[string]string{"shop": "a", "istio-system": "x"}},
		"labelled later":     {func(_ *testing.T, s *Store) { label(s, "other") }, []string{"other"}, map[string]string{"shop": "a"}},
		"labelled later, and listed": {func(t *testing.T, s *Store) {
			label(s, "other")
			s.addTelemetries("other", []*telemetryObject{sampled(t, "other", "x")})
		}, nil, map[string]string{"shop": "a", "other": "x"}},
		"changed while it was listed": {func(t *testing.T, s *Store) {
			label(s, "other")
			s.setTelemetry(sampled(t, "other", "new"))
			s.setTelemetry(sampled(t, "other", "gone"))
			s.removeTelemetry(sampled(t, "other", "gone"))
			s.addTelemetries("other", []*telemetryObject{sampled(t, "other", "gone"), sampled(t, "other", "old")})
		}, nil, map[string]string{"shop": "a", "other": "new old"}},
		"unlabelled while it was listed": {func(t *testing.T, s *Store) {
			label(s, "other")
			s.RemoveNamespace(namespace("other", nil))
			s.addTelemetries("other", []*telemetryObject{sampled(t, "other", "x")})
		}, nil, map[string]string{"shop": "a"}},
		"no longer labelled": {func(_ *testing.T, s *Store) { s.RemoveNamespace(namespace("shop", nil)) }, nil, map[string]string{}},
		"no longer listed as labelled": {func(_ *testing.T, s *Store) {
			s.ReplaceNamespaces([]*metav1.PartialObjectMetadata{namespace("other", nil)})
		}, []string{"other"}, map[string]string{}},
		"labelled while all arrive": {func(t *testing.T, s *Store) {
			s.beginTelemetries()
			label(s, "other")
			s.replaceTelemetries([]*telemetryObject{sampled(t, "shop", "b"), sampled(t, "other", "late")})
		}, []string{"other"}, map[string]string{"shop": "b", "other": "late"}},
		"all arrive again": {func(t *testing.T, s *Store) {
			label(s, "other")
			s.beginTelemetries()
			s.replaceTelemetries([]*telemetryObject{sampled(t, "other", "x")})
		}, nil, map[string]string{"other": "x"}},
		"another root namespace": {func(_ *testing.T, s *Store) {
			s.SetControlPlane("istio-system", plane("istio", nil, map[string]string{"mesh": "rootNamespace: root"}))
		}, []string{"root"}, map[string]string{"shop": "a"}},
		"the cluster has the kind no longer": {func(_ *testing.T, s *Store) {
			s.lacksTelemetries()
			label(s, "other")
		}, nil, map[string]string{}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := NewStore(configuration(t, ca), "", "")
				store.ReplaceControlPlanes("istio-system", nil)
				label(store, "shop")
				store.beginTelemetries()
				store.replaceTelemetries([]*telemetryObject{sampled(t, "shop", "a"), sampled(t, "unlabelled", "b")})
				c.news(t, store)
				time.Sleep(gatherTelemetry)
				synctest.Wait()
				if got := telemetryNames(store); !maps.Equal(got, c.want) {
					t.Errorf("the snapshot has %v; want %v", got, c.want)
				}
				if got := slices.Sorted(maps.Keys(store.mesh.late)); !slices.Equal(got, c.late) {
					t.Errorf("to be listed are %v; want %v", got, c.late)
				}
				time.Sleep(2 * freshFor) // the timers' end
			})
		})
	}
}

// However many Telemetries change, few snapshots are published, and the last one has them all.
func TestTelemetriesAreGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const changes = 4000
		store := NewStore(configuration(t, ca), "", "")
		store.ReplaceControlPlanes("istio-system", nil)
		for i := range 40 {
			store.SetNamespace(namespace(fmt.Sprint("n", i), nil))
		}
		store.replaceTelemetries(nil)
		published := 0
		_, superseded := store.Now()
		for i := range changes {
			store.setTelemetry(sampled(t, fmt.Sprint("n", i%40), fmt.Sprint("t", i%80)))
			time.Sleep(time.Second / changes)
			synctest.Wait()
			select {
			case <-superseded:
				published++
				_, superseded = store.Now()
			default:
			}
		}
		time.Sleep(gatherTelemetry)
		synctest.Wait()
		if got := telemetryNames(store); published > 10 || len(got) != 40 || len(strings.Fields(got["n7"])) != 2 {
			t.Errorf("%d snapshots for %d changes; the last one has %v", published, changes, got)
		}
		time.Sleep(2 * freshFor) // the timers' end
	})
}

// A namespace that is labelled while the watch runs has its Telemetries listed, in its own namespace alone.
func TestLateNamespaceIsListed(t *testing.T) {
	api := &apiserver{watches: map[string]chan string{watchTelemetry: make(chan string, 10)}, telemetries: sampledRaw("shop", "mesh", "lightstep")}
	watch, _ := watching(t, api)
	api.watches[watchNamespaces] <- listed(t)
	for _, key := range []string{watchToken, watchTags} {
		api.watches[key] <- listed(t)
	}
	api.watches[watchCA] <- listedSecrets
	api.watches[watchIstio] <- listedObjects
	api.watches[watchTelemetry] <- objectEvent(t, "ADDED", sampledRaw("shop", "mesh", "lightstep"))
	api.watches[watchTelemetry] <- listedObjects
	select {
	case <-watch.Synced():
	case <-time.After(soon):
		t.Fatal("not synced")
	}
	eventually(t, watch.Store, "a mesh", func(now *published) bool { return now.snapshot.Mesh != nil })
	if got := telemetryNames(watch.Store); len(got) > 0 {
		t.Fatalf("before it is labelled, the snapshot has %v", got)
	}
	api.watches[watchNamespaces] <- event(t, "ADDED", namespace("shop", nil))
	eventually(t, watch.Store, "the Telemetry of shop", func(now *published) bool { return len(now.snapshot.Mesh.Telemetry["shop"]) == 1 })
	api.mu.Lock()
	defer api.mu.Unlock()
	if !slices.ContainsFunc(api.asked, func(asked string) bool {
		return strings.HasPrefix(asked, "/apis/telemetry.istio.io/v1alpha1/namespaces/shop/telemetries")
	}) {
		t.Errorf("it asked for %v", api.asked)
	}
}

// An API server that cannot stream the initial list is asked for pages, and never at resource version 0.
func TestWithoutWatchList(t *testing.T) {
	api := &apiserver{lists: true, watches: map[string]chan string{watchTelemetry: make(chan string, 10)}}
	watch, _ := watching(t, api)
	select {
	case <-watch.Synced():
	case <-time.After(soon):
		t.Fatal("not synced")
	}
	api.mu.Lock()
	defer api.mu.Unlock()
	lists := 0
	for _, uri := range api.uris {
		if strings.Contains(uri, "watch=true") {
			continue
		}
		lists++
		if !strings.Contains(uri, "limit=") || strings.Contains(uri, "resourceVersion") {
			t.Errorf("it asked for %s", uri)
		}
	}
	if lists < 6 { // namespaces, two Secrets, tags, ConfigMaps, Telemetries
		t.Errorf("%d lists: %v", lists, api.uris)
	}
}
