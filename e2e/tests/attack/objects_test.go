package attack

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

const (
	// writers is how many objects are written at once.
	writers = 4
	// small is next to nothing; annotations is the most that an object may have of those, large the most that is sent of a spec: an
	// object may have 1.5 MiB in etcd.
	small, annotations, large = 10, 250 << 10, 1_000_000
)

// kind is a kind of object that a tenant can write. Where it needs a namespace of its own, each is in another.
type kind struct {
	// path has the namespace in the place of %s.
	path string
	// fill makes an object of about some size.
	fill func(size int) map[string]any
	// name is the one that every object has, each in a namespace of its own.
	name string
	// labels are those of each object.
	labels map[string]string
}

func text(size int) string { return strings.Repeat("x", size) }

// ours are the labels of the mesh's objects that the injector keeps.
func ours() map[string]string {
	return map[string]string{"app.kubernetes.io/managed-by": "lightstep-injector", "lightstep.com/managed": "mesh"}
}

func telemetries() kind {
	return kind{path: "/apis/telemetry.istio.io/v1/namespaces/%s/telemetries", fill: func(size int) map[string]any {
		tags := map[string]any{"a": map[string]any{"literal": map[string]any{"value": text(size)}}}
		return map[string]any{"spec": map[string]any{"tracing": []any{map[string]any{"customTags": tags}}}}
	}}
}

func serviceEntries() kind {
	return kind{path: "/apis/networking.istio.io/v1/namespaces/%s/serviceentries", labels: ours(), fill: func(size int) map[string]any {
		return map[string]any{"spec": map[string]any{
			"hosts": []any{"a.example.com"}, "exportTo": lines(size), "ports": []any{map[string]any{"number": 80, "name": "http", "protocol": "HTTP"}}, "resolution": "DNS",
		}}
	}}
}

func destinationRules() kind {
	return kind{path: "/apis/networking.istio.io/v1/namespaces/%s/destinationrules", labels: ours(), fill: func(size int) map[string]any {
		return map[string]any{"spec": map[string]any{"host": "a.example.com", "exportTo": lines(size)}}
	}}
}

// lines is a list of texts with so many bytes in all.
func lines(size int) (list []any) {
	const line = 20_000
	for ; size > 0; size -= line {
		list = append(list, text(min(size, line)))
	}
	return list
}

func configMaps() kind {
	return kind{path: "/api/v1/namespaces/%s/configmaps", fill: func(size int) map[string]any {
		return map[string]any{"data": map[string]any{"a": text(size)}}
	}}
}

func pods() kind {
	return kind{path: "/api/v1/namespaces/%s/pods", fill: func(size int) map[string]any {
		object := map[string]any{"spec": map[string]any{"schedulerName": "none", "containers": []any{
			map[string]any{"name": "app", "image": "app", "env": []any{map[string]any{"name": "A", "value": text(max(0, size-annotations))}}},
		}}}
		return annotated(object, min(size, annotations))
	}}
}

func namespaces() kind {
	return kind{path: "/api/v1/namespaces", labels: map[string]string{"lightstep.com/injection": "enabled"}, fill: func(size int) map[string]any {
		return annotated(map[string]any{}, min(size, annotations))
	}}
}

func secrets() kind {
	return kind{path: "/api/v1/namespaces/%s/secrets", name: "lightstep.cacert", fill: func(size int) map[string]any {
		return map[string]any{"stringData": map[string]any{"cacert.pem": text(size)}}
	}}
}

// replicaSets are those that own pods.
func replicaSets() kind {
	return kind{path: "/apis/apps/v1/namespaces/%s/replicasets", fill: func(size int) map[string]any {
		labels := map[string]any{"app": "x"}
		container := map[string]any{"name": "app", "image": "app", "env": []any{map[string]any{"name": "A", "value": text(size)}}}
		return map[string]any{"spec": map[string]any{
			"replicas": 0, "selector": map[string]any{"matchLabels": labels},
			"template": map[string]any{"metadata": map[string]any{"labels": labels}, "spec": map[string]any{"containers": []any{container}}},
		}}
	}}
}

func annotated(object map[string]any, size int) map[string]any {
	object["metadata"] = map[string]any{"annotations": map[string]any{"example.com/a": text(size)}}
	return object
}

// write makes so many objects of a kind, numbered from first on.
func (e *environment) write(t *testing.T, k kind, namespace, prefix string, count, size int) {
	t.Helper()
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(writers)
	for n := range count {
		group.Go(func() error { return e.one(ctx, k, namespace, fmt.Sprintf("%s-%d", prefix, n), size) })
	}
	stage.Check(t, group.Wait())
}

func (e *environment) one(ctx context.Context, k kind, namespace, name string, size int) error {
	if k.name != "" {
		if err := e.post(ctx, "/api/v1/namespaces", name, nil, map[string]any{}); err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
		namespace, name = name, k.name
	}
	path := k.path
	if strings.Contains(path, "%s") {
		path = fmt.Sprintf(path, namespace)
	}
	return e.post(ctx, path, name, k.labels, k.fill(size))
}

func (e *environment) post(ctx context.Context, path, name string, labels map[string]string, object map[string]any) error {
	metadata, _ := object["metadata"].(map[string]any)
	if metadata == nil {
		metadata = map[string]any{}
	}
	metadata["name"], metadata["labels"] = name, labels
	object["metadata"] = metadata
	// Of a collection of CRDs, too, kind and version are as its path has them.
	object["apiVersion"], object["kind"] = versionOf(path), kindOf(path)
	body, err := json.Marshal(object)
	if err != nil {
		return err
	}
	err = e.Client.RESTClient().Post().AbsPath(path).SetHeader("Content-Type", "application/json").Body(body).Do(ctx).Error()
	if err != nil {
		return fmt.Errorf("create %s in %s: %w", name, path, err)
	}
	return nil
}

func versionOf(path string) string {
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	if parts[0] == "api" {
		return parts[1]
	}
	return parts[1] + "/" + parts[2]
}

func kindOf(path string) string {
	return map[string]string{
		"telemetries": "Telemetry", "serviceentries": "ServiceEntry", "destinationrules": "DestinationRule", "configmaps": "ConfigMap",
		"pods": "Pod", "namespaces": "Namespace", "secrets": "Secret", "replicasets": "ReplicaSet",
	}[path[strings.LastIndexByte(path, '/')+1:]]
}

// clear deletes what write has made, and returns when it is gone.
func (e *environment) clear(t *testing.T, k kind, namespace, prefix string, count int) {
	t.Helper()
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(writers)
	if k.name == "" && strings.Contains(k.path, "%s") {
		stage.Check(t, e.Client.RESTClient().Delete().AbsPath(fmt.Sprintf(k.path, namespace)).SetHeader("Content-Type", "application/json").
			Body([]byte(`{"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":0}`)).Do(ctx).Error())
		return
	}
	for n := range count {
		name := fmt.Sprintf("%s-%d", prefix, n)
		group.Go(func() error { return e.Client.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{}) })
	}
	stage.Check(t, group.Wait())
	stage.Eventually(t, func(ctx context.Context) error {
		_, err := e.Client.CoreV1().Namespaces().Get(ctx, fmt.Sprintf("%s-%d", prefix, count-1), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("namespace %s-%d is still there: %w", prefix, count-1, err)
	})
}
