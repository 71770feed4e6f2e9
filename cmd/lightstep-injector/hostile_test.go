package main

import (
	"bytes"
	stdjson "encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"
	"sigs.k8s.io/yaml"

	"github.com/lightstep-injector/lightstep-injector/webhook"
	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
	"github.com/lightstep-injector/lightstep-injector/webhook/snapshot"
)

var hostileTexts = flag.Int("texts", 20_000, "how many generated names, kinds and annotations TestHostileText tries")

// TestHostileText: whatever a tenant writes, no command, log line or warning holds a character that a terminal does not show,
// and every command that is printed is, to a shell, the intended one.
func TestHostileText(t *testing.T) {
	const batch = 100
	h := newHostile(t)
	for *h.cluster.tenant.texts < *hostileTexts && !t.Failed() {
		h.cluster.fill(batch)
		switch h.batches++; h.batches % 4 {
		case 0:
			h.statusEncoded(t)
		default:
			h.status(t)
		}
		h.manifests(t)
		for _, pod := range h.cluster.pods {
			h.explainLive(t, pod)
			h.admit(t, pod)
		}
	}
	if pods := h.batches * batch; h.commands < pods/20 || h.warnings < pods || h.injected < pods/10 {
		t.Errorf("of %d pods: %d commands, %d warnings, %d injected: too few to show anything", pods, h.commands, h.warnings, h.injected)
	}
	t.Logf("%d texts in %d pods and as many manifests: %d commands printed, %d warnings, %d log lines, the longest of %d bytes", *h.cluster.tenant.texts, h.batches*batch, h.commands, h.warnings, h.lines, h.longest)
}

// hostile is the program among a tenant's texts.
type hostile struct {
	cluster                                               *hostileCluster
	config                                                string
	store                                                 *snapshot.Store
	handler                                               http.Handler
	logs                                                  *bytes.Buffer
	batches, commands, warnings, injected, lines, longest int
}

func newHostile(t *testing.T) *hostile {
	t.Helper()
	h := &hostile{cluster: newHostileCluster(t, newTenant(1)), logs: new(bytes.Buffer), config: filepath.Join(t.TempDir(), "config.yaml")}
	const config = `{"apiVersion":"injector.lightstep.com/v1alpha1","kind":"InjectorConfiguration","profiles":{"default":{"satellite":{"address":"satellite:443"}}},"overrides":{"pod":["sampling","customTags"]}}`
	if err := os.WriteFile(h.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	settings, err := readConfiguration(h.config)
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := webhook.NewMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	log, restore := setUpLog(zapcore.DebugLevel, h.logs)
	t.Cleanup(restore)
	h.store = snapshot.NewStore(settings, "", "v1")
	h.store.SetNamespace(&metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: hostileNamespace}})
	h.handler = webhook.NewHandler(h.store, metrics, log)
	return h
}

// status: the table, and its lines that may be pasted.
func (h *hostile) status(t *testing.T) {
	t.Helper()
	code, stdout, stderr := outcomeOf("", "status", "--config", h.config)
	if code != exitProblems || strings.Contains(stdout, "not read:") || len(h.cluster.asked) > 0 {
		t.Errorf("exit %d: %.500s%.3000s, asked for %q", code, stderr, strings.Join(regexp.MustCompile("not read.*").FindAllString(stdout, 5), "\n"), h.cluster.asked)
	}
	shown(t, "status", stdout, stderr)
	_, pasted, _ := strings.Cut(stdout, "\nwhat makes missed and stale pods anew\n")
	var commands []string
	for line := range strings.Lines(pasted) {
		if len(line) > 1000 {
			t.Errorf("a line of %d bytes", len(line))
		}
		words, err := shellWords(line)
		if err != nil {
			t.Errorf("%q: %v", line, err)
		}
		if len(words) > 0 {
			commands = append(commands, strings.Join(words, " "))
		} else if _, err := shellWords(strings.Replace(line, "#", "comment", 1)); err != nil { // as zsh reads it
			t.Errorf("%q, pasted where there are no comments: %v", line, err)
		}
	}
	h.compareCommands(t, commands)
}

