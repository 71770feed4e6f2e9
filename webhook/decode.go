package webhook

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
)

// This file is the only one that knows the decoder: json/v2, which matches names case-sensitively and refuses an object
// that holds a name twice. A request is read once, straight into the structs that the core reads; what no rule needs is
// passed over as a whole, and costs no more than the scan. The library's own way, by a struct's tags, looks at each token
// of what it skips, and takes twice the time.

// sidecarName is the container whose environment some rule reads.
const sidecarName = "istio-proxy"

// review is the part of an AdmissionReview that the edge reads.
type review struct {
	APIVersion string
	Kind       string
	Request    admissionRequest
}

// admissionRequest is the part of an AdmissionRequest that the edge reads, but for its object.
type admissionRequest struct {
	UID         string
	Resource    resource
	SubResource string
	Namespace   string
	Operation   string
	DryRun      bool
}

// resource is metav1.GroupVersionResource.
type resource struct{ Group, Version, Resource string }

// decodeReview reads an AdmissionReview. With an error, the review holds what stood before the fault: its UID, often.
func decodeReview(body []byte) (in review, pod inject.Pod, err error) {
	if err := decode(body, func(r *reader) error { return r.review(&in, &pod) }); err != nil {
		return in, inject.Pod{}, fmt.Errorf("decode AdmissionReview: %s", fault(err))
	}
	return in, pod, nil
}

// DecodePod reads a Pod, in JSON, as the webhook does.
func DecodePod(raw []byte) (pod inject.Pod, err error) {
	if err := decode(raw, func(r *reader) error { return r.pod(&pod) }); err != nil {
		return inject.Pod{}, fmt.Errorf("decode pod: %s", fault(err))
	}
	return pod, nil
}

// reader reads the objects that some rule needs, a method for each kind of them.
type reader struct {
	*jsontext.Decoder
	input []byte
	// made holds all strings of a request, in one allocation.
	made strings.Builder
	// read is where to begin.
	read func(*reader) error
}

func (r *reader) review(out *review, pod *inject.Pod) error {
	return r.object(func(name []byte) error {
		switch string(name) {
		case "apiVersion":
			return r.text(&out.APIVersion)
		case "kind":
			return r.text(&out.Kind)
		case "request":
			return r.request(&out.Request, pod)
		}
		return r.pass()
	})
}

func (r *reader) request(out *admissionRequest, pod *inject.Pod) error {
	return r.object(func(name []byte) error {
		switch string(name) {
		case "uid":
			return r.text(&out.UID)
		case "resource":
			return r.resource(&out.Resource)
		case "subResource":
			return r.text(&out.SubResource)
		case "namespace":
			return r.text(&out.Namespace)
		case "operation":
			return r.text(&out.Operation)
		case "dryRun":
			return r.truth(&out.DryRun)
		case "object":
			return r.pod(pod)
		}
		return r.pass()
	})
}

func (r *reader) resource(out *resource) error {
	return r.object(func(name []byte) error {
		switch string(name) {
		case "group":
			return r.text(&out.Group)
		case "version":
			return r.text(&out.Version)
		case "resource":
			return r.text(&out.Resource)
		}
		return r.pass()
	})
}

func (r *reader) pod(out *inject.Pod) error {
	return r.object(func(name []byte) error {
		switch string(name) {
		case "metadata":
			return optional(r, &out.Metadata, r.metadata)
		case "spec":
			return optional(r, &out.Spec, r.spec)
		}
		return r.pass()
	})
}

func (r *reader) metadata(out *inject.Metadata) error {
	return r.object(func(name []byte) error {
		switch string(name) {
		case "name":
			return r.text(&out.Name)
		case "generateName":
			return r.text(&out.GenerateName)
		case "labels":
			return r.texts(&out.Labels)
		case "annotations":
			return r.texts(&out.Annotations)
		case "ownerReferences":
			return list(r, &out.Owners, r.owner)
		}
		return r.pass()
	})
}

func (r *reader) owner(out *inject.Owner) error {
	return r.object(func(name []byte) error {
		switch string(name) {
		case "kind":
			return r.text(&out.Kind)
		case "name":
			return r.text(&out.Name)
		case "controller":
			return r.truth(&out.Controller)
		}
		return r.pass()
	})
}

func (r *reader) spec(out *inject.Spec) error {
	return r.object(func(name []byte) error {
		switch string(name) {
		case "hostNetwork":
			return r.truth(&out.HostNetwork)
		case "os":
			return r.os(&out.OS)
		case "nodeSelector":
			return r.texts(&out.NodeSelector)
		case "volumes":
			return list(r, &out.Volumes, r.volume)
		case "containers":
			return list(r, &out.Containers, r.container)
		case "initContainers":
			return list(r, &out.InitContainers, r.container)
		}
		return r.pass()
	})
}

