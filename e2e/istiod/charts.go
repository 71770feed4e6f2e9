package istiod

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	kubeyaml "sigs.k8s.io/yaml"
)

// charts are the objects of Istio's charts: those to apply, and the Deployment, whose part the process plays.
type charts struct {
	apply      []*unstructured.Unstructured
	deployment appsv1.Deployment
}

// render has istiod's binary render the charts with a file of values.
func (i *Istiod) render(ctx context.Context) (*charts, error) {
	version, err := i.cluster.Client.Discovery().ServerVersion()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, i.binary, "charts", "--values", i.values, "--kubernetes-version", version.GitVersion)
	output, err := outputOf(cmd)
	if err != nil {
		return nil, err
	}
	objects, err := decode(output)
	if err != nil {
		return nil, fmt.Errorf("read the charts' objects: %w", err)
	}
	return i.adapt(objects)
}

// adapt takes away what would run istiod as a pod, and has the Service and the webhooks lead to the process.
func (i *Istiod) adapt(objects []*unstructured.Unstructured) (*charts, error) {
	var c charts
	for _, object := range objects {
		switch object.GetKind() {
		case "HorizontalPodAutoscaler", "PodDisruptionBudget":
			continue
		case "Deployment":
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &c.deployment); err != nil {
				return nil, fmt.Errorf("read the Deployment: %w", err)
			}
			continue
		}
		if err := i.lead(object); err != nil {
			return nil, fmt.Errorf("adapt %s %s: %w", object.GetKind(), object.GetName(), err)
		}
		c.apply = append(c.apply, object)
	}
	if c.deployment.Name == "" {
		return nil, errors.New("the charts have no Deployment")
	}
	return &c, nil
}

// lead has an object lead to the process: a Service by its address, and, where the process may not listen on the charts'
// own port, it and the webhooks by another.
func (i *Istiod) lead(object *unstructured.Unstructured) error {
	switch object.GetKind() {
	case "Service":
		unstructured.RemoveNestedField(object.Object, "spec", "selector") // what listens there is no pod
		if err := unstructured.SetNestedField(object.Object, i.service.Address, "spec", "clusterIP"); err != nil {
			return err
		}
		return i.eachOf(object, func(port map[string]any) error {
			if port["port"] == int64(chartsPort) {
				port["port"] = i.port
			}
			return nil
		}, "spec", "ports")
	case "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration":
		return i.eachOf(object, func(webhook map[string]any) error {
			return unstructured.SetNestedField(webhook, i.port, "clientConfig", "service", "port")
		}, "webhooks")
	}
	return nil
}

// eachOf changes each element of a list in an object.
func (i *Istiod) eachOf(object *unstructured.Unstructured, change func(map[string]any) error, fields ...string) error {
	list, _, err := unstructured.NestedSlice(object.Object, fields...)
	if err != nil {
		return err
	}
	for _, element := range list {
		if err := change(element.(map[string]any)); err != nil {
			return err
		}
	}
	return unstructured.SetNestedSlice(object.Object, list, fields...)
}

// environment is what the Deployment gives to istiod.
func (i *Istiod) environment(ctx context.Context, c *charts) ([]string, error) {
	fields := map[string]string{
		"metadata.name":           c.deployment.Name + "-0",
		"metadata.namespace":      Namespace,
		"spec.serviceAccountName": c.deployment.Spec.Template.Spec.ServiceAccountName,
	}
	var environment []string
	for _, variable := range c.deployment.Spec.Template.Spec.Containers[0].Env {
		value, from := variable.Value, variable.ValueFrom
		switch {
		case variable.Name == "KUBECONFIG":
			continue // a file in the pod; here it is a flag
		case from != nil && from.SecretKeyRef != nil:
			secret, err := i.cluster.Client.CoreV1().Secrets(Namespace).Get(ctx, from.SecretKeyRef.Name, metav1.GetOptions{})
			if err != nil {
				return nil, fmt.Errorf("env %s: %w", variable.Name, err)
			}
			value = string(secret.Data[from.SecretKeyRef.Key])
		case from != nil && from.FieldRef != nil:
			value = fields[from.FieldRef.FieldPath]
		case from != nil:
			continue // a limit that the process does not have
		}
		environment = append(environment, variable.Name+"="+value)
	}
	return environment, nil
}

// Apply applies objects as a user would, with kubectl. Those that name no namespace go into the one given; if none is,
// each has to name its own.
func (i *Istiod) Apply(ctx context.Context, namespace string, manifests []byte) error {
	args := []string{"apply", "--server-side", "--filename", "-"}
	if namespace != "" {
		args = append(args, "--namespace", namespace)
	}
	cmd := exec.CommandContext(ctx, i.cluster.Kubectl, args...)
	cmd.Stdin = bytes.NewReader(manifests)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+i.cluster.Kubeconfig, "KUBECACHEDIR="+filepath.Join(i.run.Dir, "kube-cache"))
	_, err := outputOf(cmd)
	return err
}

func (i *Istiod) makeNamespace(ctx context.Context) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: Namespace}}
	_, err := i.cluster.Client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) { // made for what istiod is to find there
		return nil
	}
	return err
}

func decode(stream []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(stream), 4096)
	for {
		var object unstructured.Unstructured
		if err := decoder.Decode(&object); errors.Is(err, io.EOF) {
			return objects, nil
		} else if err != nil {
			return nil, err
		}
		if len(object.Object) > 0 {
			objects = append(objects, &object)
		}
	}
}

func encode(objects []*unstructured.Unstructured) ([]byte, error) {
	var stream bytes.Buffer
	for _, object := range objects {
		text, err := kubeyaml.Marshal(object.Object)
		if err != nil {
			return nil, err
		}
		stream.WriteString("---\n")
		stream.Write(text)
	}
	return stream.Bytes(), nil
}

// outputOf runs a command, and says in the error what it complained of.
func outputOf(cmd *exec.Cmd) ([]byte, error) {
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	output, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w:\n%s%s", filepath.Base(cmd.Path), cmd.Args[1], err, output, complaint.String())
	}
	return output, nil
}
