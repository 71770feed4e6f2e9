package faults

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/load"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// refused is how long the lease cannot be renewed, at least: longer than a leader goes on trying.
var refused = flag.Duration("refused", 12*time.Second, "how long the lease cannot be renewed")

// cut cuts the injector's way to the API server, which goes on calling it.
func cut(t *testing.T, e *environment) func() {
	t.Helper()
	stage.Check(t, e.relay.Cut())
	return func() { stage.Check(t, e.relay.Mend()) }
}

// refuseLeases takes the right to renew the lease from the account.
func refuseLeases(t *testing.T, e *environment) func() {
	t.Helper()
	stage.Eventually(t, func(ctx context.Context) error { return e.leads(ctx) })
	roles := e.Client.RbacV1().Roles(own)
	role, err := roles.Get(t.Context(), injector.Name, metav1.GetOptions{})
	stage.Check(t, err)
	rules := slices.Clone(role.Rules)
	role.Rules = slices.DeleteFunc(role.Rules, func(r rbacv1.PolicyRule) bool { return slices.Contains(r.Resources, "leases") })
	if len(role.Rules) == len(rules) {
		t.Fatal("the account's role says nothing of leases")
	}
	role, err = roles.Update(t.Context(), role, metav1.UpdateOptions{})
	stage.Check(t, err)
	began := time.Now()
	stage.Eventually(t, func(ctx context.Context) error {
		if e.leads(ctx) == nil || time.Since(began) < *refused {
			return fmt.Errorf("it leads, or %s are not over", *refused)
		}
		return nil
	})
	return func() {
		role.Rules = rules
		_, err := roles.Update(t.Context(), role, metav1.UpdateOptions{})
		stage.Check(t, err)
		stage.Eventually(t, func(ctx context.Context) error { return e.leads(ctx) })
	}
}

// leads tells whether the injector leads: the leader alone counts copies.
func (e *environment) leads(ctx context.Context) error {
	_, err := e.injector.Metric(ctx, "lightstep_injector_copies", nil)
	return err
}

// coldCache holds back what the watches tell. A pod of a namespace that is made then gets what the default profile mounts.
func coldCache(t *testing.T, e *environment) func() {
	t.Helper()
	e.relay.Pause()
	namespace, err := e.labelled(t.Context(), map[string]string{"lightstep.com/profile": "second"})
	stage.Check(t, err)
	pod, err := e.Client.CoreV1().Pods(namespace).Create(t.Context(), load.Pod(0), metav1.CreateOptions{})
	stage.Check(t, err)
	if mounts := pod.Spec.Containers[0].VolumeMounts; len(mounts) == 0 || mounts[len(mounts)-1].MountPath != "/etc/lightstep" {
		t.Errorf("it has the mounts %v", mounts)
	}
	warnsOf(t, pod, "NamespaceNotSeen")
	return e.relay.Resume
}

// removeSource takes away the satellite CA, so that no namespace is brought one.
func removeSource(t *testing.T, e *environment) func() {
	t.Helper()
	return e.remove(t, sourceSecret)
}

// warnsOf sees that a pod's status has a warning.
func warnsOf(t *testing.T, pod *corev1.Pod, code string) {
	t.Helper()
	var status struct{ Warnings []string }
	stage.Check(t, json.Unmarshal([]byte(pod.Annotations["lightstep.com/status"]), &status))
	if !slices.Contains(status.Warnings, code) {
		t.Errorf("pod %s/%s has the warnings %v, not %s", pod.Namespace, pod.Name, status.Warnings, code)
	}
}
