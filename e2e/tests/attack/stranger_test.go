package attack

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"github.com/lightstep-injector/lightstep-injector/e2e/attacker"
	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// answers: no answer to a stranger has the token, whatever the request names.
func answers(t *testing.T, e *environment) string {
	e.recovers(t)
	url := "https://" + net.JoinHostPort(e.node.Replicas()[0].Address, webhookPort) + "/inject"
	asked := 0
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(4) // some at once, since one for a namespace that is not there waits for it
	for _, namespace := range []string{shop, paid, tenant, plain, missed, own, "kube-system", "nowhere"} {
		for _, profile := range []string{"", "default", "paid", "nowhere"} {
			for _, container := range []string{"app", "istio-proxy"} {
				asked++
				group.Go(func() error {
					answer, err := ask(ctx, url, reviewOf(namespace, profile, container))
					if err != nil {
						return err
					}
					if err := withoutToken(answer); err != nil {
						t.Errorf("%s, profile %q, container %s: %v", namespace, profile, container, err)
					}
					return nil
				})
			}
		}
	}
	stage.Check(t, group.Wait())
	return fmt.Sprintf("%d requests, 0 answers with the token", asked)
}

// published: where tokens are delivered by annotation, a stranger is told none.
func published(t *testing.T, e *environment) string {
	config, file := filepath.Join(e.Run.Dir, "published.yaml"), filepath.Join(e.Run.Dir, "token")
	stage.Check(t, os.WriteFile(file, []byte(token), 0o600))
	stage.Check(t, injector.WriteConfig(config, []byte(`apiVersion: injector.lightstep.com/v1alpha1
kind: InjectorConfiguration
profiles:
  default:
    satellite: {address: "satellite.example.com:9292"}
    accessToken: {delivery: annotation, allowedNamespaces: ["*"]}
    mesh: {istioVersion: "1.7"}
`)))
	i, err := injector.NewUncalled(e.Cluster, e.Run, injector.Options{
		Binary: e.Program, Config: config, Name: "published", Flags: []string{"--expose-token-in-annotations", "--access-token-file", "default=" + file},
	})
	stage.Check(t, err)
	stage.Check(t, i.Launch())
	defer i.Kill()
	var answers []byte
	var refused error
	stage.Eventually(t, func(ctx context.Context) error {
		refused = i.Ended()
		if refused != nil {
			return nil //nolint:nilerr // that it has ended is an outcome
		}
		if err := i.Ready(ctx); err != nil {
			return err
		}
		for _, container := range []string{"app", "istio-proxy"} {
			answer, err := ask(ctx, i.URL(), reviewOf(shop, "", container))
			if err != nil {
				return err
			}
			if err := withoutToken(answer); err != nil {
				t.Errorf("one request, without credentials: %v", err)
			}
			answers = append(answers, answer...)
		}
		return nil
	})
	if refused != nil {
		if !strings.Contains(refused.Error(), "client") {
			t.Errorf("it ends without naming client certificates: %v", refused)
		}
		return "rejected at the start: it takes client certificates"
	}
	return fmt.Sprintf("answered in %d bytes, without the token", len(answers))
}

// reviewOf is a request for a pod with a container of that name.
func reviewOf(namespace, profile, container string) []byte {
	annotations := map[string]string{}
	if container != "app" {
		annotations["sidecar.istio.io/status"] = "{}"
	}
	if profile != "" {
		annotations["lightstep.com/profile"] = profile
	}
	body := attacker.Review("1", namespace, map[string]any{"name": "pod", "annotations": annotations})
	return bytes.ReplaceAll(body, []byte(`"image":"app","name":"app"`), fmt.Appendf(nil, `"image":"proxyv2:1.7.8","name":%q`, container))
}

// ask sends a request as anybody can who reaches the port.
func ask(ctx context.Context, url string, body []byte) ([]byte, error) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(response.Body)
	return text, errors.Join(err, response.Body.Close())
}

// withoutToken sees that neither an answer nor its patch has the token.
func withoutToken(answer []byte) error {
	var review struct{ Response struct{ Patch []byte } }
	if err := json.Unmarshal(answer, &review); err != nil {
		return fmt.Errorf("read %q: %w", answer, err)
	}
	for _, form := range []string{token, base64.StdEncoding.EncodeToString([]byte(token))} {
		if strings.Contains(string(answer)+string(review.Response.Patch), form) {
			return errors.New("the answer has the access token")
		}
	}
	return nil
}

// logged: no text of an attacker's reached the logs as it was sent.
func logged(t *testing.T, e *environment) string {
	files, err := e.node.Logs()
	stage.Check(t, err)
	longest, lines := 0, 0
	for _, file := range files {
		log, err := os.ReadFile(file)
		stage.Check(t, err)
		if !utf8.Valid(log) {
			t.Errorf("%s is not UTF-8", filepath.Base(file))
		}
		for line := range strings.Lines(string(log)) {
			longest, lines = max(longest, len(line)), lines+1
		}
		visible(t, filepath.Base(file), string(log))
	}
	const most = 16 << 10
	if longest > most {
		t.Errorf("the longest line has %d bytes", longest)
	}
	return fmt.Sprintf("%d lines; the longest has %d bytes", lines, longest)
}
