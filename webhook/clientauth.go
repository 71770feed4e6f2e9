package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Cause is why a client certificate is rejected. Causes are label values of a metric.
type Cause string

// The causes.
const (
	// CauseMissing: the client presented no certificate.
	CauseMissing Cause = "Missing"
	// CauseUnknownAuthority: no trusted CA signed the certificate.
	CauseUnknownAuthority Cause = "UnknownAuthority"
	// CauseExpired: the certificate, or one that it depends on, has expired.
	CauseExpired Cause = "Expired"
	// CauseNotYetValid: the certificate, or one that it depends on, is not valid yet.
	CauseNotYetValid Cause = "NotYetValid"
	// CauseWrongKeyUsage: the certificate does not have the extended key usage clientAuth.
	CauseWrongKeyUsage Cause = "WrongKeyUsage"
	// CauseWrongName: neither the subject's common name nor a subject alternative name is accepted.
	CauseWrongName Cause = "WrongName"
	// CauseOther: the certificate cannot be verified for another reason, such as a name constraint of its CA.
	CauseOther Cause = "Other"
)

// Causes lists all causes.
func Causes() []Cause {
	return []Cause{CauseMissing, CauseUnknownAuthority, CauseExpired, CauseNotYetValid, CauseWrongKeyUsage, CauseWrongName, CauseOther}
}

const (
	// maxClientCA bounds a bundle of client CAs, in bytes: the limit of a Secret.
	maxClientCA = 1 << 20
	// clientCAPoll is how often a file with the client CA is read. Polling sees a change on every kind of mount.
	clientCAPoll = 5 * time.Second
	// maxAccepted bounds the certificates that are remembered as accepted. A control plane has one for each API server.
	maxAccepted = 64
	// maxChain bounds the certificates that a client may present: to verify a long chain costs much.
	maxChain = 8
	// maxFault bounds what an error says of a certificate's fault, in characters.
	maxFault = 160
)

// ClientAuth lets only those clients call that hold a certificate of the client CA for one of the accepted names. It
// verifies the certificate at each handshake, that of a resumed session included, and at each request of a connection
// that was opened before the client CA changed or the certificate expired.
type ClientAuth struct {
	names    []string
	trust    atomic.Pointer[trust]
	lastSeen atomic.Pointer[time.Time]
	rejected *prometheus.CounterVec
	expiry   *prometheus.Desc
}

// trust is one content of the client CA.
type trust struct {
	bundle []byte
	roots  *x509.CertPool

	mu sync.RWMutex
	// accepted holds until when each certificate that was verified is valid, by its DER encoding.
	accepted map[string]time.Time
}

// rejection is the error for a certificate that is not accepted.
type rejection struct {
	cause Cause
	err   error
}

// Error describes the certificate's fault. The text of x509 may hold names that the client chose, so it is quoted and cut.
func (r *rejection) Error() string {
	return fmt.Sprintf("client certificate rejected (%s): %.*q", r.cause, maxFault, r.err.Error())
}

// Unwrap returns the error of the verification.
func (r *rejection) Unwrap() error { return r.err }

// NewClientAuth returns a ClientAuth that accepts the names, compared exactly to a certificate's subject common name and
// its subject alternative names (DNS, URI, email, IP). It rejects every client until Trust has been called.
func NewClientAuth(names []string) (*ClientAuth, error) {
	if len(names) == 0 {
		return nil, errors.New("no client name: any certificate of the client CA would pass, such as a kubelet's; give the name in the API server's client certificate")
	}
	for _, name := range names {
		if strings.TrimSpace(name) == "" || strings.Contains(name, "*") {
			return nil, fmt.Errorf("client name %q: write the exact common name or subject alternative name of the API server's client certificate, without *", name)
		}
	}
	a := &ClientAuth{
		names: slices.Clone(names),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lightstep_injector_client_certificates_rejected_total",
			Help: "Connections and requests rejected because of their client certificate, by cause.",
		}, []string{"cause"}),
		expiry: prometheus.NewDesc("lightstep_injector_client_certificate_expiry_seconds",
			"Seconds until the client certificate that was accepted last, or a CA that it depends on, expires; absent until one is accepted.", nil, nil),
	}
	for _, cause := range Causes() {
		a.rejected.WithLabelValues(string(cause))
	}
	return a, nil
}

// Describe names the metrics.
func (a *ClientAuth) Describe(to chan<- *prometheus.Desc) {
	a.rejected.Describe(to)
	to <- a.expiry
}

