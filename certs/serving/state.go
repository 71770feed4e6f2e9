package serving

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"net/url"
	"slices"

	"github.com/cert-manager/cert-manager/pkg/util/pki"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
)

// The Secret's keys: what is served and its CA, as everybody names them, and what is to be served next.
const (
	chainKey = corev1.TLSCertKey
	keyKey   = corev1.TLSPrivateKeyKey
	caKey    = "ca.crt"

	nextChainKey = "next-tls.crt"
	nextKeyKey   = "next-tls.key"
	nextCAKey    = "next-ca.crt"
)

// RotateAnnotation on the Secret, whatever its value, asks for a new certificate.
const RotateAnnotation = "lightstep.com/rotate-certificate"

// state is how far a rotation has come. It is all in the two objects: a process that takes over, or comes back, goes on
// where another has ended.
type state struct {
	// phase names the state of the two objects, for whoever waits while nothing changes.
	phase string
	// current is the pair that replicas serve, next the one that they will; nil where there is none that is of use.
	current, next *Pair
	// requested says that somebody wants a new one.
	requested bool
	// hosts are the names under which the API server knows the webhook.
	hosts []string
	// bundles are the CAs that the API server trusts, by webhook; empty without a webhook configuration.
	bundles [][]*x509.Certificate
}

// read reads the two objects, each nil where it is not there. host is what the webhook is known by where no webhook
// configuration says so.
func read(secret *corev1.Secret, configuration *admissionv1.MutatingWebhookConfiguration, host string) *state {
	s := &state{}
	served := ""
	if secret != nil {
		s.current = pairOf(secret, chainKey, keyKey, caKey)
		s.next = pairOf(secret, nextChainKey, nextKeyKey, nextCAKey)
		_, s.requested = secret.Annotations[RotateAnnotation]
		served = fmt.Sprintf("%s %x %x", secret.UID, sha256.Sum256(secret.Data[chainKey]), sha256.Sum256(secret.Data[nextChainKey]))
	}
	if configuration != nil {
		for i := range configuration.Webhooks {
			client := &configuration.Webhooks[i].ClientConfig
			s.bundles = append(s.bundles, bundleOf(client))
			if host := hostOf(client); host != "" {
				s.hosts = append(s.hosts, host)
			}
		}
		served += fmt.Sprintf(" %s %d", configuration.UID, configuration.Generation)
	}
	if len(s.hosts) == 0 {
		s.hosts = []string{host}
	}
	slices.Sort(s.hosts)
	s.hosts = slices.Compact(s.hosts)
	s.phase = served
	return s
}

// pairOf reads a pair of a CA that it has been issued by; any other is none that a rotation can build on.
func pairOf(secret *corev1.Secret, chain, key, ca string) *Pair {
	p, err := parse(secret.Data[chain], secret.Data[key], secret.Data[ca])
	if err != nil || p.root == nil {
		return nil
	}
	return p
}

// bundleOf reads a caBundle. One that cannot be read trusts nobody.
func bundleOf(client *admissionv1.WebhookClientConfig) []*x509.Certificate {
	certificates, err := pki.DecodeX509CertificateSetBytes(client.CABundle)
	if err != nil {
		return nil
	}
	return certificates
}

// hostOf is the name that the API server expects the certificate to be for.
func hostOf(client *admissionv1.WebhookClientConfig) string {
	if client.Service != nil {
		return client.Service.Name + "." + client.Service.Namespace + ".svc"
	}
	if client.URL == nil {
		return ""
	}
	where, err := url.Parse(*client.URL)
	if err != nil {
		return ""
	}
	return where.Hostname()
}

// pairs are those that are there.
func (s *state) pairs() []*Pair {
	return slices.DeleteFunc([]*Pair{s.current, s.next}, func(p *Pair) bool { return p == nil })
}

// published tells whether every webhook's bundle has the CA of every pair.
func (s *state) published() bool {
	for _, bundle := range s.bundles {
		for _, p := range s.pairs() {
			if !has(bundle, p.root) {
				return false
			}
		}
	}
	return true
}

// strays tells whether some bundle has a CA that is no pair's.
func (s *state) strays() bool {
	for _, bundle := range s.bundles {
		for _, ca := range bundle {
			if !slices.ContainsFunc(s.pairs(), func(p *Pair) bool { return p.root.Equal(ca) }) {
				return true
			}
		}
	}
	return false
}

func has(bundle []*x509.Certificate, ca *x509.Certificate) bool {
	return slices.ContainsFunc(bundle, ca.Equal)
}
