package survey

import (
	"context"
	"fmt"

	"github.com/go-json-experiment/json"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/lightstep-injector/lightstep-injector/internal/clusterstate"
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
	of := l.Cluster.Metadata(podsResource(), n.Name, func(from, to *metav1.ObjectMeta) {
		to.Annotations = from.Annotations
		to.OwnerReferences = from.OwnerReferences
	})
	each(ctx, l, n, injected, of, l.countInjected)
	whole := clusterstate.Pods(l.Cluster, n.Name, func(pod *corev1.Pod) (candidate, bool) { return candidate{podOf(pod), pod.OwnerReferences}, true })
	each(ctx, l, n, notInjected, whole, l.countOther)
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

// candidate is a pod that was not injected, as the webhook would have read it.
type candidate struct {
	pod    inject.Pod
	owners []metav1.OwnerReference
}

// each calls a function with every pod that has the labels, page by page.
func each[O runtime.Object](ctx context.Context, l *look, n *Namespace, labels string, pods *clusterstate.Source[O], count func(context.Context, *Namespace, O) error) {
	pods.Failed = func(err error) { l.failed(fmt.Errorf("read a pod of namespace %s: %w", n.Name, err)) }
	options := metav1.ListOptions{LabelSelector: labels, FieldSelector: unfinished}
	if _, err := pods.Each(ctx, options, func(pod O) error { return count(ctx, n, pod) }); err != nil {
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
func (l *look) countOther(ctx context.Context, n *Namespace, pod *clusterstate.Reduced[candidate]) error {
	if pod.DeletionTimestamp != nil {
		return nil
	}
	if pod.Unreadable {
		l.failed(fmt.Errorf("read pod %s of namespace %s: it exceeds %d bytes", pod.Name, n.Name, clusterstate.MostBytes))
		return nil
	}
	result := inject.Run(&inject.Request{Namespace: n.Name, Pod: pod.Kept.pod}, l.snap)
	switch {
	case result.Reason == inject.OptedOut:
		n.OptedOut++
	case result.Injected:
		n.Missed++
		meta := pod.ObjectMeta
		meta.OwnerReferences = pod.Kept.owners
		owner := l.owner(ctx, &meta)
		owner.Missed = append(owner.Missed, pod.Name)
	}
	return nil
}
