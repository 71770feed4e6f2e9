package distribute

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"
	"unicode"

	corev1 "k8s.io/api/core/v1"

	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

// maxToken is the limit of a token in bytes, more than any has.
const maxToken = 16 << 10

// Fault says in a word why a source is not fit to be handed out.
type Fault string

// The faults.
const (
	SourceMissing   Fault = "SourceMissing"
	KeyMissing      Fault = "KeyMissing"
	TooLarge        Fault = "TooLarge"
	NotPEM          Fault = "NotPEM"
	ExtraContent    Fault = "ExtraContent"
	HasPrivateKey   Fault = "HasPrivateKey"
	BadCertificate  Fault = "BadCertificate"
	NoCACertificate Fault = "NoCACertificate"
	Expired         Fault = "Expired"
	NotYetValid     Fault = "NotYetValid"
	TokenNotClean   Fault = "TokenNotClean"
)

// faults lists them.
func faults() []Fault {
	return []Fault{
		SourceMissing, KeyMissing, TooLarge, NotPEM, ExtraContent, HasPrivateKey, BadCertificate, NoCACertificate, Expired, NotYetValid, TokenNotClean,
	}
}

// Problem is a fault, and what to do about it.
type Problem struct {
	Fault Fault
	Says  string
}

// Source is a Secret of the injector's own namespace, as far as it is copied. It never prints what it holds.
type Source struct {
	// Hash tells one content from another: that of what is copied, or of what was read where nothing is.
	Hash string

	// value is what is copied: of a satellite CA the certificates, re-encoded, and nothing else.
	value   []byte
	lasting *Problem
	// authorities are how long each CA certificate is valid.
	authorities []validity
}

type validity struct{ from, until time.Time }

// String keeps the content out of logs.
func (*Source) String() string { return "[redacted]" }

// GoString keeps the content out of %#v.
func (*Source) GoString() string { return "[redacted]" }

// ReadSource reads the key of a source; nil stands for a Secret that is not there.
func ReadSource(of settings.Secret, object *corev1.Secret) *Source {
	if object == nil {
		return &Source{lasting: &Problem{SourceMissing, fmt.Sprintf("there is no Secret %s in the injector's own namespace: create it with the key %s", of.Name, of.Key)}}
	}
	value, ok := object.Data[of.Key]
	if !ok {
		return &Source{lasting: &Problem{KeyMissing, fmt.Sprintf("Secret %s has no key %s: add it", of.Name, of.Key)}}
	}
	s := &Source{value: value}
	if of.Token {
		s.lasting = checkToken(of, value)
	} else {
		s.value, s.authorities, s.lasting = readBundle(of, value)
	}
	if s.lasting != nil {
		return &Source{Hash: hashOf(of.Key, value), lasting: s.lasting}
	}
	s.Hash = hashOf(of.Key, s.value)
	return s
}

// hashOf covers a key and its value.
func hashOf(key string, value []byte) string {
	sum := sha256.New()
	_, _ = sum.Write([]byte(key))
	_, _ = sum.Write([]byte{0})
	_, _ = sum.Write(value)
	return hex.EncodeToString(sum.Sum(nil)[:hashBytes])
}

const hashBytes = 16

// Problem says why the source is not to be handed out at this time; nil where it is.
func (s *Source) Problem(now time.Time) *Problem {
	if s.lasting != nil || len(s.authorities) == 0 {
		return s.lasting
	}
	last, first := s.authorities[0].until, s.authorities[0].from
	for _, v := range s.authorities {
		if !now.Before(v.from) && !now.After(v.until) {
			return nil
		}
		if v.until.After(last) {
			last = v.until
		}
		if v.from.Before(first) {
			first = v.from
		}
	}
	if now.After(last) {
		return &Problem{Expired, "the satellite CA has expired on " + last.Format(time.RFC3339) + ": replace it"}
	}
	return &Problem{NotYetValid, "the satellite CA is valid from " + first.Format(time.RFC3339) + ": check its dates and this cluster's clock"}
}

// Expiry is when the first of the satellite CA's certificates that are still valid expires; false for a token, and where
// none is valid.
func (s *Source) Expiry(now time.Time) (time.Time, bool) {
	var soonest time.Time
	for _, v := range s.authorities {
		if now.After(v.until) {
			continue // of old and new, the old is no longer needed
		}
		if soonest.IsZero() || v.until.Before(soonest) {
			soonest = v.until
		}
	}
	return soonest, !soonest.IsZero()
}

// checkToken refuses what no HTTP header carries, such as the line feed of echo | base64.
func checkToken(of settings.Secret, token []byte) *Problem {
	field := fmt.Sprintf("Secret %s, key %s", of.Name, of.Key)
	text := string(token)
	switch {
	case len(token) == 0:
		return &Problem{KeyMissing, field + " is empty: put the access token there"}
	case len(token) > maxToken:
		return &Problem{TooLarge, fmt.Sprintf("%s has %d bytes, and at most %d are copied", field, len(token), maxToken)}
	}
	for _, r := range text {
		if unicode.IsSpace(r) || unicode.IsControl(r) || r == unicode.ReplacementChar {
			return &Problem{TokenNotClean, field + " has white space or control characters, often the line feed that echo adds: write it with printf %s or --from-literal"}
		}
	}
	return nil
}
