package attack

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"mvdan.cc/sh/v3/syntax"

	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// hostile has the pods that attack whoever reads what the program prints of them.
const (
	hostile = "hostile"
	// marker is part of each text of the attacker's.
	marker = "tenants-own-text"
	// ordinary is the name of an owner that has nothing to hide.
	ordinary = "web"
)

// hostileNames are those of owners: each would do something else in a shell, a terminal, or a URL.
func hostileNames() []string {
	return []string{
		marker + ";touch pwned", marker + "$(touch pwned)", marker + "`touch pwned`", marker + "\ntouch pwned\n", marker + "\r\n# x", marker + "' touch pwned '",
		`"` + marker, marker + "\\", marker + " && touch pwned", marker + "\x1b[2J\x1b]0;x\x07", marker + "\u202etouch", marker + "\u009b31m", "--" + marker, "-o=" + marker,
		marker + "|sh", marker + " #", "~" + marker, marker + "*", marker + "{a,b}", marker + "\tx", marker + ">pwned", "!" + marker, "web " + marker,
	}
}

// makeHostile makes pods without the webhook, and then has it look at them: the namespace gets its label late.
func (e *environment) makeHostile(t *testing.T) {
	t.Helper()
	e.Namespace(t, hostile, nil, nil)
	number := 0
	owned := func(group, kind, name string) {
		number++
		made := pod(fmt.Sprintf("owned-%d", number), nil)
		made.OwnerReferences = []metav1.OwnerReference{{APIVersion: group, Kind: kind, Name: name, UID: types.UID("1-" + name), Controller: new(true)}}
		_, err := e.Client.CoreV1().Pods(hostile).Create(t.Context(), made, metav1.CreateOptions{})
		stage.Check(t, err)
	}
	for n, name := range hostileNames() {
		owned("apps/v1", "Deployment", name)
		owned("apps/v1", name, name)
		owned(strings.ReplaceAll(name, "/", "")+"/v1", "Widget", name)
		owned("apps/v1", "ReplicaSet", name)
		_, err := e.Client.CoreV1().Pods(hostile).Create(t.Context(), described(n, name), metav1.CreateOptions{})
		stage.Check(t, err)
	}
	owned("apps/v1", "Deployment", ordinary)
	owned("apps/v1", "ReplicaSet", "../../../../../../api/v1/namespaces/kube-system/configmaps/"+marker)
	owned("apps/v1", "ReplicaSet", "x/../../"+marker+"?watch=true")
	e.label(t, hostile)
	e.Namespace(t, hostile+"-profile", map[string]string{"lightstep.com/injection": "enabled"}, map[string]string{"lightstep.com/profile": marker + "\x1b[31m\u202e"})
}

// described is a pod with a text in each place that explain tells of.
func described(n int, text string) *corev1.Pod {
	made := pod(fmt.Sprintf("described-%d", n), map[string]string{
		"lightstep.com/profile": text, "lightstep.com/sampling": text, "lightstep.com/custom-tags": text, "lightstep.com/sdk": text,
		"proxy.istio.io/config": text, "sidecar.istio.io/userVolumeMount": text, "lightstep.com/status": text, "lightstep.com/warnings": text,
	})
	made.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/etc/lightstep/" + strings.ReplaceAll(text, ":", "")}}
	made.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	return made
}

// printed: nothing that is printed of a tenant's objects is a command of the tenant's choice, or reaches into a terminal.
func printed(t *testing.T, e *environment) string {
	e.makeHostile(t)
	commands := 0
	for _, args := range [][]string{{"-n", hostile}, nil, {"-o", "json"}, {"-o", "yaml", "-n", hostile}} {
		said, _ := e.status(t, args...)
		if !strings.Contains(said, hostile) {
			t.Errorf("status %v does not name the namespace:\n%s", args, said)
		}
		visible(t, fmt.Sprintf("status %v", args), said)
		if len(args) < 3 {
			commands += parses(t, said)
		}
	}
	if commands == 0 {
		t.Error("status prints no command")
	}
	for n := range hostileNames() {
		if said := e.program(t, "explain", fmt.Sprintf("described-%d", n), "-n", hostile, "--config", "testdata/config.yaml"); !strings.Contains(said, "described") {
			t.Errorf("explain does not name the pod: %q", said)
		} else {
			visible(t, "explain", said)
		}
	}
	asked := e.asked(t)
	if asked > 0 {
		t.Errorf("%d requests had a path of the tenant's choice", asked)
	}
	return fmt.Sprintf("%d commands are printed, each as it is meant; %d requests by a path of the tenant's", commands, asked)
}

