package istio

import (
	"errors"
	"fmt"
	"path"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// UserVolumeMountAnnotation has Istio's injector mount volumes of the pod into the sidecar. It is JSON: a map by volume
// name, or a list (proven with the injector of istio@1.7.8 and with istiod 1.31).
const UserVolumeMountAnnotation = "sidecar.istio.io/userVolumeMount"

// ErrMountTaken says that the annotation uses our volume's name for another path, or our path for another volume.
var ErrMountTaken = errors.New("it already uses that volume name or that path")

type userMount struct {
	Name      string `json:"name,omitempty"`
	MountPath string `json:"mountPath"`
	ReadOnly  bool   `json:"readOnly,omitempty"`
}

// MergeUserVolumeMount returns the annotation with a read-only mount of the volume at the path added; unchanged where it
// is there already. collides tells whether two mount paths cannot both be used.
func MergeUserVolumeMount(annotation, volume, mountPath string, collides func(a, b string) bool) (string, error) {
	ours := userMount{MountPath: mountPath, ReadOnly: true}
	if annotation == "" {
		return marshalString(map[string]userMount{volume: ours})
	}
	if len(annotation) > maxProxyConfig {
		return "", fmt.Errorf("it has %d bytes; at most %d are read", len(annotation), maxProxyConfig)
	}
	var list []jsontext.Value
	if json.Unmarshal([]byte(annotation), &list) == nil && list != nil {
		return mergeList(annotation, list, volume, ours, collides)
	}
	var byName map[string]jsontext.Value
	if err := json.Unmarshal([]byte(annotation), &byName); err != nil {
		return "", errors.New("it is not a JSON map or list of volume mounts")
	}
	return mergeMap(annotation, byName, volume, ours, collides)
}

func mergeMap(text string, byName map[string]jsontext.Value, volume string, ours userMount, collides func(a, b string) bool) (string, error) {
	merged := make(map[string]any, len(byName)+1)
	present := false
	for name, raw := range byName {
		there, err := check(raw, name, volume, ours.MountPath, collides)
		if err != nil {
			return "", err
		}
		present = present || there
		merged[name] = raw
	}
	if present {
		return text, nil
	}
	merged[volume] = ours
	return marshalString(merged)
}

func mergeList(text string, list []jsontext.Value, volume string, ours userMount, collides func(a, b string) bool) (string, error) {
	merged := make([]any, 0, len(list)+1)
	present := false
	for _, raw := range list {
		there, err := check(raw, "", volume, ours.MountPath, collides)
		if err != nil {
			return "", err
		}
		present = present || there
		merged = append(merged, raw)
	}
	if present {
		return text, nil
	}
	ours.Name = volume
	return marshalString(append(merged, ours))
}

// check tells whether one entry is the mount that we would add, and refuses one that stands in its way. The name of an
// entry of a list is its own.
func check(raw jsontext.Value, name, volume, mountPath string, collides func(a, b string) bool) (there bool, err error) {
	var mount userMount
	if err := json.Unmarshal(raw, &mount); err != nil {
		return false, errors.New("an entry is not a volume mount")
	}
	if name == "" {
		name = mount.Name
	}
	if name == volume && path.Clean(mount.MountPath) == mountPath {
		return true, nil
	}
	if name == volume || collides(mount.MountPath, mountPath) {
		return false, ErrMountTaken
	}
	return false, nil
}

func marshalString(v any) (string, error) {
	text, err := json.Marshal(v, json.Deterministic(true))
	return string(text), err
}
