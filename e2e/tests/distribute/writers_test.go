package distribute

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	applyv1 "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/relay"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// history is what a watch has told of the Secrets of the satellite CA, version by version.
type history struct {
	mu       sync.Mutex
	versions map[types.UID][]*corev1.Secret
	// latest is the last version in each namespace.
	latest map[string]*corev1.Secret
	// told is called with each version, with the one before it in the namespace, if any.
	told func(before, now *corev1.Secret)
}

// follow watches from now on until the test ends.
func (e *environment) follow(t *testing.T, told func(before, now *corev1.Secret)) *history {
	t.Helper()
	h := &history{versions: map[types.UID][]*corev1.Secret{}, latest: map[string]*corev1.Secret{}, told: told}
	w, err := e.admin.CoreV1().Secrets("").Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + caName})
	stage.Check(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for event := range w.ResultChan() {
			if secret, ok := event.Object.(*corev1.Secret); ok && event.Type != "DELETED" && secret.Namespace != own {
				h.add(secret)
			}
		}
	}()
	t.Cleanup(func() { w.Stop(); <-done })
	return h
}

func (h *history) add(secret *corev1.Secret) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.told(h.latest[secret.Namespace], secret)
	h.versions[secret.UID] = append(h.versions[secret.UID], secret)
	h.latest[secret.Namespace] = secret
}

// count counts the namespaces whose Secret has a value.
func (h *history) count(value []byte) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	found := 0
	for _, secret := range h.latest {
		if bytes.Equal(secret.Data[caKey], value) {
			found++
		}
	}
	return found
}

// TestSuspended suspends the leader amid a rotation, with requests on their way, until another replica has taken over and has
// distributed a later satellite CA. Neither the requests, which arrive then, nor what the first replica does once it runs again
// gives a copy an earlier content.
func TestSuspended(t *testing.T) {
	const spaces = 305
	e := setUp(t)
	for n := range spaces {
		e.namespace(t, fmt.Sprintf("suspended-%d", n), labelled())
	}
	first, second, third := goodCA(t), goodCA(t), goodCA(t)
	stage.Check(t, e.put(t.Context(), own, caSource, map[string][]byte{caKey: first}))
	way := e.throughRelay(t)
	one := e.replica(t, "one")
	stage.Check(t, one.Start(t.Context()))
	await(t, one, "current", spaces)
	e.kubeconfig = way.direct
	two := e.replica(t, "two")
	stage.Check(t, two.Start(t.Context()))

	rotated, stale := 0, 0
	var held atomic.Bool
	release := sync.OnceFunc(way.ReleaseRequests)
	defer func() {
		if held.Load() { // the relay cannot end before
			release()
		}
	}()
	age := func(secret *corev1.Secret) int {
		return slices.IndexFunc([][]byte{first, second, third}, func(value []byte) bool { return bytes.Equal(value, secret.Data[caKey]) })
	}
	h := e.follow(t, func(before, now *corev1.Secret) {
		if before != nil && age(now) < age(before) {
			stale++
		}
		if age(now) != 1 {
			return
		}
		if rotated++; rotated == 20 {
			way.HoldRequests()
			held.Store(true)
		}
	})
	stage.Check(t, e.put(t.Context(), own, caSource, map[string][]byte{caKey: second}))
	e.reaches(t, h, second, 20)
	e.settles(t, h, second)
	stage.Check(t, syscall.Kill(one.PID(), syscall.SIGSTOP))
	if arrived := h.count(second); arrived == spaces {
		t.Error("the leader was not suspended amid the rotation")
	}
	stage.Check(t, e.put(t.Context(), own, caSource, map[string][]byte{caKey: third}))
	e.reaches(t, h, third, spaces)
	release()
	stage.Eventually(t, func(context.Context) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		if stale == 0 && e.denied(t) == 0 {
			return errors.New("none of the requests that were held back has arrived")
		}
		return nil
	})
	stage.Check(t, syscall.Kill(one.PID(), syscall.SIGCONT))
	stage.Eventually(t, func(context.Context) error {
		log, err := os.ReadFile(one.LogFile())
		if err == nil && !strings.Contains(string(log), `"distribute: no longer leading"`) {
			err = errors.New("the first replica still takes itself for the leader")
		}
		return err
	})
	await(t, two, "current", spaces)
	e.reaches(t, h, third, spaces)
	h.mu.Lock()
	defer h.mu.Unlock()
	t.Logf("%d of %d copies were of the second CA when the leader was suspended; %d late requests were rejected; %d stale writes", rotated, spaces, e.denied(t), stale)
	if stale > 0 {
		t.Errorf("%d copies were given stale content", stale)
	}
	e.onlyNamed(t)
}

// relayed is a relay, and the kubeconfig that does without it.
type relayed struct {
	*relay.Relay
	direct string
}

// throughRelay has the replicas that are made next reach the API server through a relay.
func (e *environment) throughRelay(t *testing.T) relayed {
	t.Helper()
	way, err := relay.Start(e.kubeconfig)
	stage.Check(t, err)
	t.Cleanup(func() { stage.Check(t, way.Close()) })
	direct := e.kubeconfig
	e.kubeconfig = filepath.Join(e.run.Dir, "kubeconfig-relayed")
	stage.Check(t, way.WriteKubeconfig(e.kubeconfig))
	return relayed{way, direct}
}

// settles waits until no more Secrets get a value.
func (e *environment) settles(t *testing.T, h *history, value []byte) {
	t.Helper()
	last := -1
	err := wait.PollUntilContextTimeout(t.Context(), time.Second, patience, true, func(context.Context) (bool, error) {
		before := last
		last = h.count(value)
		return last == before, nil
	})
	stage.Check(t, err)
}

