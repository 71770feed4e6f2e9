package probe_test

import (
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"go.uber.org/zap"
	admissionv1 "k8s.io/api/admission/v1"
	registrationv1 "k8s.io/api/admissionregistration/v1"

	"github.com/lightstep-injector/lightstep-injector/webhook/probe"
)

// serve is a webhook, and how the API server is told of it.
func serve(t *testing.T, handler http.Handler) *registrationv1.MutatingWebhook {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = zap.NewStdLog(zap.NewNop())
	server.StartTLS()
	t.Cleanup(server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return &registrationv1.MutatingWebhook{ClientConfig: registrationv1.WebhookClientConfig{URL: new(server.URL + "/inject"), CABundle: ca}}
}

// answering answers every request with a text, in which UID stands for the request's.
func answering(t *testing.T, status int, text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var asked admissionv1.AdmissionReview
		if err != nil || json.Unmarshal(body, &asked) != nil || asked.Request == nil || r.URL.Path != "/inject" {
			t.Errorf("asked %s: %s, %v", r.URL, body, err)
			return
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, strings.ReplaceAll(text, "UID", string(asked.Request.UID)))
	})
}

const good = `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","response":{"uid":"UID","allowed":true,"warnings":["w"]}}`

// TestCall: what the API server could use is returned.
func TestCall(t *testing.T) {
	answer, err := probe.Call(t.Context(), serve(t, answering(t, http.StatusOK, good)), "")
	if err != nil || fmt.Sprint(answer.Warnings) != "[w]" {
		t.Errorf("%+v, %v", answer, err)
	}
}

// TestCallAt: who is reached elsewhere is still who the certificate is to be of.
func TestCallAt(t *testing.T) {
	webhook := serve(t, answering(t, http.StatusOK, good))
	at := strings.TrimSuffix(strings.TrimPrefix(*webhook.ClientConfig.URL, "https://"), "/inject")
	webhook.ClientConfig.URL = new("https://example.com/inject") // a name in httptest's certificate
	if _, err := probe.Call(t.Context(), webhook, at); err != nil {
		t.Error(err)
	}
	webhook.ClientConfig.URL = new("https://example.org/inject")
	if _, err := probe.Call(t.Context(), webhook, at); err == nil || !strings.Contains(err.Error(), "example.org") {
		t.Errorf("another name: %v", err)
	}
}

// TestCertificateRequired: a webhook that demands a client certificate is told from one that cannot be called.
func TestCertificateRequired(t *testing.T) {
	for _, c := range []struct {
		name     string
		auth     tls.ClientAuthType
		version  uint16
		required bool
	}{
		{"required, TLS 1.3", tls.RequireAnyClientCert, tls.VersionTLS13, true},
		{"required, TLS 1.2", tls.RequireAnyClientCert, tls.VersionTLS12, true},
		{"required and verified", tls.RequireAndVerifyClientCert, tls.VersionTLS13, true},
		{"none asked for", tls.NoClientCert, tls.VersionTLS13, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(answering(t, http.StatusOK, good))
			server.Config.ErrorLog = zap.NewStdLog(zap.NewNop())
			server.TLS = &tls.Config{ClientAuth: c.auth, MaxVersion: c.version} //nolint:gosec // the versions are what is tested
			server.StartTLS()
			t.Cleanup(server.Close)
			ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
			client := registrationv1.WebhookClientConfig{URL: new(server.URL + "/inject"), CABundle: ca}
			_, err := probe.Call(t.Context(), &registrationv1.MutatingWebhook{ClientConfig: client}, "")
			if got := errors.Is(err, probe.ErrCertificateRequired); got != c.required || (err == nil) == c.required {
				t.Errorf("%v", err)
			}
			client.CABundle = serve(t, answering(t, http.StatusOK, good)).ClientConfig.CABundle
			client.URL = new(strings.Replace(*client.URL, "127.0.0.1", "localhost", 1))
			_, err = probe.Call(t.Context(), &registrationv1.MutatingWebhook{ClientConfig: client}, "")
			if err == nil || errors.Is(err, probe.ErrCertificateRequired) {
				t.Errorf("a certificate for another host: %v", err)
			}
		})
	}
}

// TestCallFails: what it could not is an error that says why.
func TestCallFails(t *testing.T) {
	for name, c := range map[string]struct {
		status       int
		text, wanted string
	}{
		"status":  {http.StatusTeapot, "short and stout", "418 I'm a teapot: short and stout"},
		"no JSON": {http.StatusOK, "hello", "read the answer"},
		"kind":    {http.StatusOK, strings.Replace(good, "AdmissionReview", "Pod", 1), "something else"},
		"uid":     {http.StatusOK, strings.Replace(good, "UID", "", 1), "something else"},
		"refused": {http.StatusOK, strings.Replace(good, "true", "false", 1), "refuses"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := probe.Call(t.Context(), serve(t, answering(t, c.status, c.text)), "")
			if err == nil || !strings.Contains(err.Error(), c.wanted) {
				t.Errorf("%v, wanted %s", err, c.wanted)
			}
		})
	}
	webhook, stranger := serve(t, answering(t, http.StatusOK, good)), serve(t, answering(t, http.StatusOK, good))
	for name, client := range map[string]registrationv1.WebhookClientConfig{
		"no CA":   {URL: webhook.ClientConfig.URL},
		"no host": {CABundle: stranger.ClientConfig.CABundle},
		"nobody":  {URL: new("https://127.0.0.1:1/inject"), CABundle: webhook.ClientConfig.CABundle},
		"no such Service": {CABundle: webhook.ClientConfig.CABundle, Service: &registrationv1.ServiceReference{
			Name: "injector", Namespace: "nowhere", Path: new("/inject"), Port: new(int32(443)),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := probe.Call(t.Context(), &registrationv1.MutatingWebhook{ClientConfig: client}, ""); err == nil {
				t.Error("no error")
			} else {
				t.Log(err)
			}
		})
	}
}
