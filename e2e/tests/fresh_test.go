package tests

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/yaml"

	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
)

const (
	freshNamespaces = 100
	// appliers is how many kubectl run side by side.
	appliers = 2
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

// What a fresh namespace is due to be given by the injector itself is waited for: its first pod already has all that its
// tracer needs.
func testCopiesAwaited(t *testing.T, e *environment) {
	ca, err := injector.NewCA("satellite CA")
	check(t, err)
	for name, data := range map[string]map[string][]byte{"satellite-ca": {"cacert.pem": ca.PEM}, "the-token": {"token": []byte("another-token")}} {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}
		_, err := e.client.CoreV1().Secrets(injector.Namespace).Create(t.Context(), secret, metav1.CreateOptions{})
		check(t, err)
	}
	eventually(t, func(ctx context.Context) error { // the sources are known, and so waited for
		faulty, err := e.injector.Metric(ctx, "lightstep_injector_source_problem", map[string]string{"secret": "satellite-ca"})
		if err == nil && faulty > 0 {
			err = errors.New("the source is not known yet")
		}
		return err
	})
	const attempts = 5 // the wait is short, and a busy machine may be too slow for it
	for range attempts {
		created := e.podBeforeNews(t, "copied", func(ctx context.Context) error {
			return wait.PollUntilContextTimeout(ctx, 5*time.Millisecond, deadline, true, e.requestInFlight)
		})
		check(t, injected(created, defaultPath))
		codes, err := warningsOf(created)
		check(t, err)
		if !slices.Contains(codes, "CAMissing") && !slices.Contains(codes, "NamespaceNotSeen") {
			return
		}
	}
	t.Errorf("of %d pods created while the news of their namespace was late, none found the satellite CA in place", attempts)
}

// The hardest case: the webhook is asked for a pod before its own watch has told it of the namespace. It waits for it.
func testNamespaceSeenLate(t *testing.T, e *environment) {
	const attempts = 5 // the wait is short, and a busy machine may be too slow for it
	for range attempts {
		created := e.podBeforeNews(t, "second", func(ctx context.Context) error {
			return wait.PollUntilContextTimeout(ctx, 5*time.Millisecond, deadline, true, e.requestInFlight)
		})
		if codes, err := warningsOf(created); err != nil || !slices.Contains(codes, "NamespaceNotSeen") {
			check(t, errors.Join(err, injected(created, secondPath)))
			return
		}
	}
	t.Errorf("of %d pods created while the news of their namespace was late, none got its profile", attempts)
}

// Where the news does not come in time, the pod gets the mount of the profile default, no tracer, and says so.
func testNamespaceNotSeen(t *testing.T, e *environment) {
	created := e.podBeforeNews(t, "second", nil)
	check(t, injected(created, defaultPath))
	if codes, err := warningsOf(created); err != nil || !slices.Contains(codes, "NamespaceNotSeen") {
		t.Errorf("the status has the warnings %q (%v), not NamespaceNotSeen", codes, err)
	}
}

// podBeforeNews creates a namespace of a profile, and a pod in it, while the injector hears nothing of the
// cluster. It goes on hearing when the function until returns, or, where that is nil, once the pod is there.
func (e *environment) podBeforeNews(t *testing.T, picks string, until func(context.Context) error) *corev1.Pod {
	t.Helper()
	e.relay.Pause()
	resume := sync.OnceFunc(e.relay.Resume)
	defer resume()
	namespace := e.namespace(t, labelled(), profile(picks))
	var group errgroup.Group
	if until != nil {
		group.Go(func() error {
			defer resume()
			return until(t.Context())
		})
	}
	created := e.create(t, namespace, pod("web"))
	check(t, group.Wait())
	return created
}

// requestInFlight tells whether the injector is at work on a request.
func (e *environment) requestInFlight(ctx context.Context) (bool, error) {
	requests, err := e.injector.Metric(ctx, "lightstep_injector_in_flight", nil)
	return requests > 0, err
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
