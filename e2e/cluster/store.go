package cluster

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
)

// WithLargeStore has etcd take 8 GiB instead of 2.
func WithLargeStore(c *Cluster, _ *Run) { c.quota = "8589934592" }

// WithoutGarbageCollection leaves objects alone whose owners do not exist.
func WithoutGarbageCollection(c *Cluster, _ *Run) { c.garbageStays = true }

// Compact has etcd forget the objects that were deleted or overwritten, and return the space.
func (c *Cluster) Compact(ctx context.Context) error {
	var read struct{ Header struct{ Revision string } }
	key := base64.StdEncoding.EncodeToString([]byte("/"))
	for _, step := range []struct {
		path string
		body func() any
	}{
		{"kv/range", func() any { return map[string]any{"key": key} }},
		{"kv/compaction", func() any { return map[string]any{"revision": read.Header.Revision, "physical": true} }},
		{"maintenance/defragment", func() any { return map[string]any{} }},
	} {
		if err := c.etcd(ctx, step.path, step.body(), &read); err != nil {
			return fmt.Errorf("compact etcd: %s: %w", step.path, err)
		}
	}
	return nil
}

// etcd calls etcd's JSON API.
func (c *Cluster) etcd(ctx context.Context, path string, body, answer any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	url := c.env.ControlPlane.Etcd.URL.JoinPath("v3", path).String()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(text))
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", response.Status)
	}
	return json.NewDecoder(response.Body).Decode(answer)
}
