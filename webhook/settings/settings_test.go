package settings

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const head = "apiVersion: " + APIVersion + "\nkind: " + Kind + "\n"

func parse(t *testing.T, text string) *Settings {
	t.Helper()
	s, err := Parse([]byte(head + text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestBadInput: each mistake is named by its field and its value, with what to write instead.
func TestBadInput(t *testing.T) {
	profile := func(fields string) string { return head + "profiles: {default: {" + fields + "}}" }
	for _, c := range []struct{ text, want string }{
		{"", `apiVersion: "": write injector.lightstep.com/v1alpha1`},
		{"kind: Pod", `kind: "Pod": write InjectorConfiguration`},
		{"a: 1\na: 2", "already set in map"},
		{"[]", "the file: a list is not valid here; a mapping is needed"},
		{"{", "the file is not YAML"},
		{head + "profile: {}", "profile: unknown field"},
		{profile("satellit: {}"), "profiles.default.satellit: unknown field"},
		{profile("caCertificate: {source: {name: X}}"), `profiles.default.caCertificate.source.name: "X": write the name of a Secret`},
		{profile("caCertificate: {source: {name: x, namespace: y}}"), "profiles.default.caCertificate.source.namespace: unknown field"},
		{profile("accessToken: {source: {}}"), `profiles.default.accessToken.source.name: "": write the name of a Secret`},
		{profile("accessToken: {secretName: lightstep.cacert}"), `profiles.default.accessToken.secretName: "lightstep.cacert": it is the Secret of profiles.default.caCertificate`},
		{profile("accessToken: {source: {name: lightstep.cacert}}"), `profiles.default.accessToken.source.name: "lightstep.cacert": it is the Secret of profiles.default.caCertificate`},
		{profile("accessToken: {header: x}"), "profiles.default.accessToken.header: unknown field"},
		{head + "istio: {rendered: true}", "istio.rendered: unknown field"},
		{profile("sampling: ten"), "profiles.default.sampling: a string is not valid here; a number is needed"},
		{profile("customTags: {v: 1}"), "profiles.default.customTags.v: a number is not valid here; a string (quote it) is needed"},
		{profile("satellite: {secure: 'yes'}"), "profiles.default.satellite.secure: a string is not valid here; true or false is needed"},
		{head + "profiles: {other: {}}", "profiles.default: missing: add it"},
		{head + "profiles: {default: {}, A_b: {}}", "a profile's name has lower-case letters"},
		{profile("namespaces: []"), "profiles.default.namespaces: missing"},
		{profile("namespaces: ['[']"), `profiles.default.namespaces[0]: "["`},
		{profile("satellite: {address: 'https://x.example'}"), "leave out https://; write host:port, such as x.example:443"},
		{profile("satellite: {address: x.example}"), "add a port from 1 to 65535, such as x.example:443"},
		{profile("satellite: {address: 'x:0'}"), "add a port"},
		{profile("satellite: {address: 'x:99999'}"), "add a port"},
		{profile("satellite: {address: 'fd00::1'}"), "IPv6 in brackets"},
		{profile("satellite: {address: 'x:1/path'}"), "write host:port"},
		{profile("satellite: {address: 'user@x:1'}"), "write host:port"},
		{profile("satellite: {address: '-x-:1'}"), `"-x-" is neither a host name nor an IP address`},
		{profile("satellite: {serverName: 'a b'}"), "profiles.default.satellite.serverName"},
		{profile("caCertificate: {mountPath: /etc/lightstep/}"), "write it as /etc/lightstep"},
		{profile("caCertificate: {mountPath: etc}"), "write an absolute path"},
		{profile("caCertificate: {mountPath: /}"), "it would cover or lie in /proc"},
		{profile("caCertificate: {mountPath: /var/run}"), "it would cover or lie in /var/run/secrets"},
		{profile("caCertificate: {mountPath: /dev/x}"), "it would cover or lie in /dev"},
		{profile("caCertificate: {mountPath: '/a:b'}"), "write an absolute path without ':'"},
		{profile("caCertificate: {secretName: 'A B'}"), "write the name of a Secret"},
		{profile("caCertificate: {key: a/b}"), "write the key of a Secret"},
		{profile("caCertificate: {mountInto: some}"), "write all or proxy"},
		{profile("accessToken: {delivery: env}"), "write secret or annotation"},
		{profile("sampling: 0x10"), `profiles.default.sampling: "0x10": write the number in decimal digits, such as 12.5`},
		{profile("sampling: 0b11"), `"0b11": write the number in decimal digits`},
		{profile("sampling: 0o17"), "profiles.default.sampling"},
		{profile("sampling: 010"), `"010": write the number in decimal digits`},
		{profile("sampling: 1_0"), `"1_0": write the number in decimal digits`},
		{profile("sampling: 1e1"), `"1e1": write the number in decimal digits`},
		{profile("sampling: +5"), `"+5": write the number in decimal digits`},
		{profile("sampling: 5."), `"5.": write the number in decimal digits`},
		{profile("sampling: 0x1p3"), "profiles.default.sampling: a string is not valid here; a number is needed"},
		{profile("sampling: .inf"), "profiles.default.sampling"},
		{profile("sampling: .nan"), "profiles.default.sampling"},
		{profile("sampling: 0.00000000000000000000001"), "write the number in decimal digits"},
		{profile("satellite: {address: 'x:0443'}"), "add a port from 1 to 65535"},
		{profile("satellite: {address: 'x:0x1bb'}"), "profiles.default.satellite.address"},
		{profile("satellite: {address: 'x:4_43'}"), "profiles.default.satellite.address"},
		{profile("sampling: 0"), "to turn tracing off write mesh.tracer: none"},
		{profile("sampling: -1"), "write a percentage above 0 and up to 100"},
		{profile("sampling: 100.5"), "write a percentage above 0 and up to 100"},
		{profile("customTags: {'a b': x}"), "needs a name without white space"},
		{profile("mesh: {tracer: zipkin}"), "write auto, lightstep, opentelemetry or none"},
		{profile("mesh: {istioVersion: '1.6'}"), "older than 1.7"},
		{profile("mesh: {istioVersion: newest}"), "write it as 1.24 or 1.24.0"},
		{profile("mesh: {istioVersion: '1.20', tracer: lightstep}"), "the proxy of Istio 1.20 has the tracer opentelemetry; write auto"},
		{profile("mesh: {istioVersion: '1.7', tracer: opentelemetry}"), "the proxy of Istio 1.7 has the tracer lightstep; write auto"},
		{head + "overrides: {pod: [profile]}", "overrides.pod[0]"},
		{head + "overrides: {namespace: [address]}", "write one of [profile sampling customTags]"},
		{head + "exemptNamespaces: ['']", "exemptNamespaces[0]"},
		{head + "istio: {namespaces: [Istio_System]}", "istio.namespaces[0]: \"Istio_System\""},
		{head + "istio: {provider: ''}", "istio.provider"},
		{strings.Repeat("#", maxFile+1), "at most 1048576 are read"},
	} {
		if _, err := Parse([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.80q\n got: %v\nwant: %s", c.text, err, c.want)
		}
	}
}

// TestNumbers: an annotation's number is one as people write it. strconv.ParseFloat alone takes many others.
func TestNumbers(t *testing.T) {
	s := parse(t, "profiles: {default: {sampling: 7}}")
	for text, want := range map[string]float64{
		"50": 50, "12.5": 12.5, "0.5": 0.5, ".5": 0.5, "100": 100, "100.00": 100, "0.01": 0.01,
		"0x1p3": 7, "0X1P3": 7, "0x10": 7, "0b1": 7, "0o7": 7, "010": 7, "00.5": 7, "1_0": 7, "1e1": 7, "1E1": 7, "5e-1": 7, "+5": 7, "-5": 7, "5.": 7, ".": 7, "": 7,
		"Inf": 7, "+Inf": 7, "infinity": 7, "NaN": 7, "nan": 7, " 5": 7, "5 ": 7, "5%": 7, "1.2.3": 7, "1,5": 7, "٥": 7, "５": 7, "0": 7, "0.0": 7, "100.1": 7,
		"0.000000000000000000000000000001": 7,
	} {
		resolved, ignored, err := s.Resolve("shop", nil, map[string]string{SamplingAnnotation: text})
		if err != nil || resolved.Sampling != want || (want == 7) != (len(ignored) == 1) {
			t.Errorf("%q: sampling %g, want %g; ignored: %v, %v", text, resolved.Sampling, want, ignored, err)
		}
	}
}

// TestProfilesOfOthers: what a namespace is told of profiles names those that it may select, and no pattern of namespaces.
func TestProfilesOfOthers(t *testing.T) {
	s := parse(t, "profiles: {default: {}, pay: {namespaces: ['pay-*']}, pay-eu: {namespaces: ['pay-*', other]}, ops: {namespaces: [ops]}}")
	for _, c := range []struct{ namespace, profile, want string }{
		{"shop", "pay", `the profile's namespaces do not include this one: "pay"; namespace shop may select default`},
		{"shop", "none", `the configuration has no such profile: "none"; namespace shop may select default`},
		{"pay-1", "ops", `the profile's namespaces do not include this one: "ops"; namespace pay-1 may select default, pay, pay-eu`},
	} {
		if _, _, err := s.Resolve(c.namespace, map[string]string{ProfileAnnotation: c.profile}, nil); err == nil || err.Error() != c.want {
			t.Errorf("%s in %s:\n got: %v\nwant: %s", c.profile, c.namespace, err, c.want)
		}
	}
	closed := parse(t, "profiles: {default: {namespaces: [ops]}}")
	if _, _, err := closed.Resolve("shop", nil, nil); err == nil || !strings.HasSuffix(err.Error(), "namespace shop may select none") {
		t.Errorf("where none may be selected: %v", err)
	}
}

// TestEveryProblemAtOnce: a file with three mistakes is mended in one go.
func TestEveryProblemAtOnce(t *testing.T) {
	_, err := Parse([]byte(head + "profiles: {default: {sampling: 0, mesh: {tracer: x}}}\nexemptNamespaces: ['[']"))
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("want three lines, got: %v", err)
	}
}

// TestDefaults: what a file leaves out is filled in, field by field; null stays null.
func TestDefaults(t *testing.T) {
	s := parse(t, "profiles: {default: {caCertificate: {secretName: mine}}, roots: {caCertificate: null}}")
	want := defaultCACertificate()
	want.SecretName = "mine"
	if diff := cmp.Diff(&want, s.profiles["default"].CACertificate); diff != "" {
		t.Error(diff)
	}
	if s.profiles["roots"].CACertificate != nil {
		t.Error("caCertificate: null is not kept")
	}
	if diff := cmp.Diff(parse(t, "").configuration, Default().configuration); diff != "" {
		t.Errorf("an empty file is not the default: %s", diff)
	}
}

func TestResolve(t *testing.T) {
	s := parse(t, `
profiles:
  default: {sampling: 10, customTags: {a: "1", b: "2"}}
  pay: {namespaces: ["pay-*"], sampling: 50}
overrides: {pod: [customTags]}`)
	resolved, ignored, err := s.Resolve("pay-eu",
		map[string]string{ProfileAnnotation: "pay", SamplingAnnotation: "20", CustomTagsAnnotation: "a=x"},
		map[string]string{ProfileAnnotation: "default", SamplingAnnotation: "30", CustomTagsAnnotation: "c=y, d = z"})
	if err != nil {
		t.Fatal(err)
	}
	if resolved.Profile != "pay" || resolved.Sampling != 20 {
		t.Errorf("profile %s, sampling %g; want pay and the namespace's 20", resolved.Profile, resolved.Sampling)
	}
	if diff := cmp.Diff(map[string]string{"a": "x", "c": "y", "d": "z"}, resolved.CustomTags); diff != "" {
		t.Error(diff)
	}
	if len(ignored) != 2 || !ignored[0].NotAllowed || ignored[0].Annotation != ProfileAnnotation || ignored[1].Annotation != SamplingAnnotation {
		t.Errorf("ignored %+v; want the pod's profile and sampling", ignored)
	}
	if _, _, err := s.Resolve("shop", map[string]string{ProfileAnnotation: "pay"}, nil); !errors.Is(err, ErrProfileNotAllowed) {
		t.Errorf("%v; want ErrProfileNotAllowed", err)
	}
	if _, _, err := s.Resolve("shop", map[string]string{ProfileAnnotation: "x"}, nil); !errors.Is(err, ErrProfileUnknown) {
		t.Errorf("%v; want ErrProfileUnknown", err)
	}
}

func TestProfile(t *testing.T) {
	s := parse(t, `
profiles:
  default: {sampling: 10}
  pay: {namespaces: ["pay-*"], sampling: 50, customTags: {a: "1"}}`)
	pay, err := s.Profile("pay", "pay-eu", "pay-us")
	if err != nil || pay.Profile != "pay" || pay.Sampling != 50 || pay.CustomTags["a"] != "1" || !pay.Explicit.Empty() {
		t.Errorf("%+v, %v", pay, err)
	}
	if _, err := s.Profile("pay"); err != nil {
		t.Errorf("for no namespace in particular: %v", err)
	}
	if _, err := s.Profile("pay", "pay-eu", "shop"); !errors.Is(err, ErrProfileNotAllowed) || !strings.Contains(err.Error(), "shop") {
		t.Errorf("%v; want ErrProfileNotAllowed in shop", err)
	}
	if _, err := s.Profile("x"); !errors.Is(err, ErrProfileUnknown) {
		t.Errorf("%v; want ErrProfileUnknown", err)
	}
}

// TestHash: it tells settings apart, what annotations change included, and never covers a token.
func TestHash(t *testing.T) {
	s := parse(t, "profiles: {default: {accessToken: {delivery: annotation}}}")
	hashOf := func(s *Settings, sampling string) string {
		annotations := map[string]string{}
		if sampling != "" {
			annotations[SamplingAnnotation] = sampling
		}
		r, _, err := s.Resolve("shop", nil, annotations)
		if err != nil {
			t.Fatal(err)
		}
		return r.Config
	}
	withToken, err := s.WithAccessTokens(map[string]string{"": "secret"})
	if err != nil {
		t.Fatal(err)
	}
	if hashOf(s, "") != hashOf(withToken, "") || s.Hash() != withToken.Hash() {
		t.Error("the hash covers the token")
	}
	if hashOf(s, "") == hashOf(s, "5") || hashOf(s, "5") == hashOf(s, "6") || hashOf(s, "5") != hashOf(s, "5.0") {
		t.Error("the hash does not tell samplings apart")
	}
	if s.Hash() == parse(t, "profiles: {default: {sampling: 1}}").Hash() {
		t.Error("the hash does not tell configurations apart")
	}
}

// TestTokenNeverPrints: however a token, or what holds it, is printed.
func TestTokenNeverPrints(t *testing.T) {
	s, err := parse(t, "profiles: {default: {accessToken: {delivery: annotation}}}").WithAccessTokens(map[string]string{"default": "canary"})
	if err != nil {
		t.Fatal(err)
	}
	resolved, _, err := s.Resolve("shop", nil, nil)
	if err != nil || resolved.Token.Reveal() != "canary" {
		t.Fatalf("token %v, %v", resolved.Token, err)
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if text := fmt.Sprintf(format, resolved) + fmt.Sprintf(format, resolved.Token) + fmt.Sprintf(format, s.profiles["default"]); strings.Contains(text, "canary") {
			t.Errorf("%s prints the token: %s", format, text)
		}
	}
}

func TestWithAccessTokens(t *testing.T) {
	two := parse(t, "profiles: {default: {accessToken: {delivery: annotation}}, b: {accessToken: {delivery: annotation}}, c: {}}")
	for name, want := range map[string]string{"": "there are 2; write PROFILE=FILE", "c": `profile "c", which is not one`, "x": `profile "x"`} {
		if _, err := two.WithAccessTokens(map[string]string{name: "t"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %s", name, err, want)
		}
	}
	if diff := cmp.Diff([]string{"b", "default"}, two.AnnotationProfiles()); diff != "" {
		t.Error(diff)
	}
}

func TestCollide(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"/etc/lightstep", "/etc/lightstep/", true},
		{"/etc", "/etc/lightstep", true},
		{"/", "/etc/lightstep", true},
		{"/etc/lightstep/cacert.pem", "/etc/lightstep", true},
		{"/etc/lightstep2", "/etc/lightstep", false},
		{"/etc//lightstep/../lightstep", "/etc/lightstep", true},
		{"/opt", "/etc/lightstep", false},
		{"", "/etc/lightstep", false},
	} {
		if Collide(c.a, c.b) != c.want || Collide(c.b, c.a) != c.want {
			t.Errorf("Collide(%q, %q) is not %v", c.a, c.b, c.want)
		}
	}
}

// FuzzParse: whatever a file holds, it is refused with an error or gives settings that resolve anywhere.
func FuzzParse(f *testing.F) {
	f.Add([]byte(head + "profiles: {default: {satellite: {address: 'a:1'}, customTags: {a: b}}}"))
	f.Add([]byte(head + "overrides: {pod: [sampling]}\nexemptNamespaces: [a*]"))
	f.Add([]byte(`{"apiVersion":"` + APIVersion + `","kind":"` + Kind + `","profiles":{"default":{"caCertificate":null}}}`))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse(data)
		if err != nil {
			return
		}
		resolved, _, err := s.Resolve("shop", map[string]string{SamplingAnnotation: "5"}, map[string]string{CustomTagsAnnotation: "a=b"})
		if err != nil && !errors.Is(err, ErrProfileNotAllowed) {
			t.Fatal(err)
		}
		_ = resolved.Satellite.SNI()
		_ = s.Advice()
		_ = s.Exempt("shop")
	})
}
