package survey

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
)

// podOf returns what webhook.DecodePod reads of the same pod as JSON. The API server sends pods as protobuf, which costs it a
// tenth.
func podOf(pod *corev1.Pod) inject.Pod {
	return inject.Pod{
		Metadata: &inject.Metadata{
			Name: pod.Name, GenerateName: pod.GenerateName, Labels: pod.Labels, Annotations: pod.Annotations,
			Owners: converted(pod.OwnerReferences, func(o *metav1.OwnerReference) inject.Owner {
				return inject.Owner{Kind: o.Kind, Name: o.Name, Controller: o.Controller != nil && *o.Controller}
			}),
		},
		Spec: specOf(&pod.Spec),
	}
}

func specOf(spec *corev1.PodSpec) *inject.Spec {
	s := &inject.Spec{
		HostNetwork:    spec.HostNetwork,
		NodeSelector:   spec.NodeSelector,
		Volumes:        converted(spec.Volumes, volumeOf),
		Containers:     converted(spec.Containers, containerOf),
		InitContainers: converted(spec.InitContainers, containerOf),
	}
	if spec.OS != nil {
		s.OS.Name = string(spec.OS.Name)
	}
	return s
}

func volumeOf(volume *corev1.Volume) inject.Volume {
	v := inject.Volume{Name: volume.Name}
	if secret := volume.Secret; secret != nil {
		v.Secret = &inject.SecretVolume{SecretName: secret.SecretName}
		if len(secret.Items) > 0 {
			v.Secret.Items = make([]struct{}, len(secret.Items))
		}
	}
	return v
}

func containerOf(container *corev1.Container) inject.Container {
	c := inject.Container{
		Name: container.Name, Image: container.Image,
		Mounts: converted(container.VolumeMounts, func(m *corev1.VolumeMount) inject.Mount { return inject.Mount{Name: m.Name, MountPath: m.MountPath} }),
	}
	if container.RestartPolicy != nil {
		c.RestartPolicy = string(*container.RestartPolicy)
	}
	if container.Name == istio.ProxyContainer { // no rule reads the environment of another
		c.Env, c.EnvFrom = converted(container.Env, variableOf), len(container.EnvFrom) > 0
	}
	return c
}

func variableOf(variable *corev1.EnvVar) inject.EnvVar {
	v := inject.EnvVar{Name: variable.Name, Value: variable.Value}
	if from := variable.ValueFrom; from != nil {
		v.ValueFrom = &inject.EnvVarSource{}
		if key := from.SecretKeyRef; key != nil {
			v.ValueFrom.SecretKeyRef = &inject.SecretKeyRef{Name: key.Name, Key: key.Key}
		}
	}
	return v
}

// converted converts each element; nil if there is none.
func converted[From, To any](list []From, convert func(*From) To) []To {
	if len(list) == 0 {
		return nil
	}
	all := slices.Grow([]To(nil), len(list))
	for i := range list {
		all = append(all, convert(&list[i]))
	}
	return all
}