// visible sees that a text has no character that a terminal acts on.
func visible(t *testing.T, what, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		at := strings.IndexFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool {
			return r != '\t' && unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control) || r == unicode.ReplacementChar || r == '\u2028' || r == '\u2029'
		})
		if at >= 0 {
			t.Errorf("%s prints %q", what, line)
			return
		}
	}
}

// parses sees that each command is one, of the words that are meant.
func parses(t *testing.T, said string) (commands int) {
	t.Helper()
	for line := range strings.Lines(said) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "touch") {
			t.Errorf("a line is the attacker's: %q", line)
		}
		if !strings.HasPrefix(line, "kubectl rollout") {
			continue
		}
		commands++
		words, err := wordsOf(line)
		if err != nil {
			t.Errorf("%q is no plain command: %v", line, err)
			continue
		}
		want := []string{"kubectl", "rollout", "restart", "", "-n", hostile}
		if len(words) != len(want) || !slices.Contains(append(hostileNames(), ordinary), strings.TrimPrefix(words[3], "deployment/")) ||
			!slices.Equal(slices.Replace(slices.Clone(words), 3, 4, ""), want) {
			t.Errorf("%q has the words %q", line, words)
		}
	}
	return commands
}

// wordsOf has a shell's parser read a line, which has to be one simple command without expansions or redirections.
func wordsOf(line string) (words []string, err error) {
	file, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(line), "")
	if err != nil {
		return nil, err
	}
	if len(file.Stmts) != 1 || len(file.Stmts[0].Redirs) > 0 || file.Stmts[0].Background {
		return nil, fmt.Errorf("%d statements, or a redirection", len(file.Stmts))
	}
	call, ok := file.Stmts[0].Cmd.(*syntax.CallExpr)
	if !ok || len(call.Assigns) > 0 {
		return nil, fmt.Errorf("a %T", file.Stmts[0].Cmd)
	}
	for _, word := range call.Args {
		value, err := literal(word.Parts)
		if err != nil {
			return nil, err
		}
		words = append(words, value)
	}
	return words, nil
}

// literal is what a word comes to that has nothing to expand.
func literal(parts []syntax.WordPart) (value string, err error) {
	for _, part := range parts {
		switch p := part.(type) {
		case *syntax.Lit:
			if strings.ContainsAny(p.Value, "*?[{") || value == "" && strings.HasPrefix(p.Value, "~") {
				return "", fmt.Errorf("%q is expanded", p.Value)
			}
			for at := 0; at < len(p.Value); at++ {
				if p.Value[at] == '\\' {
					at++
				}
				value += p.Value[at : at+1]
			}
		case *syntax.SglQuoted:
			if p.Dollar {
				return "", fmt.Errorf("%q is expanded", p.Value)
			}
			value += p.Value
		default:
			return "", fmt.Errorf("a %T", part)
		}
	}
	return value, nil
}

// program runs it, and returns what it prints, however it ends.
func (e *environment) program(t *testing.T, args ...string) string {
	t.Helper()
	cmd := e.command(t, args...)
	output, _ := cmd.CombinedOutput() // what it says is of interest, whatever it ends with
	return string(output)
}

// asked is how many requests there were that had the attacker's text in their path.
func (e *environment) asked(t *testing.T) (requests int) {
	t.Helper()
	log, err := os.ReadFile(e.Cluster.AuditLog)
	stage.Check(t, err)
	for line := range strings.Lines(string(log)) {
		_, uri, _ := strings.Cut(line, `"requestURI":"`)
		uri, _, _ = strings.Cut(uri, `"`)
		if strings.Contains(uri, marker) {
			requests++
		}
	}
	return requests
}
