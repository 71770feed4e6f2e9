package settings

import (
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
)

// problems collects what is wrong with a configuration, a line each.
type problems []error

func (p *problems) add(field string, value any, fix string) {
	*p = append(*p, fmt.Errorf("%s: %s: %s", field, quote(value), fix))
}

func quote(value any) string {
	switch v := value.(type) {
	case string:
		return strconv.Quote(v)
	case nil:
		return "missing"
	}
	return fmt.Sprint(value)
}

// validate returns every problem of a configuration, in the order of its fields.
func validate(c *Configuration) []error {
	var p problems
	if c.APIVersion != APIVersion {
		p.add("apiVersion", c.APIVersion, "write "+APIVersion)
	}
	if c.Kind != Kind {
		p.add("kind", c.Kind, "write "+Kind)
	}
	if _, ok := c.Profiles[DefaultProfile]; !ok {
		p.add("profiles.default", nil, "add it; it serves every namespace that names no profile")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Profiles)) {
		p.profile("profiles."+name, name, c.Profiles[name])
	}
	p.secrets(c)
	p.overrides("overrides.namespace", c.Overrides.Namespace, SettingProfile, SettingSampling, SettingCustomTags)
	p.overrides("overrides.pod", c.Overrides.Pod, SettingSampling, SettingCustomTags)
	p.istio("istio", c.Istio)
	p.globs("exemptNamespaces", c.ExemptNamespaces)
	return p
}

func (p *problems) istio(field string, i Istio) {
	for at, namespace := range i.Namespaces {
		if len(validation.IsDNS1123Label(namespace)) > 0 {
			p.add(fmt.Sprintf("%s.namespaces[%d]", field, at), namespace, "write the name of a namespace, such as istio-system")
		}
	}
	if len(validation.IsDNS1123Subdomain(i.Provider)) > 0 {
		p.add(field+".provider", i.Provider, "write the name of an extensionProvider of MeshConfig, such as lightstep")
	}
}

func (p *problems) profile(field, name string, profile Profile) {
	if len(validation.IsDNS1123Label(name)) > 0 {
		p.add("profiles", name, "a profile's name has lower-case letters, digits and '-', at most 63")
	}
	if len(profile.Namespaces) == 0 {
		p.add(field+".namespaces", nil, `list where the profile may be picked, or leave the field out for ["*"]`)
	}
	p.globs(field+".namespaces", profile.Namespaces)
	p.satellite(field+".satellite", profile.Satellite)
	if profile.CACertificate != nil {
		p.caCertificate(field+".caCertificate", *profile.CACertificate)
	}
	p.accessToken(field+".accessToken", profile.AccessToken)
	if err := checkSampling(profile.Sampling); err != nil {
		p.add(field+".sampling", profile.Sampling, err.Error())
	}
	if err := checkTags(profile.CustomTags); err != nil {
		p.add(field+".customTags", profile.CustomTags, err.Error())
	}
	p.mesh(field+".mesh", profile.Mesh)
}

func (p *problems) satellite(field string, s Satellite) {
	if s.Address != "" {
		if err := checkAddress(s.Address); err != nil {
			p.add(field+".address", s.Address, err.Error())
		}
	}
	if s.ServerName != "" && len(validation.IsDNS1123Subdomain(s.ServerName)) > 0 {
		p.add(field+".serverName", s.ServerName, "write a host name, such as ingest.lightstep.com")
	}
}

// checkAddress wants host:port, IPv6 in brackets.
func checkAddress(address string) error {
	if scheme, rest, found := strings.Cut(address, "://"); found {
		return fmt.Errorf("leave out %s://; write host:port, such as %s", scheme, hostPortOf(rest))
	}
	u, err := url.Parse("//" + address)
	bare := !strings.HasPrefix(address, "[") && strings.Count(address, ":") > 1
	if err != nil || bare || u.Host != address || u.Hostname() == "" {
		return fmt.Errorf("write host:port, with IPv6 in brackets, such as lightstep-satellite.lightstep:9292 or [fd00::1]:9292")
	}
	if port, err := strconv.ParseUint(u.Port(), 10, 16); err != nil || port == 0 || u.Port()[0] == '0' {
		return fmt.Errorf("add a port from 1 to 65535, such as %s", hostPortOf(u.Hostname()))
	}
	if !isIP(u.Hostname()) && len(validation.IsDNS1123Subdomain(u.Hostname())) > 0 {
		return fmt.Errorf("%q is neither a host name nor an IP address", u.Hostname())
	}
	return nil
}

