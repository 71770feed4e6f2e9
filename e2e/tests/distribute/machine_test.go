package distribute

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

var (
	seed  = flag.Uint64("seed", 0, "repeat the sequence of this seed; 0 for a new one")
	steps = flag.Int("steps", 40, "how many steps of the machine")
)

// machine is what has been done to the cluster, as far as it says what should be there.
type machine struct {
	*environment
	t        *testing.T
	random   *rand.Rand
	replicas []*injector.Injector
	spaces   []*space
	sources  map[string]*source
	bad      map[string][]byte
	// log is what was done, for whoever has to find out.
	log []string
}

// space is a namespace.
type space struct {
	name     string
	labelled bool
	profile  string
	// foreign are the Secrets of others, as the API server has them.
	foreign map[string]*corev1.Secret
	// spoilt are the copies to which somebody has written while there was nothing to mend them with.
	spoilt map[string]bool
	// running are its injected pods that have not finished.
	running []string
	pods    int
}

// source is a Secret of the injector's own namespace.
type source struct {
	name, key string
	// now is its value; nil where it is not to be handed out.
	now []byte
	// good are the values that ever were to be handed out.
	good [][]byte
}

// copies are the Secrets of labelled namespaces, with their keys and their sources.
func copies() map[string]struct{ key, source string } {
	return map[string]struct{ key, source string }{
		caName: {caKey, caSource}, otherName: {otherKey, otherSource}, tokenName: {tokenKey, tokenSource},
	}
}

// TestMachine does at random what may befall Secrets, and looks after each step whether everything is as it should be.
func TestMachine(t *testing.T) {
	chosen := *seed
	if chosen == 0 {
		chosen = uint64(time.Now().UnixNano())
	}
	t.Logf("repeat this with -args -seed=%d -steps=%d", chosen, *steps)
	m := &machine{environment: setUp(t), t: t, random: rand.New(rand.NewPCG(chosen, 4)), bad: badCAs(t)}
	m.sources = map[string]*source{
		caSource: {name: caSource, key: caKey}, otherSource: {name: otherSource, key: otherKey}, tokenSource: {name: tokenSource, key: tokenKey},
	}
	for _, name := range []string{"allowed-1", "allowed-2", "plain-1", "plain-2", "plain-3"} {
		m.namespace(t, name, nil)
		m.spaces = append(m.spaces, newSpace(name))
	}
	for _, s := range m.spaces[:4] {
		m.label(s, true)
	}
	m.namespace(t, "bystander", nil)
	for _, name := range []string{"one", "two"} {
		m.replicas = append(m.replicas, m.replica(t, name))
	}
	for _, replica := range m.replicas {
		stage.Check(t, replica.Start(t.Context()))
	}
	for _, of := range m.sources {
		m.changeSource(of)
	}
	for step := range *steps {
		m.step(step)
		if t.Failed() {
			t.Fatalf("seed %d, step %d; what was done:\n%s", chosen, step, strings.Join(m.log, "\n"))
		}
	}
	m.onlyNamed(t)
	t.Logf("%d things done:\n%s", len(m.log), strings.Join(m.log[max(0, len(m.log)-20):], "\n"))
}

func newSpace(name string) *space {
	return &space{name: name, foreign: map[string]*corev1.Secret{}, spoilt: map[string]bool{}}
}

// step does some things at once, and then waits until all is well.
func (m *machine) step(step int) {
	kept := m.mounted()
	for range 1 + m.random.IntN(5) {
		s := m.spaces[m.random.IntN(len(m.spaces))]
		before := len(m.log)
		m.do(s)
		if len(m.log) > before && strings.HasPrefix(m.log[before], s.name+" ") { // what is done to it explains what is not kept
			maps.DeleteFunc(kept, func(key types.NamespacedName, _ types.UID) bool {
				return key.Namespace == s.name && !strings.Contains(m.log[before], " unlabel")
			})
		}
	}
	m.notef("-- step %d", step)
	stage.Eventually(m.t, m.verify)
	for key, uid := range kept {
		live, err := m.admin.CoreV1().Secrets(key.Namespace).Get(m.t.Context(), key.Name, metav1.GetOptions{})
		if err != nil || live.UID != uid {
			m.t.Errorf("%s was taken from under running pods: %v", key, err)
		}
	}
}