// Collect reads the metrics.
func (a *ClientAuth) Collect(to chan<- prometheus.Metric) {
	a.rejected.Collect(to)
	if until := a.lastSeen.Load(); until != nil {
		to <- prometheus.MustNewConstMetric(a.expiry, prometheus.GaugeValue, time.Until(*until).Seconds())
	}
}

// Trust makes the certificates of a bundle, in PEM, the client CA. A bundle that is not valid is an error and changes
// nothing.
func (a *ClientAuth) Trust(bundle []byte) error {
	if t := a.trust.Load(); t != nil && bytes.Equal(t.bundle, bundle) {
		return nil
	}
	roots, err := parseClientCA(bundle)
	if err != nil {
		return err
	}
	a.trust.Store(&trust{bundle: bytes.Clone(bundle), roots: roots, accepted: map[string]time.Time{}})
	return nil
}

// parseClientCA reads every certificate of a bundle. A part that it left out could be the CA that counts, so a damaged
// block, a key or a certificate that is not a CA makes the bundle invalid.
func parseClientCA(bundle []byte) (*x509.CertPool, error) {
	if len(bundle) > maxClientCA {
		return nil, fmt.Errorf("the client CA has %d bytes; the limit is %d", len(bundle), maxClientCA)
	}
	roots, blocks := x509.NewCertPool(), 0
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		blocks++
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("PEM block %d is not a CERTIFICATE; keep only the CA's certificates", blocks)
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", blocks, err)
		}
		if !certificate.IsCA {
			return nil, fmt.Errorf("certificate %d is not a CA; use the certificate of the CA that signed the client certificate", blocks)
		}
		roots.AddCert(certificate)
	}
	if blocks == 0 {
		return nil, errors.New("the client CA has no certificate in PEM")
	}
	if bytes.Count(bundle, []byte("-----BEGIN")) != blocks || bytes.Count(bundle, []byte("-----END")) != blocks {
		return nil, fmt.Errorf("the client CA has a damaged PEM block beside %d certificates", blocks)
	}
	return roots, nil
}

// FollowFile reads the client CA from a file whenever it changes, until the context ends. A content that is not valid
// goes to report, once, and the last valid one stays active.
func (a *ClientAuth) FollowFile(ctx context.Context, file string, report func(error)) error {
	var last string
	ticker := time.NewTicker(clientCAPoll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		now := ""
		if err := a.TrustFile(file); err != nil {
			now = err.Error()
			if now != last {
				report(err)
			}
		}
		last = now
	}
}

// TrustFile is Trust for the content of a file.
func (a *ClientAuth) TrustFile(file string) error {
	bundle, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read client CA: %w", err)
	}
	if err := a.Trust(bundle); err != nil {
		return fmt.Errorf("client CA %s: %w", file, err)
	}
	return nil
}

// Require makes a server's TLS configuration demand and verify a client certificate. The list of CAs that a server may
// send stays empty: a client leaves its certificate out where that list does not have its CA, and the cause would be lost.
func (a *ClientAuth) Require(config *tls.Config) {
	config.ClientAuth = tls.RequireAnyClientCert // verified by VerifyConnection, which resumed sessions go through, too
	config.VerifyConnection = func(state tls.ConnectionState) error {
		_, err := a.verify(state.PeerCertificates, time.Now())
		if err != nil {
			a.reject(err)
		}
		return err
	}
}

// verify returns until when a client's certificates are valid, or a *rejection.
func (a *ClientAuth) verify(certificates []*x509.Certificate, now time.Time) (until time.Time, err error) {
	if len(certificates) == 0 {
		return until, &rejection{CauseMissing, errors.New("there is none")}
	}
	t := a.trust.Load()
	if t == nil {
		return until, &rejection{CauseOther, errors.New("the client CA has not been read yet")}
	}
	if len(certificates) > maxChain {
		return until, &rejection{CauseOther, fmt.Errorf("there are %d certificates; the limit is %d", len(certificates), maxChain)}
	}
	leaf, intermediates := certificates[0], x509.NewCertPool()
	for _, certificate := range certificates[1:] {
		intermediates.AddCert(certificate)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: t.roots, Intermediates: intermediates, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	switch {
	case err != nil:
		return until, &rejection{causeOf(err, now), err}
	case !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth): // to Verify, none at all allows every use
		return until, &rejection{CauseWrongKeyUsage, errors.New("the extended key usage clientAuth is missing")}
	case !a.accepts(leaf):
		return until, &rejection{CauseWrongName, errors.New("its names are not accepted")}
	}
	until = validUntil(chains)
	t.remember(leaf, until)
	return until, nil
}

