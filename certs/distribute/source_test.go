package distribute

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

const day = 24 * time.Hour

// at is when the tests take place.
var at = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// ca makes a CA's certificate in PEM, valid between two times from then.
func ca(t testing.TB, from, until time.Duration) []byte {
	t.Helper()
	return certificate(t, &x509.Certificate{NotBefore: at.Add(from), NotAfter: at.Add(until), IsCA: true, BasicConstraintsValid: true})
}

func certificate(t testing.TB, template *x509.Certificate) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(1)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func block(kind string, content string) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: []byte(content)})
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestSatelliteCA(t *testing.T) {
	good := ca(t, -day, 365*day)
	leaf := certificate(t, &x509.Certificate{NotBefore: at.Add(-day), NotAfter: at.Add(day)})
	for _, c := range []struct {
		name  string
		value []byte
		want  Fault
		says  string
	}{
		{"one", good, "", ""},
		{"comments and blank lines around it", join([]byte("# satellites\n\n"), good, []byte("\n# end\n")), "", ""},
		{"old and new", join(ca(t, -365*day, -day), good), "", ""},
		{"now and next", join(good, ca(t, day, 365*day)), "", ""},
		{"a CA and what it has issued", join(leaf, good), "", ""},
		{"parameters beside it", join(block("EC PARAMETERS", "x"), good), ExtraContent, "line 1: a block that is not a CERTIFICATE"},
		{"empty", nil, NotPEM, "Secret source, key cacert.pem is not PEM"},
		{"words", []byte("hello"), NotPEM, "it should begin with -----BEGIN CERTIFICATE-----"},
		{"a leaf alone", leaf, NoCACertificate, "not the satellites' own"},
		{"a request", block("CERTIFICATE REQUEST", "x"), ExtraContent, "line 1: a block that is not a CERTIFICATE"},
		{"one that cannot be read", join(good, block("CERTIFICATE", "x")), BadCertificate, "not an X.509 certificate"},
		{"its key", join(good, block("EC PRIVATE KEY", "x")), HasPrivateKey, "keep only the certificates"},
		{"its key, by another name", join(block("PRIVATE KEY", "x"), good), HasPrivateKey, ""},
		{"its key, encrypted", join(good, block("ENCRYPTED PRIVATE KEY", "x")), HasPrivateKey, ""},
		{"the largest", append(good, bytes.Repeat([]byte("\n"), maxBundle-len(good))...), "", ""},
		{"too large", append(good, bytes.Repeat([]byte("\n"), maxBundle-len(good)+1)...), TooLarge, "262145 bytes, and at most 262144"},
		{"expired", ca(t, -365*day, -day), Expired, "2026-11-23T12:00:00Z"},
		{"both expired", join(ca(t, -365*day, -2*day), ca(t, -365*day, -day)), Expired, "2026-11-23T12:00:00Z"},
		{"not yet valid", ca(t, day, 365*day), NotYetValid, "2026-11-25T12:00:00Z"},
		{"a gap between old and new", join(ca(t, -365*day, -day), ca(t, day, 365*day)), NotYetValid, ""},
	} {
		t.Run(c.name, func(t *testing.T) { expectProblem(t, read(c.value), c.want, c.says) })
	}
}

// read reads a source of a satellite CA.
func read(value []byte) *Source {
	return ReadSource(settings.Secret{Name: "source", Key: "cacert.pem"}, &corev1.Secret{Data: map[string][]byte{"cacert.pem": value}})
}

func expectProblem(t *testing.T, source *Source, want Fault, says string) {
	t.Helper()
	problem := source.Problem(at)
	switch {
	case want == "" && problem != nil:
		t.Errorf("%s: %s", problem.Fault, problem.Says)
	case want == "":
	case problem == nil:
		t.Errorf("nothing is wrong; want %s", want)
	case problem.Fault != want || !strings.Contains(problem.Says, says):
		t.Errorf("%s: %s; want %s: %s", problem.Fault, problem.Says, want, says)
	}
}

func TestAccessToken(t *testing.T) {
	of := settings.Secret{Name: "source", Key: "token", Token: true}
	for value, want := range map[string]Fault{
		"abc+/=_-.~%":               "",
		"":                          KeyMissing,
		"abc\n":                     TokenNotClean,
		" abc":                      TokenNotClean,
		"a b":                       TokenNotClean,
		"abc\u00a0":                 TokenNotClean,
		"abc\x00":                   TokenNotClean,
		"\xff\xfe":                  TokenNotClean,
		strings.Repeat("x", 20<<10): TooLarge,
	} {
		source := ReadSource(of, &corev1.Secret{Data: map[string][]byte{"token": []byte(value)}})
		expectProblem(t, source, want, "")
		if problem := source.Problem(at); problem != nil && len(value) > 2 && strings.Contains(problem.Says, value) {
			t.Errorf("the problem tells the token: %s", problem.Says)
		}
		if said := fmt.Sprintf("%v %+v %#v %s", source, source, source, source); len(value) > 2 && strings.Contains(said, value) {
			t.Errorf("the source prints the token: %s", said)
		}
	}
	expectProblem(t, ReadSource(of, nil), SourceMissing, "create it with the key token")
	expectProblem(t, ReadSource(of, &corev1.Secret{}), KeyMissing, "has no key token")
}

func TestHashesDiffer(t *testing.T) {
	seen := map[string]string{}
	for _, of := range [][2]string{{"a", "b"}, {"a", "c"}, {"ab", ""}, {"", "ab"}} {
		hash := hashOf(of[0], []byte(of[1]))
		if other, twice := seen[hash]; twice {
			t.Errorf("%q has the hash of %q", of, other)
		}
		seen[hash] = fmt.Sprint(of)
	}
}

// TestAboutSource: each step towards the end is told of under its own reason.
func TestAboutSource(t *testing.T) {
	source := read(join(ca(t, -365*day, -day), ca(t, -day, 100*day), ca(t, -day, 200*day)))
	for days, want := range map[int]string{
		0: "", 69: "", 70: "ExpiresIn30Days", 92: "ExpiresIn30Days", 93: "ExpiresIn7Days", 99: "ExpiresIn1Days",
		101: "", // the next one counts now
		170: "ExpiresIn30Days", 201: "Expired",
	} {
		if reason, note := aboutSource(source, at.Add(time.Duration(days)*day)); reason != want || (note == "") != (want == "") {
			t.Errorf("after %d days: %q: %q; want %q", days, reason, note, want)
		}
	}
}
