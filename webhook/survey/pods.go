package survey

import (
	"context"
	"fmt"

	"github.com/go-json-experiment/json"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/pager"

	"github.com/lightstep-injector/lightstep-injector/webhook"
	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
)

// Those at their end are not looked at.
const (
	injected    = inject.InjectedLabel + "=true"
	notInjected = inject.InjectedLabel + "!=true"
	unfinished  = "status.phase!=Succeeded,status.phase!=Failed"
)

func podsResource() schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: "pods"}
}

// countPods sorts the pods of a namespace. Of those that were injected the metadata tell all.
func (l *look) countPods(ctx context.Context, n *Namespace) {
	of, whole := l.Metadata.Resource(podsResource()).Namespace(n.Name), l.Objects.Resource(podsResource()).Namespace(n.Name)
	l.each(ctx, n, injected,
		func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return of.List(ctx, o) },
		func(object runtime.Object) error {
			return l.countInjected(ctx, n, object.(*metav1.PartialObjectMetadata))
		})
	l.each(ctx, n, notInjected,
		func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return whole.List(ctx, o) },
		func(object runtime.Object) error { return l.countOther(ctx, n, object.(*unstructured.Unstructured)) })
	if n.Missed > 0 {
		n.problemf("%s missed", counted(n.Missed, "pod was", "pods were"))
	}
	if n.Stale > 0 {
		n.problemf("%s settings that are no longer in force", counted(n.Stale, "pod has", "pods have"))
	}
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// each calls a function with every pod that has the labels, page by page.
func (l *look) each(ctx context.Context, n *Namespace, labels string, list pager.ListPageFunc, count func(runtime.Object) error) {
	options := metav1.ListOptions{LabelSelector: labels, FieldSelector: unfinished}
	if err := pager.New(list).EachListItem(ctx, options, count); err != nil {
		l.failed(fmt.Errorf("list the pods of namespace %s: %w", n.Name, err))
	}
}

// countInjected compares the settings that a pod was given with those that it would be given now. Where there would be
// none, they are those that it has to do with.
func (l *look) countInjected(ctx context.Context, n *Namespace, pod *metav1.PartialObjectMetadata) error {
	if pod.DeletionTimestamp != nil {
		return nil
	}
	n.Injected++
	if n.Reason != "" {
		return nil // that is a problem of the namespace's
	}
	known, _ := l.snap.Namespaces.Get(n.Name)
	resolved, _, err := l.snap.Settings.Resolve(n.Name, known.Annotations, pod.Annotations)
	if err != nil {
		return fmt.Errorf("pod %s: %w", pod.Name, err)
	}
	if statusOf(pod.Annotations).Config != resolved.Config {
		n.Stale++
		owner := l.owner(ctx, pod)
		owner.Stale = append(owner.Stale, pod.Name)
	}
	return nil
}

// status is the annotation lightstep.com/status; one that cannot be read has the settings of nobody.
type status struct {
	Config string `json:"config"`
}

func statusOf(annotations map[string]string) (s status) {
	if json.Unmarshal([]byte(annotations[inject.StatusAnnotation]), &s) != nil {
		return status{}
	}
	return s
}

// countOther asks the webhook's rules about a pod that was not injected.
func (l *look) countOther(ctx context.Context, n *Namespace, object *unstructured.Unstructured) error {
	if object.GetDeletionTimestamp() != nil {
		return nil
	}
	raw, err := object.MarshalJSON()
	if err != nil {
		return fmt.Errorf("pod %s: %w", object.GetName(), err)
	}
	pod, err := webhook.DecodePod(raw)
	if err != nil {
		return fmt.Errorf("pod %s: %w", object.GetName(), err)
	}
	result := inject.Run(&inject.Request{Namespace: n.Name, Pod: pod}, l.snap)
	switch {
	case result.Reason == inject.OptedOut:
		n.OptedOut++
	case result.Injected:
		n.Missed++
		owner := l.owner(ctx, object)
		owner.Missed = append(owner.Missed, object.GetName())
	}
	return nil
}