func hostPortOf(rest string) string {
	host, _, _ := strings.Cut(rest, "/")
	if strings.Contains(host, "]:") || (strings.Count(host, ":") == 1) {
		return host
	}
	if strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
		host = "[" + host + "]"
	}
	return host + ":443"
}

func (p *problems) caCertificate(field string, ca CACertificate) {
	p.secretKey(field, ca.SecretName, ca.Key)
	p.source(field+".source", ca.Source)
	if err := checkMountPath(ca.MountPath); err != nil {
		p.add(field+".mountPath", ca.MountPath, err.Error())
	}
	if ca.MountInto != MountIntoAll && ca.MountInto != MountIntoProxy {
		p.add(field+".mountInto", string(ca.MountInto), "write all or proxy")
	}
}

// checkMountPath keeps the mount away from what a container needs to run.
func checkMountPath(mountPath string) error {
	if !path.IsAbs(mountPath) || strings.Contains(mountPath, ":") || strings.ContainsFunc(mountPath, unicode.IsControl) {
		return fmt.Errorf("write an absolute path without ':', such as /etc/lightstep")
	}
	if path.Clean(mountPath) != mountPath {
		return fmt.Errorf("write it as %s", path.Clean(mountPath))
	}
	for _, kept := range []string{"/proc", "/sys", "/dev", "/var/run/secrets", "/run/secrets"} {
		if Collide(mountPath, kept) {
			return fmt.Errorf("it would cover or lie in %s; write another path, such as /etc/lightstep", kept)
		}
	}
	return nil
}

// Collide tells whether one of two mount paths equals, contains or lies under the other.
func Collide(a, b string) bool {
	a, b = path.Clean(a), path.Clean(b)
	return a == b || within(a, b) || within(b, a)
}

// within tells whether inner lies under outer; both are clean.
func within(inner, outer string) bool {
	if outer == "/" {
		return true
	}
	return len(inner) > len(outer) && inner[len(outer)] == '/' && inner[:len(outer)] == outer
}

func (p *problems) accessToken(field string, t AccessToken) {
	p.secretKey(field, t.SecretName, t.Key)
	if t.Delivery != DeliverBySecret && t.Delivery != DeliverByAnnotation {
		p.add(field+".delivery", string(t.Delivery), "write secret or annotation")
	}
	p.source(field+".source", t.Source)
	p.globs(field+".allowedNamespaces", t.AllowedNamespaces)
}

func (p *problems) source(field string, source *Source) {
	if source != nil && len(validation.IsDNS1123Subdomain(source.Name)) > 0 {
		p.add(field+".name", source.Name, "write the name of a Secret in the injector's own namespace, or null to copy nothing")
	}
}

// secrets keeps satellite CAs and access tokens in Secrets of different names: of a token's Secret nothing but the metadata
// is ever read where it is not the source, and a copy holds one key.
func (p *problems) secrets(c *Configuration) {
	cas := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(c.Profiles)) {
		ca := c.Profiles[name].CACertificate
		if ca == nil {
			continue
		}
		cas[ca.SecretName] = "profiles." + name + ".caCertificate.secretName"
		if ca.Source != nil {
			cas[ca.Source.Name] = "profiles." + name + ".caCertificate.source.name"
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Profiles)) {
		token, field := c.Profiles[name].AccessToken, "profiles."+name+".accessToken"
		if of, taken := cas[token.SecretName]; taken {
			p.add(field+".secretName", token.SecretName, "it is the Secret of "+of+", too: keep the token in one of its own")
		}
		if token.Source == nil {
			continue
		}
		if of, taken := cas[token.Source.Name]; taken {
			p.add(field+".source.name", token.Source.Name, "it is the Secret of "+of+", too: keep the token in one of its own")
		}
	}
}

