package clusterstate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// field is what the tests keep of a thing.
func field(object *Custom) (string, bool) {
	for name, spec := range Members(object.Raw) {
		if name != "spec" {
			continue
		}
		for name, value := range Members(spec) {
			var text string
			if name == "read" && json.Unmarshal(value, &text) == nil {
				return text, true
			}
		}
	}
	return "", true
}

// names lists what a source yields: each name, with a mark where the object is unreadable.
func namesFrom(t *testing.T, s *Source[*Reduced[string]]) ([]string, string, error) {
	t.Helper()
	var all []string
	version, err := s.Each(t.Context(), metav1.ListOptions{ResourceVersion: "0", Limit: 3}, func(object *Reduced[string]) error {
		switch {
		case object.Unreadable:
			all = append(all, object.Name+"!")
		case object.Kept != "field" || object.Annotations != nil || object.UID == "" || object.Namespace != "shop":
			t.Errorf("it is reduced to %+v", object)
		default:
			all = append(all, object.Name)
		}
		return nil
	})
	return all, version, err
}

// Each test reads the whole list, whatever the size of its objects, and asks for as many as fit.
func TestPages(t *testing.T) {
	for name, c := range map[string]struct {
		objects []stored
		large   map[int]int // index to the size of its spec
		expire  map[string]string
		limits  []int
		names   []int
	}{
		"none":               {limits: []int{500}},
		"small":              {objects: things(3, 0, 0), limits: []int{500}},
		"several pages":      {objects: things(1001, 0, 0), limits: []int{500, 500, 500}},
		"large":              {objects: things(12, 0, 1<<20), limits: []int{500, 250, 125, 62, 31, 15, 7, 7}},
		"large annotations":  {objects: things(12, 1<<20, 0), limits: []int{500, 250, 125, 62, 31, 15, 7, 7}},
		"one in the middle":  {objects: things(5, 0, 0), large: map[int]int{2: MostBytes}, limits: []int{500, 250, 125, 62, 31, 15, 7, 3, 1, 1, 1, 1, 1}, names: []int{1}},
		"the only one":       {objects: things(1, 0, 0), large: map[int]int{0: MostBytes}, limits: []int{500, 250, 125, 62, 31, 15, 7, 3, 1}, names: []int{1}},
		"an expired token":   {objects: things(1001, 0, 0), expire: map[string]string{"500": "500"}, limits: []int{500, 500, 500, 500}},
		"one that goes back": {objects: things(700, 0, 0), expire: map[string]string{"500": "400"}, limits: []int{500, 500, 500}},
	} {
		t.Run(name, func(t *testing.T) {
			api := &apiserver{t: t, objects: c.objects, expire: c.expire}
			var want []string
			for i := range api.objects {
				mark := ""
				if size, large := c.large[i]; large {
					api.objects[i].Spec["big"] = things(1, 0, size)[0].Spec["big"]
					mark = "!"
				}
				want = append(want, api.objects[i].Metadata.Name+mark)
			}
			if name == "one that goes back" {
				want = slices.Insert(want, 500, want[400:500]...)
			}
			got, version, err := namesFrom(t, CustomResources(reader(t, api), thing(), "", field))
			if name == "an expired token" { // the same token again would be asked for without end
				if !apierrors.IsResourceExpired(err) {
					t.Errorf("it ends with %v", err)
				}
				return
			}
			if err != nil || version != "7" || !slices.Equal(got, want) {
				t.Errorf("at version %s: %v, %v; want %v", version, err, got, want)
			}
			if limits, names := api.asked(); !slices.Equal(limits, c.limits) || !slices.Equal(names, c.names) {
				t.Errorf("it asked for %v, and for names %v; want %v and %v", limits, names, c.limits, c.names)
			}
		})
	}
}

