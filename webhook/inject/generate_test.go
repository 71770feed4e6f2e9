package inject_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// generator makes pods as users, controllers and other injectors write them, and as nobody would: every feature that some
// rule reads comes and goes, in every combination. One seed gives one pod.
type generator struct{ *rand.Rand }

func newGenerator(seed uint64) generator {
	return generator{rand.New(rand.NewPCG(seed, 0x6c73))}
}

type object = map[string]any

func (g generator) percent(p int) bool { return g.IntN(100) < p }

func one[T any](g generator, of ...T) T { return of[g.IntN(len(of))] }

// pod returns a pod that the apiserver might send. With istioStatus it looks injected.
func (g generator) pod() object {
	spec := object{"containers": g.containers()}
	g.some(20, spec, "initContainers", g.initContainers)
	g.some(70, spec, "volumes", g.volumes)
	g.some(8, spec, "hostNetwork", func() any { return true })
	g.some(5, spec, "os", func() any { return object{"name": one(g, "linux", "windows", "windows")} })
	g.some(6, spec, "nodeSelector", func() any { return object{"kubernetes.io/os": one(g, "linux", "windows")} })
	g.some(50, spec, "securityContext", func() any {
		return object{"runAsNonRoot": true, "seccompProfile": object{"type": "RuntimeDefault"}}
	})
	g.some(20, spec, "fieldOfTomorrow", func() any { return object{"a": []any{1, "two", nil}} })
	pod := object{"apiVersion": "v1", "kind": "Pod", "spec": spec}
	g.some(97, pod, "metadata", g.metadata)
	return pod
}

// some sets a field in that percentage of the cases; now and then to null or nothing.
func (g generator) some(percent int, o object, field string, value func() any) {
	if !g.percent(percent) {
		return
	}
	o[field] = value()
	list, isList := o[field].([]any)
	switch {
	case isList && g.percent(3):
		o[field] = nil
	case isList && len(list) == 0 && g.percent(50):
		delete(o, field)
	}
}

func (g generator) metadata() any {
	m := object{}
	m[one(g, "name", "generateName")] = "app-1"
	g.some(80, m, "labels", g.labels)
	g.some(70, m, "annotations", g.annotations)
	g.some(30, m, "ownerReferences", func() any {
		return []any{object{"kind": "ReplicaSet", "name": "app", "controller": true, "apiVersion": "apps/v1", "uid": "u"}}
	})
	return m
}

func (g generator) labels() any {
	l := object{"app": "shop", "with/slash~tilde": "x"}
	g.some(8, l, "lightstep.com/inject", func() any { return one(g, "false", "true", "no", "") })
	g.some(10, l, "lightstep.com/injected", func() any { return one(g, "true", "yes") })
	g.some(8, l, "istio.io/rev", func() any { return one(g, "default", "canary", "stable", "gone") })
	g.some(5, l, "istio.io/dataplane-mode", func() any { return one(g, "ambient", "none") })
	if g.percent(5) {
		l["app"] = "istiod"
	}
	g.some(15, l, "sidecar.istio.io/inject", func() any { return one(g, "true", "false", "yes", "off") })
	if g.percent(5) {
		clear(l)
	}
	return l
}

func (g generator) annotations() any {
	a := object{}
	g.some(3, a, "kubernetes.io/config.mirror", func() any { return "x" })
	g.some(4, a, "lightstep.com/inject", func() any { return "false" })
	g.some(12, a, "lightstep.com/sampling", func() any { return one(g, "1", "12.5", "100", "0", "101", "ten", "NaN", "") })
	g.some(12, a, "lightstep.com/custom-tags", func() any {
		return one(g, "a=b", "a=b,c=d", "price=$(TOKEN)", "nonsense", "=x", "", "q=\"{}\\")
	})
	g.some(3, a, "lightstep.com/profile", func() any { return "other" })
	g.some(3, a, "lightstep.com/samplng", func() any { return "5" })
	g.some(6, a, "lightstep.com/status", func() any { return one(g, "{}", `{"containers":["app"]}`) })
	g.some(15, a, "sidecar.istio.io/inject", func() any { return one(g, "true", "false", "yes", "off", "") })
	g.some(25, a, "sidecar.istio.io/status", func() any { return `{"containers":["istio-proxy"]}` })
	g.some(25, a, "sidecar.istio.io/userVolumeMount", g.userVolumeMount)
	g.some(35, a, "proxy.istio.io/config", g.proxyConfig)
	g.some(30, a, "prometheus.io/scrape", func() any { return "true" })
	return a
}

func (g generator) userVolumeMount() any {
	return one(g,
		`{"certs":{"mountPath":"/etc/certs","readonly":true}}`, `[{"name":"certs","mountPath":"/etc/certs"}]`, `{}`, ``,
		`certs: /etc/certs`, `{"a":1}`, `null`, `{"mine":{"mountPath":"/etc"}}`, `[{"name":"lightstep-cacert","mountPath":"/elsewhere"}]`,
		`{"lightstep-cacert":{"mountPath":"/etc/lightstep/"}}`, `{"other":{"mountPath":"/etc/lightstep/sub"}}`,
	)
}

