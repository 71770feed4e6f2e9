package survey

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What kubectl can restart is given as a command; of all else it is said what there is to do, and no command is made up.
func TestMend(t *testing.T) {
	for _, c := range []struct{ apiVersion, kind, restart, says string }{
		{"apps/v1", "Deployment", "kubectl rollout restart deployment/web -n shop", ""},
		{"apps/v1", "StatefulSet", "kubectl rollout restart statefulset/web -n shop", ""},
		{"apps/v1", "DaemonSet", "kubectl rollout restart daemonset/web -n shop", ""},
		{"apps/v1", "ReplicaSet", "", "no Deployment of it was found"},
		{"batch/v1", "Job", "", "its pods end by themselves"},
		{"v1", "ReplicationController", "", "it makes others"},
		{"apps.kruise.io/v1beta1", "StatefulSet", "", "is of apps.kruise.io"},
		{"argoproj.io/v1alpha1", "Rollout", "", "is of argoproj.io"},
		{"v1", "Node", "", "is of v1"},
		{"a/b/c", "Deployment", "", ""},
	} {
		pod := &metav1.ObjectMeta{Namespace: "shop", OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "v1", Kind: "ConfigMap", Name: "no-controller"},
			{APIVersion: c.apiVersion, Kind: c.kind, Name: "web", Controller: new(true)},
		}}
		restart, says := controllerOf(pod).mend()
		if restart != c.restart || !strings.Contains(says, c.says) || (restart == "") == (says == "") && c.says != "" {
			t.Errorf("%s %s: %q, %q", c.apiVersion, c.kind, restart, says)
		}
	}
	for _, by := range []metav1.OwnerReference{
		{APIVersion: "apps/v1", Kind: "Deployment", Name: "web;reboot"},
		{APIVersion: "apps/v1", Kind: "Deployment", Name: "$(reboot)"},
		{APIVersion: "apps/v1", Kind: "Deployment", Name: "web\nreboot"},
		{APIVersion: "apps/v1", Kind: "Deployment", Name: "-n"},
		{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "../../../api"},
		{APIVersion: "a;b/v1", Kind: "Rollout", Name: "web"},
		{APIVersion: "a/v1", Kind: "Roll out", Name: "web"},
	} {
		by.Controller = new(true)
		restart, says := controllerOf(&metav1.ObjectMeta{Namespace: "shop", OwnerReferences: []metav1.OwnerReference{by}}).mend()
		if restart != "" || !strings.Contains(says, "no object has such a name and kind") {
			t.Errorf("%+v: %q, %q", by, restart, says)
		}
	}
	if key := controllerOf(&metav1.ObjectMeta{Namespace: "shop", Name: "bare"}); key != (ownerKey{namespace: "shop"}) {
		t.Errorf("a bare pod has %v", key)
	}
}
