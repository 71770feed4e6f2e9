package certificate

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"math/big"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/load"
)

var (
	rotations = flag.Int("rotations", 3, "how many rotations; each is one of the webhook CA and of the certificate")
	crashes   = flag.Int("crashes", 2, "how many times the leader is killed in a rotation")
)

const secretName = "lightstep-injector-tls"

func TestCertificate(t *testing.T) {
	e := setUp(t)
	ok := t.Run("FreshInstall", e.freshInstall) &&
		t.Run("Rotations", e.rotate) &&
		t.Run("RollingRestart", e.restart) &&
		t.Run("LeaderKilled", e.crash)
	t.Logf("all parts ran: %v", ok)
}

// freshInstall has nothing but what the chart and its webhook configuration bring. The first pod after a replica has become
// ready is injected.
func (e *environment) freshInstall(t *testing.T) {
	check(t, load.Labelled(t.Context(), e.admin, "first"))
	started := make(chan error, len(e.replicas))
	for _, r := range e.replicas {
		go func() { started <- r.Start(t.Context()) }()
	}
	for range e.replicas {
		check(t, <-started)
	}
	e.awaitRouted(t, len(e.replicas))
	made, err := e.admin.CoreV1().Pods("first").Create(t.Context(), load.Pod(0), metav1.CreateOptions{})
	check(t, err)
	if !load.Injected(made) {
		t.Errorf("the first pod was missed: %v", made.Labels)
	}
	for i, r := range e.replicas {
		left, err := r.Metric(t.Context(), "lightstep_injector_webhook_certificate_expiry_seconds", nil)
		check(t, err)
		if year := (365 * 24 * time.Hour).Seconds(); left > year || left < year-600 {
			t.Errorf("replica %d: the certificate expires in %g s, not in a year", i, left)
		}
	}
}

// rotate rotates while pods are created: no call fails, and no pod is missed.
func (e *environment) rotate(t *testing.T) {
	before, pods := e.calls(t), e.startLoad(t, "rotated")
	for range *rotations {
		e.rotateOnce(t, func(string) {})
	}
	count := end(t, pods)
	e.none(t, before, count)
	t.Logf("%d rotations, %d pods", *rotations, count.Created)
}

// restart restarts each replica in turn, as a Deployment's roll-out does, while pods are created.
func (e *environment) restart(t *testing.T) {
	before, pods := e.calls(t), e.startLoad(t, "restarted")
	for _, r := range e.replicas {
		check(t, r.Stop())
		check(t, r.Start(t.Context()))
		e.awaitRouted(t, len(e.replicas))
	}
	count := end(t, pods)
	e.none(t, before, count)
	t.Logf("%d restarts, %d pods", len(e.replicas), count.Created)
}

// none sees that nothing failed and nothing was missed.
func (e *environment) none(t *testing.T, before load.Calls, count load.Count) {
	t.Helper()
	calls := e.calls(t).Since(before)
	if calls.Failed != 0 || len(count.Missed) != 0 {
		t.Errorf("of %d calls %d failed; of %d pods %d were missed", calls.All, calls.Failed, count.Created, len(count.Missed))
	}
	if calls.All < count.Created {
		t.Errorf("%d calls for %d pods: the API server's counters are not what they were taken for", calls.All, count.Created)
	}
	t.Logf("%d calls for %d pods", calls.All, count.Created)
}

// crash kills the leader in the midst of a rotation. The calls that it has, or is given until its endpoint is dropped, fail; no
// other does, and the next leader brings the rotation to its end.
func (e *environment) crash(t *testing.T) {
	points := []string{"proposed", "published", "switched"}
	for i := range *crashes {
		point := points[i%len(points)]
		before, pods := e.calls(t), e.startLoad(t, fmt.Sprintf("killed-%d", i))
		var killed *injector.Injector
		var lost load.Calls
		e.rotateOnce(t, func(now string) {
			if now != point {
				return
			}
			killed = e.leader(t)
			killed.Kill()
			e.awaitRouted(t, len(e.replicas)-1)
			lost = e.calls(t)
			check(t, killed.Start(t.Context()))
		})
		count := end(t, pods)
		calls := e.calls(t).Since(before)
		t.Logf("killed when %s: %d pods, %d calls lost with it", point, count.Created, lost.Since(before).Failed)
		if len(count.Missed) != calls.Failed {
			t.Errorf("killed when %s: %d pods were missed, and %d calls failed", point, len(count.Missed), calls.Failed)
		}
		if late := e.calls(t).Since(lost).Failed; late != 0 {
			t.Errorf("killed when %s: %d calls failed after its endpoint was dropped", point, late)
		}
		e.awaitRouted(t, len(e.replicas))
	}
}

