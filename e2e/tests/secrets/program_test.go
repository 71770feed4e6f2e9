package secrets

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/cluster"
	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/process"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

var otherProgram = flag.String("program", "", "path of a program to run in place of the one that is built, such as an earlier release's")

// program has the program itself do its work with the account's credentials: no write of it is refused.
func (e *environment) program(t *testing.T) {
	e.installIstio(t)
	satellites, err := injector.NewCA("satellite CA")
	stage.Check(t, err)
	for name, content := range map[string][]byte{satelliteCA: satellites.PEM, "other-source": satellites.PEM, "token-source": []byte("x")} {
		secret := foreign(own, name)
		secret.Data = map[string][]byte{"cacert.pem": content, "token": content}
		e.given(t, secret)
	}
	inMesh := map[string]string{"lightstep.com/injection": "enabled", "istio-injection": "enabled"}
	e.namespace(t, "program", inMesh)
	e.namespace(t, "program-theirs", inMesh)
	e.given(t, foreign("program-theirs", satelliteCA))
	stage.Check(t, e.admin.CoordinationV1().Leases(own).Delete(t.Context(), lease, metav1.DeleteOptions{}))
	defer e.removeProgram(t)
	running := e.start(t)
	defer func() {
		if t.Failed() {
			t.Logf("the end of its log:\n%s", process.Tail(running.LogFile(), 40))
		}
	}()
	stage.Eventually(t, func(ctx context.Context) error { return e.programHasWorked(ctx) })
	stage.Check(t, running.Stop())
	log, err := os.ReadFile(running.LogFile())
	stage.Check(t, err)
	for line := range bytes.Lines(log) {
		if bytes.Contains(line, []byte("denied request")) {
			t.Errorf("a policy refuses what the program does: %s", line)
		}
	}
}

// removeProgram takes away what would be in the way of the attacks.
func (e *environment) removeProgram(t *testing.T) {
	t.Helper()
	for _, name := range []string{satelliteCA, "other-source", "token-source", certificate} {
		if err := e.admin.CoreV1().Secrets(own).Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	}
}

// start starts the program with the configuration that the chart has rendered.
func (e *environment) start(t *testing.T) *injector.Injector {
	t.Helper()
	binary := *otherProgram
	if binary == "" {
		var err error
		binary, err = injector.Build(t.Context(), root, e.run)
		stage.Check(t, err)
	}
	as, err := e.cluster.As(t.Context(), own, accountName)
	stage.Check(t, err)
	kubeconfig := filepath.Join(e.run.Dir, "kubeconfig-account")
	stage.Check(t, cluster.WriteKubeconfig(kubeconfig, as))
	rendered, err := e.admin.CoreV1().ConfigMaps(own).Get(t.Context(), "lightstep-injector", metav1.GetOptions{})
	stage.Check(t, err)
	running, err := injector.NewUncalled(e.cluster, e.run, injector.Options{
		Binary: binary, Kubeconfig: kubeconfig, Config: file(t, rendered.Data["config.yaml"]), Certificate: true,
		Flags: []string{"--self-signed", "--propagation-time=1s"},
	})
	stage.Check(t, err)
	t.Cleanup(running.Kill)
	stage.Check(t, running.Start(t.Context()))
	return running
}

// installIstio writes what the injector reads of a control plane whose provider leads to the satellites.
func (e *environment) installIstio(t *testing.T) {
	t.Helper()
	for name, data := range map[string]map[string]string{
		"istio":                  {"mesh": `{extensionProviders: [{name: lightstep, opentelemetry: {service: istio-system/satellite.lightstep.internal, port: 44317}}]}`},
		"istio-sidecar-injector": {"values": `{"global":{"tag":"1.31.0"}}`},
	} {
		_, err := e.admin.CoreV1().ConfigMaps(istioSpace).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}, metav1.CreateOptions{})
		stage.Check(t, err)
	}
}

// programHasWorked tells what is still missing of the program's work.
func (e *environment) programHasWorked(ctx context.Context) error {
	var errs []error
	for _, name := range []string{satelliteCA, token} {
		_, err := e.admin.CoreV1().Secrets("program").Get(ctx, name, metav1.GetOptions{})
		errs = append(errs, err)
	}
	for _, kind := range istioKinds() {
		_, err := e.adminObjects.Resource(kind).Namespace("program").Get(ctx, provider, metav1.GetOptions{})
		errs = append(errs, err)
	}
	events, err := e.admin.EventsV1().Events("program-theirs").List(ctx, metav1.ListOptions{FieldSelector: "reason=ForeignSecret"})
	if err == nil && len(events.Items) == 0 {
		err = errors.New("there is no Event about the foreign Secret")
	}
	errs = append(errs, err)
	held, err := e.admin.CoordinationV1().Leases(own).Get(ctx, lease, metav1.GetOptions{})
	errs = append(errs, err)
	if err == nil {
		errs = append(errs, ownedByDeployment("the Lease", held))
	}
	served, err := e.admin.CoreV1().Secrets(own).Get(ctx, certificate, metav1.GetOptions{})
	errs = append(errs, err)
	if err == nil {
		errs = append(errs, ownedByDeployment("the certificate", served))
	}
	return errors.Join(errs...)
}

// ownedByDeployment tells whether an object goes with the Deployment, as what the program makes for itself does.
func ownedByDeployment(what string, object metav1.Object) error {
	if owners := object.GetOwnerReferences(); len(owners) != 1 || owners[0].Kind != "Deployment" {
		return fmt.Errorf("%s belongs to %v", what, owners)
	}
	return nil
}
