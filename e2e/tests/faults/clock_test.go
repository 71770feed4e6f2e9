package faults

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// ahead is how far the clock jumps: a certificate of a year is then due to be replaced.
const ahead = 300 * 24 * time.Hour

// buildShifted builds the program with another clock, where it compares times with those of certificates: one that is ahead by as
// much as a file says.
func (e *environment) buildShifted(t *testing.T) string {
	t.Helper()
	e.clock = filepath.Join(e.Run.Dir, "clock")
	e.shift(t, 0)
	sources := map[string]string{}
	for _, folder := range []string{"certs/serving", "certs/distribute", "webhook/snapshot", "cmd/lightstep-injector"} {
		files, err := filepath.Glob(filepath.Join(root, folder, "*.go"))
		stage.Check(t, err)
		shifted := 0
		for _, file := range files {
			source, err := os.ReadFile(file)
			stage.Check(t, err)
			if strings.HasSuffix(file, "_test.go") || !bytes.Contains(source, []byte("time.Now")) {
				continue
			}
			shifted++
			sources[absolute(t, file)] = strings.ReplaceAll(string(source), "time.Now", "shiftedNow") + "\nvar _ time.Time\n"
		}
		if shifted == 0 {
			t.Errorf("%s asks nowhere for the time", folder)
		}
		sources[absolute(t, filepath.Join(root, folder, "shifted.go"))] = fmt.Sprintf(`package %s

import (
	"os"
	"time"
)

func shiftedNow() time.Time {
	content, err := os.ReadFile(%q)
	if err != nil {
		panic(err)
	}
	ahead, err := time.ParseDuration(string(content))
	if err != nil {
		panic(err)
	}
	return time.Now().Add(ahead)
}
`, packageOf(folder), e.clock)
	}
	return e.buildOverlaid(t, "shifted", sources)
}

func packageOf(folder string) string {
	if strings.HasPrefix(folder, "cmd/") {
		return "main"
	}
	return filepath.Base(folder)
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	stage.Check(t, err)
	return path
}

func shifted(_ *testing.T, e *environment) injector.Options {
	return injector.Options{Binary: e.shifted}
}

// shift sets the clock, at once.
func (e *environment) shift(t *testing.T, by time.Duration) {
	t.Helper()
	stage.Check(t, os.WriteFile(e.clock+".new", []byte(by.String()), 0o600))
	stage.Check(t, os.Rename(e.clock+".new", e.clock))
}

// setClock sets the clock ahead, waits until the certificate is replaced and the old CA dropped, so that the API server connects anew,
// and sets it back. It has the injector look, which it would do within ten minutes.
func setClock(t *testing.T, e *environment) func() {
	t.Helper()
	before := e.trustedAlone(t, nil) // once what an earlier row has begun is at its end
	e.shift(t, ahead)
	e.touch(t, "ahead")
	e.trustedAlone(t, before)
	e.shift(t, 0)
	e.touch(t, "back")
	return func() {}
}

// trustedAlone waits until the caBundle is one CA, and another than before, and returns it.
func (e *environment) trustedAlone(t *testing.T, before []byte) (bundle []byte) {
	t.Helper()
	stage.Eventually(t, func(ctx context.Context) error {
		configuration, err := e.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, "0-lightstep-injector", metav1.GetOptions{})
		if err != nil {
			return err
		}
		bundle = configuration.Webhooks[0].ClientConfig.CABundle
		if cas := bytes.Count(bundle, []byte("BEGIN CERTIFICATE")); cas != 1 || bytes.Equal(bundle, before) {
			return fmt.Errorf("the caBundle has %d CAs; awaited is one, and another than before", cas)
		}
		return nil
	})
	return bundle
}

// touch changes nothing that counts in the serving Secret, of which its watch tells.
func (e *environment) touch(t *testing.T, value string) {
	t.Helper()
	_, err := e.Client.CoreV1().Secrets(own).Patch(t.Context(), servingSecret, "application/merge-patch+json",
		fmt.Appendf(nil, `{"metadata":{"annotations":{"touched":%q}}}`, value), metav1.PatchOptions{})
	stage.Check(t, err)
}
