package istio

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"sigs.k8s.io/yaml"

	"github.com/lightstep-injector/lightstep-injector/webhook/yamlkeys"
)

const (
	// ProxyConfigAnnotation holds a ProxyConfig as YAML or JSON. pilot-agent reads it last, so it beats the env, and its
	// `tracing` replaces the mesh's whole (istio#32114).
	ProxyConfigAnnotation = "proxy.istio.io/config"
	// ProxyConfigEnv holds, in the sidecar, the ProxyConfig of mesh and pod as JSON (istio@1.7.0 pkg/kube/inject).
	ProxyConfigEnv = "PROXY_CONFIG"
	// SystemRoots is the bundle of public roots in Istio's proxy images. Without caCertificates a proxy would take any
	// certificate (istio.io/api networking/v1alpha3 ClientTLSSettings).
	SystemRoots = "/etc/ssl/certs/ca-certificates.crt"

	// maxProxyConfig bounds what is parsed of a user's text, in bytes. A ProxyConfig with everything set is about 4 KiB.
	maxProxyConfig = 64 << 10

	tracingField    = "tracing"
	lightstepField  = "lightstep"
	samplingField   = "sampling"
	customTagsField = "customTags"
	tlsField        = "tlsSettings"
	caField         = "caCertificates"
)

// ErrUserTracing says that a ProxyConfig has a `tracing` block that is not ours.
var ErrUserTracing = errors.New("it has a tracing block of its own")

// Tracing is the native Lightstep tracer of Istio 1.7 to 1.14.
type Tracing struct {
	// Address of the satellites, host:port.
	Address string
	// AccessToken is the token itself, or a reference $(NAME) to an env of the sidecar.
	AccessToken string
	// Sampling in percent.
	Sampling float64
	// CustomTags are literal tags on each span.
	CustomTags map[string]string
	// Secure turns TLS on. Without it token and spans go in the clear.
	Secure bool
	// CAFile holds the satellites' CA in the sidecar; ServerName is sent as SNI.
	CAFile, ServerName string
}

// The JSON form of istio.io/api mesh/v1alpha1 Tracing, as far as it is written here.
type (
	tracingJSON struct {
		Lightstep   lightstepJSON      `json:"lightstep"`
		Sampling    float64            `json:"sampling"`
		CustomTags  map[string]tagJSON `json:"customTags,omitempty"`
		TLSSettings *tlsJSON           `json:"tlsSettings,omitempty"`
	}
	lightstepJSON struct {
		Address     string `json:"address"`
		AccessToken string `json:"accessToken"`
	}
	tagJSON struct {
		Literal literalJSON `json:"literal"`
	}
	literalJSON struct {
		Value string `json:"value"`
	}
	tlsJSON struct {
		Mode           string `json:"mode"`
		CACertificates string `json:"caCertificates"`
		SNI            string `json:"sni,omitempty"`
	}
)

// Block returns the complete `tracing` block: it replaces the mesh's, so nothing may be missing.
func (t Tracing) Block() (jsontext.Value, error) {
	block := tracingJSON{
		Lightstep: lightstepJSON{Address: t.Address, AccessToken: t.AccessToken},
		Sampling:  t.Sampling,
	}
	if len(t.CustomTags) > 0 {
		block.CustomTags = make(map[string]tagJSON, len(t.CustomTags))
		for key, value := range t.CustomTags {
			block.CustomTags[key] = tagJSON{literalJSON{value}}
		}
	}
	if t.Secure {
		block.TLSSettings = &tlsJSON{Mode: "SIMPLE", CACertificates: t.CAFile, SNI: t.ServerName}
	}
	return json.Marshal(block, json.Deterministic(true))
}

// ForEnv returns t with every value but the token's reference escaped, so that the kubelet, which expands $(NAME) in env
// values, hands the sidecar what was written (k8s.io/kubernetes third_party/forked/golang/expansion).
func (t Tracing) ForEnv() Tracing {
	escape := func(s string) string { return strings.ReplaceAll(s, "$", "$$") }
	tags := make(map[string]string, len(t.CustomTags))
	for key, value := range t.CustomTags {
		tags[escape(key)] = escape(value)
	}
	t.CustomTags = tags
	t.Address, t.CAFile, t.ServerName = escape(t.Address), escape(t.CAFile), escape(t.ServerName)
	return t
}

// MergeAnnotation returns the annotation proxy.istio.io/config with the tracing block added, as JSON; unchanged where it
// is there already. ErrUserTracing where the user has one of their own; another error where the text cannot be read.
func MergeAnnotation(config string, block jsontext.Value) (string, error) {
	fields, err := parseProxyConfig(config)
	if err != nil {
		return "", err
	}
	if own, ok := fields[tracingField]; ok {
		if !equal(own, block) {
			return "", ErrUserTracing
		}
		return config, nil
	}
	return withTracing(fields, block)
}

