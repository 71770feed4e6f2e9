package canary

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/istio/agent"
)

// Seen looks at what a run shows: istiod's answers, and what Istio's agents make of pods.
func (c *Canary) Seen(what string, text []byte) {
	if what == agent.Made {
		if err := c.lookAtBootstrap(text); err != nil {
			c.problem(fmt.Errorf("look at a bootstrap: %w", err))
		}
		return
	}
	c.Look(what, "one of them", text)
}

// lookAtBootstrap looks at a pod, and at what an agent makes of it. A pod that publishes the token, by delivery: annotation, is
// passed over.
//
// One exception is Istio's own: the agent of 1.7 to 1.14, which has the token in its environment, puts its whole ProxyConfig
// into the bootstrap's node metadata, tracer and token included, writes the token to the file that the tracer reads, and logs
// the ProxyConfig. Exactly those values are taken out here; docs/istio.md says so to users.
func (c *Canary) lookAtBootstrap(text []byte) error {
	var shown agent.Shown
	var made agent.Bootstrap
	if err := json.Unmarshal(text, &shown); err != nil {
		return err
	}
	if err := json.Unmarshal(shown.Made, &made); err != nil {
		return err
	}
	inEnvironment, published := c.hasToken(shown.Pod)
	if published {
		return nil
	}
	if inEnvironment {
		if err := c.takeOut(&made); err != nil {
			return err
		}
	}
	text, err := json.Marshal(map[string]any{"pod": shown.Pod, "made": &made})
	c.Look(agent.Made, "one of them", text)
	return err
}

// takeOut takes the token out of the places where it has to be.
func (c *Canary) takeOut(made *agent.Bootstrap) error {
	if made.Token != c.token() {
		return errors.New("the tracer's file does not hold the token")
	}
	made.Token = ""
	var errs [2]error
	made.ProxyConfig, errs[0] = Without(made.ProxyConfig, c.token(), "tracing", "lightstep", "accessToken")
	made.Bootstrap, errs[1] = Without(made.Bootstrap, c.token(), "node", "metadata", "PROXY_CONFIG", "tracing", "lightstep", "accessToken")
	return errors.Join(errs[:]...)
}

func (c *Canary) token() string { return string(c.forms[0]) }

// hasToken tells whether a pod's sidecar has the token from its Secret, or else the pod itself where delivery: annotation
// puts it: in the annotation, or in the sidecar's PROXY_CONFIG.
func (c *Canary) hasToken(pod *corev1.Pod) (inEnvironment, published bool) {
	published = strings.Contains(pod.Annotations["proxy.istio.io/config"], c.token())
	for _, container := range slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers) {
		for _, v := range container.Env {
			fromSecret := v.ValueFrom != nil && v.ValueFrom.SecretKeyRef != nil
			inEnvironment = inEnvironment || fromSecret && v.Name == "LIGHTSTEP_ACCESS_TOKEN"
			published = published || v.Name == "PROXY_CONFIG" && strings.Contains(v.Value, c.token())
		}
	}
	return inEnvironment, published && !inEnvironment
}
