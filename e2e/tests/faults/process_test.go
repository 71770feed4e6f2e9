package faults

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/load"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// writeInvalid writes a configuration that is refused.
func writeInvalid(t *testing.T, e *environment) func() {
	t.Helper()
	content, err := os.ReadFile(e.Config)
	stage.Check(t, err)
	stage.Check(t, injector.WriteConfig(e.Config, append(content, "nonsense: true\n"...)))
	return func() { e.configure(t) }
}

// removeConfig takes the configuration away.
func removeConfig(t *testing.T, e *environment) func() {
	t.Helper()
	stage.Check(t, os.Remove(e.Config))
	return func() { e.configure(t) }
}

// logToFullDisk has the log go where no byte can be written.
func logToFullDisk(t *testing.T, e *environment) injector.Options {
	t.Helper()
	script := filepath.Join(t.TempDir(), "injector")
	stage.Check(t, os.WriteFile(script, fmt.Appendf(nil, "#!/bin/sh\nexec %s \"$@\" >/dev/full 2>&1\n", e.Program), 0o700))
	return injector.Options{Binary: script, Flags: []string{"--self-signed", "--propagation-time", "1s", "--log-level", "debug"}}
}

// What a binary panics at: at the one a decision and controllers do, at the other a watch.
const doomed, cursed = "doomed", "cursed"

// buildPanicking builds the program with panics in it. They are put into copies of its sources: the product has none.
func (e *environment) buildPanicking(t *testing.T) string {
	t.Helper()
	overlay := map[string]string{}
	for file, edit := range map[string]struct{ at, then, name string }{
		"webhook/inject/decide.go":       {"func Decide(req *Request, snap *Snapshot) Decision {", "if req.Pod.Metadata.Name == %q {", doomed},
		"certs/distribute/controller.go": {") reconcile(ctx context.Context, key types.NamespacedName) (again time.Duration, err error) {", "if key.Namespace == %q {", doomed},
		"webhook/missed/counter.go":      {"func (c *Counter) round(ctx context.Context, pace flowcontrol.RateLimiter) error {", "if _, there := c.Snapshots.Current().Namespaces.Get(%q); there {", doomed},
		"webhook/snapshot/store.go":      {"func (s *Store) label(object *metav1.PartialObjectMetadata, before map[string]inject.Namespace) {", "if object.Name == %q {", cursed},
	} {
		path, err := filepath.Abs(filepath.Join(root, file))
		stage.Check(t, err)
		source, err := os.ReadFile(path)
		stage.Check(t, err)
		if strings.Count(string(source), edit.at) != 1 {
			t.Fatalf("%s has not one %q", file, edit.at)
		}
		edited := strings.Replace(string(source), edit.at, edit.at+"\n"+fmt.Sprintf(edit.then, edit.name)+"var nothing map[string]int; nothing[\"\"]++ }\n", 1)
		overlay[path] = edited
	}
	return e.buildOverlaid(t, "panicking", overlay)
}

// buildOverlaid builds the program with other sources in the place of its own, or beside them.
func (e *environment) buildOverlaid(t *testing.T, name string, sources map[string]string) string {
	t.Helper()
	folder := filepath.Join(e.Run.Dir, name)
	stage.Check(t, os.Mkdir(folder, 0o700))
	overlay := map[string]string{}
	for path, source := range sources {
		overlay[path] = filepath.Join(folder, strconv.Itoa(len(overlay))+".go")
		stage.Check(t, os.WriteFile(overlay[path], []byte(source), 0o600))
	}
	content, err := json.Marshal(map[string]any{"Replace": overlay})
	stage.Check(t, err)
	file := filepath.Join(folder, "overlay.json")
	stage.Check(t, os.WriteFile(file, content, 0o600))
	binary, err := injector.BuildOverlaid(t.Context(), root, filepath.Join(folder, "lightstep-injector"), file)
	stage.Check(t, err)
	return binary
}

func panicking(_ *testing.T, e *environment) injector.Options {
	return injector.Options{Binary: e.panicking}
}

// panicDecision creates a pod at which the decision panics.
func panicDecision(t *testing.T, e *environment) func() {
	t.Helper()
	namespace, err := e.labelled(t.Context(), nil)
	stage.Check(t, err)
	pod := load.Pod(0)
	pod.Name = doomed
	created, err := e.Client.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{})
	stage.Check(t, err)
	if load.Injected(created) || len(created.Spec.Containers[0].VolumeMounts) != 1 {
		t.Errorf("it was changed: %v, %v", created.Labels, created.Spec.Containers[0].VolumeMounts)
	}
	return func() {}
}

// panicControllers makes the namespace at which two controllers panic.
func panicControllers(t *testing.T, e *environment) func() {
	t.Helper()
	return e.labelledForNow(t, doomed)
}

// panicWatches makes the namespace at which the watch of namespaces panics, in the list that it begins with.
func panicWatches(t *testing.T, e *environment) func() {
	t.Helper()
	return e.labelledForNow(t, cursed)
}

// labelledForNow makes a namespace, and returns what takes its label away.
func (e *environment) labelledForNow(t *testing.T, name string) func() {
	t.Helper()
	e.Namespace(t, name, map[string]string{"lightstep.com/injection": "enabled"}, nil)
	return func() {
		_, err := e.Client.CoreV1().Namespaces().Patch(t.Context(), name, "application/merge-patch+json",
			[]byte(`{"metadata":{"labels":{"lightstep.com/injection":null}}}`), metav1.PatchOptions{})
		stage.Check(t, err)
	}
}