// CheckAnnotation returns ErrUserTracing where the annotation has a tracing block, and another error where the text cannot
// be read.
func CheckAnnotation(config string) error {
	fields, err := parseProxyConfig(config)
	if err != nil {
		return err
	}
	if _, ok := fields[tracingField]; ok {
		return ErrUserTracing
	}
	return nil
}

// MergeEnv returns the value of PROXY_CONFIG with its tracing block, which is the mesh's, replaced by ours; unchanged
// where that is there already. Two tracers in one block would leave the choice to chance.
func MergeEnv(config string, block jsontext.Value) (string, error) {
	fields, err := parseProxyConfig(config)
	if err != nil {
		return "", err
	}
	if equal(fields[tracingField], block) {
		return config, nil
	}
	return withTracing(fields, block)
}

// Explicit is what a user or a namespace has set of the sidecar's spans; a profile's defaults are not in it.
type Explicit struct {
	// Sampling in percent; 0 where it is not set.
	Sampling float64
	// CustomTags are literal tags.
	CustomTags map[string]string
}

// Empty tells whether nothing is set.
func (e Explicit) Empty() bool { return e.Sampling == 0 && len(e.CustomTags) == 0 }

// MergeExplicit returns the annotation proxy.istio.io/config with a tracing block of the mesh's own, what the user wrote
// over it, and what is explicitly set added: a block replaces the mesh's whole, so nothing of that may be missing. Where
// the user's block has a field of its own, that stays, and clashes names the field.
func MergeExplicit(config string, mesh map[string]jsontext.Value, e Explicit) (merged string, clashes []string, err error) {
	fields, err := parseProxyConfig(config)
	if err != nil {
		return "", nil, err
	}
	var user map[string]jsontext.Value
	if own, ok := fields[tracingField]; ok && json.Unmarshal(own, &user) != nil {
		return "", nil, errors.New("its tracing is not a mapping of fields")
	}
	block := withMesh(user, mesh)
	clashes = append(e.mergeSampling(block, user), e.mergeTags(block, user)...)
	text, err := json.Marshal(block, json.Deterministic(true))
	if err != nil {
		return "", nil, fmt.Errorf("write the tracing block: %w", err)
	}
	if equal(fields[tracingField], text) {
		return config, clashes, nil
	}
	merged, err = withTracing(fields, text)
	return merged, clashes, err
}

// withMesh is the user's block with the mesh's fields that it lacks. Of the tracers, one at most may be set.
func withMesh(user, mesh map[string]jsontext.Value) map[string]jsontext.Value {
	block := make(map[string]jsontext.Value, len(user)+len(mesh))
	maps.Copy(block, user)
	for name, value := range mesh {
		if _, there := first(user, name, snake(name), camel(name)); there || (isTracer(name) && slices.ContainsFunc(slices.Collect(maps.Keys(user)), isTracer)) {
			continue
		}
		block[name] = value
	}
	return block
}

func (e Explicit) mergeSampling(block, user map[string]jsontext.Value) (clashes []string) {
	if e.Sampling == 0 {
		return nil
	}
	ours, _ := json.Marshal(e.Sampling) // a number
	if own, ok := user[samplingField]; ok {
		if !equal(own, ours) {
			return []string{samplingField}
		}
		return nil
	}
	block[samplingField] = ours
	return nil
}

// mergeTags adds the tags to those that are there, under the name by which they are.
func (e Explicit) mergeTags(block, user map[string]jsontext.Value) (clashes []string) {
	if len(e.CustomTags) == 0 {
		return nil
	}
	name := customTagsField
	if _, ok := block[snake(name)]; ok {
		name = snake(name)
	}
	all, readable := tagsOf(block[name])
	if !readable {
		return []string{name}
	}
	own, _ := tagsOf(user[name])
	for _, key := range slices.Sorted(maps.Keys(e.CustomTags)) {
		ours, _ := json.Marshal(tagJSON{literalJSON{e.CustomTags[key]}}) // strings
		if theirs, ok := own[key]; ok {
			if !equal(theirs, ours) {
				clashes = append(clashes, name+"."+key)
			}
			continue
		}
		all[key] = ours
	}
	block[name], _ = json.Marshal(all, json.Deterministic(true))
	return clashes
}

// tagsOf reads a customTags.
func tagsOf(raw jsontext.Value) (tags map[string]jsontext.Value, readable bool) {
	tags = map[string]jsontext.Value{}
	if raw == nil {
		return tags, true
	}
	err := json.Unmarshal(raw, &tags)
	return tags, err == nil && tags != nil
}