// mounted are the copies in namespaces in which injected pods run.
func (m *machine) mounted() map[types.NamespacedName]types.UID {
	kept := map[types.NamespacedName]types.UID{}
	for _, s := range m.spaces {
		if len(s.running) == 0 {
			continue
		}
		for _, name := range []string{caName, otherName} {
			if live, err := m.admin.CoreV1().Secrets(s.name).Get(m.t.Context(), name, metav1.GetOptions{}); err == nil {
				kept[types.NamespacedName{Namespace: s.name, Name: name}] = live.UID
			}
		}
	}
	return kept
}

func (m *machine) notef(format string, args ...any) {
	m.log = append(m.log, fmt.Sprintf(format, args...))
}

// do does one thing.
func (m *machine) do(s *space) {
	name := slices.Sorted(maps.Keys(copies()))[m.random.IntN(3)]
	switch n := m.random.IntN(100); {
	case n < 20:
		m.label(s, !s.labelled)
	case n < 27:
		m.pick(s, []string{"", "other", "nosuch"}[m.random.IntN(3)])
	case n < 42:
		m.edit(s, name)
	case n < 48:
		m.deleteSecret(s, name)
	case n < 56:
		m.makeForeign(s, name)
	case n < 59:
		m.adopt(s, name)
	case n < 76:
		m.changeSource(m.sources[copies()[name].source])
	case n < 84:
		m.startPod(s)
	case n < 92:
		m.endPod(s)
	case n < 96:
		m.crash()
	default:
		m.recreate(s)
	}
}

func (m *machine) label(s *space, on bool) {
	value := "null"
	if on {
		value = `"enabled"`
	}
	m.notef("%s %slabel", s.name, map[bool]string{false: "un"}[on])
	m.patchNamespace(s, `{"metadata":{"labels":{"lightstep.com/injection":`+value+`}}}`)
	s.labelled = on
}

func (m *machine) pick(s *space, profile string) {
	m.notef("%s picks profile %q", s.name, profile)
	value := `"` + profile + `"`
	if profile == "" {
		value = "null"
	}
	m.patchNamespace(s, `{"metadata":{"annotations":{"lightstep.com/profile":`+value+`}}}`)
	s.profile = profile
}

func (m *machine) patchNamespace(s *space, patch string) {
	_, err := m.admin.CoreV1().Namespaces().Patch(m.t.Context(), s.name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	stage.Check(m.t, err)
}

// edit has somebody write to a copy.
func (m *machine) edit(s *space, name string) {
	if s.foreign[name] != nil {
		return
	}
	key := copies()[name].key
	patches := []string{
		`{"data":{"` + key + `":"ZWRpdGVk"}}`,
		`{"data":{"more":"ZWRpdGVk"}}`,
		`{"data":{"` + key + `":null}}`,
		`{"data":{"` + key + `":null,"another":"ZWRpdGVk"}}`,
		`{"metadata":{"labels":{"app":"edited","theirs":"x"}}}`,
		`{"metadata":{"annotations":{"lightstep.com/content-hash":"edited"}}}`,
		`{"metadata":{"annotations":{"lightstep.com/source":null}}}`,
		`{"immutable":true}`,
	}
	patch := patches[m.random.IntN(len(patches))]
	_, err := m.admin.CoreV1().Secrets(s.name).Patch(m.t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "kubectl-edit"})
	if apierrors.IsNotFound(err) || apierrors.IsInvalid(err) { // there is none, or it has been made immutable
		return
	}
	stage.Check(m.t, err)
	s.spoilt[name] = true
	m.notef("%s edit %s: %s", s.name, name, patch)
}

func (m *machine) deleteSecret(s *space, name string) {
	err := m.admin.CoreV1().Secrets(s.name).Delete(m.t.Context(), name, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return
	}
	stage.Check(m.t, err)
	delete(s.foreign, name)
	m.notef("%s delete %s", s.name, name)
}

