package distribute

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applyv1 "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// TestUpgrade starts the injector beside copies of an earlier version, which copied every byte of a source: a copy of a clean
// source is not written again, one with comments once; and where a source is no longer accepted, its copies stay, and that is
// reported.
func TestUpgrade(t *testing.T) {
	s := &states{environment: setUp(t)}
	good, next := goodCA(t), goodCA(t)
	commented := slices.Concat([]byte("# the satellites\n"), good)
	dirty := slices.Concat([]byte(sourceCanary+"\n"), next)
	s.source(t, caSource, caKey, commented)
	s.source(t, otherSource, otherKey, dirty)
	for _, name := range []string{"clean", "commented", "kept"} {
		s.namespace(t, name, labelled())
	}
	s.label(t, "kept", "other")
	clean := s.formerCopy(t, "clean", caName, caKey, caSource, good)
	s.formerCopy(t, "commented", caName, caKey, caSource, commented)
	kept := s.formerCopy(t, "kept", otherName, otherKey, otherSource, dirty)

	s.replica = s.environment.replica(t, "one")
	stage.Check(t, s.replica.Start(t.Context()))
	s.eventuallyHas(t, "commented", caName, caKey, good)
	says := "line 1: text outside the certificates"
	s.event(t, own, otherSource, "ExtraContent", says)
	s.problem(t, otherSource, "ExtraContent", 1)
	s.copies(t, caName, "current", 2)
	s.copies(t, otherName, "withheld", 1)
	s.logged(t, "distribute: source", 1)
	if status := s.status(t, "kept"); !strings.Contains(status, "Secret "+otherName+" is withheld") || !strings.Contains(status, says) || strings.Contains(status, sourceCanary) {
		t.Errorf("status prints\n%s", status)
	}
	for _, before := range []*corev1.Secret{clean, kept} {
		if now := s.secret(t, before.Namespace, before.Name); now.ResourceVersion != before.ResourceVersion {
			t.Errorf("%s/%s was written to", before.Namespace, before.Name)
		}
	}
	s.source(t, otherSource, otherKey, next) // as the command in the Event leaves it
	s.eventuallyHas(t, "kept", otherName, otherKey, next)
	s.nothingTold(t)
}

// formerCopy makes a copy as version 17f5390 did, with the injector's account.
func (s *states) formerCopy(t *testing.T, namespace, name, key, source string, value []byte) *corev1.Secret {
	t.Helper()
	hash := sha256.Sum256(bytes.Join([][]byte{[]byte(key), value}, []byte{0}))
	config := applyv1.Secret(name, namespace).
		WithLabels(map[string]string{"app": "lightstep", "app.kubernetes.io/managed-by": "lightstep-injector", "lightstep.com/managed": "distribute"}).
		WithAnnotations(map[string]string{"lightstep.com/content-hash": hex.EncodeToString(hash[:16]), "lightstep.com/source": own + "/" + source}).
		WithType(corev1.SecretTypeOpaque).
		WithData(map[string][]byte{key: value})
	as, err := s.cluster.As(t.Context(), own, account)
	stage.Check(t, err)
	formerly := client(t, as)
	var made *corev1.Secret
	stage.Eventually(t, func(ctx context.Context) error { // the policy may not have seen the namespace yet
		made, err = formerly.CoreV1().Secrets(namespace).Apply(ctx, config, metav1.ApplyOptions{FieldManager: "lightstep-injector"})
		return err
	})
	return made
}

// copies waits until the gauge has so many copies in a state.
func (s *states) copies(t *testing.T, name, state string, want float64) {
	t.Helper()
	stage.Eventually(t, func(ctx context.Context) error {
		got, err := s.replica.Metric(ctx, "lightstep_injector_copies", map[string]string{"secret": name, "state": state})
		if err == nil && got != want {
			err = fmt.Errorf("%v copies of %s are %s, not %v", got, name, state, want)
		}
		return err
	})
}

// status is what the command prints of a namespace; it exits with 1, since there are problems.
func (s *states) status(t *testing.T, namespace string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), s.binary, "status", "-n", namespace, "--config", s.config)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+s.cluster.Kubeconfig, "POD_NAMESPACE="+own)
	output, _ := cmd.CombinedOutput()
	return string(output)
}