// rotateOnce asks for a new certificate, and waits until every replica serves it and nothing else is trusted. It tells of each
// stage as it is seen.
func (e *environment) rotateOnce(t *testing.T, at func(stage string)) {
	t.Helper()
	old := e.serial(t)
	_, err := e.admin.CoreV1().Secrets(own).Patch(t.Context(), secretName, types.MergePatchType,
		[]byte(`{"metadata":{"annotations":{"lightstep.com/rotate-certificate":"now"}}}`), metav1.PatchOptions{})
	check(t, err)
	switched := func() bool { return e.serial(t).Cmp(old) != 0 }
	eventually(t, func(ctx context.Context) error {
		secret, err := e.secret(ctx)
		if err != nil || len(secret.Data["next-tls.crt"]) == 0 && !switched() {
			return errors.Join(errors.New("nothing is proposed"), err)
		}
		return nil
	})
	at("proposed")
	eventually(t, func(ctx context.Context) error {
		if err := e.trusted(ctx, 2); err != nil && !switched() {
			return err
		}
		return nil
	})
	at("published")
	eventually(t, func(context.Context) error {
		if !switched() {
			return errors.New("it is not switched to")
		}
		return nil
	})
	at("switched")
	now := e.serial(t)
	for i, r := range e.replicas {
		eventually(t, func(context.Context) error {
			served, err := servedBy(r)
			if err != nil || served.Cmp(now) != 0 {
				return fmt.Errorf("replica %d serves %x: %w", i, served, err)
			}
			return nil
		})
	}
	eventually(t, func(ctx context.Context) error { return e.trusted(ctx, 1) })
}

func (e *environment) secret(ctx context.Context) (*corev1.Secret, error) {
	return e.admin.CoreV1().Secrets(own).Get(ctx, secretName, metav1.GetOptions{})
}

// serial is that of the certificate that is to be served.
func (e *environment) serial(t *testing.T) *big.Int {
	t.Helper()
	secret, err := e.secret(t.Context())
	check(t, err)
	block, _ := pem.Decode(secret.Data["tls.crt"])
	if block == nil {
		t.Fatal("the Secret has no certificate")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	check(t, err)
	return certificate.SerialNumber
}

// servedBy is the serial of the certificate that a replica serves.
func servedBy(r *injector.Injector) (*big.Int, error) {
	connection, err := tls.Dial("tcp", r.Address(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return nil, err
	}
	defer func() { _ = connection.Close() }()
	return connection.ConnectionState().PeerCertificates[0].SerialNumber, nil
}

// trusted sees that the API server is told to trust so many CAs.
func (e *environment) trusted(ctx context.Context, want int) error {
	configuration, err := e.admin.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, "0-lightstep-injector", metav1.GetOptions{})
	if err != nil {
		return err
	}
	if got := bytes.Count(configuration.Webhooks[0].ClientConfig.CABundle, []byte("BEGIN CERTIFICATE")); got != want {
		return fmt.Errorf("%d CAs are trusted, not %d", got, want)
	}
	return nil
}

// leader is the replica that has last said that it leads.
func (e *environment) leader(t *testing.T) *injector.Injector {
	t.Helper()
	var leader *injector.Injector
	var since string
	for _, r := range e.replicas {
		log, err := os.ReadFile(r.LogFile())
		check(t, err)
		for line := range bytes.Lines(log) {
			if _, after, ok := bytes.Cut(line, []byte(`"ts":"`)); ok && bytes.Contains(line, []byte(`"certificate: leading"`)) && string(after[:30]) > since {
				leader, since = r, string(after[:30])
			}
		}
	}
	if leader == nil {
		t.Fatal("nobody leads")
	}
	return leader
}
