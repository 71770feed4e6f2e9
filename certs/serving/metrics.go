package serving

import (
	"crypto/tls"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Register registers the gauge of what is served.
func Register(registry prometheus.Registerer, served func(*tls.ClientHelloInfo) (*tls.Certificate, error)) error {
	return registry.Register(expiry{served, prometheus.NewDesc("lightstep_injector_webhook_certificate_expiry_seconds",
		"Seconds until the webhook's own certificate, as this process serves it, expires; absent while there is none.", nil, nil)})
}

// expiry is told from what is served whenever somebody asks.
type expiry struct {
	served func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	desc   *prometheus.Desc
}

// Describe names the gauge.
func (e expiry) Describe(to chan<- *prometheus.Desc) { to <- e.desc }

// Collect looks at the certificate.
func (e expiry) Collect(to chan<- prometheus.Metric) {
	if certificate, err := e.served(&tls.ClientHelloInfo{}); err == nil {
		to <- prometheus.MustNewConstMetric(e.desc, prometheus.GaugeValue, time.Until(certificate.Leaf.NotAfter).Seconds())
	}
}