// accepts tells whether one of a certificate's names is accepted.
func (a *ClientAuth) accepts(leaf *x509.Certificate) bool {
	has := func(name string) bool { return slices.Contains(a.names, name) }
	return has(leaf.Subject.CommonName) ||
		slices.ContainsFunc(leaf.DNSNames, has) || slices.ContainsFunc(leaf.EmailAddresses, has) ||
		slices.ContainsFunc(leaf.URIs, func(u *url.URL) bool { return has(u.String()) }) ||
		slices.ContainsFunc(leaf.IPAddresses, func(ip net.IP) bool { return has(ip.String()) })
}

// validUntil is when the last of the chains stops being valid: with the first of its certificates that expires.
func validUntil(chains [][]*x509.Certificate) (until time.Time) {
	for _, chain := range chains {
		first := chain[0].NotAfter
		for _, certificate := range chain {
			if certificate.NotAfter.Before(first) {
				first = certificate.NotAfter
			}
		}
		if first.After(until) {
			until = first
		}
	}
	return until
}

// causeOf sorts an error of x509's.
func causeOf(err error, now time.Time) Cause {
	if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); unknown {
		return CauseUnknownAuthority
	}
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	switch {
	case ok && invalid.Reason == x509.Expired && invalid.Cert != nil && now.Before(invalid.Cert.NotBefore):
		return CauseNotYetValid
	case ok && invalid.Reason == x509.Expired:
		return CauseExpired
	case ok && invalid.Reason == x509.IncompatibleUsage:
		return CauseWrongKeyUsage
	}
	return CauseOther
}

// reject counts an error of verify's.
func (a *ClientAuth) reject(err error) {
	cause := CauseOther
	if r, ok := errors.AsType[*rejection](err); ok {
		cause = r.cause
	}
	a.rejected.WithLabelValues(string(cause)).Inc()
}

// remember notes until when a certificate that was verified is valid.
func (t *trust) remember(leaf *x509.Certificate, until time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.accepted) >= maxAccepted {
		clear(t.accepted)
	}
	t.accepted[string(leaf.Raw)] = until
}

// remembered returns until when a certificate is valid that was verified, and whether it still is.
func (t *trust) remembered(leaf *x509.Certificate, now time.Time) (until time.Time, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	until, ok = t.accepted[string(leaf.Raw)]
	return until, ok && !now.After(until)
}

// Wrap rejects the requests of connections whose client certificate is no longer accepted, and has these closed: the
// client CA has changed since the handshake, or the certificate has expired.
func (a *ClientAuth) Wrap(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		until, err := a.recheck(r.TLS, time.Now())
		if err != nil {
			a.reject(err)
			setDeadlines(w, time.Now())
			w.Header().Set("Connection", "close")
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		if last := a.lastSeen.Load(); last == nil || !last.Equal(until) {
			a.lastSeen.Store(&until)
		}
		handler.ServeHTTP(w, r)
	})
}

// recheck verifies the certificates of a connection again, unless they were found good under the same client CA.
func (a *ClientAuth) recheck(state *tls.ConnectionState, now time.Time) (until time.Time, err error) {
	if state == nil || len(state.PeerCertificates) == 0 {
		return until, &rejection{CauseMissing, errors.New("there is none")}
	}
	if t := a.trust.Load(); t != nil {
		if until, ok := t.remembered(state.PeerCertificates[0], now); ok {
			return until, nil
		}
	}
	return a.verify(state.PeerCertificates, now)
}

// Failed returns why a handshake failed as far as the client certificate is concerned, as one of the causes behind
// "ClientCertificate"; empty for a handshake that failed for another reason. It counts what crypto/tls itself rejects, before
// VerifyConnection is called: it must be called once for each handshake that failed.
func (a *ClientAuth) Failed(err error) string {
	if err == nil {
		return ""
	}
	cause := CauseOther
	if r, counted := errors.AsType[*rejection](err); counted {
		return "ClientCertificate" + string(r.cause)
	}
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	switch text := err.Error(); { // crypto/tls has no types for these (handshake_server.go, Go 1.26)
	case strings.HasSuffix(text, "tls: client didn't provide a certificate"):
		cause = CauseMissing
	case strings.Contains(text, "tls: ") && strings.Contains(text, "client") && strings.Contains(text, "certificate"):
	default:
		return ""
	}
	a.rejected.WithLabelValues(string(cause)).Inc()
	return "ClientCertificate" + string(cause)
}