func (p *problems) secretKey(field, name, key string) {
	if len(validation.IsDNS1123Subdomain(name)) > 0 {
		p.add(field+".secretName", name, "write the name of a Secret: lower-case letters, digits, '-' and '.'")
	}
	if len(validation.IsConfigMapKey(key)) > 0 {
		p.add(field+".key", key, "write the key of a Secret: letters, digits, '-', '_' and '.'")
	}
}

func (p *problems) mesh(field string, m Mesh) {
	switch m.Tracer {
	case TracerAuto, istio.Lightstep, istio.OpenTelemetry, istio.NoTracer:
	default:
		p.add(field+".tracer", string(m.Tracer), "write auto, lightstep, opentelemetry or none")
		return
	}
	caps, err := istio.Of(m.IstioVersion)
	if err != nil {
		p.add(field+".istioVersion", m.IstioVersion, err.Error())
		return
	}
	explicit := m.Tracer == istio.Lightstep || m.Tracer == istio.OpenTelemetry
	if explicit && caps.Known && m.Tracer != caps.Tracer {
		p.add(field+".tracer", string(m.Tracer), fmt.Sprintf("the proxy of Istio %s has the tracer %s; write auto", m.IstioVersion, caps.Tracer))
	}
}

func (p *problems) overrides(field string, list []Setting, allowed ...Setting) {
	for i, setting := range list {
		if !slices.Contains(allowed, setting) {
			p.add(fmt.Sprintf("%s[%d]", field, i), string(setting), fmt.Sprintf("write one of %v", allowed))
		}
	}
}

func (p *problems) globs(field string, globs []string) {
	for i, glob := range globs {
		if _, err := path.Match(glob, ""); err != nil || glob == "" {
			p.add(fmt.Sprintf("%s[%d]", field, i), glob, "write a namespace's name or a pattern such as team-*")
		}
	}
}

func checkSampling(percent float64) error {
	switch {
	case percent == 0:
		return fmt.Errorf("Istio reads 0 as unset; to turn tracing off write mesh.tracer: none")
	case percent > 0 && percent <= 100:
		return nil
	}
	return fmt.Errorf("write a percentage above 0 and up to 100")
}

const (
	maxTags      = 64
	maxTagLength = 256
)

// checkTags bounds what goes on every span.
func checkTags(tags map[string]string) error {
	if len(tags) > maxTags {
		return fmt.Errorf("there are %d tags; at most %d are taken", len(tags), maxTags)
	}
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		if key == "" || strings.ContainsFunc(key, unicode.IsSpace) {
			return fmt.Errorf("the tag %q needs a name without white space", key)
		}
		if len(key) > maxTagLength || len(tags[key]) > maxTagLength {
			return fmt.Errorf("the tag %q or its value is longer than %d bytes", key, maxTagLength)
		}
		if strings.ContainsFunc(key+tags[key], unicode.IsControl) {
			return fmt.Errorf("the tag %q has a control character", key)
		}
	}
	return nil
}

// WithoutSatellite names the profiles whose pods pass unchanged, since nothing says to whom they are to report.
func (s *Settings) WithoutSatellite() []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(s.profiles)) {
		if s.profiles[name].withoutSatellite() {
			names = append(names, name)
		}
	}
	return names
}

func (p *compiledProfile) withoutSatellite() bool { return p.Satellite.Address == "" }

// Advice lists what is valid but worth knowing, a line each.
func (s *Settings) Advice() []string {
	var advice []string
	for _, name := range slices.Sorted(maps.Keys(s.profiles)) {
		profile, field := s.profiles[name], "profiles."+name
		if profile.withoutSatellite() {
			advice = append(advice, field+".satellite.address is empty: pods pass unchanged until it is set to host:port")
		}
		if profile.AccessToken.Source != nil && len(profile.AccessToken.AllowedNamespaces) == 0 {
			advice = append(advice, field+".accessToken.source is set, and allowedNamespaces is empty: the token is copied nowhere")
		}
		if !profile.Satellite.Secure {
			advice = append(advice, field+".satellite.secure is false: spans and the access token go in the clear")
		}
		if profile.caps.Tracer == istio.Lightstep && profile.Satellite.Secure && !profile.caps.ServerName {
			advice = append(advice, field+": Istio before 1.9 sends no server name (SNI); a public satellite endpoint may need one")
		}
	}
	return advice
}

func isIP(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}
