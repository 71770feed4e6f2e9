package inject

// Request is one pod about to be created, reduced to what a decision needs. It is decoded once (webhook/decode.go) and
// never changed.
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
	Metadata *Metadata
	Spec     *Spec
}

// Metadata is the part of metav1.ObjectMeta that some rule, or the log line, reads.
type Metadata struct {
	Name         string
	GenerateName string
	Labels       map[string]string
	Annotations  map[string]string
	Owners       []Owner
}

// Owner is one owner reference; the log line names the controller.
type Owner struct {
	Kind       string
	Name       string
	Controller bool
}

// Spec is the part of v1.PodSpec that some rule reads.
type Spec struct {
	HostNetwork    bool
	OS             OS
	NodeSelector   map[string]string
	Volumes        []Volume
	Containers     []Container
	InitContainers []Container
}

// OS is v1.PodOS.
type OS struct {
	Name string
}

// Volume is a v1.Volume, of which only a Secret's reference matters.
type Volume struct {
	Name   string
	Secret *SecretVolume
}

// SecretVolume is the part of v1.SecretVolumeSource that tells whether a volume is the one we would add.
type SecretVolume struct {
	SecretName string
	Items      []struct{}
}

// Container is the part of v1.Container that some rule reads.
type Container struct {
	Name          string
	Image         string
	RestartPolicy string
	Mounts        []Mount
	// Env and EnvFrom are filled for the container istio-proxy alone: no rule reads another's, and an application may
	// have hundreds.
	Env     []EnvVar
	EnvFrom bool
}

// Mount is the part of v1.VolumeMount that decides whether a path is taken.
type Mount struct {
	Name      string
	MountPath string
}

// EnvVar is a v1.EnvVar; of ValueFrom only a Secret's key matters.
type EnvVar struct {
	Name      string
	Value     string
	ValueFrom *EnvVarSource
}

// EnvVarSource is the part of v1.EnvVarSource that tells our env from a user's.
type EnvVarSource struct {
	SecretKeyRef *SecretKeyRef
}

// SecretKeyRef is v1.SecretKeySelector without Optional.
type SecretKeyRef struct {
	Name string
	Key  string
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
