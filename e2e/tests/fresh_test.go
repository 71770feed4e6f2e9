package tests

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

const (
	freshNamespaces = 100
	// appliers is how many kubectl run side by side.
	appliers = 2
	// atOnce is how many namespaces are created side by side.
	atOnce = 8
)

// The usual way to install something: one file with a namespace and its workload, applied at once. The namespace names a
// profile: no pod may be missed, and none may get another profile.
func testFreshNamespaces(t *testing.T, e *environment) {
	dir := t.TempDir()
	names := make([]string, freshNamespaces)
	for i := range names {
		names[i] = fmt.Sprintf("e2e-fresh-%d", i)
		e.removeAfter(t, names[i])
		check(t, writeFile(filepath.Join(dir, names[i]+".yaml"), freshNamespace(names[i])...))
	}
	var group errgroup.Group
	for i := range appliers {
		args := []string{"apply"}
		for j := i; j < len(names); j += appliers {
			args = append(args, "--filename", filepath.Join(dir, names[j]+".yaml"))
		}
		group.Go(func() error { e.kubectl(t, "", args...); return nil })
	}
	check(t, group.Wait())
	for _, name := range names {
		eachPod(t, e.pods(t, name, 2), injectedAt(secondPath))
	}
}

// Faster than any kubectl: the pod is created as soon as the API server knows its namespace, so that often enough the
// webhook is asked before its own watch has seen it.
func testFreshNamespacesAtOnce(t *testing.T, e *environment) {
	var group errgroup.Group
	group.SetLimit(atOnce)
	for i := range freshNamespaces {
		name := fmt.Sprintf("e2e-at-once-%d", i)
		e.removeAfter(t, name)
		group.Go(func() error { return e.createAtOnce(t.Context(), name) })
	}
	check(t, group.Wait())
}

// createAtOnce creates a namespace of the profile second and a pod in it, and checks the pod.
func (e *environment) createAtOnce(ctx context.Context, name string) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labelled(), Annotations: profile("second")}}
	if _, err := e.client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
		return err
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "web"}}
	if _, err := e.client.CoreV1().ServiceAccounts(name).Create(ctx, account, metav1.CreateOptions{}); err != nil {
		return err
	}
	bare := pod("bare")
	bare.Spec.ServiceAccountName = account.Name // it would be refused until the namespace has its own
	created, err := e.client.CoreV1().Pods(name).Create(ctx, bare, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	return injected(created, secondPath)
}

// freshNamespace is a namespace of the profile second with a Deployment and a bare pod. The pod names a service account
// that comes with it, since it would be refused until the namespace has its own.
func freshNamespace(name string) []any {
	account := &corev1.ServiceAccount{TypeMeta: typeMeta("v1", "ServiceAccount"), ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: name}}
	bare := pod("bare")
	bare.TypeMeta, bare.Namespace, bare.Spec.ServiceAccountName = typeMeta("v1", "Pod"), name, account.Name
	bare.Labels = map[string]string{"app": "bare"}
	return []any{
		&corev1.Namespace{
			TypeMeta:   typeMeta("v1", "Namespace"),
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labelled(), Annotations: profile("second")},
		},
		account,
		bare,
		&appsv1.Deployment{
			TypeMeta:   typeMeta("apps/v1", "Deployment"),
			ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: name},
			Spec:       appsv1.DeploymentSpec{Selector: selector(), Template: template()},
		},
	}
}

func typeMeta(apiVersion, kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: apiVersion, Kind: kind}
}

// writeFile writes objects as one stream of YAML documents.
func writeFile(path string, objects ...any) error {
	var documents [][]byte
	for _, object := range objects {
		document, err := yaml.Marshal(object)
		if err != nil {
			return err
		}
		documents = append(documents, document)
	}
	return os.WriteFile(path, bytes.Join(documents, []byte("---\n")), 0o600)
}
