package canary

import (
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/istio/agent"
)

// Seen looks at what a run shows: istiod's answers, and what Istio's agents make of pods.
func (c *Canary) Seen(what string, text []byte) {
	if what == agent.Made {
		c.lookAtBootstrap(text)
		return
	}
	c.Look(what, "one of them", text)
}

// lookAtBootstrap looks at what an agent makes of a pod that has the token by env from its Secret.
//
// One exception is Istio's own: the agent of 1.7 to 1.14, which has the token in its environment, puts its whole ProxyConfig
// into the bootstrap's node metadata, tracer and token included, writes the token to the file that the tracer reads, and logs
// the ProxyConfig. Exactly those values are taken out here; docs/istio.md says so to users.
func (c *Canary) lookAtBootstrap(text []byte) {
	var shown agent.Shown
	var made agent.Bootstrap
	err := json.Unmarshal(text, &shown)
	if err == nil {
		err = json.Unmarshal(shown.Made, &made)
	}
	if err != nil {
		c.problem(fmt.Errorf("read a bootstrap: %w", err))
		return
	}
	if !hasTokenEnv(shown.Pod) {
		return
	}
	pod, err := json.Marshal(shown.Pod)
	c.problem(err)
	c.Look("pods whose bootstraps were made", shown.Pod.Name, pod)
	for where, in := range map[string]struct {
		text []byte
		path []string
	}{
		"the effective ProxyConfig": {made.ProxyConfig, []string{"tracing", "lightstep", "accessToken"}},
		"the bootstrap of pod":      {made.Bootstrap, []string{"node", "metadata", "PROXY_CONFIG", "tracing", "lightstep", "accessToken"}},
	} {
		without, err := Without(in.text, string(c.forms[0]), in.path...)
		if err != nil {
			c.problem(fmt.Errorf("%s of %s: %w", where, shown.Pod.Name, err))
			continue
		}
		c.Look(agent.Made, where+" "+shown.Pod.Name, without)
	}
}

// hasTokenEnv tells whether the sidecar has the token from its Secret.
func hasTokenEnv(pod *corev1.Pod) bool {
	return slices.ContainsFunc(slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers), func(c corev1.Container) bool {
		return slices.ContainsFunc(c.Env, func(v corev1.EnvVar) bool {
			return v.ValueFrom != nil && v.ValueFrom.SecretKeyRef != nil && v.Name == "LIGHTSTEP_ACCESS_TOKEN"
		})
	})
}
