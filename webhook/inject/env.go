package inject

import (
	"slices"

	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
)

// envPlan is what the sidecar's env lacks of the native tracer: the token ahead of PROXY_CONFIG, which refers to it.
type envPlan struct {
	sidecar place
	// addToken says that the token is missing; it goes to index tokenAt.
	addToken bool
	tokenAt  int
	token    tokenEnvJSON
	// proxyConfig is the merged value, empty where it is to stay; at proxyAt as sent, or to be appended if that is negative.
	proxyConfig string
	proxyAt     int
	// length of the env as sent.
	length int
}

// setUpEnv plans the sidecar's env. Before the sidecar is there, a later pass will. A tracing block of the user's own in
// the annotation beats the env, so with one there is nothing to do here.
func (p *planner) setUpEnv(annotation string) {
	if err := istio.CheckAnnotation(annotation); err != nil {
		p.warnProxyConfig(err)
		return
	}
	sidecar := findProxy(p.pod)
	if p.d.Sidecar.State != istio.Present {
		return
	}
	e, ok := p.placeEnv(sidecar)
	if !ok {
		return
	}
	block, err := p.tracing("$(" + TokenEnv + ")").ForEnv().Block()
	if err != nil {
		p.warnf(ProxyEnvInvalid, "the tracing block cannot be written: %s", err)
		return
	}
	var existing string
	if e.proxyAt >= 0 {
		existing = sidecar.Env[e.proxyAt].Value
	}
	merged, err := istio.MergeEnv(existing, block)
	if err != nil {
		p.warnf(ProxyEnvInvalid, "container %s, env %s: %s, so no tracer is set up", sidecar.Name, istio.ProxyConfigEnv, err)
		return
	}
	if merged != existing {
		e.proxyConfig = merged
	}
	p.Tracer = istio.Lightstep
	p.Env = e
}

// placeEnv finds where token and PROXY_CONFIG stand or go, or says what stands in the way.
func (p *planner) placeEnv(sidecar *Container) (envPlan, bool) {
	ref := SecretKeyRef{p.d.Settings.AccessToken.SecretName, p.d.Settings.AccessToken.Key}
	e := envPlan{
		sidecar: p.placeOf(sidecar),
		token:   tokenEnvJSON{TokenEnv, valueFromJSON{secretKeyRefJSON{ref.Name, ref.Key, true}}},
		proxyAt: lastEnv(sidecar.Env, istio.ProxyConfigEnv),
		length:  len(sidecar.Env),
	}
	if e.proxyAt >= 0 && sidecar.Env[e.proxyAt].ValueFrom != nil {
		p.warnf(ProxyEnvInvalid, "container %s, env %s has valueFrom, so no tracer is set up", sidecar.Name, istio.ProxyConfigEnv)
		return e, false
	}
	tokenAt := lastEnv(sidecar.Env, TokenEnv)
	if tokenAt < 0 {
		if sidecar.EnvFrom {
			p.warnf(EnvConflict, "container %s has envFrom, which may carry %s, so no tracer is set up: list its variables in env", sidecar.Name, TokenEnv)
			return e, false
		}
		e.addToken, e.tokenAt = true, e.proxyAt
		return e, true
	}
	from := sidecar.Env[tokenAt].ValueFrom
	ours := from != nil && from.SecretKeyRef != nil && *from.SecretKeyRef == ref
	if !ours || (e.proxyAt >= 0 && tokenAt > e.proxyAt) {
		p.warnf(EnvConflict, "container %s already has the env %s, so no tracer is set up: rename it", sidecar.Name, TokenEnv)
		return e, false
	}
	return e, true
}

// lastEnv returns the index of the env that counts, the last of its name; -1 if there is none.
func lastEnv(env []EnvVar, name string) int {
	for i, e := range slices.Backward(env) {
		if e.Name == name {
			return i
		}
	}
	return -1
}

// placeOf returns where a container of the pod stands.
func (p *planner) placeOf(c *Container) place {
	for i := range p.pod.Spec.Containers {
		if &p.pod.Spec.Containers[i] == c {
			return place{list: containers, index: i}
		}
	}
	for i := range p.pod.Spec.InitContainers {
		if &p.pod.Spec.InitContainers[i] == c {
			return place{list: initContainers, index: i}
		}
	}
	return place{}
}
