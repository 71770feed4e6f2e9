package secrets

import (
	"context"
	"math"
	"strings"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// lease is the Lease by which one replica leads.
const lease = "lightstep-injector"

// leaseOf is one of the own namespace.
func leaseOf(name string) *coordinationv1.Lease {
	return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

// eventOf is an Event as the injector records it.
func eventOf(namespace string) *eventsv1.Event {
	return &eventsv1.Event{
		ObjectMeta:          metav1.ObjectMeta{Name: satelliteCA + ".1", Namespace: namespace},
		EventTime:           metav1.NowMicro(),
		ReportingController: "lightstep-injector", ReportingInstance: "lightstep-injector-me",
		Action: "Distribute", Reason: "ForeignSecret", Type: corev1.EventTypeWarning, Note: "x",
		Regarding: corev1.ObjectReference{APIVersion: "v1", Kind: "Secret", Namespace: namespace, Name: satelliteCA},
	}
}

// othersEvent is one of another controller.
func othersEvent() *eventsv1.Event {
	event := eventOf(fresh)
	event.Name, event.ReportingController, event.Reason = "theirs", "example.com/theirs", "Killing"
	return event
}

// The clauses of the policy about the Lease.
const (
	leaseName        = byLease + "only the Lease lightstep-injector"
	leaseLasts       = byLease + "the Lease lasts at most 60 seconds"
	leaseTransitions = byLease + "leaseTransitions grows by one"
	leaseFields      = byLease + "the Lease has only the fields of a leader election"
	leaseFinalizers  = byLease + "finalizers"
	leaseOwners      = byLease + "ownerReferences"
	leaseLabels      = byLease + "only the injector's own labels"
	leaseAnnotations = byLease + "only the injector's own annotations"
)

// onLeases are the attacks by writing Leases.
func onLeases() []attack {
	updated := func(clause, name string, change func(*coordinationv1.Lease)) attack {
		return attack{"lease: " + name, false, clause, func(ctx context.Context, e *environment) error {
			leases := e.account.CoordinationV1().Leases(own)
			now, err := leases.Get(ctx, lease, metav1.GetOptions{})
			if err != nil {
				return err
			}
			change(now)
			_, err = leases.Update(ctx, now, metav1.UpdateOptions{})
			return err
		}}
	}
	created := func(rbac bool, clause, name, namespace string, made *coordinationv1.Lease) attack {
		return attack{"lease: " + name, rbac, clause, func(ctx context.Context, e *environment) error {
			_, err := e.account.CoordinationV1().Leases(namespace).Create(ctx, made, metav1.CreateOptions{})
			return err
		}}
	}
	owned := leaseOf(lease)
	owned.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "x", UID: "x"}}
	long := leaseOf(lease)
	long.Spec.LeaseDurationSeconds = new(int32(math.MaxInt32))
	generated := leaseOf("")
	generated.GenerateName = lease
	return []attack{
		updated(leaseLasts, "63 years", func(l *coordinationv1.Lease) {
			l.Spec.HolderIdentity, l.Spec.LeaseDurationSeconds = new("gone"), new(int32(math.MaxInt32))
		}),
		created(false, leaseLasts, "a new one of 63 years", own, long),
		updated(leaseTransitions, "a counter that overflows", func(l *coordinationv1.Lease) { l.Spec.LeaseTransitions = new(int32(math.MaxInt32)) }),
		updated(leaseFields, "a holder of 4 KiB", func(l *coordinationv1.Lease) { l.Spec.HolderIdentity = new(strings.Repeat("x", 4096)) }),
		updated(leaseFinalizers, "a finalizer", func(l *coordinationv1.Lease) { l.Finalizers = []string{"example.com/x"} }),
		updated(leaseOwners, "an owner of what is there", func(l *coordinationv1.Lease) { l.OwnerReferences = owned.OwnerReferences }),
		created(false, leaseOwners, "another owner", own, owned),
		updated(leaseLabels, "a label", func(l *coordinationv1.Lease) { l.Labels = map[string]string{"x": "y"} }),
		updated(leaseAnnotations, "an annotation", func(l *coordinationv1.Lease) { l.Annotations = map[string]string{"x": "y"} }),
		created(false, leaseName, "another name", own, leaseOf("other")),
		created(false, leaseName, "a generated name", own, generated),
		created(true, leaseName, "another namespace", fresh, leaseOf(lease)),
		created(true, leaseName, "of another component", "kube-system", leaseOf("another-component")),
		{"lease: delete it", true, leaseName, func(ctx context.Context, e *environment) error {
			return e.account.CoordinationV1().Leases(own).Delete(ctx, lease, metav1.DeleteOptions{})
		}},
	}
}

