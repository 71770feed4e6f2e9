package webhook

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// authority is a CA that signs client certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         []byte
}

// newAuthority makes a CA, which a parent may have signed.
func newAuthority(t *testing.T, name string, parent *authority) *authority {
	t.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(10 * 24 * time.Hour),
	}
	a := &authority{}
	a.certificate, a.key = sign(t, template, parent)
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
	return a
}

// sign makes a certificate of a template, signed by a CA or, without one, by itself.
func sign(t *testing.T, template *x509.Certificate, by *authority) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial := make([]byte, 8)
	_, _ = rand.Read(serial)
	template.SerialNumber = new(big.Int).SetBytes(serial)
	parent, signer := template, key
	if by != nil {
		parent, signer = by.certificate, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return made, key
}

// apiServer is the name that is accepted in these tests.
const apiServer = "kube-apiserver-webhook-client"

// client makes a client certificate; change makes it another than the API server's.
func (a *authority) client(t *testing.T, change func(*x509.Certificate)) *tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: apiServer}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	if change != nil {
		change(template)
	}
	made, key := sign(t, template, a)
	return &tls.Certificate{Certificate: [][]byte{made.Raw}, PrivateKey: key, Leaf: made}
}

// guarded is a running server that requires client certificates of some CAs.
type guarded struct {
	address  string
	auth     *ClientAuth
	registry *prometheus.Registry
}

func newGuarded(t *testing.T, names []string, cas ...*authority) *guarded {
	t.Helper()
	auth, err := NewClientAuth(names)
	if err != nil {
		t.Fatal(err)
	}
	g := &guarded{address: freeAddress(t), auth: auth, registry: prometheus.NewRegistry()}
	if err := g.registry.Register(auth); err != nil {
		t.Fatal(err)
	}
	if len(cas) > 0 {
		g.trust(t, cas...)
	}
	certificate := newCertificate(t)
	server, err := NewServer(Options{
		Name: "webhook", Listen: g.address, Connections: newConnections(t), Clients: auth,
		Handler:     http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "served") }),
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &certificate, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	server.tls.SetSessionTicketKeys([][32]byte{{1}}) // the same for all: a session of one may be resumed by another
	running(t, server.Start)
	return g
}

func (g *guarded) trust(t *testing.T, cas ...*authority) {
	t.Helper()
	var bundle []byte
	for _, ca := range cas {
		bundle = append(bundle, ca.pem...)
	}
	if err := g.auth.Trust(bundle); err != nil {
		t.Fatal(err)
	}
}

// caller makes a client that shows a certificate, whatever CAs the server names, or none.
func caller(t *testing.T, certificate *tls.Certificate, change func(*tls.Config)) *http.Client {
	t.Helper()
	config := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // the serving certificate is not what is tested
	if certificate != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate, nil }
	}
	if change != nil {
		change(config)
	}
	transport := &http.Transport{TLSClientConfig: config}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// call sends a request, and returns the status; 0 where the connection was rejected.
