package webhook

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
)

// This file is the only one that knows the decoder: json/v2, which matches names case-sensitively and refuses an object
// that holds a name twice. A request is read once; what no rule needs is passed over, and costs no more than the scan.

// sidecarName is the container whose environment some rule reads.
const sidecarName = "istio-proxy"

// review is the part of an AdmissionReview that the edge reads.
type review struct {
	APIVersion string           `json:"apiVersion"`
	Kind       string           `json:"kind"`
	Request    admissionRequest `json:"request"`
}

// admissionRequest is the part of an AdmissionRequest that the edge reads.
type admissionRequest struct {
	UID         string   `json:"uid"`
	Resource    resource `json:"resource"`
	SubResource string   `json:"subResource"`
	Namespace   string   `json:"namespace"`
	Operation   string   `json:"operation"`
	DryRun      bool     `json:"dryRun"`
	Object      pod      `json:"object"`

	// These may be large. A span passes over them faster than the decoder skips a name that it does not know.
	UserInfo  span `json:"userInfo"`
	OldObject span `json:"oldObject"`
}

// resource is metav1.GroupVersionResource.
type resource struct {
	Group    string `json:"group"`
	Version  string `json:"version"`
	Resource string `json:"resource"`
}

// pod is inject.Pod as it stands in the input.
type pod struct {
	Metadata *metadata `json:"metadata"`
	Spec     *spec     `json:"spec"`
}

// metadata is inject.Metadata as it stands in the input.
type metadata struct {
	inject.Metadata
	Owners        list[inject.Owner] `json:"ownerReferences"`
	ManagedFields span               `json:"managedFields"`
}

// spec is inject.Spec as it stands in the input.
type spec struct {
	inject.Spec
	Volumes        list[inject.Volume] `json:"volumes"`
	Containers     list[container]     `json:"containers"`
	InitContainers list[container]     `json:"initContainers"`
}

// container is inject.Container as it stands in the input: its environment is not decoded before its name is known.
type container struct {
	inject.Container
	Mounts  list[inject.Mount] `json:"volumeMounts"`
	Env     span               `json:"env"`
	EnvFrom span               `json:"envFrom"`
}

// decodeReview reads an AdmissionReview. With an error, the review holds what stood before the fault: its UID, often.
func decodeReview(body []byte) (review, inject.Pod, error) {
	var in review
	if err := json.Unmarshal(body, &in); err != nil {
		return in, inject.Pod{}, fmt.Errorf("decode AdmissionReview: %s", fault(err))
	}
	out, err := in.Request.Object.decode(body)
	if err != nil {
		return in, inject.Pod{}, fmt.Errorf("decode AdmissionReview: %w", err)
	}
	return in, out, nil
}

// DecodePod reads a Pod, in JSON, as the webhook does.
func DecodePod(raw []byte) (inject.Pod, error) {
	var in pod
	if err := json.Unmarshal(raw, &in); err != nil {
		return inject.Pod{}, fmt.Errorf("decode pod: %s", fault(err))
	}
	out, err := in.decode(raw)
	if err != nil {
		return inject.Pod{}, fmt.Errorf("decode pod: %w", err)
	}
	return out, nil
}

// decode finishes the pod: what was passed over in input is read for the one container that needs it.
func (p *pod) decode(input []byte) (inject.Pod, error) {
	var out inject.Pod
	if p.Metadata != nil {
		out.Metadata = &p.Metadata.Metadata
		out.Metadata.Owners = p.Metadata.Owners
	}
	if p.Spec == nil {
		return out, nil
	}
	out.Spec = &p.Spec.Spec
	out.Spec.Volumes = p.Spec.Volumes
	var errs [2]error
	out.Spec.Containers, errs[0] = decodeContainers(p.Spec.Containers, input)
	out.Spec.InitContainers, errs[1] = decodeContainers(p.Spec.InitContainers, input)
	return out, errors.Join(errs[:]...)
}

func decodeContainers(in []container, input []byte) ([]inject.Container, error) {
	if in == nil {
		return nil, nil
	}
	out := make([]inject.Container, len(in))
	for i := range in {
		if in[i].Name == sidecarName {
			if err := in[i].decodeEnvironment(input); err != nil {
				return nil, fmt.Errorf("container %s: %w", sidecarName, err)
			}
		}
		out[i] = in[i].Container
		out[i].Mounts = in[i].Mounts
	}
	return out, nil
}

func (c *container) decodeEnvironment(input []byte) error {
	var variables list[inject.EnvVar]
	if err := c.Env.decode(input, &variables); err != nil {
		return fmt.Errorf("env: %s", fault(err))
	}
	var sources list[struct{}]
	if err := c.EnvFrom.decode(input, &sources); err != nil {
		return fmt.Errorf("envFrom: %s", fault(err))
	}
	c.Container.Env, c.Container.EnvFrom = variables, len(sources) > 0
	return nil
}

// maxList bounds every list that is decoded, far beyond what any pod has: `{},` costs its sender three bytes, and a
// container costs hundreds here and in the answer.
const maxList = 1000

// errLongList says that a list is longer than maxList.
var errLongList = fmt.Errorf("a list of more than %d", maxList)

// list is a list of the input, of maxList elements at most.
type list[T any] []T

// UnmarshalJSONFrom reads the elements one by one.
func (l *list[T]) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	if dec.PeekKind() != jsontext.KindBeginArray {
		return json.UnmarshalDecode(dec, (*[]T)(l)) // null, or an error
	}
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	const usual = 4
	*l = make([]T, 0, usual)
	for dec.PeekKind() != jsontext.KindEndArray {
		if len(*l) == maxList {
			return errLongList
		}
		var zero T
		*l = append(*l, zero)
		if err := json.UnmarshalDecode(dec, &(*l)[len(*l)-1]); err != nil {
			return err
		}
	}
	_, err := dec.ReadToken()
	return err
}

// span is where a value stands in the input. The decoder validates the value without making anything of it.
type span struct{ start, end int64 }

// UnmarshalJSONFrom notes where the value stands.
func (s *span) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	value, err := dec.ReadValue()
	if err != nil {
		return err
	}
	s.end = dec.InputOffset()
	s.start = s.end - int64(len(value))
	return nil
}

// decode reads the value, if there is one, into out.
func (s span) decode(input []byte, out any) error {
	if s.end == 0 {
		return nil
	}
	return json.Unmarshal(input[s.start:s.end], out)
}

// decodeUID reads the request's UID from the beginning of a review, and nothing else. It is empty where none is found.
func decodeUID(beginning []byte) string {
	var in struct {
		Request struct {
			UID string `json:"uid"`
		} `json:"request"`
	}
	// The beginning of a review is not a whole one: the error says nothing that the UID does not.
	_ = json.Unmarshal(beginning, &in)
	return in.Request.UID
}

// fault says what is wrong with the input, and where, without repeating any of it: the decoder's own messages quote
// values and the names that users chose, and what a pod holds belongs in no log.
func fault(err error) string {
	if errors.Is(err, errLongList) {
		return errLongList.Error()
	}
	if semantic, ok := errors.AsType[*json.SemanticError](err); ok {
		return fmt.Sprintf("a JSON %s at byte %d cannot be read as %s", semantic.JSONKind, semantic.ByteOffset, semantic.GoType)
	}
	if syntactic, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		if errors.Is(err, jsontext.ErrDuplicateName) {
			return fmt.Sprintf("the name at byte %d stands twice in its object", syntactic.ByteOffset)
		}
		return fmt.Sprintf("invalid JSON at byte %d", syntactic.ByteOffset)
	}
	return "invalid JSON"
}