func (g generator) proxyConfig() any {
	return one(g,
		"", "concurrency: 2\n", "{}", `{"drainDuration":"45s"}`, "proxyMetadata:\n  A: \"b\"\n# a comment\n", "{holdApplicationUntilProxyStarts: true}",
		"drain_duration: 45s", "tracing: {sampling: 10}", "tracing: {lightstep: {address: s}}", "tracing: {custom_tags: {x: {literal: {value: mine}}}}",
		"tracing: {datadog: {address: d}}", "tracing: {customTags: 7}", "tracing: 7", `{"tracing":{"zipkin":{"address":"z:9411"}}}`, "concurrency: [2", "[1,2]", "- a", "null",
		"a: 1\na: 2\n", "\"just a string\"", "x: &a {y: 1}\nz: *a\n", "1: 2", `{"concurrency":18446744073709551615}`, "\t",
	)
}

func (g generator) containers() []any {
	list := []any{}
	for i := range 1 + g.IntN(3) {
		list = append(list, g.container(fmt.Sprintf("app-%d", i)))
	}
	if g.percent(40) {
		at := g.IntN(len(list) + 1)
		list = append(list[:at], append([]any{g.proxy()}, list[at:]...)...)
	}
	if g.percent(2) {
		return []any{}
	}
	return list
}

func (g generator) initContainers() any {
	list := []any{}
	for i := range g.IntN(3) {
		c := g.container(fmt.Sprintf("init-%d", i))
		g.some(40, c, "restartPolicy", func() any { return "Always" })
		list = append(list, c)
	}
	if g.percent(30) {
		proxy := g.proxy()
		g.some(80, proxy, "restartPolicy", func() any { return "Always" })
		list = append(list, proxy)
	}
	return list
}

func (g generator) container(name string) object {
	c := object{"name": name, "image": "shop/app:1"}
	g.some(60, c, "volumeMounts", g.mounts)
	g.some(30, c, "env", func() any { return []any{object{"name": "A", "value": strings.Repeat("x", g.IntN(20))}} })
	g.some(60, c, "securityContext", func() any {
		return object{"allowPrivilegeEscalation": false, "capabilities": object{"drop": []any{"ALL"}}}
	})
	return c
}

func (g generator) proxy() object {
	c := g.container("istio-proxy")
	c["image"] = one(g, "auto", "docker.io/istio/proxyv2:1.7.8", "istio/proxyv2:1.9.0", "docker.io/istio/proxyv2:1.24.0-distroless",
		"r:5000/istio/proxyv2", "istio/proxyv2@sha256:abc", "istio/proxyv2:1.15.0", "istio/proxyv2:1.7.8")
	g.some(80, c, "env", g.proxyEnv)
	g.some(10, c, "envFrom", func() any { return []any{object{"configMapRef": object{"name": "x"}}} })
	return c
}

func (g generator) proxyEnv() any {
	list := []any{object{"name": "JWT_POLICY", "value": "third-party-jwt"}}
	token := object{"name": "LIGHTSTEP_ACCESS_TOKEN", "valueFrom": object{"secretKeyRef": object{"name": "lightstep-access-token", "key": "token"}}}
	if g.percent(15) {
		list = append(list, token)
	}
	if g.percent(75) {
		list = append(list, object{"name": "PROXY_CONFIG", "value": one(g, "{}\n", `{"tracing":{"zipkin":{"address":"z:9411"}},"concurrency":2}`,
			`{"proxyMetadata":{"A":"$(B)"}}`, "{", "")})
	}
	if g.percent(8) {
		list = append(list, object{"name": "PROXY_CONFIG", "valueFrom": object{"configMapKeyRef": object{"name": "a", "key": "b"}}})
	}
	if g.percent(8) {
		list = append(list, object{"name": "LIGHTSTEP_ACCESS_TOKEN", "value": "mine"})
	}
	return list
}

func (g generator) mounts() any {
	list := []any{object{"name": "kube-api-access", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true}}
	g.maybe(5, &list, object{"name": "mine", "mountPath": one(g, "/", "/etc", "/etc/lightstep", "/etc/lightstep/x", "/etc//lightstep/")})
	g.maybe(10, &list, object{"name": "near", "mountPath": one(g, "/etc/lightstep2", "/etc/light", "/opt")})
	g.maybe(10, &list, object{"name": "lightstep-cacert", "mountPath": "/etc/lightstep", "readOnly": true})
	g.maybe(5, &list, object{"name": "lightstep-certs", "mountPath": "/etc/lightstep/", "readOnly": true})
	return list
}

func (g generator) volumes() any {
	list := []any{object{"name": "kube-api-access", "emptyDir": object{}}}
	g.maybe(10, &list, object{"name": "lightstep-cacert", "secret": object{"secretName": "lightstep.cacert", "optional": true}})
	g.maybe(5, &list, object{"name": "lightstep-cacert", "configMap": object{"name": "mine"}})
	g.maybe(3, &list, object{"name": "lightstep-cacert", "secret": object{"secretName": "lightstep.cacert", "items": []any{object{"key": "a", "path": "b"}}}})
	g.maybe(8, &list, object{"name": "lightstep-certs", "secret": object{"secretName": one(g, "lightstep.cacert", "other")}})
	return list
}

func (g generator) maybe(percent int, list *[]any, value any) {
	if g.percent(percent) {
		*list = append(*list, value)
	}
}
