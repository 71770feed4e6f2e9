package probe

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/uuid"
)

// timeout bounds one call. The API server waits no longer than 30 s for any webhook.
const timeout = 30 * time.Second

// maxAnswer is more than any answer about the pod below takes, in bytes.
const maxAnswer = 1 << 20

// ErrCertificateRequired is returned by [Call] for a webhook whose serving certificate is trusted and which demands a client
// certificate. Only the API server has one, so nothing more can be tried.
var ErrCertificateRequired = errors.New("the webhook requires a client certificate")

// Call asks a webhook about a pod, and returns what it answers. Any answer that the API server could not use is an error. at is
// the host:port that it is reached at, whoever it says it is; where it says itself if empty.
func Call(ctx context.Context, webhook *registrationv1.MutatingWebhook, at string) (*admissionv1.AdmissionResponse, error) {
	url, err := address(&webhook.ClientConfig)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(webhook.ClientConfig.CABundle) {
		return nil, errors.New("its caBundle has no certificate: the API server trusts nobody to answer")
	}
	review := sample()
	body, err := json.Marshal(review)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	transport := &http.Transport{DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		return dial(ctx, network, address, cmp.Or(at, address), roots)
	}}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	return read(response, review)
}

// dial connects to at, verifies the certificate for the host of address, and sees whether the server demands a client
// certificate. With TLS 1.3 a server rejects a client without one after the client's side of the handshake is complete:
// its alert is read before anything is written.
func dial(ctx context.Context, network, address, at string, roots *x509.CertPool) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	demanded, verified := false, false
	dialer := tls.Dialer{Config: &tls.Config{
		RootCAs: roots, ServerName: host, MinVersion: tls.VersionTLS12,
		VerifyConnection: func(tls.ConnectionState) error { verified = true; return nil },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			demanded = true
			return &tls.Certificate{}, nil // none
		},
	}}
	connection, err := dialer.DialContext(ctx, network, at)
	if err == nil && demanded {
		err = rejection(connection)
	}
	if demanded && verified && requires(err) {
		return nil, ErrCertificateRequired
	}
	return connection, err
}

// rejection waits for what a server that has asked for a client certificate does without one.
func rejection(connection net.Conn) error {
	_ = connection.SetReadDeadline(time.Now().Add(timeout))
	_, err := connection.Read(make([]byte, 1))
	_ = connection.Close()
	if err == nil {
		err = errors.New("it speaks before it is asked")
	}
	return err
}

// requires tells whether an error is the alert by which a server demands a client certificate: certificate_required with
// TLS 1.3, handshake_failure with TLS 1.2 (RFC 8446, section 4.4.2.4; RFC 5246, section 7.4.6). crypto/tls exports no type.
func requires(err error) bool {
	if err == nil {
		return false
	}
	text := err.Error()
	return strings.HasSuffix(text, "tls: certificate required") || strings.HasSuffix(text, "tls: handshake failure")
}

// read reads an answer to a review.
func read(response *http.Response, to *admissionv1.AdmissionReview) (*admissionv1.AdmissionResponse, error) {
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %s: %s", response.Status, bytes.TrimSpace(body))
	}
	var answer admissionv1.AdmissionReview
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	switch {
	case answer.GroupVersionKind() != to.GroupVersionKind() || answer.Response == nil || answer.Response.UID != to.Request.UID:
		return nil, errors.New("it answers something else than was asked")
	case !answer.Response.Allowed:
		return nil, errors.New("it refuses a pod, which the injector never does: something else answers there")
	}
	return answer.Response, nil
}

// address is the URL that the API server calls.
func address(client *registrationv1.WebhookClientConfig) (string, error) {
	switch {
	case client.URL != nil:
		return *client.URL, nil
	case client.Service == nil:
		return "", errors.New("it says neither a Service nor a URL")
	}
	host, port, path := client.Service.Name+"."+client.Service.Namespace+".svc", int32(443), ""
	if client.Service.Port != nil {
		port = *client.Service.Port
	}
	if client.Service.Path != nil {
		path = *client.Service.Path
	}
	return "https://" + net.JoinHostPort(host, strconv.Itoa(int(port))) + path, nil
}

// sample asks about a pod with one container, in a namespace that need not be there.
func sample() *admissionv1.AdmissionReview {
	const namespace = "lightstep-injector-check"
	pod := &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: "check", Namespace: namespace},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}
	return &admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID:       uuid.NewUUID(),
			Kind:      metav1.GroupVersionKind{Version: "v1", Kind: "Pod"},
			Resource:  metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
			Namespace: namespace,
			Name:      pod.Name,
			Operation: admissionv1.Create,
			Object:    runtime.RawExtension{Object: pod},
			DryRun:    new(true),
		},
	}
}
