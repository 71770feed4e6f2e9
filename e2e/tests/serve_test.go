package tests

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
)

// A configuration that is changed while the injector runs is in force for the next pod, whoever writes it and however.
func testConfigurationChanged(t *testing.T, e *environment) {
	namespace := e.nativeNamespace(t)
	e.waitForSampling(t, namespace, 25)

	check(t, injector.WriteConfig(e.config, e.configWithSampling(t, "50")))
	e.waitForSampling(t, namespace, 50)

	// As the kubelet does it: the file is a link into a folder ..data, which is a link itself and is swapped.
	volume := newConfigMapVolume(t, e.config)
	volume.write(t, e.configWithSampling(t, "60"))
	volume.mount(t)
	e.waitForSampling(t, namespace, 60)
	volume.write(t, e.configWithSampling(t, "70"))
	e.waitForSampling(t, namespace, 70)

	e.restoreConfig(t)
	e.waitForSampling(t, namespace, 25)
}

// A configuration that is no good changes nothing, and is seen in the metric and the log.
func testConfigurationRefused(t *testing.T, e *environment) {
	namespace := e.nativeNamespace(t)
	e.waitForSampling(t, namespace, 25)
	e.waitForMetric(t, "lightstep_injector_config_loaded", 1)

	check(t, injector.WriteConfig(e.config, e.configWithSampling(t, "4711")))
	e.waitForMetric(t, "lightstep_injector_config_loaded", 0)
	e.waitForSampling(t, namespace, 25)
	if log := e.injectorLog(t); !strings.Contains(log, "profiles.native.sampling") || !strings.Contains(log, "4711") {
		t.Errorf("the log names neither the field nor its value:\n%s", log)
	}

	e.restoreConfig(t)
	e.waitForMetric(t, "lightstep_injector_config_loaded", 1)
}

// Without the webhook pods are created as they are sent, and it is no trouble for it to come back.
func testKilled(t *testing.T, e *environment) {
	namespace := e.namespace(t, labelled(), nil)
	e.injector.Kill()
	check(t, createDeployment(t.Context(), e.client, namespace))
	missed := e.pods(t, namespace, 2)
	eachPod(t, missed, untouched)

	check(t, e.injector.Start(t.Context()))
	eventually(t, func(ctx context.Context) error { // the API server may wait before it connects again
		tried, err := e.tryPod(ctx, namespace)
		if err != nil {
			return err
		}
		return injected(tried, defaultPath)
	})
	for i := range missed {
		check(t, e.client.CoreV1().Pods(namespace).Delete(t.Context(), missed[i].Name, metav1.DeleteOptions{}))
	}
	eventually(t, func(ctx context.Context) error {
		pods, err := e.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		if len(pods.Items) != 2 {
			return fmt.Errorf("the namespace has %d pods, not the 2 that replace the missed ones", len(pods.Items))
		}
		for i := range pods.Items {
			if err := injected(&pods.Items[i], defaultPath); err != nil {
				return err
			}
		}
		return nil
	})
}

// An injector that is told to end goes on answering while the API server turns away: no pod is missed.
func testStopped(t *testing.T, e *environment) {
	namespace := e.namespace(t, labelled(), nil)
	stopped := make(chan error, 1)
	go func() { stopped <- e.injector.Stop() }()
	eventually(t, func(ctx context.Context) error {
		if e.injector.Ready(ctx) == nil {
			return fmt.Errorf("it still says that it is ready")
		}
		return nil
	})
	for i := range 10 {
		check(t, injected(e.create(t, namespace, pod(fmt.Sprintf("web-%d", i))), defaultPath))
	}
	check(t, <-stopped)
	check(t, e.injector.Start(t.Context()))
}

// The token stands in the annotation that was asked for. It stands nowhere else: not in the log, not in the metrics.
func testTokenStaysWhereItBelongs(t *testing.T, e *environment) {
	created := e.create(t, e.nativeNamespace(t), pod("web"))
	got, err := tracingOf(created)
	check(t, err)
	if got.Lightstep.AccessToken != canary {
		t.Fatalf("the annotation has the token %q: this test would miss it elsewhere, too", got.Lightstep.AccessToken)
	}
	metrics, err := e.injector.Metrics(t.Context())
	check(t, err)
	for name, text := range map[string]string{"log": e.injectorLog(t), "metrics": string(metrics)} {
		if text == "" {
			t.Errorf("there is no %s to look at", name)
		}
		for _, form := range []string{canary, base64.StdEncoding.EncodeToString([]byte(canary))} {
			if strings.Contains(text, form) {
				t.Errorf("the token stands in the %s", name)
			}
		}
	}
}

// configWithSampling is the configuration of testdata with another sampling in the profile native.
func (e *environment) configWithSampling(t *testing.T, sampling string) []byte {
	t.Helper()
	config, err := os.ReadFile("testdata/config.yaml")
	check(t, err)
	changed := bytes.Replace(config, []byte("sampling: 25"), []byte("sampling: "+sampling), 1)
	if bytes.Equal(config, changed) {
		t.Fatal("testdata/config.yaml has no sampling of 25 to change")
	}
	return changed
}

// restoreConfig puts the configuration of testdata in force again.
func (e *environment) restoreConfig(t *testing.T) {
	t.Helper()
	config, err := os.ReadFile("testdata/config.yaml")
	check(t, err)
	check(t, injector.WriteConfig(e.config, config))
}

func (e *environment) waitForSampling(t *testing.T, namespace string, want float64) {
	t.Helper()
	eventually(t, func(ctx context.Context) error {
		got, err := e.triedTracing(ctx, namespace)
		if err != nil {
			return err
		}
		if got.Sampling != want {
			return fmt.Errorf("sampling is %g, not %g", got.Sampling, want)
		}
		return nil
	})
}

func (e *environment) waitForMetric(t *testing.T, name string, want float64) {
	t.Helper()
	eventually(t, func(ctx context.Context) error {
		got, err := e.injector.Metric(ctx, name, nil)
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("%s is %g, not %g", name, got, want)
		}
		return nil
	})
}

func (e *environment) injectorLog(t *testing.T) string {
	t.Helper()
	log, err := os.ReadFile(e.injector.LogFile())
	check(t, err)
	return string(log)
}

// configMapVolume is a file laid out as the kubelet mounts a ConfigMap's key.
type configMapVolume struct {
	file     string
	versions int
}

func newConfigMapVolume(t *testing.T, file string) *configMapVolume {
	t.Helper()
	v := &configMapVolume{file: file}
	t.Cleanup(func() { check(t, os.RemoveAll(v.data())) })
	return v
}

func (v *configMapVolume) data() string { return filepath.Join(filepath.Dir(v.file), "..data") }

// write writes a version into a new folder and swaps ..data to it, in one step.
func (v *configMapVolume) write(t *testing.T, content []byte) {
	t.Helper()
	v.versions++
	name := fmt.Sprintf("..version-%d", v.versions)
	dir := filepath.Join(filepath.Dir(v.file), name)
	check(t, os.Mkdir(dir, 0o755))
	check(t, os.WriteFile(filepath.Join(dir, filepath.Base(v.file)), content, 0o600))
	check(t, os.Symlink(name, v.data()+"_tmp"))
	check(t, os.Rename(v.data()+"_tmp", v.data()))
}

// mount makes the file a link into ..data.
func (v *configMapVolume) mount(t *testing.T) {
	t.Helper()
	temporary := v.file + "_tmp"
	check(t, os.Symlink(filepath.Join("..data", filepath.Base(v.file)), temporary))
	check(t, os.Rename(temporary, v.file))
}
