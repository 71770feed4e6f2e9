package istiod

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

const (
	canary      = "canary-7d1f0b6c93e2"
	tokenSecret = "lightstep-access-token"
	tokenKey    = "token"
)

// testNoToken: the token is in no answer of istiod, no pod, and no log.
func testNoToken(t *testing.T, e *environment, proxies map[string]*corev1.Pod) {
	for _, length := range []int{0, 1, 2} { // the search itself works, wherever in a longer value the token begins
		longer := append(bytes.Repeat([]byte("x"), length), canary+"yz"...)
		if !holdsCanary(longer) || !holdsCanary([]byte(base64.StdEncoding.EncodeToString(longer))) {
			t.Fatalf("a token after %d bytes is not found", length)
		}
	}
	for namespace, pod := range proxies {
		answer, err := e.istiod.AskFor(t.Context(), pod)
		check(t, err)
		text, err := json.Marshal(pod)
		check(t, err)
		if holdsCanary(answer.Raw) {
			t.Errorf("istiod sends the token to the proxies of namespace %s", namespace)
		}
		if holdsCanary(text) {
			t.Errorf("the token is in a pod of namespace %s", namespace)
		}
	}
	for _, log := range []string{e.istiod.LogFile(), e.injector.LogFile()} {
		text, err := os.ReadFile(log)
		check(t, err)
		if holdsCanary(text) {
			t.Errorf("the token is in %s", log)
		}
	}
}

// holdsCanary searches for the token, plain and as it looks in base64, where it can begin at each of three places.
func holdsCanary(text []byte) bool {
	if bytes.Contains(text, []byte(canary)) {
		return true
	}
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before := range 3 {
			encoded := encoding.EncodeToString(append(make([]byte, before), canary...))
			begin := (before*8 + 5) / 6           // the characters in front hold bits of what stands before
			end := (before + len(canary)) * 8 / 6 // and the one behind may hold bits of what stands after
			if bytes.Contains(text, []byte(encoded[begin:end])) {
				return true
			}
		}
	}
	return false
}