func (h *hostile) compareCommands(t *testing.T, commands []string) {
	t.Helper()
	intended := h.cluster.restarts(0, 1)
	for _, command := range commands {
		if _, found := slices.BinarySearch(intended, command); !found {
			t.Errorf("printed, and not intended: %q", command)
		}
	}
	for _, stale := range h.cluster.restarts(1) {
		if !slices.Contains(commands, stale) {
			t.Errorf("intended, and not printed: %q", stale)
		}
	}
	h.commands += len(commands)
}

// statusEncoded: JSON and YAML, whose commands are as safe.
func (h *hostile) statusEncoded(t *testing.T) {
	t.Helper()
	for format, decode := range map[string]func([]byte, any) error{
		"json": stdjson.Unmarshal, "yaml": func(text []byte, into any) error { return yaml.Unmarshal(text, into) },
	} {
		_, stdout, stderr := outcomeOf("", "status", "--config", h.config, "-o", format)
		shown(t, "status -o "+format, stdout, stderr)
		var found struct{ Owners []struct{ Restart string } }
		if err := decode([]byte(stdout), &found); err != nil {
			t.Fatalf("%s: %v", format, err)
		}
		var commands []string
		for _, owner := range found.Owners {
			if words, err := shellWords(owner.Restart); err != nil {
				t.Errorf("%q: %v", owner.Restart, err)
			} else if len(words) > 0 {
				commands = append(commands, strings.Join(words, " "))
			}
		}
		h.compareCommands(t, commands)
	}
}

// shellWords are the words of a line that a shell would run: at most one command, in which nothing is replaced.
func shellWords(line string) ([]string, error) {
	file, err := syntax.NewParser().Parse(strings.NewReader(line), "")
	if err != nil || len(file.Stmts) == 0 {
		return nil, err
	}
	call, ok := file.Stmts[0].Cmd.(*syntax.CallExpr)
	if !ok || len(file.Stmts) > 1 || len(call.Assigns) > 0 || len(file.Stmts[0].Redirs) > 0 {
		return nil, fmt.Errorf("more than a plain command")
	}
	for _, word := range call.Args {
		for _, part := range word.Parts {
			switch part.(type) {
			case *syntax.Lit, *syntax.SglQuoted:
			default:
				return nil, fmt.Errorf("%T in it", part)
			}
		}
	}
	return expand.Fields(nil, call.Args...)
}

// manifests: inject and explain -f, in every format, of manifests in JSON and YAML.
func (h *hostile) manifests(t *testing.T) {
	t.Helper()
	var stream bytes.Buffer
	for i := range h.cluster.pods {
		kind := h.cluster.tenant.pick("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")
		object := h.cluster.tenant.pod(kind, "apps/v1")
		text, err := stdjson.Marshal(object)
		if err == nil && h.batches%2 == 0 {
			text, err = yaml.Marshal(object)
			text = append([]byte("---\n# \u202e comment \u200b\n"), text...)
		}
		if err != nil {
			continue // YAML does not take every text
		}
		_, _ = stream.Write(append(text, '\n'))
		if h.batches%10 == 0 && i == 0 { // the rest is not read then
			_, _ = stream.WriteString("{\"kind\":\"" + h.cluster.tenant.text())
		}
	}
	for _, args := range [][]string{{"inject", "-o", "diff"}, {"explain"}, {"inject", "-o", "json"}, {"explain", "-o", "yaml"}}[:2+2*(h.batches&1)] {
		code, stdout, stderr := outcomeOf(stream.String(), append(args, "-f", "-", "--config", h.config)...)
		shown(t, strings.Join(args, " "), stdout, stderr)
		if code != exitFine && h.batches%10 != 0 {
			t.Errorf("%s: exit %d: %.500s", args, code, stderr)
		}
	}
}

