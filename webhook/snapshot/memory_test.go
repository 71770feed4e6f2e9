package snapshot

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/lightstep-injector/lightstep-injector/certs/distribute"
)

// What the store and its snapshot keep of a namespace and of a Telemetry is what docs/memory.md states.
func TestMemoryFormula(t *testing.T) {
	const count = 2000
	store := NewStore(configuration(t, ca), "", "")
	store.ReplaceControlPlanes("istio-system", nil)
	store.ReplaceSecrets(ca, secretIn())
	store.replaceTelemetries(nil)
	for _, step := range []struct {
		name string
		most int64
		take func(i int)
	}{
		{"a namespace", 2 << 10, func(i int) {
			store.SetNamespace(namespace(fmt.Sprint("namespace-", i), map[string]string{"other": strings.Repeat("x", 1<<10)}))
		}},
		{"a copy of the satellite CA", 1 << 10, func(i int) {
			store.SetSecret(ca, fmt.Sprint("namespace-", i), &distribute.Found{UID: "b7f8c1f0-0000-0000-0000-000000000000", ResourceVersion: fmt.Sprint(i), Keys: []distribute.Key{{Name: "cacert.pem", Hash: "h"}}})
		}},
		{"a Telemetry", 2 << 10, func(i int) { store.setTelemetry(sampled(t, fmt.Sprint("namespace-", i), "mesh")) }},
		{"another Telemetry of the namespace", 1 << 10, func(i int) { store.setTelemetry(sampled(t, fmt.Sprint("namespace-", i), "other")) }},
		{"the longest annotations", 13 << 10, func(i int) {
			long := func() string { return strings.Repeat("x", 8<<10) }
			store.SetNamespace(namespace(fmt.Sprint("namespace-", i), map[string]string{"lightstep.com/profile": long(), "lightstep.com/sampling": long(), "lightstep.com/custom-tags": long()}))
		}},
	} {
		t.Run(step.name, func(t *testing.T) {
			before := liveHeap()
			for i := range count {
				step.take(i)
			}
			store.mu.Lock()
			store.publishMesh()
			store.mu.Unlock()
			each := (liveHeap() - before) / count
			t.Logf("%s costs %d bytes", step.name, each)
			if each > step.most {
				t.Errorf("%s costs %d bytes; at most %d are stated", step.name, each, step.most)
			}
		})
	}
	runtime.KeepAlive(store)
}

// A tenant who fills a namespace with as many entries as are read costs a bounded number of bytes.
func TestWorstTelemetries(t *testing.T) {
	store := NewStore(configuration(t, ca), "", "")
	store.ReplaceControlPlanes("istio-system", nil)
	store.SetNamespace(namespace("shop", nil))
	store.replaceTelemetries(nil)
	labels := map[string]any{}
	for i := range 75 {
		labels[fmt.Sprintf("%02d", i)] = ""
	}
	before := liveHeap()
	for i := range mostOfNamespace + 1 {
		spec := map[string]any{"selector": map[string]any{"matchLabels": labels}}
		store.setTelemetry(arrived(t, telemetry("shop", fmt.Sprint("telemetry", i), "telemetry.istio.io/v1", spec)))
	}
	if read := store.mesh.byNamespace["shop"].used.read; read < mostBytes/(75*(entrySize+20)) {
		t.Fatalf("only %d are read", read)
	}
	store.mu.Lock()
	store.publishMesh()
	store.mu.Unlock()
	if used := liveHeap() - before; used > 256<<10 {
		t.Errorf("they cost %d bytes", used)
	} else {
		t.Logf("they cost %d bytes", used)
	}
	runtime.KeepAlive(store)
}

func liveHeap() int64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
