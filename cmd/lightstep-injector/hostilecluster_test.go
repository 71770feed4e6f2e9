package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// hostileNamespace is where the tenant is.
const hostileNamespace = "shop"

// hostileCluster answers the reads of an API server's client with what a tenant has written. No real API server takes all of
// it: a later version may, and the commands must not depend on that.
type hostileCluster struct {
	tenant  tenant
	mu      sync.Mutex
	pods    []map[string]any
	sets    map[string]metav1.OwnerReference // the ReplicaSets' own controllers
	asked   []string                         // the paths that no client should ask for
	request int
}

func newHostileCluster(t *testing.T, by tenant) *hostileCluster {
	t.Helper()
	c := &hostileCluster{tenant: by}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	config := `{"apiVersion":"v1","kind":"Config","current-context":"c","contexts":[{"name":"c","context":{"cluster":"c"}}],"clusters":[{"name":"c","cluster":{"server":"` + server.URL + `"}}]}`
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", path)
	return c
}

// fill replaces the cluster's pods, half of which were injected.
func (c *hostileCluster) fill(pods int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pods, c.sets = nil, map[string]metav1.OwnerReference{}
	for range pods {
		pod := c.tenant.pod("Pod", "v1")
		if pod["metadata"].(map[string]any)["labels"] = map[string]string{}; len(c.pods)%2 == 1 {
			pod["metadata"].(map[string]any)["labels"] = map[string]string{"lightstep.com/injected": "true"}
		}
		owner := ownerOf(pod)
		if owner.Kind == "ReplicaSet" && owner.APIVersion == "apps/v1" && validName.MatchString(owner.Name) {
			c.sets[owner.Name] = c.tenant.owner()
		}
		c.pods = append(c.pods, pod)
	}
}

func ownerOf(pod map[string]any) metav1.OwnerReference {
	return pod["metadata"].(map[string]any)["ownerReferences"].([]metav1.OwnerReference)[0]
}

// restarts are the commands that make pods again, each once: of those that are missed or stale. Every pod of the second half
// is stale, and of the first half those are missed that have no conflict.
func (c *hostileCluster) restarts(half ...int) []string {
	var all []string
	for i, pod := range c.pods {
		if !slices.Contains(half, i%2) {
			continue
		}
		owner := ownerOf(pod)
		if by, ok := c.sets[owner.Name]; ok && owner.Kind == "ReplicaSet" && owner.APIVersion == "apps/v1" {
			owner = by
		}
		if words := restartOf(owner); words != nil {
			all = append(all, strings.Join(words, " "))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// ServeHTTP answers a read.
func (c *hostileCluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.request++
	const inNamespace = "/namespaces/" + hostileNamespace + "/"
	set, isSet := strings.CutPrefix(r.RequestURI, "/apis/apps/v1"+inNamespace+"replicasets/")
	owner, known := c.sets[set]
	selector := r.URL.Query().Get("labelSelector")
	switch {
	case r.Method != http.MethodGet:
		c.asked = append(c.asked, r.Method+" "+r.RequestURI)
	case isSet && known:
		c.answer(w, map[string]any{"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": map[string]any{
			"name": set, "namespace": hostileNamespace, "ownerReferences": []metav1.OwnerReference{owner},
		}})
	case r.URL.Path == "/api/v1/namespaces":
		c.list(w, []any{map[string]any{"metadata": map[string]any{"name": hostileNamespace, "labels": map[string]string{"lightstep.com/injection": "enabled"}, "annotations": map[string]string{"x": c.tenant.text()}}}})
	case r.URL.Path == "/api/v1"+inNamespace+"pods" && strings.Contains(selector, "!="):
		c.answer(w, map[string]any{"apiVersion": "v1", "kind": "PodList", "items": c.half(0)})
	case r.URL.Path == "/api/v1"+inNamespace+"pods":
		c.list(w, c.half(1))
	case strings.HasSuffix(r.URL.Path, "/secrets") && !strings.Contains(r.Header.Get("Accept"), "PartialObject"):
		c.answer(w, map[string]any{"apiVersion": "v1", "kind": "SecretList", "items": []any{}})
	case strings.HasSuffix(r.URL.Path, "/configmaps"):
		c.answer(w, map[string]any{"apiVersion": "v1", "kind": "ConfigMapList", "items": []any{}})
	case strings.HasSuffix(r.URL.Path, "/secrets"), strings.HasSuffix(r.URL.Path, "mutatingwebhookconfigurations"), strings.HasSuffix(r.URL.Path, "telemetries"):
		c.list(w, []any{})
	default:
		c.asked = append(c.asked, r.RequestURI)
		http.NotFound(w, r)
	}
}

// half are every second pod.
func (c *hostileCluster) half(from int) []any {
	var pods []any
	for ; from < len(c.pods); from += 2 {
		pods = append(pods, c.pods[from])
	}
	return pods
}

// list answers with a list of metadata.
func (c *hostileCluster) list(w http.ResponseWriter, items []any) {
	c.answer(w, map[string]any{"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": map[string]string{}, "items": items})
}

func (c *hostileCluster) answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}
