package istio

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"sigs.k8s.io/yaml"
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
	tracingField   = "tracing"
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

func withTracing(fields map[string]jsontext.Value, block jsontext.Value) (string, error) {
	fields[tracingField] = block
	merged, err := json.Marshal(fields, json.Deterministic(true))
	return string(merged), err
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