// explainLive: what explain POD prints of a pod.
func (h *hostile) explainLive(t *testing.T, object map[string]any) {
	t.Helper()
	raw, err := stdjson.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	pod, err := webhook.DecodePod(raw)
	if err != nil {
		t.Fatal(err)
	}
	name := object["metadata"].(map[string]any)["name"].(string)
	e := explainLive(name, &inject.Request{Namespace: hostileNamespace, Pod: pod}, h.store.Current(), []error{fmt.Errorf("read %s", name)})
	var out bytes.Buffer
	if err := e.print(&out); err != nil {
		t.Fatal(err)
	}
	shown(t, "explain POD", out.String(), "")
}

// The bounds of a log line, in bytes: the whole, and any of its fields.
const (
	maxLine  = 8 << 10
	maxField = 1 << 10
)

// admit: the webhook's own warnings, audit annotations and log lines.
func (h *hostile) admit(t *testing.T, object map[string]any) {
	t.Helper()
	raw, err := stdjson.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	review := admissionv1.AdmissionReview{TypeMeta: metav1.TypeMeta{Kind: "AdmissionReview", APIVersion: "admission.k8s.io/v1"}, Request: &admissionv1.AdmissionRequest{
		UID: "u", Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"}, Operation: admissionv1.Create, Namespace: hostileNamespace,
	}}
	review.Request.Object.Raw = raw
	if h.lines%100 == 0 { // who calls without the API server may write this, too
		review.Request.Operation = admissionv1.Operation(h.cluster.tenant.text())
		review.Request.Namespace = strings.Repeat(h.cluster.tenant.text(), 50)
		review.Request.UID = "u"
	}
	body, err := stdjson.Marshal(&review)
	if err != nil {
		t.Fatal(err)
	}
	h.logs.Reset()
	recorder := httptest.NewRecorder()
	request := httptest.NewRequest(http.MethodPost, webhook.Path, bytes.NewReader(body))
	request.Header.Set("Content-Type", "application/json")
	h.handler.ServeHTTP(recorder, request)
	var answer admissionv1.AdmissionReview
	if err := stdjson.Unmarshal(recorder.Body.Bytes(), &answer); err != nil || answer.Response == nil {
		t.Fatalf("%s: %v", recorder.Body, err)
	}
	for _, warning := range answer.Response.Warnings {
		if h.warnings++; len(warning) > 256 {
			t.Errorf("a warning of %d bytes", len(warning))
		}
		shown(t, "warning", warning, "")
	}
	for key, value := range answer.Response.AuditAnnotations {
		shown(t, "audit annotation", key, value)
	}
	if answer.Response.Patch != nil {
		h.injected++
	}
	h.logged(t)
}

// logged: one line, bounded, each of its fields bounded and visible.
func (h *hostile) logged(t *testing.T) {
	t.Helper()
	h.lines++
	h.longest = max(h.longest, h.logs.Len())
	shown(t, "log", h.logs.String(), "")
	var line map[string]any
	if err := json.Unmarshal(h.logs.Bytes(), &line); err != nil || h.logs.Len() > maxLine || bytes.Count(h.logs.Bytes(), []byte("\n")) != 1 {
		t.Fatalf("%v, %d bytes: %.500s", err, h.logs.Len(), h.logs)
	}
	for key, value := range line {
		if text, ok := value.(string); ok && len(text) > maxField {
			t.Errorf("%s has %d bytes", key, len(text))
		} else if ok {
			shown(t, "log field "+key, strings.ReplaceAll(text, "\n", "\x00"), "")
		}
	}
}

// shown: a text has line feeds of its own, and no other character that a terminal does not show as it is.
func shown(t *testing.T, what, stdout, stderr string) {
	t.Helper()
	for _, text := range []string{stdout, stderr} {
		at := strings.IndexFunc(text, func(r rune) bool {
			return r < ' ' && r != '\n' || 0x7f <= r && r <= 0x9f || strings.ContainsRune(
				"\u00a0\u00ad\u061c\u200b\u200c\u200d\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\u3164\ufeff\U000e0041", r)
		})
		if !utf8.ValidString(text) || at >= 0 || strings.Contains(text, "\nerror: forged") {
			t.Errorf("%s prints %.300q, at %d", what, text[max(0, at-100):], at)
		}
	}
}

