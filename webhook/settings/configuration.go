package settings

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
)

const (
	// APIVersion and Kind head every configuration file.
	APIVersion = "injector.lightstep.com/v1alpha1"
	// Kind is the kind of a configuration file.
	Kind = "InjectorConfiguration"
	// DefaultProfile is the profile of a namespace that names none.
	DefaultProfile = "default"
)

// Configuration is the file as written.
type Configuration struct {
	APIVersion string             `json:"apiVersion"`
	Kind       string             `json:"kind"`
	Profiles   map[string]Profile `json:"profiles"`
	Overrides  Overrides          `json:"overrides"`
	Istio      Istio              `json:"istio"`
	// ExemptNamespaces are never touched, beyond the built-in ones; globs.
	ExemptNamespaces []string `json:"exemptNamespaces"`
}

// Profile is one way of reporting spans.
type Profile struct {
	// Namespaces are where the profile may be picked; globs.
	Namespaces []string  `json:"namespaces"`
	Satellite  Satellite `json:"satellite"`
	// CACertificate is the satellite CA; null where the system's roots do, so nothing is mounted.
	CACertificate *CACertificate `json:"caCertificate"`
	AccessToken   AccessToken    `json:"accessToken"`
	// Sampling in percent, above 0 and up to 100.
	Sampling float64 `json:"sampling"`
	// CustomTags are literal tags on each of the sidecar's spans.
	CustomTags map[string]string `json:"customTags"`
	Mesh       Mesh              `json:"mesh"`
}

// Satellite is where spans go.
type Satellite struct {
	// Address is host:port; empty while it is not known yet.
	Address string `json:"address"`
	// Secure turns TLS on.
	Secure bool `json:"secure"`
	// ServerName is sent as SNI; the address's host if empty.
	ServerName string `json:"serverName"`
}

// CACertificate names the Secret of the satellite CA and where it is mounted.
type CACertificate struct {
	SecretName string    `json:"secretName"`
	Key        string    `json:"key"`
	MountPath  string    `json:"mountPath"`
	MountInto  MountInto `json:"mountInto"`
	// Source is what is copied into labelled namespaces; null where the Secrets there are somebody else's work.
	Source *Source `json:"source,omitzero"`
}

// Source is a Secret in the injector's own namespace, from which the Secrets in labelled namespaces are copied. It has the
// same key as they.
type Source struct {
	Name string `json:"name"`
}

// MountInto says which containers get the mount.
type MountInto string

const (
	// MountIntoAll is every container but plain init containers.
	MountIntoAll MountInto = "all"
	// MountIntoProxy is the sidecar alone.
	MountIntoProxy MountInto = "proxy"
)

// AccessToken names the Secret of the token and how the sidecar comes by it.
type AccessToken struct {
	SecretName string   `json:"secretName"`
	Key        string   `json:"key"`
	Delivery   Delivery `json:"delivery"`
	// Source is what is copied into the allowed namespaces; null where the injector hands out no token.
	Source *Source `json:"source,omitzero"`
	// AllowedNamespaces are those that may be given the token: a copy of its Secret, or an annotation; globs.
	AllowedNamespaces []string `json:"allowedNamespaces"`
}

// Delivery says how the token reaches a sidecar of Istio 1.7 to 1.14.
type Delivery string

const (
	// DeliverBySecret has the sidecar read the token from its Secret, by env.
	DeliverBySecret Delivery = "secret"
	// DeliverByAnnotation writes the token's value into the pod's annotation: whoever reads pods reads it.
	DeliverByAnnotation Delivery = "annotation"
)

// Mesh says what is known of Istio.
type Mesh struct {
	// Tracer is auto, or what the mesh uses.
	Tracer istio.Tracer `json:"tracer"`
	// IstioVersion is the version of the mesh, such as "1.24"; empty if unknown.
	IstioVersion string `json:"istioVersion"`
}

// TracerAuto picks the tracer by Istio's version.
const TracerAuto istio.Tracer = "auto"

// Istio says where Istio is found, and what is kept for it.
type Istio struct {
	// Namespaces are those that Istio's control planes run in.
	Namespaces []string `json:"namespaces"`
	// Manage has the Telemetry and what goes with it kept in each labelled namespace.
	Manage bool `json:"manage"`
	// Provider is the name of MeshConfig's extensionProvider through which spans go.
	Provider string `json:"provider"`
}

// Overrides lists what a namespace's and a pod's annotations may change.
type Overrides struct {
	Namespace []Setting `json:"namespace"`
	Pod       []Setting `json:"pod"`
}

// Setting names what an annotation may change.
type Setting string

// The settings that annotations may change, where `overrides` lists them.
const (
	SettingProfile    Setting = "profile"
	SettingSampling   Setting = "sampling"
	SettingCustomTags Setting = "customTags"
)

func defaultConfiguration() Configuration {
	return Configuration{
		Overrides: Overrides{
			Namespace: []Setting{SettingProfile, SettingSampling, SettingCustomTags},
			Pod:       []Setting{SettingSampling, SettingCustomTags},
		},
		Istio: Istio{Namespaces: []string{"istio-system"}, Provider: "lightstep"},
	}
}

func defaultProfile() Profile {
	ca := defaultCACertificate()
	return Profile{
		Namespaces:    []string{"*"},
		Satellite:     Satellite{Secure: true},
		CACertificate: &ca,
		AccessToken:   AccessToken{SecretName: "lightstep-access-token", Key: "token", Delivery: DeliverBySecret},
		Sampling:      100,
		Mesh:          Mesh{Tracer: TracerAuto},
	}
}

func defaultCACertificate() CACertificate {
	return CACertificate{
		SecretName: "lightstep.cacert", Key: "cacert.pem", MountPath: "/etc/lightstep", MountInto: MountIntoAll,
		Source: &Source{Name: "lightstep.cacert"},
	}
}

// UnmarshalJSONFrom fills in the defaults of what the file leaves out. A null stays a null.
func (p *Profile) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	type plain Profile
	read := plain(defaultProfile())
	if err := json.UnmarshalDecode(dec, &read); err != nil {
		return err
	}
	*p = Profile(read)
	return nil
}
