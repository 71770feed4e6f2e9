package canary_test

import (
	"context"
	"encoding/base64"
	"os"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/lightstep-injector/lightstep-injector/e2e/canary"
	"github.com/lightstep-injector/lightstep-injector/e2e/istio/agent"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

const token = "canary-93b1c64e0d7f"

// Wherever in a longer text the token stands, in whatever base64, it is found; a part of it is not.
func TestForms(t *testing.T) {
	for _, before := range []string{"", "x", "xy", "xyz"} {
		for _, after := range []string{"", "x", "\xff\xff"} {
			text := before + token + after
			for name, encoded := range map[string]string{
				"plain": text, "standard": base64.StdEncoding.EncodeToString([]byte(text)), "URL": base64.URLEncoding.EncodeToString([]byte(text)),
			} {
				c := canary.New(token)
				c.Look("texts", name, []byte(`{"a":"`+encoded+`"}`))
				if len(c.Found()) != 1 {
					t.Errorf("%s: %q between %q and %q is not found", name, token, before, after)
				}
			}
		}
	}
	c := canary.New(token)
	c.Look("texts", "half", []byte(token[:len(token)-1]+base64.StdEncoding.EncodeToString([]byte(token[:len(token)-1]))))
	if len(c.Found()) > 0 {
		t.Errorf("it finds %v", c.Found())
	}
}

// An exception is one place, which must be there.
func TestWithout(t *testing.T) {
	text, err := canary.Without([]byte(`{"a":{"b":"`+token+`","c":"`+token+`"}}`), token, "a", "b")
	if err != nil || string(text) != `{"a":{"c":"`+token+`"}}` {
		t.Errorf("%s, %v", text, err)
	}
	for _, document := range []string{`{}`, `{"a":{"b":"other"}}`, `{"a":"` + token + `"}`, `[]`} {
		if text, err := canary.Without([]byte(document), token, "a", "b"); err == nil {
			t.Errorf("%s becomes %s", document, text)
		}
	}
}

// What Istio's agent itself does with the token is passed over, and that alone: not the same beside it, not without the env
// from the Secret, and not where it has ceased to.
func TestBootstraps(t *testing.T) {
	const config = `{"tracing":{"lightstep":{"accessToken":"` + token + `"}}}`
	made := `{"token":"` + token + `","proxyConfig":` + config + `,"bootstrap":{"node":{"metadata":{"PROXY_CONFIG":` + config + `}}}}`
	env := `{"spec":{"containers":[{"name":"istio-proxy","env":[{"name":"LIGHTSTEP_ACCESS_TOKEN","valueFrom":{"secretKeyRef":{"name":"s","key":"k"}}}]}]}}`
	annotated := `{"metadata":{"annotations":{"proxy.istio.io/config":"` + token + `"}},"spec":{"containers":[]}}`
	for name, c := range map[string]struct {
		pod, made     string
		found, failed bool
	}{
		"Istio's own":       {env, made, false, false},
		"beside it":         {env, strings.Replace(made, `"metadata"`, `"id":"`+token+`","metadata"`, 1), true, false},
		"no longer there":   {env, strings.ReplaceAll(made, config, "{}"), false, true},
		"not from a Secret": {`{"spec":{"containers":[]}}`, made, true, false},
		"published":         {annotated, made, false, false},
		"published as well": {strings.Replace(env, `{"spec"`, `{"metadata":{"annotations":{"proxy.istio.io/config":"`+token+`"}},"spec"`, 1), made, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			looking := canary.New(token)
			looking.Seen(agent.Made, []byte(`{"pod":`+c.pod+`,"made":`+c.made+`}`))
			if found := len(looking.Found()) > 0; found != c.found || (looking.Failed() != nil) != c.failed {
				t.Errorf("found: %v, failed: %v", found, looking.Failed())
			}
		})
	}
}

// A token that was put anywhere but into the configured Secrets is found there, and nowhere else.
func TestSweep(t *testing.T) {
	s := stage.New(t, "../..")
	encoded := base64.StdEncoding.EncodeToString([]byte("?" + token + "?"))
	core := s.Client.CoreV1()
	create, dryRun := metav1.CreateOptions{}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}

	s.Secret(t, "default", "configured", "token", token)
	sweep(t, s, nil)

	s.Secret(t, "default", "another", "token", token)
	_, err := core.ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "annotated", Annotations: map[string]string{"a": token}},
	}, create)
	stage.Check(t, err)
	_, err = core.ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "encoded"}, Data: map[string]string{"a": encoded},
	}, create)
	stage.Check(t, err)
	_, err = core.ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "tried", Annotations: map[string]string{"a": token}},
	}, dryRun)
	stage.Check(t, err)
	_, err = core.Events("default").Create(t.Context(), &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Name: "said"}, InvolvedObject: corev1.ObjectReference{Namespace: "default"}, Message: "it is " + token,
	}, create)
	stage.Check(t, err)
	_, err = s.Client.AppsV1().ControllerRevisions("default").Create(t.Context(), revision(), create)
	stage.Check(t, err)
	for _, namespace := range []string{"default", "published"} {
		if namespace == "published" {
			s.Namespace(t, namespace, nil, nil)
		}
		stage.Eventually(t, func(ctx context.Context) error {
			_, err := core.Pods(namespace).Create(ctx, pod(), create)
			return err
		})
	}
	stage.Check(t, os.WriteFile(s.Run.Log("component"), []byte("line\nthe token is "+encoded+"\n"), 0o600))
	sweep(t, s, func(context.Context) ([]byte, error) { return []byte(`metric{label="` + token + `"} 1`), nil },
		"logs: component.log",
		"metrics: planted",
		"objects: configmaps default/annotated",
		"objects: configmaps default/encoded",
		"objects: controllerrevisions default/kept",
		"objects: events default/said",
		"objects: pods default/web",
		"objects: secrets default/another",
		"lines of the audit log: create /api/v1/namespaces/default/configmaps",
		"lines of the audit log: create /api/v1/namespaces/default/configmaps?dryRun=All",
		"lines of the audit log: create /api/v1/namespaces/default/events",
		"lines of the audit log: create /api/v1/namespaces/default/pods",
		"lines of the audit log: create /apis/apps/v1/namespaces/default/controllerrevisions",
	)
}

// sweep looks at a run and wants the token found in these places, and no other.
func sweep(t *testing.T, s *stage.Stage, planted func(context.Context) ([]byte, error), wanted ...string) {
	t.Helper()
	scene := &canary.Scene{Run: s.Run, Cluster: s.Cluster, Secrets: []string{"configured"}, Published: []string{"published"}}
	if planted != nil {
		scene.Metrics = map[string]func(context.Context) ([]byte, error){"planted": planted}
	}
	c := canary.New(token)
	stage.Check(t, c.Sweep(t.Context(), scene))
	found := slices.Compact(c.Found())
	// What controllers and the scheduler write of a pod is the pod again.
	found = slices.DeleteFunc(found, func(where string) bool {
		return strings.Contains(where, "/pods/web/") || strings.HasPrefix(where, "objects: events.events")
	})
	slices.Sort(wanted)
	if !slices.Equal(found, wanted) {
		t.Errorf("found in\n%s\nwanted\n%s", strings.Join(found, "\n"), strings.Join(wanted, "\n"))
	}
}

// revision holds any object, as it is.
func revision() *appsv1.ControllerRevision {
	return &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Name: "kept"}, Data: runtime.RawExtension{Raw: []byte(`{"a":"` + token + `"}`)}}
}

func pod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Annotations: map[string]string{"a": token}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}
}