// makeForeign has somebody make a Secret of a copy's name; where the copy is there, that fails.
func (m *machine) makeForeign(s *space, name string) {
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "lightstep"}},
		Data:       map[string][]byte{"anything": []byte("theirs")},
	}
	if m.random.IntN(2) == 0 { // pasted, with a copy's marks, and of another type than copies have
		secret.Labels["lightstep.com/managed"] = "distribute"
		secret.Labels["app.kubernetes.io/managed-by"] = "lightstep-injector"
	}
	made, err := m.admin.CoreV1().Secrets(s.name).Create(m.t.Context(), secret, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return
	}
	stage.Check(m.t, err)
	s.foreign[name] = made
	m.notef("%s foreign %s", s.name, name)
}

// adopt has somebody take a copy for their own.
func (m *machine) adopt(s *space, name string) {
	if s.foreign[name] != nil {
		return
	}
	adopted, err := m.admin.CoreV1().Secrets(s.name).Patch(m.t.Context(), name, types.MergePatchType,
		[]byte(`{"metadata":{"labels":{"lightstep.com/managed":null}}}`), metav1.PatchOptions{FieldManager: "kubectl-edit"})
	if apierrors.IsNotFound(err) {
		return
	}
	stage.Check(m.t, err)
	s.foreign[name] = adopted
	m.notef("%s adopt %s", s.name, name)
}

// changeSource gives a source another value, good or bad, or takes it away.
func (m *machine) changeSource(of *source) {
	var value []byte
	what := "good"
	switch n := m.random.IntN(10); {
	case n < 6 && of.name == tokenSource:
		value = fmt.Appendf(nil, "token-%d", m.random.Uint64())
	case n < 6:
		value = goodCA(m.t)
	case n < 7:
		m.notef("source %s deleted", of.name)
		of.now = nil
		if err := m.admin.CoreV1().Secrets(own).Delete(m.t.Context(), of.name, metav1.DeleteOptions{}); !apierrors.IsNotFound(err) {
			stage.Check(m.t, err)
		}
		return
	case of.name == tokenSource:
		what, value = "with a line feed", fmt.Appendf(nil, "token-%d\n", m.random.Uint64())
	default:
		what = slices.Sorted(maps.Keys(m.bad))[m.random.IntN(len(m.bad))]
		value = m.bad[what]
	}
	m.notef("source %s %s", of.name, what)
	stage.Check(m.t, m.put(m.t.Context(), own, of.name, map[string][]byte{of.key: m.commented(of, value), "beside": []byte("it")}))
	if of.now = nil; what == "good" {
		of.now = value
		of.good = append(of.good, value)
	}
}

// commented adds, at times, a comment to a satellite CA, which is not copied.
func (m *machine) commented(of *source, value []byte) []byte {
	if of.name == tokenSource || m.random.IntN(2) == 0 {
		return value
	}
	return slices.Concat([]byte("# "+sourceCanary+"\r\n\n"), value)
}

// startPod makes a pod that has the label of the injected, as if the webhook had been called.
func (m *machine) startPod(s *space) {
	s.pods++
	name := fmt.Sprintf("pod-%d", s.pods)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"lightstep.com/injected": "true"}},
		Spec:       corev1.PodSpec{SchedulerName: "nobody", Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}
	_, err := m.admin.CoreV1().Pods(s.name).Create(m.t.Context(), pod, metav1.CreateOptions{})
	if apierrors.IsForbidden(err) { // the namespace is new, and has no service account yet
		return
	}
	stage.Check(m.t, err)
	s.running = append(s.running, name)
	m.notef("%s pod %s", s.name, name)
}

// endPod has a pod finish, or go.
func (m *machine) endPod(s *space) {
	if len(s.running) == 0 {
		return
	}
	name, pods := s.running[0], m.admin.CoreV1().Pods(s.name)
	s.running = s.running[1:]
	m.notef("%s pod %s ends", s.name, name)
	if m.random.IntN(2) == 0 {
		stage.Check(m.t, pods.Delete(m.t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}))
		return
	}
	phase := []string{"Succeeded", "Failed"}[m.random.IntN(2)]
	_, err := pods.Patch(m.t.Context(), name, types.MergePatchType, []byte(`{"status":{"phase":"`+phase+`"}}`), metav1.PatchOptions{}, "status")
	stage.Check(m.t, err)
}

// crash kills a replica, which may be the one that leads, and starts it again.
func (m *machine) crash() {
	at := m.random.IntN(len(m.replicas))
	m.notef("replica %d crashes", at)
	m.replicas[at].Kill()
	stage.Check(m.t, m.replicas[at].Start(m.t.Context()))
}

