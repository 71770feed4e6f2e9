package settings

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
)

// The annotations by which a namespace or a pod changes a setting.
const (
	Prefix               = "lightstep.com/"
	ProfileAnnotation    = Prefix + "profile"
	SamplingAnnotation   = Prefix + "sampling"
	CustomTagsAnnotation = Prefix + "custom-tags"
)

// ErrProfileUnknown and ErrProfileNotAllowed say why a namespace has no profile.
var (
	ErrProfileUnknown    = errors.New("the configuration has no such profile")
	ErrProfileNotAllowed = errors.New("the profile's namespaces do not include this one")
)

// Resolved is what holds for one pod: a profile, with the annotations of its namespace and its own applied.
type Resolved struct {
	// Profile is the profile's name, Config a hash of all that follows but the token.
	Profile, Config string
	Satellite       Satellite
	CACertificate   *CACertificate
	AccessToken     AccessToken
	Sampling        float64
	CustomTags      map[string]string
	// Explicit is what annotations of the namespace or the pod set.
	Explicit istio.Explicit
	Tracer   istio.Tracer
	Istio    istio.Capabilities
	// Token is set where the profile delivers it by annotation and it was given.
	Token Token
}

// Ignored is an annotation that was not followed.
type Ignored struct {
	// Scope is whose annotation it is: pod or namespace.
	Scope      string
	Annotation string
	Value      string
	// NotAllowed says that `overrides` does not list it; otherwise the value cannot be used.
	NotAllowed bool
	// Fix says what to do.
	Fix string
}

// Resolve returns what holds for a pod of a namespace, and the annotations that were not followed. The error is
// ErrProfileUnknown or ErrProfileNotAllowed, wrapped with the names.
func (s *Settings) Resolve(namespace string, ofNamespace, ofPod map[string]string) (Resolved, []Ignored, error) {
	r := resolution{settings: s}
	namespaceSays := r.allowed("namespace", ofNamespace, s.configuration.Overrides.Namespace)
	podSays := r.allowed("pod", ofPod, s.configuration.Overrides.Pod)

	name := DefaultProfile
	if chosen, ok := namespaceSays[SettingProfile]; ok {
		name = chosen
	}
	profile, err := s.selected(name, namespace)
	if err != nil {
		return Resolved{}, r.ignored, err
	}
	resolved := profile.resolved()
	r.apply(&resolved, "namespace", namespaceSays)
	r.apply(&resolved, "pod", podSays)
	if r.changed {
		resolved.Config = overriddenHash(profile.hash, resolved)
	}
	return resolved, r.ignored, nil
}

// Profile returns what a profile says, with no annotation applied, if it may be picked in all of the namespaces. The error
// is ErrProfileUnknown or ErrProfileNotAllowed, wrapped with the names.
func (s *Settings) Profile(name string, namespaces ...string) (Resolved, error) {
	profile, err := s.profile(name)
	if err != nil {
		return Resolved{}, err
	}
	for _, namespace := range namespaces {
		if err := profile.allowedIn(namespace); err != nil {
			return Resolved{}, fmt.Errorf("namespace %s: %w", namespace, err)
		}
	}
	return profile.resolved(), nil
}

// selected returns the profile that a namespace selects. The error is shown to tenants: it names only profiles that the
// namespace may select, and no pattern of other namespaces.
func (s *Settings) selected(name, namespace string) (*compiledProfile, error) {
	profile, ok := s.profiles[name]
	cause := ErrProfileNotAllowed
	switch {
	case !ok:
		cause = ErrProfileUnknown
	case matches(profile.Namespaces, namespace):
		return profile, nil
	}
	return nil, fmt.Errorf("%w: %q; namespace %s may select %s", cause, name, namespace, s.selectable(namespace))
}

