package injector

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// Namespace is the injector's own.
	Namespace = "lightstep-system"
	// Name is that of its Service; the webhook configuration's sorts before Istio's.
	Name              = "lightstep-injector"
	configurationName = "0-lightstep-injector"
	webhookName       = "inject.lightstep.com"
	path              = "/inject"
	// clusterIP is the Service's: any address of cluster.ServiceCIDR but the first, which is the API server's.
	clusterIP = "127.10.0.10"
	// timeoutSeconds is how long the API server waits before it creates a pod without us.
	timeoutSeconds = 3
)

// serverName is what the API server expects the certificate to be for.
func (i *Injector) serverName() string {
	if i.options.WebhookHost != "" {
		return i.options.WebhookHost
	}
	return Name + "." + Namespace + ".svc"
}

// register makes what the chart makes: the namespace, the Service, and the webhook configuration. It refuses a cluster
// that has one of them already, since Unregister would take it away.
func (i *Injector) register(ctx context.Context, caBundle []byte) error {
	core, configurations := i.cluster.Client.CoreV1(), i.cluster.Client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	port, err := i.port()
	if err != nil {
		return err
	}
	configuration := WebhookConfiguration(i.clientConfig(port, caBundle))
	if _, err := configurations.Create(ctx, configuration, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("is an injector installed already? %w", err)
	}
	i.registered = append(i.registered, func(ctx context.Context) error {
		return configurations.Delete(ctx, configurationName, metav1.DeleteOptions{})
	})
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: Namespace}}
	if _, err := core.Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
		return err
	}
	i.registered = append(i.registered, func(ctx context.Context) error {
		return core.Namespaces().Delete(ctx, Namespace, metav1.DeleteOptions{})
	})
	if i.options.WebhookHost != "" {
		return nil
	}
	_, err = core.Services(Namespace).Create(ctx, service(port), metav1.CreateOptions{})
	return err
}

// Unregister takes away what was made; nothing else.
func (i *Injector) Unregister(ctx context.Context) error {
	var errs []error
	for _, remove := range i.registered {
		errs = append(errs, remove(ctx))
	}
	i.registered = nil
	return errors.Join(errs...)
}

func (i *Injector) port() (int32, error) {
	_, text, err := net.SplitHostPort(i.listen)
	if err != nil {
		return 0, err
	}
	port, err := strconv.ParseInt(text, 10, 32)
	return int32(port), err
}

func service(port int32) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: Name},
		// No selector: the process that listens on the ClusterIP is no pod.
		Spec: corev1.ServiceSpec{ClusterIP: clusterIP, Ports: []corev1.ServicePort{{Name: "https", Port: port}}},
	}
}

func (i *Injector) clientConfig(port int32, caBundle []byte) admissionv1.WebhookClientConfig {
	if i.options.WebhookHost != "" {
		url := "https://" + net.JoinHostPort(i.options.WebhookHost, strconv.Itoa(int(port))) + path
		return admissionv1.WebhookClientConfig{URL: &url, CABundle: caBundle}
	}
	return admissionv1.WebhookClientConfig{
		Service:  &admissionv1.ServiceReference{Namespace: Namespace, Name: Name, Path: new(path), Port: &port},
		CABundle: caBundle,
	}
}

// WebhookConfiguration is the one that the chart makes, too.
func WebhookConfiguration(client admissionv1.WebhookClientConfig) *admissionv1.MutatingWebhookConfiguration {
	return &admissionv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: configurationName},
		Webhooks: []admissionv1.MutatingWebhook{{
			Name:         webhookName,
			ClientConfig: client,
			Rules: []admissionv1.RuleWithOperations{{
				Operations: []admissionv1.OperationType{admissionv1.Create},
				Rule: admissionv1.Rule{
					APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"},
					Scope: new(admissionv1.NamespacedScope),
				},
			}},
			NamespaceSelector:       namespaceSelector(),
			ReinvocationPolicy:      new(admissionv1.IfNeededReinvocationPolicy),
			SideEffects:             new(admissionv1.SideEffectClassNone),
			FailurePolicy:           new(admissionv1.Ignore),
			TimeoutSeconds:          new(int32(timeoutSeconds)),
			AdmissionReviewVersions: []string{"v1"},
		}},
	}
}

// namespaceSelector takes the labelled namespaces, but for those whose pods the webhook itself depends on.
func namespaceSelector() *metav1.LabelSelector {
	return &metav1.LabelSelector{
		MatchLabels: map[string]string{"lightstep.com/injection": "enabled"},
		MatchExpressions: []metav1.LabelSelectorRequirement{{
			Key:      corev1.LabelMetadataName,
			Operator: metav1.LabelSelectorOpNotIn,
			Values:   []string{Namespace, metav1.NamespaceSystem},
		}},
	}
}
