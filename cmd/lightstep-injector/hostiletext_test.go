package main

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"

	"github.com/go-json-experiment/json"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// tenant makes what somebody may write who attacks those that read it.
type tenant struct {
	*rand.Rand

	// texts counts those that were made.
	texts *int
}

func newTenant(seed uint64) tenant { return tenant{rand.New(rand.NewPCG(14, seed)), new(int)} }

// fragments are parts of texts: for terminals, shells, URLs, logs, YAML and tables.
func fragments() []string {
	return []string{
		"\x1b[2J", "\x1b]0;title\a", "\r", "\n", "\nerror: forged", "\t", "\v", "\f", "\b", "\x00", "\x7f", "\u0085", "\u009b31m", "\u202e", "\u2066", "\u2069", "\u061c",
		"\u200e", "\u2028", "\u2029", "\u200b", "\ufeff", "\u00a0", "\u3164", "\U000e0041", "\xff", "\xc3", "\xed\xa0\x80", "é", "Москва", "🚀",
		"; reboot", "$(reboot)", "`reboot`", "&& reboot", "| sh", "> /etc/passwd", "'", `"`, `\`, "!!", "#", "*", "?", "~", "{a,b}", "=ls", " ", "-n", "--all", "%2e%2e",
		"../", "../../../api/v1/secrets", "/", "?watch=1", "%s%n%d", "{{.}}", "${HOME}", "\n---\n", ": ", "- ", "<script>", "web", "shop", "a-1", "x.y", "0",
	}
}

// text makes one of up to six fragments, now and then a long one.
func (t tenant) text() string {
	*t.texts++
	all := fragments()
	var out strings.Builder
	for range 1 + t.IntN(6) {
		_, _ = out.WriteString(all[t.IntN(len(all))])
	}
	if t.IntN(200) == 0 {
		return strings.Repeat(out.String(), 1+5000/out.Len())
	}
	return out.String()
}

// name makes a valid name as often as not.
func (t tenant) name() string {
	if t.IntN(2) == 0 {
		return fmt.Sprintf("web-%x.v%d", t.Uint32(), t.IntN(10))
	}
	return t.text()
}

// pick returns one of the words, or sometimes a text.
func (t tenant) pick(words ...string) string {
	if t.IntN(4) == 0 {
		return t.text()
	}
	return words[t.IntN(len(words))]
}

// owner makes an ownerReference.
func (t tenant) owner() metav1.OwnerReference {
	return metav1.OwnerReference{
		APIVersion: t.pick("apps/v1", "apps/v1", "apps/v1", "batch/v1", "v1"), Kind: t.pick("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "Pod"),
		Name: t.name(), UID: "u", Controller: new(true),
	}
}

// annotations are those that a rule or a command reads.
func (t tenant) annotations() map[string]string {
	status, _ := json.Marshal(map[string]any{
		"version": strings.ToValidUTF8(t.text(), "?"), "config": strings.ToValidUTF8(t.text(), "?"), "tracer": strings.ToValidUTF8(t.text(), "?"),
		"containers": []string{strings.ToValidUTF8(t.text(), "?")}, "warnings": []string{strings.ToValidUTF8(t.text(), "?")},
	})
	all := map[string]string{"lightstep.com/status": string(status)}
	for _, key := range []string{
		"lightstep.com/sampling", "lightstep.com/custom-tags", "lightstep.com/profile", "proxy.istio.io/config", "sidecar.istio.io/userVolumeMount",
		"sidecar.istio.io/userVolume", "sidecar.istio.io/status", "sidecar.istio.io/inject", "sidecar.istio.io/proxyImage",
	} {
		if t.IntN(3) == 0 {
			all[key] = t.pick("10", "a=b", "{}", "tracing: {sampling: 5}", "{\"a\": 1}", "[]")
		}
	}
	all["x/"+t.text()] = t.text()
	return all
}

// pod makes a pod as JSON has it; in a manifest, kind may be that of a workload, whose template it is then.
func (t tenant) pod(kind, apiVersion string) map[string]any {
	metadata := map[string]any{
		"name": t.name(), "namespace": hostileNamespace, "annotations": t.annotations(), "labels": map[string]string{"app": t.text()}, "ownerReferences": []metav1.OwnerReference{t.owner()},
	}
	mount := map[string]string{"name": t.pick("lightstep-cacert", "v"), "mountPath": t.pick("/etc/lightstep", "/etc/lightstep/x", "/etc", "/a")}
	spec := map[string]any{
		"containers": []any{
			map[string]any{"name": t.text(), "image": t.text(), "volumeMounts": []any{mount}, "env": []any{map[string]string{"name": t.text(), "value": t.text()}}},
			map[string]any{"name": "istio-proxy", "image": t.text(), "env": []any{map[string]string{"name": "PROXY_CONFIG", "value": t.pick("{}", "[]")}}},
		}[:1+t.IntN(2)],
		"volumes": []any{map[string]any{"name": t.pick("lightstep-cacert", "v"), "emptyDir": map[string]string{}}},
	}
	if kind == "Pod" || kind == "" {
		return map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": metadata, "spec": spec}
	}
	outer := map[string]any{"name": t.name(), "namespace": t.pick(hostileNamespace, "default")}
	return map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": outer, "spec": map[string]any{"template": map[string]any{"metadata": metadata, "spec": spec}}}
}

var validName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

// restartOf is the command that must be printed for an owner; none is empty.
func restartOf(owner metav1.OwnerReference) []string {
	switch owner.Kind {
	case "Deployment", "StatefulSet", "DaemonSet":
		if owner.APIVersion == "apps/v1" && validName.MatchString(owner.Name) && len(owner.Name) <= 253 {
			return []string{"kubectl", "rollout", "restart", strings.ToLower(owner.Kind) + "/" + owner.Name, "-n", hostileNamespace}
		}
	}
	return nil
}