// The clauses of the policy about Events.
const (
	eventOthers      = byEvents + "no Event of another controller may be changed"
	eventController  = byEvents + "the reportingController is"
	eventPlace       = byEvents + "Events go into namespaces labelled"
	eventReason      = byEvents + "the reason is not one of the injector's"
	eventRegarding   = byEvents + "an Event is about one object"
	eventText        = byEvents + "an Event has a known type"
	eventFinalizers  = byEvents + "finalizers"
	eventOwners      = byEvents + "ownerReferences"
	eventLabels      = byEvents + "only the injector's own labels"
	eventAnnotations = byEvents + "only the injector's own annotations"
)

// onEvents are the attacks by writing Events.
func onEvents() []attack {
	created := func(clause, name, namespace string, change func(*eventsv1.Event)) attack {
		return attack{"event: " + name, false, clause, func(ctx context.Context, e *environment) error {
			made := eventOf(namespace)
			made.Name = "forged"
			change(made)
			_, err := e.account.EventsV1().Events(namespace).Create(ctx, made, metav1.CreateOptions{})
			return err
		}}
	}
	core := func(clause, name string, change func(*corev1.Event)) attack {
		return attack{"event: " + name, true, clause, func(ctx context.Context, e *environment) error {
			now := eventOf(fresh)
			made := &corev1.Event{
				ObjectMeta: metav1.ObjectMeta{Name: "forged-core", Namespace: fresh}, InvolvedObject: now.Regarding, Reason: now.Reason, Type: now.Type,
				ReportingController: now.ReportingController, ReportingInstance: now.ReportingInstance,
			}
			change(made)
			_, err := e.account.CoreV1().Events(fresh).Create(ctx, made, metav1.CreateOptions{})
			return err
		}}
	}
	asIs := func(*eventsv1.Event) {}
	patched := func(rbac bool, clause, name, event, text string) attack {
		return attack{"event: " + name, rbac, clause, func(ctx context.Context, e *environment) error {
			_, err := e.account.EventsV1().Events(fresh).Patch(ctx, event, types.MergePatchType, []byte(text), metav1.PatchOptions{})
			return err
		}}
	}
	return []attack{
		created(eventPlace, "in kube-system", "kube-system", asIs),
		created(eventPlace, "in a namespace that is not labelled", plain, asIs),
		created(eventPlace, "in an exempt namespace", exempt, asIs),
		created(eventController, "of the kubelet", fresh, func(e *eventsv1.Event) { e.ReportingController = "kubelet" }),
		created(eventReason, "of another reason", fresh, func(e *eventsv1.Event) { e.Reason = "Killing" }),
		created(eventRegarding, "about a pod", fresh, func(e *eventsv1.Event) { e.Regarding.Kind = "Pod" }),
		created(eventRegarding, "about another object, too", fresh, func(e *eventsv1.Event) {
			e.Related = &corev1.ObjectReference{Kind: "Pod", Namespace: fresh, Name: "x"}
		}),
		core(eventController, "of the core group, of the kubelet", func(e *corev1.Event) { e.ReportingController = "kubelet" }),
		core(eventController, "of the core group, with the kubelet as its source", func(e *corev1.Event) { e.Source.Component = "kubelet" }),
		core(eventText, "of the core group, with a long text", func(e *corev1.Event) { e.Message = strings.Repeat("x", 5000) }),
		patched(false, eventOthers, "change another controller's", "theirs", `{"series":{"count":7,"lastObservedTime":"2026-01-01T00:00:00.000000Z"}}`),
		patched(false, eventFinalizers, "a finalizer", satelliteCA+".1", `{"metadata":{"finalizers":["example.com/x"]}}`),
		patched(false, eventOwners, "an owner", satelliteCA+".1", `{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Pod","name":"x","uid":"x"}]}}`),
		patched(false, eventLabels, "a label", satelliteCA+".1", `{"metadata":{"labels":{"x":"y"}}}`),
		patched(false, eventAnnotations, "an annotation", satelliteCA+".1", `{"metadata":{"annotations":{"x":"y"}}}`),
		{"event: delete one", true, eventOthers, func(ctx context.Context, e *environment) error {
			return e.account.EventsV1().Events(fresh).Delete(ctx, satelliteCA+".1", metav1.DeleteOptions{})
		}},
	}
}