func (g *guarded) call(t *testing.T, client *http.Client) int {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		response, err := client.Post("https://"+g.address+Path, contentType, strings.NewReader("{}"))
		if err == nil {
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
			return response.StatusCode
		}
		if !strings.Contains(err.Error(), "connection refused") || time.Now().After(deadline) { // it has not started yet
			return 0
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// rejected waits until the count of a cause is a value, and sees that no other cause has one beyond those given.
func (g *guarded) rejected(t *testing.T, want map[Cause]float64) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		got := g.counts(t)
		if same := slices.IndexFunc(Causes(), func(c Cause) bool { return got[c] != want[c] }) < 0; same {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("rejected: %v, want %v", got, want)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (g *guarded) counts(t *testing.T) map[Cause]float64 {
	t.Helper()
	families, err := g.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[Cause]float64{}
	for _, family := range families {
		if family.GetName() == "lightstep_injector_client_certificates_rejected_total" {
			for _, metric := range family.GetMetric() {
				counts[Cause(metric.GetLabel()[0].GetValue())] = metric.GetCounter().GetValue()
			}
		}
	}
	if len(counts) != len(Causes()) {
		t.Fatalf("the causes are %v", counts)
	}
	return counts
}

// left returns what the client certificate seen last has left; false where there is no such metric.
func (g *guarded) left(t *testing.T) (time.Duration, bool) {
	t.Helper()
	families, err := g.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "lightstep_injector_client_certificate_expiry_seconds" {
			return time.Duration(family.GetMetric()[0].GetGauge().GetValue() * float64(time.Second)), true
		}
	}
	return 0, false
}

// TestClientCertificates: who is served, and why not who is not, by TLS 1.3 and 1.2.
func TestClientCertificates(t *testing.T) {
	ca, other := newAuthority(t, "cluster CA", nil), newAuthority(t, "cluster CA", nil)
	middle := newAuthority(t, "intermediate CA", ca)
	chained := middle.client(t, nil)
	chained.Certificate = append(chained.Certificate, middle.certificate.Raw)
	long := middle.client(t, nil)
	for range maxChain {
		long.Certificate = append(long.Certificate, middle.certificate.Raw)
	}
	_, foreignKey := sign(t, &x509.Certificate{NotAfter: time.Now().Add(time.Hour)}, nil)
	named := func(name string, organization ...string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: name, Organization: organization} }
	}
	usage := func(usages ...x509.ExtKeyUsage) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.ExtKeyUsage = usages }
	}
	identity, err := url.Parse("spiffe://cluster/api-server")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name        string
		certificate *tls.Certificate
		cause       Cause // of the rejection; empty where it is served
	}{
		{"the API server's", ca.client(t, nil), ""},
		{"a DNS name", ca.client(t, func(c *x509.Certificate) { c.Subject.CommonName, c.DNSNames = "", []string{"a", "api.example.com"} }), ""},
		{"a URI", ca.client(t, func(c *x509.Certificate) { c.Subject.CommonName, c.URIs = "", []*url.URL{identity} }), ""},
		{"an address", ca.client(t, func(c *x509.Certificate) { c.Subject.CommonName, c.IPAddresses = "", []net.IP{net.ParseIP("10.0.0.1")} }), ""},
		{"with its intermediate CA", chained, ""},
		{"none", nil, CauseMissing},
		{"a kubelet's of the same CA", ca.client(t, named("system:node:x", "system:nodes")), CauseWrongName},
		{"another name", ca.client(t, named("someone")), CauseWrongName},
		{"the name in another case", ca.client(t, named("Kube-Apiserver-Webhook-Client")), CauseWrongName},
		{"the name as a part", ca.client(t, named(apiServer+".")), CauseWrongName},
		{"the name as the organization", ca.client(t, named("someone", apiServer)), CauseWrongName},
		{"no name", ca.client(t, named("")), CauseWrongName},
		{"expired", ca.client(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), CauseExpired},
		{"not yet valid", ca.client(t, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }), CauseNotYetValid},
		{"for servers only", ca.client(t, usage(x509.ExtKeyUsageServerAuth)), CauseWrongKeyUsage},
		{"for no use", ca.client(t, usage()), CauseWrongKeyUsage},
		{"for any use", ca.client(t, usage(x509.ExtKeyUsageAny)), CauseWrongKeyUsage},
		{"of another CA of that name", other.client(t, nil), CauseUnknownAuthority},
		{"signed by itself", (*authority)(nil).client(t, nil), CauseUnknownAuthority},
		{"without its intermediate CA", middle.client(t, nil), CauseUnknownAuthority},
		{"a long chain", long, CauseOther},
		{"no certificate at all", &tls.Certificate{Certificate: [][]byte{[]byte("x")}, PrivateKey: foreignKey}, CauseOther},
		{"without its key", &tls.Certificate{Certificate: ca.client(t, nil).Certificate, PrivateKey: foreignKey}, CauseOther},
	} {
		for version, name := range map[uint16]string{tls.VersionTLS13: "TLS 1.3", tls.VersionTLS12: "TLS 1.2"} {
			t.Run(c.name+", "+name, func(t *testing.T) {
				g := newGuarded(t, []string{apiServer, "api.example.com", identity.String(), "10.0.0.1"}, ca)
				got := g.call(t, caller(t, c.certificate, func(config *tls.Config) { config.MinVersion, config.MaxVersion = version, version }))
				if c.cause == "" {
					if left, ok := g.left(t); got != http.StatusOK || !ok || left > 24*time.Hour || left < 23*time.Hour {
						t.Errorf("status %d; %s left, %t", got, left, ok)
					}
					g.rejected(t, nil)
					return
				}
				if _, ok := g.left(t); got != 0 || ok {
					t.Errorf("status %d; an expiry: %t", got, ok)
				}
				g.rejected(t, map[Cause]float64{c.cause: 1})
			})
		}
	}
}