// TestPrints: the commands print through escape.Printf, which escapes every argument.
func TestPrints(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		if found := regexp.MustCompile(`fmt\.F?[pP]rint\w*\(`).FindString(string(readFile(t, file))); found != "" && !strings.HasSuffix(file, "_test.go") {
			t.Errorf("%s: %s: print with escape.Printf", file, found)
		}
	}
}

// TestHostileNames: a name that is none is rejected as wrong usage before anything is asked of the API server.
func TestHostileNames(t *testing.T) {
	cluster := newHostileCluster(t, newTenant(2))
	for _, name := range []string{"../../../apis/x", "..", ".", "a/b", "-all", "--watch", "a?watch=1", "a%2fb", "A", "a\nb", "$(id)", ""} {
		for what, args := range map[string][]string{
			"pod":                {"explain", "--config", "testdata/config.yaml", "-n", "shop", "--", name},
			"pod's namespace":    {"explain", "--config", "testdata/config.yaml", "--namespace=" + name, "web"},
			"status":             {"status", "--config", "testdata/config.yaml", "--namespace=" + name},
			"status, injector's": {"status", "--injector-namespace=" + name},
			"check, injector's":  {"check", "--injector-namespace=" + name},
			"render istio":       {"render", "istio", "--config", "testdata/config.yaml", "--detect", "--namespace=" + name},
		} {
			if name == "" && (what == "status" || what == "pod's namespace") {
				continue // there is none then
			}
			code, stdout, stderr := outcomeOf("", args...)
			if code != exitUsage || stdout != "" || cluster.request > 0 {
				t.Errorf("%s %q: exit %d, %d requests: %s%s", what, name, code, cluster.request, stdout, stderr)
			}
			shown(t, what, stdout, stderr)
		}
	}
}

// TestHostileReplicaSet: a ReplicaSet whose name is a path is not asked for, and gets a statement that is no command.
func TestHostileReplicaSet(t *testing.T) {
	cluster := newHostileCluster(t, newTenant(3))
	for _, name := range []string{"../../../api/v1/namespaces/kube-system/secrets", "..", "web;reboot", "-n", "$(reboot)"} {
		pod := map[string]any{"metadata": map[string]any{
			"name": "web-1", "namespace": hostileNamespace, "ownerReferences": []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: name, Controller: new(true)}},
		}, "spec": map[string]any{"containers": []any{map[string]any{"name": "app"}}}}
		cluster.pods = []map[string]any{pod}
		config := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(config, []byte(`{"apiVersion":"injector.lightstep.com/v1alpha1","kind":"InjectorConfiguration","profiles":{"default":{"satellite":{"address":"s:443"}}}}`), 0o600); err != nil {
			t.Fatal(err)
		}
		code, stdout, stderr := outcomeOf("", "status", "--config", config)
		if code != exitProblems || !strings.Contains(stdout, "# ReplicaSet ") || !strings.Contains(stdout, "no object has such a name") || strings.Contains(stdout, "  kubectl") || len(cluster.asked) > 0 {
			t.Errorf("%s: exit %d, asked for %q: %s%s", name, code, cluster.asked, stdout, stderr)
		}
	}
}

// TestLongLog: the longest line that a caller can bring about is bounded, whatever is in it and however many owners a pod has.
func TestLongLog(t *testing.T) {
	h := newHostile(t)
	bad := strings.Repeat("\x1b\u202e\"\\\n", 1000)
	owners := slices.Repeat([]metav1.OwnerReference{{APIVersion: bad, Kind: bad, Name: bad, UID: "u", Controller: new(true)}}, 1000)
	object := map[string]any{"metadata": map[string]any{"name": bad, "annotations": map[string]string{"lightstep.com/sampling": bad}, "ownerReferences": owners[:100]}, "spec": map[string]any{}}
	h.lines = 1
	h.admit(t, object)
	log, restore := setUpLog(zapcore.DebugLevel, h.logs)
	defer restore()
	h.logs.Reset()
	log.Info(bad, zap.Error(fmt.Errorf("%s", bad)))
	h.logged(t)
}
