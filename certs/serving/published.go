package serving

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	typedv1 "k8s.io/client-go/kubernetes/typed/admissionregistration/v1"
)

// Configuration is the name of the webhook configuration.
const Configuration = "0-lightstep-injector"

// Published tells whether the API server can call: whether the webhook configuration's caBundle verifies what is served.
type Published struct {
	served        func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	configuration *object[*admissionv1.MutatingWebhookConfiguration]
	once          atomic.Bool
}

// NewPublished makes one for what a server serves.
func NewPublished(from typedv1.MutatingWebhookConfigurationsGetter, served func(*tls.ClientHelloInfo) (*tls.Certificate, error), log *zap.Logger) *Published {
	example := &admissionv1.MutatingWebhookConfiguration{}
	return &Published{served: served, configuration: follow(from.MutatingWebhookConfigurations(), example, Configuration, log)}
}

// Run watches the webhook configuration until the context ends.
func (p *Published) Run(ctx context.Context) error {
	p.configuration.run(ctx)
	return nil
}

// Check says why the API server cannot call, until it could once. Afterwards that is not this replica's to say: an error
// would be every replica's, and take them all away.
func (p *Published) Check() error {
	if p.once.Load() {
		return nil
	}
	certificate, err := p.served(&tls.ClientHelloInfo{})
	if err != nil {
		return err
	}
	err = p.verify(certificate, time.Now())
	p.once.Store(err == nil)
	return err
}

func (p *Published) verify(certificate *tls.Certificate, now time.Time) error {
	configuration, there, known := p.configuration.now()
	switch {
	case !known && p.configuration.forbidden.Load():
		return nil // whoever may not look has no say
	case !known:
		return fmt.Errorf("the webhook configuration %s has not been read yet", Configuration)
	case !there:
		return fmt.Errorf("there is no webhook configuration %s", Configuration)
	}
	for i := range configuration.Webhooks {
		webhook := &configuration.Webhooks[i]
		if err := trusts(&webhook.ClientConfig, certificate, now); err != nil {
			return fmt.Errorf("webhook configuration %s, webhook %s: the caBundle does not verify the certificate that is served: %w", Configuration, webhook.Name, err)
		}
	}
	return nil
}

// trusts verifies a certificate as the API server does.
func trusts(client *admissionv1.WebhookClientConfig, certificate *tls.Certificate, now time.Time) error {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	if !roots.AppendCertsFromPEM(client.CABundle) {
		return errors.New("it has no certificate")
	}
	for _, der := range certificate.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			intermediates.AddCert(c)
		}
	}
	_, err := certificate.Leaf.Verify(x509.VerifyOptions{
		DNSName: hostOf(client), Roots: roots, Intermediates: intermediates, CurrentTime: now,
	})
	return err
}
