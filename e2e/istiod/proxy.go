package istiod

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Sent is as what a run is shown each answer of istiod, with the node that asked.
const Sent = "answers of istiod"

// tokenAudience is the one that Istio's proxies have their tokens for.
const tokenAudience = "istio-ca"

// Ask asks istiod for all that the proxy of a pod asks for, as that pod's service account, and returns what it sent as
// JSON: a list of resources for each type, with what is packed in them unpacked, and the node that asked.
func (i *Istiod) Ask(ctx context.Context, pod *corev1.Pod) ([]byte, error) {
	sent, err := i.ask(ctx, pod)
	if err != nil {
		return nil, fmt.Errorf("ask istiod as the proxy of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	i.run.Show(Sent, sent)
	return sent, nil
}

func (i *Istiod) ask(ctx context.Context, pod *corev1.Pod) ([]byte, error) {
	dir, err := os.MkdirTemp(i.run.Dir, "proxy-")
	if err != nil {
		return nil, err
	}
	token, err := i.token(ctx, pod.Namespace, pod.Spec.ServiceAccountName, &authenticationv1.TokenRequestSpec{
		Audiences:      []string{tokenAudience},
		BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID},
	})
	if err != nil {
		return nil, err
	}
	root, err := i.cluster.Client.CoreV1().ConfigMaps(pod.Namespace).Get(ctx, "istio-ca-root-cert", metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	podJSON, err := json.Marshal(pod)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{"token": []byte(token), "root.pem": []byte(root.Data["root-cert.pem"]), "pod.json": podJSON}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return nil, err
		}
	}
	cmd := exec.CommandContext(ctx, i.binary, "proxy",
		"--address", i.at(xdsPort),
		"--ca-file", filepath.Join(dir, "root.pem"),
		"--token-file", filepath.Join(dir, "token"),
		"--pod", filepath.Join(dir, "pod.json"))
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	return outputOf(cmd)
}

// Analyze has Istio's own analyzers look at the whole cluster, and returns what they say; anything of the level error, or
// that cannot be analyzed, is an error.
func (i *Istiod) Analyze(ctx context.Context) (string, error) {
	output, err := outputOf(exec.CommandContext(ctx, i.binary, "analyze",
		"--kubeconfig", i.cluster.Kubeconfig, "--all-namespaces", "--color=false", "--istioNamespace", Namespace))
	return string(output), err
}

// Validate checks manifests with Istio's own validation and analyzers, with no cluster, for a MeshConfig in a file.
func (i *Istiod) Validate(ctx context.Context, manifests, meshConfig string) error {
	_, err := outputOf(exec.CommandContext(ctx, i.binary, "validate", "--mesh-config", meshConfig, manifests))
	return err
}
