package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// deployment is the part of one that an image has to fit.
type deployment struct {
	Spec struct {
		Template struct {
			Spec struct {
				SecurityContext struct{ RunAsUser, RunAsGroup int }
				Containers      []struct {
					Image           string
					Command, Args   []string
					SecurityContext struct{ ReadOnlyRootFilesystem bool }
				}
			}
		}
	}
}

// rendered is what Helm makes of the released chart's template.
func (e *environment) rendered(t *testing.T, template string, into any, flags ...string) {
	t.Helper()
	args := []string{"template", "lightstep-injector", filepath.Join(e.dist, "lightstep-injector-1.9.8.tgz"), "--show-only", "templates/" + template}
	text, err := outputOf(exec.CommandContext(t.Context(), e.helm, append(args, flags...)...))
	check(t, err)
	check(t, yaml.Unmarshal([]byte(text), into))
}

// chart: the released chart installs the image that is released beside it by its digest, as its user, and leaves the entrypoint
// alone. Its other values are those of the repository.
func (e *environment) chart(t *testing.T) {
	var d deployment
	e.rendered(t, "deployment.yaml", &d)
	container, user := d.Spec.Template.Spec.Containers[0], d.Spec.Template.Spec.SecurityContext
	config, err := e.images["amd64"].ConfigFile()
	check(t, err)
	if got := fmt.Sprintf("%d:%d", user.RunAsUser, user.RunAsGroup); got != config.Config.User {
		t.Errorf("the chart runs it as %s, the image as %s", got, config.Config.User)
	}
	if container.Image != "ghcr.io/lightstep-injector/lightstep-injector@"+digestOf(t, e.made.index) || len(container.Command) > 0 || container.Args[0] != "serve" ||
		!container.SecurityContext.ReadOnlyRootFilesystem {
		t.Errorf("its container is %+v", container)
	}
	e.rendered(t, "deployment.yaml", &d, "--set", "image.digest=")
	if image := d.Spec.Template.Spec.Containers[0].Image; image != "ghcr.io/lightstep-injector/lightstep-injector:"+tag {
		t.Errorf("without the digest it installs %s", image)
	}
	values, err := outputOf(exec.CommandContext(t.Context(), e.helm, "show", "values", filepath.Join(e.dist, "lightstep-injector-1.9.8.tgz")))
	check(t, err)
	original := read(t, root, "manifests/chart/lightstep-injector/values.yaml")
	if got := strings.Replace(values, digestOf(t, e.made.index), "", 1); strings.TrimSpace(got) != strings.TrimSpace(original) {
		t.Errorf("more than the digest differs (-repository +released):\n%s", cmp.Diff(original, got))
	}
}

// starts: of the files of the image alone the program tells its version, and serves with the chart's arguments and what the chart
// mounts. No API server is there, so it lives and is never ready.
func (e *environment) starts(t *testing.T) {
	told, err := outputOf(e.container(t, "version"))
	check(t, err)
	if !strings.Contains(told, tag) || !strings.Contains(told, e.made.revision) || !strings.Contains(told, "linux/amd64") {
		t.Errorf("its version is %s", told)
	}
	if _, err := outputOf(e.container(t, "serve")); err == nil || !strings.Contains(err.Error(), "config") {
		t.Errorf("with nothing it says %v", err)
	}
	health := unused(t)
	var d deployment
	e.rendered(t, "deployment.yaml", &d, "--set", fmt.Sprintf("ports.webhook=%d,ports.metrics=%d,ports.health=%d", unused(t), unused(t), health))
	e.mount(t)
	serve := e.container(t, d.Spec.Template.Spec.Containers[0].Args...)
	var said strings.Builder
	serve.Stderr = &said
	check(t, serve.Start())
	ended := make(chan error, 1)
	go func() { ended <- serve.Wait() }()
	alive(t, fmt.Sprintf("http://127.0.0.1:%d/healthz", health), ended, &said)
	check(t, serve.Process.Signal(syscall.SIGTERM))
	if err := <-ended; err != nil {
		t.Errorf("told to stop it ends with %v: %s", err, &said)
	}
}

// container is the image's entrypoint as a process: with an empty environment, and where the tests may do so, which is as root, with
// nothing but the image's files and as its user.
func (e *environment) container(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	folder := e.roots["amd64"]
	cmd := exec.CommandContext(t.Context(), "/lightstep-injector", args...)
	cmd.Dir, cmd.Env = "/", []string{"KUBECONFIG=/etc/kubeconfig"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: folder, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	if os.Getuid() != 0 {
		cmd.Path, cmd.Dir, cmd.SysProcAttr = filepath.Join(folder, "lightstep-injector"), folder, nil
		cmd.Env = []string{"KUBECONFIG=" + filepath.Join(folder, "etc", "kubeconfig")}
		for i := range cmd.Args[1:] {
			cmd.Args[i+1] = strings.Replace(cmd.Args[i+1], "=/etc/", "="+folder+"/etc/", 1)
		}
	}
	return cmd
}

// mount puts what the chart mounts where it does.
func (e *environment) mount(t *testing.T) {
	t.Helper()
	var config struct{ Data map[string]string }
	e.rendered(t, "configmap.yaml", &config, "--set", "config.profiles.default.satellite.address=satellite.example.com:443")
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS()
	defer server.Close()
	pair := server.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	check(t, err)
	for file, content := range map[string][]byte{
		"kubeconfig": []byte(`{"apiVersion": "v1", "kind": "Config", "current-context": "a",
			"contexts": [{"name": "a", "context": {"cluster": "a"}}], "clusters": [{"name": "a", "cluster": {"server": "http://127.0.0.1:1"}}]}`),
		"lightstep-injector/config/config.yaml": []byte(config.Data["config.yaml"]),
		"lightstep-injector/tls/tls.crt":        pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}),
		"lightstep-injector/tls/tls.key":        pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	} {
		path := filepath.Join(e.roots["amd64"], "etc", file)
		check(t, os.MkdirAll(filepath.Dir(path), 0o755))
		check(t, os.WriteFile(path, content, 0o644))
	}
	t.Cleanup(func() { check(t, os.RemoveAll(filepath.Join(e.roots["amd64"], "etc"))) })
}

// alive waits until an address answers that all is well.
func alive(t *testing.T, url string, ended <-chan error, said fmt.Stringer) {
	t.Helper()
	deadline, again := time.After(time.Minute), time.NewTicker(20*time.Millisecond)
	defer again.Stop()
	for {
		select {
		case err := <-ended:
			t.Fatalf("it has ended: %v: %s", err, said)
		case <-deadline:
			t.Fatal("it does not answer")
		case <-again.C:
		}
		response, err := http.Get(url)
		if err != nil {
			continue
		}
		check(t, response.Body.Close())
		if response.StatusCode == http.StatusOK {
			return
		}
	}
}

// unused is a port that nobody listens on.
func unused(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}