// denied counts the writes that the API server has rejected, since they came too late.
func (e *environment) denied(t *testing.T) int {
	t.Helper()
	denied := 0
	for _, r := range e.requests(t) {
		if r.Verb == "patch" && (r.ResponseStatus.Code == http.StatusForbidden || r.ResponseStatus.Code == http.StatusConflict) {
			denied++
		}
	}
	return denied
}

// reaches waits until so many Secrets have a value.
func (e *environment) reaches(t *testing.T, h *history, value []byte, least int) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, patience, true, func(context.Context) (bool, error) {
		return h.count(value) >= least, nil
	})
	if err != nil {
		t.Fatalf("%v: %d of %d Secrets", err, h.count(value), least)
	}
}

// TestRaceForAName has somebody create a Secret of a copy's name, again and again, at the moment at which the injector is about
// to. One without the injector's label is never touched; into one that has been pasted with it, nothing is merged for good.
func TestRaceForAName(t *testing.T) {
	const spaces, rounds = 6, 60
	e := setUp(t)
	stage.Check(t, e.put(t.Context(), own, caSource, map[string][]byte{caKey: goodCA(t)}))
	e.fenced(t)
	replica := e.replica(t, "one")
	stage.Check(t, replica.Start(t.Context()))
	h := e.follow(t, func(_, _ *corev1.Secret) {})
	theirs := make([]map[types.UID]*corev1.Secret, spaces)
	errs := make([]error, spaces)
	var group sync.WaitGroup
	for n := range spaces {
		name := fmt.Sprintf("race-%d", n)
		e.namespace(t, name, labelled())
		group.Go(func() { theirs[n], errs[n] = e.race(t.Context(), name, rounds) })
	}
	group.Wait()
	stage.Check(t, errors.Join(errs...))
	await(t, replica, "foreign", spaces)

	made, pasted := 0, 0
	for n := range spaces {
		for uid, created := range theirs[n] {
			made++
			if created.Labels["lightstep.com/managed"] != "" {
				pasted++
			}
			h.mu.Lock()
			versions := slices.Clone(h.versions[uid])
			h.mu.Unlock()
			for _, version := range versions {
				if err := untouched(created, version); err != nil {
					t.Errorf("%s/%s: %v", created.Namespace, created.Name, err)
				}
			}
		}
		live, err := e.admin.CoreV1().Secrets(fmt.Sprintf("race-%d", n)).Get(t.Context(), caName, metav1.GetOptions{})
		stage.Check(t, err)
		if _, mine := theirs[n][live.UID]; !mine || managedByUs(live) {
			t.Errorf("in the end %s has %+v", live.Namespace, live.ObjectMeta)
		}
	}
	denied := e.denied(t)
	t.Logf("%d Secrets of somebody else's, %d of them with the injector's label; the injector came too late %d times", made, pasted, denied)
	if denied == 0 {
		t.Error("there was no race")
	}
	e.onlyNamed(t)
}

// fenced waits until the policy holds: for some seconds after it was installed, the API server does not know of it.
func (e *environment) fenced(t *testing.T) {
	t.Helper()
	as, err := e.cluster.As(t.Context(), own, account)
	stage.Check(t, err)
	bare := client(t, as)
	e.namespace(t, "unlabelled", nil)
	stage.Eventually(t, func(ctx context.Context) error {
		_, err := bare.CoreV1().Secrets("unlabelled").Apply(ctx, applyv1.Secret(caName, "unlabelled"), metav1.ApplyOptions{FieldManager: "bare"})
		if !apierrors.IsForbidden(err) {
			return fmt.Errorf("the policy lets a Secret pass: %w", err)
		}
		return nil
	})
	if err := e.admin.CoreV1().Secrets("unlabelled").Delete(t.Context(), caName, metav1.DeleteOptions{}); !apierrors.IsNotFound(err) {
		stage.Check(t, err)
	}
}

// race deletes what is there, and creates a Secret in its place, so often. It returns those that it has created, the last of
// which is there in the end.
func (e *environment) race(ctx context.Context, namespace string, rounds int) (map[types.UID]*corev1.Secret, error) {
	secrets := e.admin.CoreV1().Secrets(namespace)
	theirs := map[types.UID]*corev1.Secret{}
	for round := 0; ; round++ {
		if err := secrets.Delete(ctx, caName, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return nil, err
		}
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: caName}, Data: map[string][]byte{"theirs": []byte("x")}}
		if round%3 == 2 {
			secret.Labels = map[string]string{"lightstep.com/managed": "distribute", "app.kubernetes.io/managed-by": "lightstep-injector"}
		}
		created, err := secrets.Create(ctx, secret, metav1.CreateOptions{})
		switch {
		case apierrors.IsAlreadyExists(err): // the injector was first
		case err != nil:
			return nil, err
		default:
			theirs[created.UID] = created
			if round >= rounds {
				return theirs, nil
			}
		}
	}
}

// untouched says how a version of somebody's Secret differs from what they have created. Their data is theirs in any case.
func untouched(created, version *corev1.Secret) error {
	if string(version.Data["theirs"]) != "x" {
		return fmt.Errorf("its data is gone: %v", version.ManagedFields)
	}
	if created.Labels["lightstep.com/managed"] == "" && !reflect.DeepEqual(created, version) {
		return fmt.Errorf("it was written to: %v", version.ManagedFields)
	}
	return nil
}

func managedByUs(secret *corev1.Secret) bool {
	return slices.ContainsFunc(secret.ManagedFields, func(e metav1.ManagedFieldsEntry) bool { return e.Manager == account })
}
