package serving

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

// Reader serves the certificate that one Secret has, from memory. A kubelet would bring the Secret into a file up to a minute
// and a half after the API server has begun to trust what it has.
type Reader struct {
	name   string
	log    *zap.Logger
	secret *object[*corev1.Secret]

	served atomic.Pointer[tls.Certificate]

	mu sync.Mutex
	// again is when the Secret is read anew, since what it has was not valid yet.
	again *time.Timer
}

// NewReader makes a reader of a Secret.
func NewReader(secrets typedcorev1.SecretsGetter, namespace, name string, log *zap.Logger) *Reader {
	return &Reader{name: name, log: log, secret: follow(secrets.Secrets(namespace), &corev1.Secret{}, name, log)}
}

// Run reads until the context ends.
func (r *Reader) Run(ctx context.Context) error {
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() { r.secret.run(ctx) })
	return r.secret.listen(ctx, r.read)
}

// GetCertificate is what tls.Config wants.
func (r *Reader) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if served := r.served.Load(); served != nil {
		return served, nil
	}
	return nil, r.lack()
}

// lack says why there is nothing to serve.
func (r *Reader) lack() error {
	switch secret, there, known := r.secret.now(); {
	case !known && r.secret.forbidden.Load():
		return fmt.Errorf("the serving certificate's Secret %s may not be read", r.name)
	case !known:
		return fmt.Errorf("the serving certificate's Secret %s has not been read yet", r.name)
	case !there:
		return fmt.Errorf("there is no Secret %s with a serving certificate", r.name)
	default:
		_, err := certificateOf(secret)
		return fmt.Errorf("the Secret %s has no serving certificate: %w", r.name, err)
	}
}

// read serves what the Secret has now. Where that is nothing of use, what is served stays.
func (r *Reader) read() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.again != nil {
		r.again.Stop()
	}
	secret, there, known := r.secret.now()
	switch {
	case !known:
		return
	case !there:
		if r.served.Load() != nil {
			r.log.Error("certificate: its Secret is gone; the last one is served on", zap.String("secret", r.name))
		}
		return
	}
	before := r.served.Load()
	certificate, err := certificateOf(secret)
	if now := time.Now(); err == nil && before != nil && !valid(certificate, now) && valid(before, now) {
		err = fmt.Errorf("it is valid from %s to %s", certificate.Leaf.NotBefore.Format(time.RFC3339), certificate.Leaf.NotAfter.Format(time.RFC3339))
		if early := certificate.Leaf.NotBefore.Sub(now); early > 0 {
			r.again = time.AfterFunc(early, r.read)
		}
	}
	switch {
	case err != nil && before == nil && len(secret.Data[chainKey]) == 0:
		r.log.Info("certificate: the Secret has none to serve yet", zap.String("secret", r.name))
	case err != nil:
		r.log.Error("certificate refused; the last good one is served on", zap.String("secret", r.name), zap.Error(err))
	case before == nil || !before.Leaf.Equal(certificate.Leaf):
		r.served.Store(certificate)
		r.log.Info("certificate: serving", zap.String("secret", r.name), zap.String("serial", certificate.Leaf.SerialNumber.Text(16)),
			zap.Time("until", certificate.Leaf.NotAfter))
	}
}

// certificateOf reads what is to be served.
func certificateOf(secret *corev1.Secret) (*tls.Certificate, error) {
	p, err := parse(secret.Data[chainKey], secret.Data[keyKey], nil)
	if err != nil {
		return nil, err
	}
	return p.certificate, nil
}

// valid tells whether a certificate is at its time. Whoever has made it may go by another clock.
func valid(certificate *tls.Certificate, now time.Time) bool {
	return !now.Before(certificate.Leaf.NotBefore) && !now.After(certificate.Leaf.NotAfter)
}