// isTracer tells the members of the oneof (istio.io/api@1.31.0 mesh/v1alpha1/proxy.proto, Tracing.tracer).
func isTracer(field string) bool {
	switch camel(field) {
	case "zipkin", lightstepField, "datadog", "stackdriver", "openCensusAgent":
		return true
	}
	return false
}

// caFile is the file of a tracing block's tlsSettings; empty where it has none.
func caFile(tracing map[string]jsontext.Value) (file string) {
	tls, _ := first(tracing, tlsField, snake(tlsField))
	var fields map[string]jsontext.Value
	if json.Unmarshal(tls, &fields) != nil {
		return ""
	}
	value, _ := first(fields, caField, snake(caField))
	_ = json.Unmarshal(value, &file) // what is no text is no file
	return file
}

func first(fields map[string]jsontext.Value, names ...string) (jsontext.Value, bool) {
	for _, name := range names {
		if value, ok := fields[name]; ok {
			return value, true
		}
	}
	return nil, false
}

// camel and snake write a field's name in the one and the other of the two ways in which protojson reads it.
func camel(name string) string {
	var out strings.Builder
	up := false
	for _, r := range name {
		if r == '_' {
			up = true
			continue
		}
		if up {
			r, up = unicode.ToUpper(r), false
		}
		_, _ = out.WriteRune(r)
	}
	return out.String()
}

func snake(name string) string {
	var out strings.Builder
	for _, r := range name {
		if unicode.IsUpper(r) {
			_ = out.WriteByte('_')
			r = unicode.ToLower(r)
		}
		_, _ = out.WriteRune(r)
	}
	return out.String()
}

// UserTracing returns the tracing block of the annotation proxy.istio.io/config, by field; nil where there is none, or it
// cannot be read.
func UserTracing(config string) map[string]jsontext.Value {
	fields, err := parseProxyConfig(config)
	own, ok := fields[tracingField]
	if err != nil || !ok {
		return nil
	}
	block := map[string]jsontext.Value{}
	if json.Unmarshal(own, &block) != nil {
		return map[string]jsontext.Value{}
	}
	return block // nil for a null, which to Istio is none
}

// HasNativeTracer tells whether the annotation has a tracing.lightstep, with which a proxy from 1.15 on does not start.
func HasNativeTracer(config string) bool {
	if !strings.Contains(config, lightstepField) {
		return false // the common case costs no parsing
	}
	_, ok := UserTracing(config)[lightstepField]
	return ok
}

func withTracing(fields map[string]jsontext.Value, block jsontext.Value) (string, error) {
	fields[tracingField] = block
	merged, err := json.Marshal(fields, json.Deterministic(true))
	if err != nil {
		return "", fmt.Errorf("write the ProxyConfig: %w", err)
	}
	// To Istio the result is YAML, which has limits that JSON does not know, such as a key's length.
	if _, err := yaml.YAMLToJSONStrict(merged); err != nil {
		return "", errors.New("it has something that YAML cannot hold in this form")
	}
	return string(merged), nil
}

// parseProxyConfig reads the top-level fields, each left as it is. JSON is kept to the letter; YAML becomes JSON. What
// Istio, to which all of it is YAML, could not read is not read here either.
func parseProxyConfig(config string) (map[string]jsontext.Value, error) {
	if len(config) > maxProxyConfig {
		return nil, fmt.Errorf("it has %d bytes; at most %d are read", len(config), maxProxyConfig)
	}
	asJSON, err := yaml.YAMLToJSONStrict([]byte(config))
	if err != nil { // which may quote the text
		return nil, errors.New("it is neither YAML nor JSON, or a field stands in it twice")
	}
	fields := map[string]jsontext.Value{}
	if json.Unmarshal([]byte(config), &fields) == nil && fields != nil {
		return fields, nil
	}
	if _, found := yamlkeys.Clash([]byte(config)); found {
		return nil, errors.New("two keys of a mapping in it are the same field")
	}
	fields = map[string]jsontext.Value{}
	if bytes.Equal(asJSON, []byte("null")) {
		return fields, nil
	}
	if err := json.Unmarshal(asJSON, &fields); err != nil {
		return nil, errors.New("it is not a ProxyConfig: a mapping of fields is needed")
	}
	return fields, nil
}

// equal compares two JSON values whatever the order of their members.
func equal(a, b jsontext.Value) bool {
	a, b = a.Clone(), b.Clone()
	return a.Canonicalize() == nil && b.Canonicalize() == nil && bytes.Equal(a, b)
}
