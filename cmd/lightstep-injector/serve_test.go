package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

const served = `
apiVersion: injector.lightstep.com/v1alpha1
kind: InjectorConfiguration
profiles:
  default:
    satellite: {address: "satellite.example.com:443"}
`

const servedByAnnotation = served + `
  seed:
    satellite: {address: "satellite.example.com:443"}
    accessToken: {delivery: annotation, allowedNamespaces: [seed]}
    mesh: {istioVersion: "1.7.8"}
`

// serveArgs writes what serve needs into a folder, and returns its arguments.
func serveArgs(t *testing.T, config string) (dir string, args []string) {
	t.Helper()
	dir = t.TempDir()
	put := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Setenv("KUBECONFIG", put("kubeconfig", `{"apiVersion": "v1", "kind": "Config", "current-context": "a",
		"contexts": [{"name": "a", "context": {"cluster": "a"}}], "clusters": [{"name": "a", "cluster": {"server": "http://127.0.0.1:1"}}]}`))
	t.Setenv("POD_NAMESPACE", "lightstep-injector")
	put("token", "canary\n")
	certificate, key := certificateFiles(t)
	put("ca.crt", certificate)
	return dir, []string{
		"lightstep-injector", "serve", "--config", put("config.yaml", config), "--tls-cert-file", put("tls.crt", certificate), "--tls-key-file", put("tls.key", key),
		"--listen", unused(t), "--health-listen", unused(t), "--metrics-listen", unused(t),
	}
}

func TestServeRefuses(t *testing.T) {
	for _, test := range []struct {
		name, config string
		more         []string
		code         int
		says         string
	}{
		{"no configuration file", served, []string{"--config", "none.yaml"}, 1, "none.yaml"},
		{"a configuration that is not valid", "apiVersion: v9", nil, 1, "apiVersion"},
		{"no certificate", served, []string{"--tls-cert-file", "none.crt"}, 1, "none.crt"},
		{"an address that is none", served, []string{"--listen", "10250"}, 2, "HOST:PORT"},
		{"a log level that is none", served, []string{"--log-level", "loud"}, 2, "--log-level"},
		{"a token in annotations, unasked", servedByAnnotation, []string{"--access-token-file", "seed=token"}, 1, "--expose-token-in-annotations"},
		{"a token in annotations, without one", servedByAnnotation, append(authenticated(), "--expose-token-in-annotations"), 1, "--access-token-file seed=FILE"},
		{
			"a token in annotations, for everybody", servedByAnnotation,
			[]string{"--expose-token-in-annotations", "--access-token-file", "seed=token"},
			1,
			`profiles.seed.accessToken.delivery: "annotation": without client certificates, every pod that reaches the webhook's port can read the token: require them with --client-ca-secret and --client-name, or write secret`,
		},
		{"a client CA without names", served, []string{"--client-ca-file", "ca.crt"}, 2, "--client-name is missing"},
		{"a client CA's Secret without names", served, []string{"--client-ca-secret", "ca"}, 2, "--client-name is missing"},
		{"a client CA's Secret without a name", served, []string{"--client-ca-secret", ":ca.crt", "--client-name", "api"}, 2, "NAME:KEY"},
		{"names without a client CA", served, []string{"--client-name", "api"}, 2, "--client-name api"},
		{"a name that is a pattern", served, []string{"--client-ca-file", "ca.crt", "--client-name", "*"}, 2, "without *"},
		{"an empty name", served, []string{"--client-ca-file", "ca.crt", "--client-name", ""}, 2, "--client-name"},
		{"two client CAs", served, []string{"--client-ca-file", "ca.crt", "--client-ca-secret", "ca", "--client-name", "api"}, 2, "client-ca-file client-ca-secret"},
		{"no client CA file", served, []string{"--client-ca-file", "none.crt", "--client-name", "api"}, 1, "none.crt"},
		{"a client CA file that has none", served, []string{"--client-ca-file", "token", "--client-name", "api"}, 1, "token: the client CA has no certificate in PEM"},
		{"a token for no profile", served, []string{"--access-token-file", "other=token"}, 1, "other"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir, args := serveArgs(t, test.config)
			t.Chdir(dir)
			var stderr bytes.Buffer
			code := run(t.Context(), append(args, test.more...), nil, io.Discard, &stderr)
			if code != test.code || !strings.Contains(stderr.String(), test.says) || strings.Contains(stderr.String(), "canary") {
				t.Errorf("exit %d, want %d and %q: %s", code, test.code, test.says, &stderr)
			}
		})
	}
}

// authenticated are the flags by which clients need a certificate.
func authenticated() []string { return []string{"--client-ca-file", "ca.crt", "--client-name", "api"} }

func TestServeAcceptsATokenForAnnotations(t *testing.T) {
	dir, _ := serveArgs(t, servedByAnnotation)
	for _, files := range [][]string{{filepath.Join(dir, "token")}, {"seed=" + filepath.Join(dir, "token")}} {
		o := serveOptions{config: filepath.Join(dir, "config.yaml"), exposeToken: true, accessTokenFiles: files, clients: clientOptions{secret: "ca", names: []string{"api"}}}
		if _, _, err := o.loadConfiguration(func(*settings.Settings) error { return nil }); err != nil {
			t.Errorf("%v: %s", files, err)
		}
	}
}

// Without a cluster serve lives, answers, and is not ready; told to stop, it ends well.
func TestServeWithoutACluster(t *testing.T) {
	_, args := serveArgs(t, served)
	listen, health := args[9], args[11]
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, args, nil, io.Discard, io.Discard) }()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // the certificate is not what is tested
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	for url, want := range map[string]int{
		"http://" + health + "/healthz": http.StatusOK,
		"http://" + health + "/readyz":  http.StatusServiceUnavailable,
		"https://" + listen + "/inject": http.StatusMethodNotAllowed,
	} {
		if got := statusOf(t, client, url); got != want {
			t.Errorf("%s: %d, want %d", url, got, want)
		}
	}
	stop()
	select {
	case code := <-ended:
		if code != 0 {
			t.Errorf("exit %d", code)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("serve does not stop")
	}
}

// statusOf calls until something answers.
func statusOf(t *testing.T, client *http.Client, url string) int {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		response, err := client.Get(url)
		if err == nil {
			_ = response.Body.Close()
			return response.StatusCode
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// unused is an address that nobody listens on.
func unused(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// certificateFiles are a certificate and its key, in PEM.
func certificateFiles(t *testing.T) (certificate, key string) {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS()
	defer server.Close()
	pair := server.TLS.Certificates[0]
	encodedKey, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encodedKey}))
}
