package mesh

import (
	"fmt"
	"maps"
	"net"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
)

// The example's collector.
const (
	collectorName      = "lightstep-collector"
	collectorNamespace = "lightstep-system"
	collectorImage     = "docker.io/otel/opentelemetry-collector:0.150.0"
	collectorConfig    = "config.yaml"
	collectorFolder    = "/etc/otelcol"
	collectorUser      = 10001 // the image's own
	caVolume           = "lightstep-cacert"

	exportTimeout = 10 * time.Second
)

// exampleAddress is where the example's Service is.
func exampleAddress(e export) string {
	return net.JoinHostPort(collectorName+"."+collectorNamespace+".svc.cluster.local", strconv.Itoa(int(e.port)))
}

// renderCollector renders a collector that holds the token, and speaks TLS to the satellites.
func (r *Request) renderCollector(out *Rendered, e export) error {
	config, err := yaml.Marshal(r.collectorPipeline(e))
	if err != nil {
		return fmt.Errorf("write the collector's configuration: %w", err)
	}
	labels := map[string]string{"app.kubernetes.io/name": collectorName}
	meta := metav1.ObjectMeta{Name: collectorName, Namespace: collectorNamespace, Labels: labels}
	section := Section{Part: PartCollector, Says: []string{
		"EXAMPLE of a collector that takes the mesh's spans and holds the token, so that no proxy does. Make it yours, or give",
		"your own by --collector. Its namespace needs the Secrets that it names; the mesh's proxies reach it without TLS.",
	}}
	for _, typed := range []any{
		&corev1.ConfigMap{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: meta,
			Data: map[string]string{collectorConfig: string(config)},
		},
		r.collectorDeployment(meta, e),
		&corev1.Service{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}, ObjectMeta: meta,
			Spec: corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{
				Name: portName(e), Port: int32(e.port), TargetPort: intstr.FromString(portName(e)),
			}}},
		},
	} {
		object, err := asObject(typed)
		if err != nil {
			return err
		}
		section.Objects = append(section.Objects, object)
	}
	removeEmpty(section.Objects)
	out.Sections = append(out.Sections, section)
	return nil
}

// removeEmpty removes what the Go types of Kubernetes write though it is unset.
func removeEmpty(objects []*unstructured.Unstructured) {
	for _, object := range objects {
		unstructured.RemoveNestedField(object.Object, "spec", "strategy")
	}
}

func containerPort(e export) int32 {
	if e.protocol == HTTP {
		return 4318
	}
	return 4317
}

type object = map[string]any

// collectorPipeline is the collector's configuration.
func (r *Request) collectorPipeline(e export) object {
	s := &r.Settings
	tls := object{}
	switch {
	case !s.Satellite.Secure:
		tls["insecure"] = true
	case s.CACertificate != nil:
		tls["ca_file"] = caFile(s.CACertificate)
	}
	if name := s.Satellite.ServerName; name != "" && s.Satellite.Secure {
		tls["server_name_override"] = name
	}
	exporter := object{
		"endpoint": s.Satellite.Address,
		"headers":  object{TokenHeader: "${env:" + inject.TokenEnv + "}"},
		"tls":      tls,
	}
	kind := "otlp"
	if e.protocol == HTTP {
		kind = "otlphttp"
		exporter["endpoint"] = either(s.Satellite.Secure, "https://", "http://") + s.Satellite.Address
	}
	return object{
		"receivers": object{"otlp": object{"protocols": object{
			string(e.protocol): object{"endpoint": fmt.Sprintf("0.0.0.0:%d", containerPort(e))},
		}}},
		"processors": object{"batch": object{}},
		"exporters":  object{kind: exporter},
		"service": object{"pipelines": object{"traces": object{
			"receivers": []string{"otlp"}, "processors": []string{"batch"}, "exporters": []string{kind},
		}}},
	}
}

// collectorDeployment is a pod that neither this webhook nor Istio's touches: its own spans would go round in circles.
func (r *Request) collectorDeployment(meta metav1.ObjectMeta, e export) *appsv1.Deployment {
	labels := map[string]string{inject.OptOutLabel: "false", "sidecar.istio.io/inject": "false"}
	maps.Copy(labels, meta.Labels)
	container := corev1.Container{
		Name:  "collector",
		Image: collectorImage,
		Args:  []string{"--config=" + collectorFolder + "/" + collectorConfig},
		Env: []corev1.EnvVar{{Name: inject.TokenEnv, ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: r.Settings.AccessToken.SecretName}, Key: r.Settings.AccessToken.Key,
		}}}},
		Ports:        []corev1.ContainerPort{{Name: portName(e), ContainerPort: containerPort(e)}},
		VolumeMounts: []corev1.VolumeMount{{Name: "config", MountPath: collectorFolder, ReadOnly: true}},
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false),
			ReadOnlyRootFilesystem:   new(true),
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
	}
	volumes := []corev1.Volume{{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
		LocalObjectReference: corev1.LocalObjectReference{Name: collectorName},
	}}}}
	if ca := r.Settings.CACertificate; ca != nil && r.Settings.Satellite.Secure {
		container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{Name: caVolume, MountPath: ca.MountPath, ReadOnly: true})
		volumes = append(volumes, corev1.Volume{Name: caVolume, VolumeSource: corev1.VolumeSource{
			Secret: &corev1.SecretVolumeSource{SecretName: ca.SecretName},
		}})
	}
	return &appsv1.Deployment{
		TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}, ObjectMeta: meta,
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(2)),
			Selector: &metav1.LabelSelector{MatchLabels: meta.Labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					Containers: []corev1.Container{container}, Volumes: volumes, AutomountServiceAccountToken: new(false),
					SecurityContext: &corev1.PodSecurityContext{
						RunAsNonRoot: new(true), RunAsUser: new(int64(collectorUser)),
						SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
					},
				},
			},
		},
	}
}