func (r *reader) os(out *inject.OS) error {
	return r.object(func(name []byte) error {
		if string(name) == "name" {
			return r.text(&out.Name)
		}
		return r.pass()
	})
}

func (r *reader) volume(out *inject.Volume) error {
	return r.object(func(name []byte) error {
		switch string(name) {
		case "name":
			return r.text(&out.Name)
		case "secret":
			return optional(r, &out.Secret, r.secretVolume)
		}
		return r.pass()
	})
}

func (r *reader) secretVolume(out *inject.SecretVolume) error {
	return r.object(func(name []byte) error {
		switch string(name) {
		case "secretName":
			return r.text(&out.SecretName)
		case "items":
			return list(r, &out.Items, r.nothing)
		}
		return r.pass()
	})
}

// container reads a container. Its environment is read once its name is known, and for the sidecar alone.
func (r *reader) container(out *inject.Container) error {
	var env, envFrom []byte
	err := r.object(func(name []byte) error {
		switch string(name) {
		case "name":
			return r.text(&out.Name)
		case "image":
			return r.text(&out.Image)
		case "restartPolicy":
			return r.text(&out.RestartPolicy)
		case "volumeMounts":
			return list(r, &out.Mounts, r.mount)
		case "env":
			return r.note(&env)
		case "envFrom":
			return r.note(&envFrom)
		}
		return r.pass()
	})
	if err != nil || out.Name != sidecarName {
		return err
	}
	return readEnvironment(out, env, envFrom)
}

func readEnvironment(out *inject.Container, env, envFrom []byte) error {
	if err := again(env, func(r *reader) error { return list(r, &out.Env, r.variable) }); err != nil {
		return flaw("container " + sidecarName + ": env: " + fault(err))
	}
	var sources []struct{}
	if err := again(envFrom, func(r *reader) error { return list(r, &sources, r.nothing) }); err != nil {
		return flaw("container " + sidecarName + ": envFrom: " + fault(err))
	}
	out.EnvFrom = len(sources) > 0
	return nil
}

func (r *reader) mount(out *inject.Mount) error {
	return r.object(func(name []byte) error {
		switch string(name) {
		case "name":
			return r.text(&out.Name)
		case "mountPath":
			return r.text(&out.MountPath)
		}
		return r.pass()
	})
}

func (r *reader) variable(out *inject.EnvVar) error {
	return r.object(func(name []byte) error {
		switch string(name) {
		case "name":
			return r.text(&out.Name)
		case "value":
			return r.text(&out.Value)
		case "valueFrom":
			return optional(r, &out.ValueFrom, r.source)
		}
		return r.pass()
	})
}

func (r *reader) source(out *inject.EnvVarSource) error {
	return r.object(func(name []byte) error {
		if string(name) == "secretKeyRef" {
			return optional(r, &out.SecretKeyRef, r.secretKey)
		}
		return r.pass()
	})
}

func (r *reader) secretKey(out *inject.SecretKeyRef) error {
	return r.object(func(name []byte) error {
		switch string(name) {
		case "name":
			return r.text(&out.Name)
		case "key":
			return r.text(&out.Key)
		}
		return r.pass()
	})
}

// decode reads one value, which is the whole input.
func decode(input []byte, read func(*reader) error) error {
	const usual = 1 << 10
	r := &reader{input: input, read: read}
	r.made.Grow(min(usual, len(input)))
	return json.Unmarshal(input, r)
}

// UnmarshalJSONFrom is called by the library, which lends a decoder.
func (r *reader) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	r.Decoder = dec
	return r.read(r)
}

// object reads an object: member is called for each name, and reads the value. A null is an object without members.
func (r *reader) object(member func(name []byte) error) error {
	if r.PeekKind() != jsontext.KindBeginObject {
		return r.null("object")
	}
	if _, err := r.ReadToken(); err != nil {
		return err
	}
	for r.PeekKind() != jsontext.KindEndObject {
		quoted, err := r.ReadValue()
		if err != nil {
			return err
		}
		name, err := unquoted(quoted)
		if err != nil {
			return err
		}
		if err := member(name); err != nil {
			return err
		}
	}
	_, err := r.ReadToken()
	return err
}

// unquoted is what a string holds. Hardly one has anything escaped.
func unquoted(text jsontext.Value) ([]byte, error) {
	if bytes.IndexByte(text, '\\') < 0 {
		return text[1 : len(text)-1], nil
	}
	return jsontext.AppendUnquote(nil, text)
}

