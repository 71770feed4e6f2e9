package settings

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"sigs.k8s.io/yaml"

	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
)

// Settings is a configuration in force: parsed, defaulted and valid. It is immutable; the With methods return another.
type Settings struct {
	configuration Configuration
	profiles      map[string]*compiledProfile
	named         named
	hash          string
}

// compiledProfile is a profile with what can be known of it before any pod is seen.
type compiledProfile struct {
	Profile
	name  string
	caps  istio.Capabilities
	token Token
	hash  string
}

// Token is an access token. It never prints its value: not by itself, and not as a field of something else, which is why
// it is a pointer inside.
type Token struct{ value *string }

// String keeps a token out of logs and errors.
func (Token) String() string { return "[redacted]" }

// GoString keeps a token out of %#v.
func (Token) GoString() string { return "[redacted]" }

// Given tells whether there is a token at all.
func (t Token) Given() bool { return t.value != nil && *t.value != "" }

// Reveal returns the value, for the one place that is meant to hold it.
func (t Token) Reveal() string {
	if t.value == nil {
		return ""
	}
	return *t.value
}

// Default returns the settings of an empty configuration: one profile with no satellite address yet.
func Default() *Settings {
	config := defaultConfiguration()
	config.APIVersion, config.Kind = APIVersion, Kind
	config.Profiles = map[string]Profile{DefaultProfile: defaultProfile()}
	return compile(config, nil)
}

// Parse reads a configuration file, YAML or JSON. Unknown and repeated fields are refused. The error has a line for each
// problem: the field, the value, and what to write instead.
func Parse(data []byte) (*Settings, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("the file has %d bytes; at most %d are read", len(data), maxFile)
	}
	numbers := checkNumbers(data)
	asJSON, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		if len(numbers) > 0 { // JSON has no .inf
			return nil, errors.Join(numbers...)
		}
		return nil, fmt.Errorf("the file is not YAML: %w", err)
	}
	config := defaultConfiguration()
	if err := json.Unmarshal(asJSON, &config, json.RejectUnknownMembers(true)); err != nil {
		return nil, explainDecoding(err)
	}
	if config.Profiles == nil {
		config.Profiles = map[string]Profile{DefaultProfile: defaultProfile()}
	}
	if problems := slices.Concat(numbers, validate(&config)); len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return compile(config, nil), nil
}

// maxFile bounds a configuration file, in bytes: a ConfigMap's own limit.
const maxFile = 1 << 20

// explainDecoding names the field as the file's author would.
func explainDecoding(err error) error {
	var semantic *json.SemanticError
	if !errors.As(err, &semantic) {
		return fmt.Errorf("the file cannot be read: %w", err)
	}
	at := fieldPath(semantic.JSONPointer)
	if errors.Is(err, json.ErrUnknownName) {
		return fmt.Errorf("%s: unknown field; check its spelling, or remove it", at)
	}
	if semantic.JSONValue != nil {
		return fmt.Errorf("%s: %s is not valid here; %s is needed", at, semantic.JSONValue, needed(semantic.GoType))
	}
	return fmt.Errorf("%s: %s is not valid here; %s is needed", at, found(semantic.JSONKind), needed(semantic.GoType))
}

// found says in the file's terms what a field has.
func found(kind jsontext.Kind) string {
	switch kind {
	case '{':
		return "a mapping"
	case '[':
		return "a list"
	case 't', 'f':
		return "a boolean (as YAML reads yes, no, on, off, y and n, too)"
	}
	return "a " + kind.String()
}

// fieldPath turns /profiles/default/sampling into profiles.default.sampling.
func fieldPath(pointer jsontext.Pointer) string {
	path := strings.Join(slices.Collect(pointer.Tokens()), ".")
	if path == "" {
		return "the file"
	}
	return path
}

// needed says in the file's terms what a field takes.
func needed(t reflect.Type) string {
	if t == nil {
		return "another value"
	}
	switch t.Kind() {
	case reflect.String:
		return "a string (quote it)"
	case reflect.Bool:
		return "true or false"
	case reflect.Float64:
		return "a number"
	case reflect.Slice:
		return "a list"
	default:
		return "a mapping"
	}
}

// compile expects a valid configuration.
func compile(config Configuration, tokens map[string]Token) *Settings {
	s := &Settings{configuration: config, profiles: make(map[string]*compiledProfile, len(config.Profiles))}
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(config.Profiles)) {
		profile := config.Profiles[name]
		caps, _ := istio.Of(profile.Mesh.IstioVersion) // validated
		compiled := &compiledProfile{Profile: profile, name: name, caps: caps, token: tokens[name]}
		compiled.hash = hashOf(name, profile)
		s.profiles[name] = compiled
		_, _ = sum.Write([]byte(compiled.hash))
	}
	s.named = namedBy(s.profiles)
	s.hash = hex.EncodeToString(sum.Sum(nil))[:hashLength]
	return s
}

// hashLength of the digits that tell one configuration from another; enough for an eye and for `status`.
const hashLength = 12

// hashOf covers what a pod gets; where its Secrets are copied from makes no difference to it.
func hashOf(name string, profile Profile) string {
	if ca := profile.CACertificate; ca != nil {
		mounted := *ca
		mounted.Source = nil
		profile.CACertificate = &mounted
	}
	profile.AccessToken.Source = nil
	text, err := json.Marshal(struct {
		Name    string
		Profile Profile
	}{name, profile}, json.Deterministic(true))
	if err != nil {
		return "" // no field of a Profile can fail to marshal
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])[:hashLength]
}

// Hash tells one configuration from another. It never covers a token.
func (s *Settings) Hash() string { return s.hash }

// WithIstioVersion returns the settings with every profile's mesh.istioVersion replaced.
func (s *Settings) WithIstioVersion(version string) (*Settings, error) {
	config := s.configuration
	config.Profiles = maps.Clone(config.Profiles)
	for name, profile := range config.Profiles {
		profile.Mesh.IstioVersion = version
		config.Profiles[name] = profile
	}
	if problems := validate(&config); len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return compile(config, s.tokens()), nil
}

// WithAccessTokens returns the settings with the tokens of the profiles that deliver by annotation, by profile. The empty
// name stands for the one such profile there is.
func (s *Settings) WithAccessTokens(tokens map[string]string) (*Settings, error) {
	deliver := s.AnnotationProfiles()
	known := make(map[string]Token, len(tokens))
	for name, token := range tokens {
		if name == "" {
			if len(deliver) != 1 {
				return nil, fmt.Errorf("an access token without a profile needs exactly one profile with accessToken.delivery: annotation, and there are %d; write PROFILE=FILE", len(deliver))
			}
			name = deliver[0]
		}
		if !slices.Contains(deliver, name) {
			return nil, fmt.Errorf("an access token is given for profile %q, which is not one with accessToken.delivery: annotation (those are %q)", name, deliver)
		}
		known[name] = Token{&token}
	}
	return compile(s.configuration, known), nil
}

func (s *Settings) tokens() map[string]Token {
	tokens := map[string]Token{}
	for name, profile := range s.profiles {
		if profile.token.Given() {
			tokens[name] = profile.token
		}
	}
	return tokens
}

// AnnotationProfiles names the profiles that put a token's value into annotations.
func (s *Settings) AnnotationProfiles() []string {
	var names []string
	for name, profile := range s.profiles {
		if profile.AccessToken.Delivery == DeliverByAnnotation {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
