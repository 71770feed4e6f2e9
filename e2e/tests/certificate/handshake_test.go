package certificate

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
)

// handshakes are connections made one after the other, each by the caBundle that the API server has just then. The API
// server itself keeps its connections while a certificate is replaced, which would hide one that is not trusted for a moment.
type handshakes struct {
	stop    context.CancelFunc
	running sync.WaitGroup
	made    int
	failed  []error
}

func (e *environment) shakeHands(t *testing.T) *handshakes {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	h := &handshakes{stop: stop}
	h.running.Go(func() {
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for ; ctx.Err() == nil; <-ticker.C {
			h.made++
			if err := e.shakeHand(context.WithoutCancel(ctx)); err != nil {
				h.failed = append(h.failed, err)
			}
		}
	})
	t.Cleanup(func() { h.stop(); h.running.Wait() }) // where the test has failed before it was ended
	return h
}

// end stops it. No connection may have failed.
func (h *handshakes) end(t *testing.T) (made int) {
	t.Helper()
	h.stop()
	h.running.Wait()
	if len(h.failed) > 0 {
		t.Errorf("of %d handshakes %d failed, at first: %v", h.made, len(h.failed), h.failed[0])
	}
	return h.made
}

func (e *environment) shakeHand(ctx context.Context) error {
	configuration, err := e.admin.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, configurationName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(configuration.Webhooks[0].ClientConfig.CABundle) {
		return errors.New("the caBundle has no certificate")
	}
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: fmt.Sprintf("%s.%s.svc", injector.Name, own)}}
	connection, err := dialer.DialContext(ctx, "tcp", e.service)
	if err != nil {
		return err
	}
	return connection.Close()
}
