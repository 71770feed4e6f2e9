package inject

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

// VolumeName is the pod's volume. Istio's own is istio.CAVolume.
const VolumeName = "lightstep-cacert"

// Plan is what a pod lacks. It names places in the pod as sent; patch.go turns it into operations.
type Plan struct {
	// Volume is set where the pod lacks the volume.
	Volume *volumeJSON
	// Mounts lists the containers that lack the mount.
	Mounts []place
	// MountPath is where they get it.
	MountPath string
	// Env is what the sidecar's env lacks.
	Env envPlan
	// Annotations and Labels are to be set, in this order.
	Annotations, Labels []keyValue
	// Tracer is what the sidecar's spans go through, as far as this pass can tell.
	Tracer istio.Tracer
	// MeshTraces says that the mesh's own configuration is what sets that tracer up.
	MeshTraces bool
	// AskedIstio says that Istio's injector is to mount the volume into the sidecar to come.
	AskedIstio bool
	// Containers names those that have the mount once the plan is carried out.
	Containers []string
	// Warnings says what was left out.
	Warnings []Warning
}

// place is a container: its list, and its index there.
type place struct {
	list  string
	index int
	first bool // the container has no mounts yet
}

type keyValue struct{ key, value string }

const (
	containers     = "containers"
	initContainers = "initContainers"
)

// planner carries one plan's making.
type planner struct {
	req  *Request
	pod  *Pod
	snap *Snapshot
	d    *Decision
	// istioMountsCA says that Istio's injector will mount the satellite CA into the sidecar by itself.
	istioMountsCA bool
	Plan
}

// MakePlan says what the pod lacks under a decision to inject it.
func MakePlan(req *Request, snap *Snapshot, d *Decision) Plan {
	p := planner{req: req, pod: &req.Pod, snap: snap, d: d, Plan: Plan{Tracer: istio.NoTracer, Warnings: d.Warnings}}
	p.mountCA()
	p.setUpMesh()
	p.tellEmptyMount()
	p.addVolume()
	p.markInjected()
	return p.Plan
}

// mountCA adds the mount to each container that the settings name, but where something of the user's stands in its way.
func (p *planner) mountCA() {
	ca := p.d.Settings.CACertificate
	if ca == nil {
		return
	}
	p.MountPath = ca.MountPath
	if volume := p.volume(VolumeName); volume != nil && !isSecret(volume, ca.SecretName) {
		p.warnf(VolumeConflict, "volume %s has another source than the Secret %s, so the satellite CA is not mounted: rename it", VolumeName, ca.SecretName)
		return
	}
	usual := len(p.pod.Spec.Containers)
	p.Mounts, p.Containers = make([]place, 0, usual), make([]string, 0, usual)
	for i := range p.pod.Spec.Containers {
		p.mountInto(&p.pod.Spec.Containers[i], containers, i, ca)
	}
	for i := range p.pod.Spec.InitContainers {
		if c := &p.pod.Spec.InitContainers[i]; c.native() {
			p.mountInto(c, initContainers, i, ca)
		}
	}
}

// tellEmptyMount warns of a satellite CA that is mounted and not there: a workload's own tracer needs it as much as Istio's.
func (p *planner) tellEmptyMount() {
	mounted := len(p.Containers) > 0 || p.AskedIstio
	if mounted && p.d.Settings.Satellite.Secure && p.lacksCA() {
		p.tellCAMissing()
	}
}

func (p *planner) mountInto(c *Container, list string, index int, ca *settings.CACertificate) {
	if !p.named(c, ca.MountInto) {
		return
	}
	for i := range c.Mounts {
		mount := &c.Mounts[i]
		if !settings.Collide(mount.MountPath, ca.MountPath) {
			continue
		}
		if p.isCA(mount, ca) {
			p.Containers = append(p.Containers, c.Name)
			return
		}
		p.warnf(MountConflict, "container %s mounts %s at %s, in the way of %s: move it, or change caCertificate.mountPath", c.Name, mount.Name, mount.MountPath, ca.MountPath)
		return
	}
	if c.Name == istio.ProxyContainer && p.d.Sidecar.State == istio.Expected && p.leftToIstio(ca) {
		return
	}
	p.Mounts = append(p.Mounts, place{list, index, len(c.Mounts) == 0})
	p.Containers = append(p.Containers, c.Name)
}