// recreate has a namespace go, with all that is in it, and come back bare.
func (m *machine) recreate(s *space) {
	m.notef("%s recreated", s.name)
	stage.Check(m.t, m.admin.CoreV1().Namespaces().Delete(m.t.Context(), s.name, metav1.DeleteOptions{}))
	stage.Eventually(m.t, func(ctx context.Context) error {
		if _, err := m.admin.CoreV1().Namespaces().Get(ctx, s.name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("namespace %s is still there: %w", s.name, err)
		}
		return nil
	})
	m.namespace(m.t, s.name, nil)
	*s = *newSpace(s.name)
}

// verify says what is not as it should be.
func (m *machine) verify(ctx context.Context) error {
	var wrong problems
	bystander, err := m.admin.CoreV1().Secrets("bystander").List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	if len(bystander.Items) > 0 {
		wrong.addf("a namespace that was never labelled has Secrets")
	}
	for _, s := range m.spaces {
		list, err := m.admin.CoreV1().Secrets(s.name).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		there := map[string]*corev1.Secret{}
		for i := range list.Items {
			there[list.Items[i].Name] = &list.Items[i]
		}
		for name := range copies() {
			if err := m.verifySecret(s, name, there[name]); err != nil {
				wrong.addf("%s/%s: %w", s.name, name, err)
			}
		}
	}
	return errors.Join(wrong...)
}

func (m *machine) verifySecret(s *space, name string, live *corev1.Secret) error {
	from := m.sources[copies()[name].source]
	switch foreign := s.foreign[name]; {
	case foreign != nil && !reflect.DeepEqual(foreign, live):
		return fmt.Errorf("somebody's own Secret was touched:\n%+v\n%+v", foreign, live)
	case foreign != nil:
		return nil
	case !s.due(name):
		return s.verifyUndue(name, live)
	case from.now != nil:
		err := verifyCopy(live, from)
		s.spoilt[name] = s.spoilt[name] && err != nil
		return err
	case live == nil || s.spoilt[name]:
		return nil
	}
	if !slices.ContainsFunc(from.good, func(v []byte) bool { return bytes.Equal(v, live.Data[from.key]) }) {
		return errors.New("a value that is not to be handed out was")
	}
	return nil
}

// due tells whether a namespace is to have a Secret.
func (s *space) due(name string) bool {
	if !s.labelled || s.profile == "nosuch" {
		return false
	}
	switch name {
	case caName:
		return s.profile == ""
	case otherName:
		return s.profile == "other"
	}
	return s.profile == "" && strings.HasPrefix(s.name, "allowed-")
}

// verifyUndue sees that what is no longer due goes, but not from under pods, and not while the profile is not known.
func (s *space) verifyUndue(name string, live *corev1.Secret) error {
	switch {
	case live == nil, s.labelled && s.profile == "nosuch":
		return nil
	case name == tokenName && !strings.HasPrefix(s.name, "allowed-"):
		return errors.New("a token where none is allowed")
	case name == tokenName && s.labelled, len(s.running) == 0:
		return errors.New("it is no longer due, and still there")
	}
	return nil
}

func verifyCopy(live *corev1.Secret, from *source) error {
	if live == nil {
		return errors.New("the copy is not there")
	}
	want := map[string][]byte{from.key: from.now}
	switch {
	case !reflect.DeepEqual(live.Data, want):
		return fmt.Errorf("its data has keys %v, and not what the source has", slices.Sorted(maps.Keys(live.Data)))
	case live.Type != corev1.SecretTypeOpaque || live.Immutable != nil && *live.Immutable:
		return fmt.Errorf("its type is %s, immutable %v", live.Type, live.Immutable)
	case live.Labels["app"] != "lightstep", live.Labels["app.kubernetes.io/managed-by"] != "lightstep-injector", live.Labels["lightstep.com/managed"] != "distribute":
		return fmt.Errorf("its labels are %v", live.Labels)
	case live.Annotations["lightstep.com/source"] != own+"/"+from.name, live.Annotations["lightstep.com/content-hash"] == "":
		return fmt.Errorf("its annotations are %v", live.Annotations)
	}
	return nil
}
