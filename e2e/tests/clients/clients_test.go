package clients

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// TestClients runs every test against one control plane and one injector, in this order.
func TestClients(t *testing.T) {
	e := setUp(t)
	t.Run("WaitsForTheCA", e.waitsForTheCA)
	t.Run("OthersAreRejected", e.othersAreRejected)
	t.Run("Checked", e.checked)
	t.Run("Rotates", e.rotates)
	t.Run("LockedOut", e.lockedOut)
}

// waitsForTheCA: without a client CA a replica is not ready; with one it injects the API server's pods.
func (e *environment) waitsForTheCA(t *testing.T) {
	e.notReady(t, "there is no Secret "+clientCA+" with the client CA")
	e.put(t, []byte("hello"))
	e.notReady(t, "the Secret "+clientCA+" has no valid client CA: the client CA has no certificate in PEM")
	e.trust(t, e.caller.CA)
	e.ready(t)
	e.injected(t, true)
	left, err := e.injector.Metric(t.Context(), "lightstep_injector_client_certificate_expiry_seconds", nil)
	if day := 24 * time.Hour; err != nil || left > day.Seconds() || left < day.Seconds()-3600 {
		t.Errorf("the API server's certificate has %g s left, %v", left, err)
	}
}

// othersAreRejected: certificates of the same CA, and others, for which nobody is answered.
func (e *environment) othersAreRejected(t *testing.T) {
	year := time.Now().Add(365 * 24 * time.Hour)
	other, err := injector.NewCA("cluster CA")
	stage.Check(t, err)
	for _, c := range []struct {
		name, cause string
		ca          *injector.CA
		subject     string
		groups      []string
		until       time.Time
	}{
		{"a kubelet", "WrongName", e.caller.CA, "system:node:a", []string{"system:nodes"}, year},
		{"another name", "WrongName", e.caller.CA, "kubernetes-admin", []string{"system:masters"}, year},
		{"an expired one", "Expired", e.caller.CA, injector.CallerName, nil, time.Now().Add(-time.Hour)},
		{"another CA's", "UnknownAuthority", other, injector.CallerName, nil, year},
		{"none", "Missing", nil, "", nil, year},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := e.rejections(t, c.cause)
			var certFile, keyFile string
			if c.ca != nil {
				certFile, keyFile, err = c.ca.WriteClient(t.TempDir(), c.subject, c.until, c.groups...)
				stage.Check(t, err)
			}
			if status, err := e.call(t, certFile, keyFile); err == nil {
				t.Errorf("it is answered: %d", status)
			}
			if after := e.rejections(t, c.cause); after <= before {
				t.Errorf("%s: %g rejections before, %g after", c.cause, before, after)
			}
		})
	}
	if status, err := e.call(t, e.caller.CertFile, e.caller.KeyFile); err != nil || status != http.StatusOK && status != http.StatusBadRequest {
		t.Errorf("with the API server's certificate: %d, %v", status, err)
	}
	e.injected(t, true)
}

// checked: check, which has no client certificate, finds nothing wrong, and says what it could not see.
func (e *environment) checked(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), e.Program, "check", "--config", e.Config, "--service-address", e.injector.Address())
	cmd.Env = append(os.Environ(), "KUBECONFIG="+e.account)
	output, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(output), "serves a trusted certificate and requires a client certificate") {
		t.Errorf("%v: %s", err, output)
	}
}

// rotates replaces the client CA and the API server's certificate, as docs/client-certificates.md says.
func (e *environment) rotates(t *testing.T) {
	old := e.caller.CA
	next, err := injector.NewCA("cluster CA")
	stage.Check(t, err)
	e.put(t, []byte("-----BEGIN CERTIFICATE-----"))
	e.logged(t, "client CA rejected, the last valid one stays active")
	e.injected(t, true)
	e.trust(t, old, next)
	e.accepts(t, next)
	e.caller.CA = next
	e.issue(t, time.Now().Add(24*time.Hour))
	e.injected(t, true)
	e.trust(t, next)
	e.rejects(t, old)
	e.injected(t, true)
}

// issue replaces the API server's client certificate, in the files that it reads for each connection.
func (e *environment) issue(t *testing.T, until time.Time) {
	t.Helper()
	_, _, err := e.caller.CA.WriteClient(e.Run.Dir, injector.CallerName, until)
	stage.Check(t, err)
}

// lockedOut: with an expired certificate the API server creates pods without injection, and with a new one injects them again.
func (e *environment) lockedOut(t *testing.T) {
	e.issue(t, time.Now().Add(-time.Minute))
	stage.Eventually(t, func(ctx context.Context) error { // the API server keeps what it has read of the files for a second
		e.injector.Kill()
		if err := e.injector.Start(ctx); err != nil {
			return err
		}
		if err := e.creates(ctx, false); err != nil {
			return err
		}
		if e.rejections(t, "Expired") == 0 {
			return errors.New("no rejection is counted")
		}
		return nil
	})
	e.issue(t, time.Now().Add(24*time.Hour))
	e.injected(t, true)
}