// maxList bounds every list that is decoded, far beyond what any pod has: `{},` costs its sender three bytes, and a
// container costs hundreds here and in the answer.
const maxList = 1000

// list reads a list, of maxList elements at most.
func list[T any](r *reader, out *[]T, element func(*T) error) error {
	if r.PeekKind() != jsontext.KindBeginArray {
		return r.null("list")
	}
	if _, err := r.ReadToken(); err != nil {
		return err
	}
	const usual = 4
	*out = make([]T, 0, usual)
	for r.PeekKind() != jsontext.KindEndArray {
		if len(*out) == maxList {
			return flaw(fmt.Sprintf("a list of more than %d", maxList))
		}
		var zero T
		*out = append(*out, zero)
		if err := element(&(*out)[len(*out)-1]); err != nil {
			return err
		}
	}
	_, err := r.ReadToken()
	return err
}

// optional reads what may be missing, or null.
func optional[T any](r *reader, out **T, value func(*T) error) error {
	if r.PeekKind() == jsontext.KindNull {
		return r.pass()
	}
	*out = new(T)
	return value(*out)
}

// maxTexts bounds every object of strings that is decoded: all annotations of a pod may have 256 KiB.
const maxTexts = 10_000

// texts reads an object of strings, of maxTexts members at most.
func (r *reader) texts(out *map[string]string) error {
	if r.PeekKind() == jsontext.KindBeginObject {
		*out = map[string]string{}
	}
	return r.object(func(name []byte) error {
		if len(*out) == maxTexts {
			return flaw(fmt.Sprintf("an object of more than %d strings", maxTexts))
		}
		key, value := r.keep(name), ""
		err := r.text(&value)
		(*out)[key] = value
		return err
	})
}

// text reads a string.
func (r *reader) text(out *string) error {
	if r.PeekKind() != jsontext.KindString {
		return r.null("string")
	}
	quoted, err := r.ReadValue()
	if err != nil {
		return err
	}
	text, err := unquoted(quoted)
	*out = r.keep(text)
	return err
}

// keep makes a string.
func (r *reader) keep(text []byte) string {
	start := r.made.Len()
	_, _ = r.made.Write(text)
	return r.made.String()[start:]
}

// truth reads a boolean.
func (r *reader) truth(out *bool) error {
	if kind := r.PeekKind(); kind != jsontext.KindTrue && kind != jsontext.KindFalse {
		return r.null("boolean")
	}
	token, err := r.ReadToken()
	if err == nil {
		*out = token.Bool()
	}
	return err
}

// note remembers where a value stands in the input.
func (r *reader) note(out *[]byte) error {
	value, err := r.ReadValue()
	if err == nil {
		end := r.InputOffset()
		*out = r.input[end-int64(len(value)) : end]
	}
	return err
}

// again reads what was noted, if anything was.
func again(noted []byte, read func(*reader) error) error {
	if noted == nil {
		return nil
	}
	return decode(noted, read)
}

// pass passes over a value, which is validated without making anything of it.
func (r *reader) pass() error {
	_, err := r.ReadValue()
	return err
}

// nothing passes over an element of which only the presence counts.
func (r *reader) nothing(*struct{}) error { return r.pass() }

// null passes over a null, which stands for a missing value anywhere; another value is not what was wanted.
func (r *reader) null(wanted string) error {
	kind := r.PeekKind()
	value, err := r.ReadValue()
	if err != nil || kind == jsontext.KindNull {
		return err
	}
	return flaw(fmt.Sprintf("a JSON %s at byte %d cannot be read as %s", kind, r.InputOffset()-int64(len(value)), wanted))
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
	if len(in.Request.UID) > maxUID {
		return ""
	}
	return in.Request.UID
}

// flaw is what is wrong with the input where its JSON is valid.
type flaw string

// Error says it.
func (f flaw) Error() string { return string(f) }

// fault says what is wrong with the input, and where, without repeating any of it: the decoder's own messages quote
// values and the names that users chose, and what a pod holds belongs in no log.
func fault(err error) string {
	if f, ok := errors.AsType[flaw](err); ok {
		return f.Error()
	}
	if syntactic, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		if errors.Is(err, jsontext.ErrDuplicateName) {
			return fmt.Sprintf("the name at byte %d stands twice in its object", syntactic.ByteOffset)
		}
		return fmt.Sprintf("invalid JSON at byte %d", syntactic.ByteOffset)
	}
	return "invalid JSON"
}