// An object that is nested as deeply as the API server takes it is nested too deeply in a list. It is passed by its name, and the
// others are read.
func TestTooDeep(t *testing.T) {
	deep := strings.Repeat("[", 9_998) + strings.Repeat("]", 9_998)
	item := func(i int, status string) string {
		return fmt.Sprintf(`{"metadata":{"name":"thing-%d","namespace":"shop","uid":"u"},"spec":{"read":"field"},"status":%s}`, i, status)
	}
	items := []string{item(0, "1"), item(1, deep), item(2, "1")}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
		from, _ := strconv.Atoi(r.URL.Query().Get("continue"))
		to, kind, next := min(from+limit, len(items)), "ThingList", ""
		if to < len(items) {
			next = strconv.Itoa(to)
		}
		page := items[from:to]
		if strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadataList") {
			kind, page = "PartialObjectMetadataList", []string{item(from, "1")}
		}
		_, _ = fmt.Fprintf(w, `{"kind":%q,"apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"7","continue":%q},"items":[%s]}`, kind, next, strings.Join(page, ","))
	}))
	defer server.Close()
	r, err := NewReader(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := namesFrom(t, CustomResources(r, thing(), "", field))
	if want := []string{"thing-0", "thing-1!", "thing-2"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
}

// The limit that works is kept for the next list, and grows again once pages are small.
func TestLimitGrows(t *testing.T) {
	api := &apiserver{t: t, objects: things(12, 0, 1<<20)}
	source := CustomResources(reader(t, api), thing(), "", field)
	for range 2 {
		if _, _, err := namesFrom(t, source); err != nil {
			t.Fatal(err)
		}
	}
	api.objects = things(100, 0, 0)
	if _, _, err := namesFrom(t, source); err != nil {
		t.Fatal(err)
	}
	limits, _ := api.asked()
	if want := []int{500, 250, 125, 62, 31, 15, 7, 7, 7, 7, 14, 14, 14, 14, 28, 28}; !slices.Equal(limits, want) {
		t.Errorf("it asked for %v; want %v", limits, want)
	}
}

// A function's error ends a list, a context's end, too; a panic of the reduction is one object's affair.
func TestEachEnds(t *testing.T) {
	api := &apiserver{t: t, objects: things(3, 0, 0)}
	r := reader(t, api)
	enough := errors.New("enough")
	seen := 0
	_, err := CustomResources(r, thing(), "", field).Each(t.Context(), metav1.ListOptions{}, func(*Reduced[string]) error {
		seen++
		return enough
	})
	if !errors.Is(err, enough) || seen != 1 {
		t.Errorf("%v after %d", err, seen)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := CustomResources(r, thing(), "", field).Each(over, metav1.ListOptions{}, func(*Reduced[string]) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("in a context that is over: %v", err)
	}
	source := CustomResources(r, thing(), "", func(object *Custom) (string, bool) {
		if object.Name == "thing-0001" {
			panic("bad")
		}
		return field(object)
	})
	failures := 0
	source.Failed = func(error) { failures++ }
	if got, _, err := namesFrom(t, source); err != nil || failures != 1 || !slices.Equal(got, []string{"thing-0000", "thing-0002"}) {
		t.Errorf("%v, %v, %d failures", got, err, failures)
	}
}

// What a reader keeps of an object in memory does not grow with the object. With 256 KiB each, all together are four times what the
// process may hold.
func TestLiveHeap(t *testing.T) {
	const count = 150
	perObject := func(size int) (bytes int64) {
		api := &apiserver{t: t, objects: things(count, size, size/8)}
		r := reader(t, api)
		custom := CustomResources(r, thing(), "", field)
		metadata := r.Metadata(thing(), "", func(from, to *metav1.ObjectMeta) { to.Annotations = Named(from.Annotations, "read") })
		before := heap()
		one, err := custom.List(t.Context(), metav1.ListOptions{})
		two, err2 := metadata.List(t.Context(), metav1.ListOptions{})
		if err != nil || err2 != nil || len(one.Items) != count || len(two.Items) != count {
			t.Fatal(err, err2)
		}
		bytes = (heap() - before) / (2 * count)
		runtime.KeepAlive(one)
		runtime.KeepAlive(two)
		runtime.KeepAlive(api)
		return bytes
	}
	perObject(1 << 10) // what is made once
	small, large := perObject(1<<10), perObject(256<<10)
	t.Logf("%d bytes are kept of an object of 1 KiB, %d of one of 256 KiB", small, large)
	if large > small+512 || large > 2<<10 {
		t.Errorf("%d bytes are kept of an object of 1 KiB, %d of one of 256 KiB", small, large)
	}
}

func heap() int64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// An object that is dropped costs the same, whatever its size: nothing of its spec is decoded.
func TestDroppedUndecoded(t *testing.T) {
	allocations := func(members int) float64 {
		spec := map[string]string{}
		for i := range members {
			spec[fmt.Sprint("field", i)] = "value"
		}
		object, err := json.Marshal(map[string]any{"type": "ADDED", "object": map[string]any{"spec": spec, "metadata": map[string]any{"name": "thing", "namespace": "elsewhere"}}})
		if err != nil {
			t.Fatal(err)
		}
		source := CustomResources(reader(t, &apiserver{t: t}), thing(), "", func(object *Custom) (string, bool) { return "", object.Namespace != "elsewhere" })
		return testing.AllocsPerRun(10, func() {
			if event, ok := source.reduceEvent(eventOf(object)); !ok || event.Type != "BOOKMARK" {
				t.Errorf("the event is %+v", event)
			}
		})
	}
	if few, many := allocations(1), allocations(10000); many > few+2 {
		t.Errorf("%v allocations for a spec of one field, %v for one of 10000", few, many)
	}
}