// TestRejectionsOfOthers: a connection that ends for another reason is not counted as a rejected certificate.
func TestRejectionsOfOthers(t *testing.T) {
	ca := newAuthority(t, "CA", nil)
	g := newGuarded(t, []string{apiServer}, ca)
	if got := g.call(t, caller(t, ca.client(t, nil), nil)); got != http.StatusOK {
		t.Fatalf("status %d", got)
	}
	distrusts := caller(t, nil, func(c *tls.Config) { c.InsecureSkipVerify = false })
	if got := g.call(t, distrusts); got != 0 {
		t.Errorf("status %d", got)
	}
	for _, text := range []string{"", "GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x00\x05hello"} {
		connection, err := net.Dial("tcp", g.address)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(connection, text)
		_ = connection.Close()
	}
	if got := g.call(t, caller(t, nil, nil)); got != 0 { // a last one, whose count comes after theirs
		t.Errorf("status %d", got)
	}
	g.rejected(t, map[Cause]float64{CauseMissing: 1})
}

// TestFailed: what a server learns of a handshake that failed, wrapped or not.
func TestFailed(t *testing.T) {
	auth, err := NewClientAuth([]string{apiServer})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{io.EOF, ""},
		{errors.New("remote error: tls: bad certificate"), ""},
		{errors.New("tls: client didn't provide a certificate"), "ClientCertificateMissing"},
		{fmt.Errorf("TLS handshake: %w", errors.New("tls: client didn't provide a certificate")), "ClientCertificateMissing"},
		{fmt.Errorf("TLS handshake: %w", errors.New("tls: failed to parse client certificate: x")), "ClientCertificateOther"},
		{fmt.Errorf("TLS handshake: %w", &rejection{CauseExpired, io.EOF}), "ClientCertificateExpired"},
	} {
		if got := auth.Failed(c.err); got != c.want {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
	}
}

// TestClientCARotates: with both CAs trusted, certificates of both are accepted; then those of the new one only.
func TestClientCARotates(t *testing.T) {
	old, next := newAuthority(t, "CA", nil), newAuthority(t, "CA", nil)
	before, after := old.client(t, nil), next.client(t, nil)
	g := newGuarded(t, []string{apiServer})
	if got := g.call(t, caller(t, before, nil)); got != 0 {
		t.Errorf("before there is a CA: status %d", got)
	}
	g.rejected(t, map[Cause]float64{CauseOther: 1})
	for _, step := range []struct {
		trusted     []*authority
		certificate *tls.Certificate
		want        int
	}{
		{[]*authority{old}, before, http.StatusOK},
		{[]*authority{old}, after, 0},
		{[]*authority{old, next}, before, http.StatusOK},
		{[]*authority{old, next}, after, http.StatusOK},
		{[]*authority{next}, after, http.StatusOK},
		{[]*authority{next}, before, 0},
	} {
		g.trust(t, step.trusted...)
		if got := g.call(t, caller(t, step.certificate, nil)); got != step.want {
			t.Errorf("%d CAs: status %d, want %d", len(step.trusted), got, step.want)
		}
	}
	g.rejected(t, map[Cause]float64{CauseOther: 1, CauseUnknownAuthority: 2})
}