// selectable names the profiles that a namespace may select.
func (s *Settings) selectable(namespace string) string {
	var names []string
	for name, profile := range s.profiles {
		if matches(profile.Namespaces, namespace) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return cmp.Or(strings.Join(names, ", "), "none")
}

func (s *Settings) profile(name string) (*compiledProfile, error) {
	profile, ok := s.profiles[name]
	if !ok {
		return nil, fmt.Errorf("%w: %q; there are %s", ErrProfileUnknown, name, s.profileNames())
	}
	return profile, nil
}

func (p *compiledProfile) allowedIn(namespace string) error {
	if !matches(p.Namespaces, namespace) {
		return fmt.Errorf("%w: %q may be picked in %v", ErrProfileNotAllowed, p.name, p.Namespaces)
	}
	return nil
}

func (p *compiledProfile) resolved() Resolved {
	return Resolved{
		Profile:       p.name,
		Config:        p.hash,
		Satellite:     p.Satellite,
		CACertificate: p.CACertificate,
		AccessToken:   p.AccessToken,
		Sampling:      p.Sampling,
		CustomTags:    p.CustomTags,
		Tracer:        p.Mesh.Tracer,
		Istio:         p.caps,
		Token:         p.token,
	}
}

type resolution struct {
	settings *Settings
	ignored  []Ignored
	changed  bool
}

// annotationsOf gives each setting its annotation, in the order in which they are reported.
func annotationsOf() [3]struct {
	Setting    Setting
	Annotation string
} {
	return [3]struct {
		Setting    Setting
		Annotation string
	}{
		{SettingProfile, ProfileAnnotation},
		{SettingSampling, SamplingAnnotation},
		{SettingCustomTags, CustomTagsAnnotation},
	}
}

// allowed picks the annotations that `overrides` lets through.
func (r *resolution) allowed(scope string, annotations map[string]string, overrides []Setting) map[Setting]string {
	var says map[Setting]string
	for _, a := range annotationsOf() {
		value, ok := annotations[a.Annotation]
		if !ok {
			continue
		}
		if !slices.Contains(overrides, a.Setting) {
			fix := fmt.Sprintf("overrides.%s does not list %s; ask for it there", scope, a.Setting)
			if a.Setting == SettingProfile && scope == "pod" {
				fix = "a profile is picked by the namespace's annotation alone"
			}
			r.ignored = append(r.ignored, Ignored{scope, a.Annotation, value, true, fix})
			continue
		}
		if says == nil {
			says = map[Setting]string{}
		}
		says[a.Setting] = value
	}
	return says
}

func (r *resolution) apply(resolved *Resolved, scope string, says map[Setting]string) {
	if text, ok := says[SettingSampling]; ok {
		percent, err := parseSampling(text)
		r.invalid(scope, SamplingAnnotation, text, err)
		if err == nil {
			resolved.Sampling, resolved.Explicit.Sampling, r.changed = percent, percent, true
		}
	}
	if text, ok := says[SettingCustomTags]; ok {
		tags, err := parseTags(text, resolved.CustomTags)
		r.invalid(scope, CustomTagsAnnotation, text, err)
		if err == nil {
			resolved.CustomTags, r.changed = tags, true
			resolved.Explicit.CustomTags, _ = parseTags(text, resolved.Explicit.CustomTags) // a part of those just read
		}
	}
}

func (r *resolution) invalid(scope, annotation, value string, err error) {
	if err != nil {
		r.ignored = append(r.ignored, Ignored{scope, annotation, value, false, err.Error()})
	}
}

func parseSampling(text string) (float64, error) {
	percent, err := strconv.ParseFloat(text, 64)
	if err != nil || !plainNumber(text) {
		return 0, errors.New("write a percentage above 0 and up to 100, in decimal digits such as 12.5")
	}
	return percent, checkSampling(percent)
}

// parseTags reads k=v,k2=v2 over the tags that hold already.
func parseTags(text string, base map[string]string) (map[string]string, error) {
	tags := maps.Clone(base)
	if tags == nil {
		tags = map[string]string{}
	}
	for pair := range strings.SplitSeq(text, ",") {
		key, value, found := strings.Cut(pair, "=")
		if !found {
			return nil, errors.New("write tags as key=value,key2=value2")
		}
		tags[strings.TrimSpace(key)] = strings.TrimSpace(value)
	}
	return tags, checkTags(tags)
}

// overriddenHash covers what annotations can change, beside the profile's own hash.
func overriddenHash(profile string, r Resolved) string {
	return hashOf(profile, Profile{Sampling: r.Sampling, CustomTags: r.CustomTags})
}

func (s *Settings) profileNames() string {
	return strings.Join(slices.Sorted(maps.Keys(s.profiles)), ", ")
}

func matches(globs []string, namespace string) bool {
	return slices.ContainsFunc(globs, func(glob string) bool {
		ok, _ := path.Match(glob, namespace) // the patterns are validated
		return ok
	})
}

// Istio says where Istio is found, and what is kept for it.
func (s *Settings) Istio() Istio { return s.configuration.Istio }

// Exempt tells whether a namespace is never touched, built-in or by exemptNamespaces.
func (s *Settings) Exempt(namespace string) bool {
	switch namespace {
	case "kube-system", "kube-public", "kube-node-lease", "local-path-storage":
		return true
	}
	return matches(s.configuration.ExemptNamespaces, namespace)
}

// TokenAllowed tells whether a namespace may be given the token: a copy of its Secret, or an annotation.
func (r *Resolved) TokenAllowed(namespace string) bool {
	return matches(r.AccessToken.AllowedNamespaces, namespace)
}

// SNI is what to send as SNI: the setting, or the address's host unless that is an IP address.
func (s Satellite) SNI() string {
	if s.ServerName != "" {
		return s.ServerName
	}
	u, err := url.Parse("//" + s.Address)
	if err != nil || isIP(u.Hostname()) {
		return ""
	}
	return u.Hostname()
}
