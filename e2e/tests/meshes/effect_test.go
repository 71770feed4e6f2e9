package meshes

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/istio/agent"
)

const (
	mountPath = "/etc/lightstep"
	proxyName = "istio-proxy"
	satellite = "lightstep-satellite.lightstep"

	caFile      = mountPath + "/cacert.pem"
	systemRoots = "/etc/ssl/certs/ca-certificates.crt"
)

// proxy is what an injected pod's would be told, as far as spans go.
type proxy struct {
	// config is the effective ProxyConfig, tracing the part of it.
	config, tracing map[string]any
	// tracer is the bootstrap's own, by the cluster that it sends spans to; empty if there is none.
	tracer string
	// cluster is that cluster, as JSON.
	cluster string
	token   string
}

// readProxy reads what Istio made of a pod.
func readProxy(made *agent.Bootstrap) (*proxy, error) {
	p := &proxy{token: made.Token}
	if err := json.Unmarshal(made.ProxyConfig, &p.config); err != nil {
		return nil, err
	}
	p.tracing, _ = p.config["tracing"].(map[string]any)
	var envoy struct {
		Tracing struct {
			HTTP struct {
				Config struct {
					Cluster string `json:"collector_cluster"`
				} `json:"typed_config"`
			}
		}
		Resources struct{ Clusters []json.RawMessage } `json:"static_resources"`
	}
	if err := json.Unmarshal(made.Bootstrap, &envoy); err != nil {
		return nil, err
	}
	p.tracer = envoy.Tracing.HTTP.Config.Cluster
	for _, cluster := range envoy.Resources.Clusters {
		var head struct{ Name string }
		if err := json.Unmarshal(cluster, &head); err != nil {
			return nil, err
		}
		if p.tracer != "" && head.Name == p.tracer {
			p.cluster = string(cluster)
		}
	}
	if p.tracer != "" && p.cluster == "" {
		return nil, fmt.Errorf("the bootstrap's tracer sends to the cluster %s, which is not there", p.tracer)
	}
	return p, nil
}

// reports tells what is missing for a proxy of 1.7.8 to report to our satellite over TLS, which it trusts by a file. That
// version sends no server name (SNI), whatever the settings say.
func (p *proxy) reports(token, caFile string) error {
	var errs []error
	if p.tracer != "lightstep" {
		errs = append(errs, fmt.Errorf("the bootstrap's tracer is %q", p.tracer))
	}
	if p.token != token {
		errs = append(errs, fmt.Errorf("the tracer's token file holds %q, not %q", p.token, token))
	}
	for _, wanted := range []string{satellite, "9292", "UpstreamTlsContext", caFile} {
		if !strings.Contains(p.cluster, wanted) {
			errs = append(errs, fmt.Errorf("the tracer's cluster lacks %s: %s", wanted, p.cluster))
		}
	}
	return errors.Join(errs...)
}

// isMeshs tells what of the mesh's own tracing a proxy lacks.
func (p *proxy) isMeshs(m *mesh) error {
	text, err := json.Marshal(p.tracing)
	if err != nil {
		return err
	}
	errs := []error{}
	if p.tracer != m.own {
		errs = append(errs, fmt.Errorf("the bootstrap's tracer is %q, not %q", p.tracer, m.own))
	}
	for _, word := range m.kept {
		if !strings.Contains(string(text), word) {
			errs = append(errs, fmt.Errorf("the effective tracing lacks the mesh's %q: %s", word, text))
		}
	}
	return errors.Join(errs...)
}

// marked checks the real injector's own marks: its status annotation, and its release's image.
func marked(pod *corev1.Pod, version string) error {
	var status struct{ Volumes []string }
	if err := json.Unmarshal([]byte(pod.Annotations["sidecar.istio.io/status"]), &status); err != nil {
		return fmt.Errorf("annotation sidecar.istio.io/status: %w", err)
	}
	for _, c := range containers(pod) {
		if c.Name == proxyName {
			if want := "docker.io/istio/proxyv2:" + version; c.Image != want {
				return fmt.Errorf("the image of %s is %s, not %s", proxyName, c.Image, want)
			}
			return nil
		}
	}
	return fmt.Errorf("there is no container %s", proxyName)
}