// TestResumption: a session is resumed only while its certificate is one that would be accepted now.
func TestResumption(t *testing.T) {
	for version, name := range map[uint16]string{tls.VersionTLS13: "TLS 1.3", tls.VersionTLS12: "TLS 1.2"} {
		t.Run(name, func(t *testing.T) {
			old, next := newAuthority(t, "CA", nil), newAuthority(t, "CA", nil)
			g := newGuarded(t, []string{apiServer}, old)
			resumed := false
			client := caller(t, old.client(t, nil), func(c *tls.Config) {
				c.ClientSessionCache, c.MinVersion, c.MaxVersion = tls.NewLRUClientSessionCache(4), version, version
				c.VerifyConnection = func(s tls.ConnectionState) error { resumed = s.DidResume; return nil }
			})
			again := func(want int, shouldResume bool) {
				t.Helper()
				client.CloseIdleConnections()
				resumed = false
				got := g.call(t, client)
				if unseen := version == tls.VersionTLS12 && want == 0; got != want || (resumed != shouldResume && !unseen) { // 1.2 ends before the client verifies
					t.Errorf("status %d, resumed %t; want %d, %t", got, resumed, want, shouldResume)
				}
			}
			again(http.StatusOK, false)
			again(http.StatusOK, true)
			g.trust(t, next)
			again(0, true)
			g.trust(t, old, next)
			again(http.StatusOK, version == tls.VersionTLS13) // after a failure a client of 1.2 forgets the session
			g = newGuarded(t, []string{"another"}, old)
			again(0, true)
		})
	}
}

// TestKeptConnections: a connection that is open when its certificate stops being accepted is closed at its next request.
func TestKeptConnections(t *testing.T) {
	old, next := newAuthority(t, "CA", nil), newAuthority(t, "CA", nil)
	g := newGuarded(t, []string{apiServer}, old)
	client := caller(t, old.client(t, nil), nil)
	if got := g.call(t, client); got != http.StatusOK {
		t.Fatalf("status %d", got)
	}
	g.trust(t, old, next)
	if got := g.call(t, client); got != http.StatusOK {
		t.Errorf("with both CAs: status %d", got)
	}
	g.trust(t, next)
	if got := g.call(t, client); got != http.StatusUnauthorized {
		t.Errorf("after its CA: status %d", got)
	}
	if got := g.call(t, client); got != 0 {
		t.Errorf("the connection is kept: status %d", got)
	}
	g.rejected(t, map[Cause]float64{CauseUnknownAuthority: 2})

	expiring := next.client(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(time.Hour) })
	state := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{expiring.Leaf}}
	if until, err := g.auth.recheck(state, time.Now()); err != nil || !until.Equal(expiring.Leaf.NotAfter) {
		t.Errorf("until %s, %v", until, err)
	}
	_, err := g.auth.recheck(state, time.Now().Add(2*time.Hour))
	if rejected, ok := errors.AsType[*rejection](err); !ok || rejected.cause != CauseExpired {
		t.Errorf("expired meanwhile: %v", err)
	}
	if _, err := g.auth.recheck(nil, time.Now()); err == nil {
		t.Error("a request without TLS is served")
	}
}

// TestExpiryOfTheCA: what a certificate has left is no more than its CA has.
func TestExpiryOfTheCA(t *testing.T) {
	ca := newAuthority(t, "CA", nil)
	g := newGuarded(t, []string{apiServer}, ca)
	if got := g.call(t, caller(t, ca.client(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(1000 * time.Hour) }), nil)); got != http.StatusOK {
		t.Fatalf("status %d", got)
	}
	if left, _ := g.left(t); left > 240*time.Hour || left < 239*time.Hour {
		t.Errorf("%s left", left)
	}
}

