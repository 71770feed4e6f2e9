package inject

import (
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
)

// Operation is one RFC 6902 operation: an addition, or a replace of a value that is ours or that we merge into. There is
// no remove, move, copy or test: nothing of the user's can be lost, and nothing can fail to apply.
type Operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// MarshalJSONTo writes an operation token by token, as it does the values that nearly every patch has: by reflection, that
// would cost as much as finding out what to write.
func (o *Operation) MarshalJSONTo(enc *jsontext.Encoder) error {
	err := write(enc, jsontext.BeginObject, jsontext.String("op"), jsontext.String(o.Op),
		jsontext.String("path"), jsontext.String(o.Path), jsontext.String("value"))
	if err != nil {
		return err
	}
	switch value := o.Value.(type) {
	case string:
		err = enc.WriteToken(jsontext.String(value))
	case *mountJSON:
		err = value.MarshalJSONTo(enc)
	default:
		err = json.MarshalEncode(enc, value, json.Deterministic(true))
	}
	if err != nil {
		return err
	}
	return enc.WriteToken(jsontext.EndObject)
}

// MarshalJSONTo writes a mount.
func (m *mountJSON) MarshalJSONTo(enc *jsontext.Encoder) error {
	return write(enc, jsontext.BeginObject, jsontext.String("name"), jsontext.String(m.Name),
		jsontext.String("mountPath"), jsontext.String(m.MountPath),
		jsontext.String("readOnly"), jsontext.Bool(m.ReadOnly), jsontext.EndObject)
}

func write(enc *jsontext.Encoder, tokens ...jsontext.Token) error {
	for _, token := range tokens {
		if err := enc.WriteToken(token); err != nil {
			return err
		}
	}
	return nil
}

// The JSON of what is added.
type (
	volumeJSON struct {
		Name   string           `json:"name"`
		Secret secretVolumeJSON `json:"secret"`
	}
	secretVolumeJSON struct {
		SecretName string `json:"secretName"`
		Optional   bool   `json:"optional"`
	}
	mountJSON struct {
		Name      string `json:"name"`
		MountPath string `json:"mountPath"`
		ReadOnly  bool   `json:"readOnly"`
	}
	tokenEnvJSON struct {
		Name      string        `json:"name"`
		ValueFrom valueFromJSON `json:"valueFrom"`
	}
	valueFromJSON struct {
		SecretKeyRef secretKeyRefJSON `json:"secretKeyRef"`
	}
	secretKeyRefJSON struct {
		Name     string `json:"name"`
		Key      string `json:"key"`
		Optional bool   `json:"optional"`
	}
	envJSON struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
)

// patch collects operations over one pod.
type patch struct {
	pod *Pod
	ops []Operation
}

// Patch returns the plan as operations over the pod that it was made for. An index holds for that very object alone.
func (p *Plan) Patch(pod *Pod) []Operation {
	b := patch{pod: pod}
	b.metadata(p.Labels, p.Annotations)
	if p.Volume != nil {
		b.append("/spec/volumes", len(pod.Spec.Volumes) == 0, *p.Volume)
	}
	mount := &mountJSON{VolumeName, p.MountPath, true}
	for _, at := range p.Mounts {
		b.append(at.path("/volumeMounts"), at.first, mount)
	}
	b.env(&p.Env)
	return b.ops
}

func (b *patch) add(path string, value any) { b.operation("add", path, value) }

func (b *patch) replace(path string, value any) { b.operation("replace", path, value) }

func (b *patch) operation(op, path string, value any) {
	if b.ops == nil {
		const usual = 8
		b.ops = make([]Operation, 0, usual)
	}
	b.ops = append(b.ops, Operation{op, path, value})
}

// append adds a value to an array, which an addition to `/-` needs to be there.
func (b *patch) append(array string, first bool, value any) {
	if first {
		b.add(array, []any{value})
		return
	}
	b.add(array+"/-", value)
}

// metadata sets labels and annotations, parents first.
func (b *patch) metadata(labels, annotations []keyValue) {
	if b.pod.Metadata == nil {
		if len(labels)+len(annotations) > 0 {
			b.add("/metadata", struct {
				Labels      map[string]string `json:"labels,omitempty"`
				Annotations map[string]string `json:"annotations,omitempty"`
			}{asMap(labels), asMap(annotations)})
		}
		return
	}
	b.set("/metadata/labels", b.pod.Metadata.Labels, labels)
	b.set("/metadata/annotations", b.pod.Metadata.Annotations, annotations)
}

func (b *patch) set(parent string, existing map[string]string, pairs []keyValue) {
	if len(pairs) == 0 {
		return
	}
	if len(existing) == 0 {
		b.add(parent, asMap(pairs))
		return
	}
	for _, pair := range pairs {
		path := parent + "/" + escape(pair.key)
		if _, ok := existing[pair.key]; ok {
			b.replace(path, pair.value)
		} else {
			b.add(path, pair.value)
		}
	}
}

// env sets PROXY_CONFIG and puts the token ahead of it: the replace first, since the addition shifts its index.
func (b *patch) env(e *envPlan) {
	if !e.addToken && e.proxyConfig == "" {
		return
	}
	array := e.sidecar.path("/env")
	if e.proxyConfig != "" && e.proxyAt >= 0 {
		b.replace(array+"/"+strconv.Itoa(e.proxyAt)+"/value", e.proxyConfig)
	}
	if e.addToken && e.tokenAt >= 0 {
		b.add(array+"/"+strconv.Itoa(e.tokenAt), e.token)
	}
	if e.addToken && e.tokenAt < 0 {
		b.append(array, e.length == 0, e.token)
		e.length++
	}
	if e.proxyConfig != "" && e.proxyAt < 0 {
		b.append(array, e.length == 0, envJSON{istio.ProxyConfigEnv, e.proxyConfig})
	}
}

func (p place) path(field string) string {
	return "/spec/" + p.list + "/" + strconv.Itoa(p.index) + field
}

// escape writes a key as a token of a JSON pointer (RFC 6901).
func escape(key string) string {
	return strings.ReplaceAll(strings.ReplaceAll(key, "~", "~0"), "/", "~1")
}

func asMap(pairs []keyValue) map[string]string {
	if len(pairs) == 0 {
		return nil
	}
	m := make(map[string]string, len(pairs))
	for _, pair := range pairs {
		m[pair.key] = pair.value
	}
	return m
}