func containers(pod *corev1.Pod) []corev1.Container {
	return slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers)
}

// mounted: one volume of ours, and in each container but Istio's plain init container one mount at the path, of a volume
// of the satellite CA.
func mounted(pod *corev1.Pod) error {
	var errs []error
	ours, ofCA := 0, map[string]bool{}
	for _, volume := range pod.Spec.Volumes {
		if volume.Name == "lightstep-cacert" {
			ours++
		}
		if volume.Secret != nil && volume.Secret.SecretName == "lightstep.cacert" && volume.Secret.Optional != nil && *volume.Secret.Optional {
			ofCA[volume.Name] = true
		}
	}
	if ours != 1 {
		errs = append(errs, fmt.Errorf("the pod has %d volumes of ours", ours))
	}
	for _, c := range containers(pod) {
		var found []string
		for _, mount := range c.VolumeMounts {
			if path.Clean(mount.MountPath) == mountPath {
				found = append(found, mount.Name)
			}
		}
		if c.Name != "istio-init" && (len(found) != 1 || !ofCA[found[0]]) {
			errs = append(errs, fmt.Errorf("container %s has the mounts %v at %s", c.Name, found, mountPath))
		}
	}
	return errors.Join(errs...)
}

// keeps: what the user set is there, in the pod and in the sidecar.
func keeps(sent, pod *corev1.Pod) error {
	var errs []error
	for name, value := range sent.Annotations {
		if strings.HasPrefix(name, "sidecar.istio.io/userVolumeMount") && !hasMount(pod, proxyName, "/extra") {
			errs = append(errs, fmt.Errorf("the sidecar lacks the user's mount: %s", value))
		}
		if name == "proxy.istio.io/config" && !strings.Contains(pod.Annotations[name], "concurrency") {
			errs = append(errs, fmt.Errorf("%s has become %s", name, pod.Annotations[name]))
		}
	}
	for _, c := range sent.Spec.Containers {
		for _, mount := range c.VolumeMounts {
			if !hasMount(pod, c.Name, mount.MountPath) {
				errs = append(errs, fmt.Errorf("container %s lacks the user's mount at %s", c.Name, mount.MountPath))
			}
		}
	}
	return errors.Join(errs...)
}

func hasMount(pod *corev1.Pod, container, at string) bool {
	return slices.ContainsFunc(containers(pod), func(c corev1.Container) bool {
		return c.Name == container && slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == at })
	})
}

// plain is a pod as a Deployment makes it.
func plain() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Labels: map[string]string{"app": "web"}, Annotations: map[string]string{}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "registry.k8s.io/pause:3.10"}}},
	}
}

// users are pods whose own settings touch ours; those of the second kind keep ours from being in force.
func users() (ours, theirs map[string]*corev1.Pod) {
	set := func(annotations ...string) *corev1.Pod {
		pod := plain()
		for i := 0; i < len(annotations); i += 2 {
			pod.Annotations[annotations[i]] = annotations[i+1]
		}
		return pod
	}
	optedOut := plain()
	optedOut.Labels["lightstep.com/inject"] = "false"
	return map[string]*corev1.Pod{
		"plain":      plain(),
		"own config": set("proxy.istio.io/config", "concurrency: 3"),
		"sampling":   set("lightstep.com/sampling", "12.5"),
		"map": set("sidecar.istio.io/userVolume", `{"extra":{"emptyDir":{}}}`,
			"sidecar.istio.io/userVolumeMount", `{"extra":{"mountPath":"/extra"}}`),
		"list": set("sidecar.istio.io/userVolume", `[{"name":"extra","emptyDir":{}}]`,
			"sidecar.istio.io/userVolumeMount", `[{"name":"extra","mountPath":"/extra"}]`),
	}, map[string]*corev1.Pod{
		"opted out":   optedOut,
		"own tracing": set("proxy.istio.io/config", `{"tracing":{"zipkin":{"address":"own:9411"},"sampling":5}}`),
		"own sample":  set("proxy.istio.io/config", "tracing: {sampling: 5}"),
	}
}