// named tells whether mountInto names a container. Without a tracer the sidecar has no use for the satellite CA.
func (p *planner) named(c *Container, into settings.MountInto) bool {
	if c.Name == istio.ProxyContainer {
		return p.d.Settings.Tracer != istio.NoTracer
	}
	return into == settings.MountIntoAll
}

// isCA tells whether a mount is the satellite CA at our very path: ours, or the one that Istio made.
func (p *planner) isCA(mount *Mount, ca *settings.CACertificate) bool {
	if path.Clean(mount.MountPath) != ca.MountPath {
		return false
	}
	if mount.Name == VolumeName {
		return true
	}
	volume := p.volume(istio.CAVolume)
	return mount.Name == istio.CAVolume && volume != nil && isSecret(volume, ca.SecretName)
}

// addVolume adds the volume where something uses it.
func (p *planner) addVolume() {
	if p.volume(VolumeName) != nil || !p.usesVolume() {
		return
	}
	p.Volume = &volumeJSON{VolumeName, secretVolumeJSON{p.d.Settings.CACertificate.SecretName, true}}
}

func (p *planner) usesVolume() bool {
	if len(p.Mounts) > 0 || p.AskedIstio {
		return true
	}
	mounted := func(c Container) bool {
		return slices.ContainsFunc(c.Mounts, func(m Mount) bool { return m.Name == VolumeName })
	}
	return p.d.Settings.CACertificate != nil &&
		(slices.ContainsFunc(p.pod.Spec.Containers, mounted) || slices.ContainsFunc(p.pod.Spec.InitContainers, mounted))
}

func (p *planner) volume(name string) *Volume {
	for i := range p.pod.Spec.Volumes {
		if p.pod.Spec.Volumes[i].Name == name {
			return &p.pod.Spec.Volumes[i]
		}
	}
	return nil
}

func isSecret(v *Volume, name string) bool {
	return v.Secret != nil && v.Secret.SecretName == name && len(v.Secret.Items) == 0
}

// effective tells whether the pod has anything of what was asked for.
func (p *Plan) effective() bool {
	return len(p.Containers) > 0 || p.Tracer != istio.NoTracer || p.AskedIstio
}

// status is the annotation lightstep.com/status.
type status struct {
	Version    string       `json:"version"`
	Config     string       `json:"config"`
	Tracer     istio.Tracer `json:"tracer"`
	Containers []string     `json:"containers"`
	Warnings   []Code       `json:"warnings,omitempty"`
}

func codes(warnings []Warning) []Code {
	var list []Code
	for _, w := range warnings {
		list = append(list, w.Code)
	}
	slices.SortFunc(list, func(a, b Code) int { return strings.Compare(string(a), string(b)) })
	return slices.Compact(list)
}

// markInjected writes the status, which a pod's owner sees where nobody saw the warnings, and, where anything of what was
// asked for is in effect, the label by which the injected are counted.
func (p *planner) markInjected() {
	if !p.effective() && len(p.Warnings) == 0 {
		return
	}
	text, err := json.Marshal(&status{p.snap.Version, p.d.Settings.Config, p.Tracer, p.Containers, codes(p.Warnings)})
	if err != nil {
		return // strings always marshal
	}
	p.annotate(StatusAnnotation, string(text))
	if p.effective() && p.pod.Labels()[InjectedLabel] != "true" {
		p.Labels = append(p.Labels, keyValue{InjectedLabel, "true"})
	}
}

// annotate sets an annotation unless it is so already.
func (p *planner) annotate(key, value string) {
	if existing, ok := p.pod.Annotations()[key]; ok && existing == value {
		return
	}
	if p.Annotations == nil {
		const most = 3
		p.Annotations = make([]keyValue, 0, most)
	}
	p.Annotations = append(p.Annotations, keyValue{key, value})
}

func (p *planner) warnf(code Code, format string, args ...any) {
	p.Warnings = append(p.Warnings, Warning{code, fmt.Sprintf(format, args...)})
}

func (p *planner) warned(code Code) bool {
	return slices.ContainsFunc(p.Warnings, func(w Warning) bool { return w.Code == code })
}
