package snapshot

import (
	"context"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternal "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/lightstep-injector/lightstep-injector/internal/clusterstate"
)

const (
	// telemetriesName is the name of the subject of Telemetry resources.
	telemetriesName = "Istio's Telemetries"
	telemetryGroup  = "telemetry.istio.io"
	// lateAgain is how long a namespace whose Telemetries could not be listed is left before the next attempt.
	lateAgain = time.Second
)

// telemetryVersions are the versions that a cluster may have, the preferred one first: Istio before 1.22 has only v1alpha1.
func telemetryVersions() []string { return []string{"v1", "v1alpha1"} }

// telemetryLister is the cluster-wide list and watch. The store is told when all Telemetries are about to arrive.
type telemetryLister struct {
	*clusterstate.Source[*telemetryObject]

	// begin is called before all that matter arrive.
	begin func()
}

// List lists all Telemetries that matter.
func (l telemetryLister) List(ctx context.Context, o metav1.ListOptions) (*metainternal.List, error) {
	l.begin()
	return l.Source.List(ctx, o)
}

// Watch watches those that matter.
func (l telemetryLister) Watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	if o.SendInitialEvents != nil && *o.SendInitialEvents {
		l.begin()
	}
	return l.Source.Watch(ctx, o)
}

// telemetries watches Telemetry resources, in the first version that the cluster has. Which of them matter is known once the
// labelled namespaces are.
func (w *Watch) telemetries() subject {
	from := &source{tweak: func(*metav1.ListOptions) {}}
	for i, version := range telemetryVersions() {
		all := w.telemetrySource(version, "", func(object *clusterstate.Custom) (reducedTelemetry, bool) {
			if !w.Store.matters(object.Namespace) {
				return reducedTelemetry{}, false
			}
			reduced := reduceTelemetry(object)
			return reduced, w.Store.admitTelemetry(object.Namespace, &reduced)
		})
		from.choices = append(from.choices, telemetryLister{all, func() {
			w.version.Store(int32(i))
			w.Store.beginTelemetries()
		}})
	}
	into := reducer[*telemetryObject]{
		replace: func(list []*telemetryObject) { w.unreadables(w.Store.replaceTelemetries(list)) },
		set: func(object *telemetryObject) {
			if w.Store.setTelemetry(object) {
				w.unreadables([]*telemetryObject{object})
			}
		},
		remove: w.Store.removeTelemetry,
	}
	return subject{from: from, example: &telemetryObject{}, into: into.store, after: w.labelled, absent: w.Store.lacksTelemetries}
}

func (w *Watch) telemetrySource(version, namespace string, keep func(*clusterstate.Custom) (reducedTelemetry, bool)) *clusterstate.Source[*telemetryObject] {
	resource := schema.GroupVersionResource{Group: telemetryGroup, Version: version, Resource: "telemetries"}
	return failing(clusterstate.CustomResources(w.Cluster, resource, namespace, keep), w.panicked(telemetriesName))
}

func (w *Watch) unreadables(list []*telemetryObject) {
	for _, object := range list {
		w.unreadable(telemetryKind, telemetryGroup+"/v1", &object.ObjectMeta)
	}
}

// listLate lists the Telemetries of each namespace that has come to matter after the watch had begun.
func (w *Watch) listLate(ctx context.Context) {
	failed := false
	for {
		namespace, ok := w.Store.lateNamespace(ctx)
		if !ok {
			return
		}
		list, err := w.telemetriesOf(ctx, namespace)
		if err == nil || apierrors.IsNotFound(err) {
			w.unreadables(w.Store.addTelemetries(namespace, list))
			failed = false
			continue
		}
		if !failed {
			failed = true
			w.Log.Error("failed to list the Telemetries of a namespace, retrying", zap.String("namespace", namespace), zap.Error(err))
		}
		select {
		case <-time.After(lateAgain):
		case <-ctx.Done():
			return
		}
	}
}

// telemetriesOf lists the Telemetries of a namespace, within its bounds.
func (w *Watch) telemetriesOf(ctx context.Context, namespace string) (list []*telemetryObject, err error) {
	var used budget
	version := telemetryVersions()[w.version.Load()]
	source := w.telemetrySource(version, namespace, func(object *clusterstate.Custom) (reducedTelemetry, bool) {
		reduced := reduceTelemetry(object)
		return reduced, used.admit(&reduced)
	})
	_, err = source.Each(ctx, metav1.ListOptions{}, func(object *telemetryObject) error {
		list = append(list, object)
		return nil
	})
	return list, err
}
