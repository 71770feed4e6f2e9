package inject

// Request is one pod about to be created, reduced to what a decision needs. It is decoded once (webhook/decode.go) and
// never changed: the names in the tags are those of the Kubernetes API, matched case-sensitively.
type Request struct {
	// Namespace is the namespace that the pod is created in: the admission request's, since a pod's own metadata may
	// not hold it yet.
	Namespace string
	// Pod is the pod as sent.
	Pod Pod
}

// Pod holds the fields of a v1.Pod (or of a pod template) that some rule reads. Everything else is never decoded, so it
// can never be lost.
type Pod struct {
	Metadata *Metadata `json:"metadata"`
	Spec     *Spec     `json:"spec"`
}

// Metadata is the part of metav1.ObjectMeta that some rule, or the log line, reads.
type Metadata struct {
	Name         string            `json:"name"`
	GenerateName string            `json:"generateName"`
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	Owners       []Owner           `json:"ownerReferences"`
}

// Owner is one owner reference; the log line names the controller.
type Owner struct {
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	Controller bool   `json:"controller"`
}

// Spec is the part of v1.PodSpec that some rule reads.
type Spec struct {
	HostNetwork    bool              `json:"hostNetwork"`
	OS             OS                `json:"os"`
	NodeSelector   map[string]string `json:"nodeSelector"`
	Volumes        []Volume          `json:"volumes"`
	Containers     []Container       `json:"containers"`
	InitContainers []Container       `json:"initContainers"`
}

// OS is v1.PodOS.
type OS struct {
	Name string `json:"name"`
}

// Volume is a v1.Volume, of which only a Secret's reference matters.
type Volume struct {
	Name   string        `json:"name"`
	Secret *SecretVolume `json:"secret"`
}

// SecretVolume is the part of v1.SecretVolumeSource that tells whether a volume is the one we would add.
type SecretVolume struct {
	SecretName string     `json:"secretName"`
	Items      []struct{} `json:"items"`
}

// Container is the part of v1.Container that some rule reads.
type Container struct {
	Name          string  `json:"name"`
	Image         string  `json:"image"`
	RestartPolicy string  `json:"restartPolicy"`
	Mounts        []Mount `json:"volumeMounts"`
	// Env and EnvFrom are filled for the container istio-proxy alone: no rule reads another's, and an application may
	// have hundreds.
	Env     []EnvVar `json:"-"`
	EnvFrom bool     `json:"-"`
}

// Mount is the part of v1.VolumeMount that decides whether a path is taken.
type Mount struct {
	Name      string `json:"name"`
	MountPath string `json:"mountPath"`
}

// EnvVar is a v1.EnvVar; of ValueFrom only a Secret's key matters.
type EnvVar struct {
	Name      string        `json:"name"`
	Value     string        `json:"value"`
	ValueFrom *EnvVarSource `json:"valueFrom"`
}

// EnvVarSource is the part of v1.EnvVarSource that tells our env from a user's.
type EnvVarSource struct {
	SecretKeyRef *SecretKeyRef `json:"secretKeyRef"`
}

// SecretKeyRef is v1.SecretKeySelector without Optional.
type SecretKeyRef struct {
	Name string `json:"name"`
	Key  string `json:"key"`
}

// native tells whether an init container is a native sidecar.
func (c *Container) native() bool { return c.RestartPolicy == "Always" }

// Labels returns the pod's labels; nil where it has none.
func (p *Pod) Labels() map[string]string {
	if p.Metadata == nil {
		return nil
	}
	return p.Metadata.Labels
}

// Annotations returns the pod's annotations; nil where it has none.
func (p *Pod) Annotations() map[string]string {
	if p.Metadata == nil {
		return nil
	}
	return p.Metadata.Annotations
}