// TestAcceptedAreBounded: what is remembered of certificates does not grow with their number.
func TestAcceptedAreBounded(t *testing.T) {
	made := &trust{accepted: map[string]time.Time{}}
	for i := range 10 * maxAccepted {
		made.remember(&x509.Certificate{Raw: []byte{byte(i), byte(i >> 8)}}, time.Now())
	}
	if n := len(made.accepted); n > maxAccepted {
		t.Errorf("%d are remembered", n)
	}
}

// TestTrustRefuses: a bundle that does not have CAs only is an error, and the last good one stays.
func TestTrustRefuses(t *testing.T) {
	ca := newAuthority(t, "CA", nil)
	leaf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.client(t, nil).Certificate[0]})
	key, err := x509.MarshalPKCS8PrivateKey(ca.key)
	if err != nil {
		t.Fatal(err)
	}
	auth, err := NewClientAuth([]string{apiServer})
	if err != nil {
		t.Fatal(err)
	}
	good := slices.Concat([]byte("# the cluster's CA\n"), ca.pem, []byte("\n# and another\n"), newAuthority(t, "CA", nil).pem)
	if err := auth.Trust(good); err != nil {
		t.Fatal(err)
	}
	before := auth.trust.Load()
	for name, bundle := range map[string][]byte{
		"nothing":       nil,
		"no PEM":        []byte("hello"),
		"a client's":    leaf,
		"a key":         slices.Concat(ca.pem, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
		"no DER":        pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("hello")}),
		"cut off":       slices.Concat(ca.pem, ca.pem[:len(ca.pem)-10]),
		"no beginning":  slices.Concat(ca.pem, ca.pem[20:]),
		"of great size": bytes.Repeat([]byte("#"), maxClientCA+1),
	} {
		if err := auth.Trust(bundle); err == nil || auth.trust.Load() != before {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), "MIG") {
			t.Errorf("%s: the error has the content: %v", name, err)
		}
	}
	for _, names := range [][]string{nil, {""}, {" "}, {"a", "*"}, {"*.example.com"}} {
		if _, err := NewClientAuth(names); err == nil {
			t.Errorf("%q are taken", names)
		}
	}
}

// TestFollowFile: a file is read again when it changes, and what is not valid is reported once.
func TestFollowFile(t *testing.T) {
	old, next := newAuthority(t, "CA", nil), newAuthority(t, "CA", nil)
	file := filepath.Join(t.TempDir(), "ca.crt")
	write := func(content []byte) {
		t.Helper()
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	auth, err := NewClientAuth([]string{apiServer})
	if err != nil {
		t.Fatal(err)
	}
	if err := auth.TrustFile(file); err == nil {
		t.Error("a file that is not there is read")
	}
	write(old.pem)
	if err := auth.TrustFile(file); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		var reported []error
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- auth.FollowFile(ctx, file, func(err error) { reported = append(reported, err) }) }()
		for _, step := range []struct {
			content []byte
			want    *authority
			reports int
		}{{old.pem, old, 0}, {[]byte("hello"), old, 1}, {next.pem, next, 1}, {nil, next, 2}, {old.pem, old, 2}} {
			write(step.content)
			time.Sleep(3 * clientCAPoll)
			synctest.Wait()
			if !bytes.Equal(auth.trust.Load().bundle, step.want.pem) || len(reported) != step.reports {
				t.Errorf("after %.20q: reported %v", step.content, reported)
			}
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// BenchmarkClientCertificate is what a request costs on top where client certificates are required.
func BenchmarkClientCertificate(b *testing.B) {
	ca := newAuthority(&testing.T{}, "CA", nil)
	auth, err := NewClientAuth([]string{apiServer})
	if err != nil || auth.Trust(ca.pem) != nil {
		b.Fatal(err)
	}
	state := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{ca.client(&testing.T{}, nil).Leaf}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := auth.recheck(state, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}
