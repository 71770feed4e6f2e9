package canary

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Canary is a token that nothing but the configured Secrets may hold.
type Canary struct {
	forms [][]byte

	mu     sync.Mutex
	looked map[string]int
	found  []string
	failed error // the first of them
}

// New makes one of a token, which no other text may contain by chance.
func New(token string) *Canary {
	return &Canary{forms: formsOf([]byte(token)), looked: map[string]int{}}
}

// formsOf lists what a token looks like: plain, and in base64 of either alphabet, where it can begin at each of three places
// of a longer text.
func formsOf(token []byte) [][]byte {
	forms := [][]byte{token}
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before := range 3 {
			encoded := encoding.EncodeToString(append(make([]byte, before), token...))
			begin := (before*8 + 5) / 6          // the characters in front hold bits of what stands before
			end := (before + len(token)) * 8 / 6 // and the one behind may hold bits of what stands after
			forms = append(forms, []byte(encoded[begin:end]))
		}
	}
	return forms
}

// Look searches a text. The kind says what sort of thing it is, where says which.
func (c *Canary) Look(kind, where string, text []byte) {
	found := slices.ContainsFunc(c.forms, func(form []byte) bool { return bytes.Contains(text, form) })
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looked[kind]++
	if found {
		c.found = append(c.found, kind+": "+where)
	}
}

// problem remembers what could not be looked at.
func (c *Canary) problem(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed == nil {
		c.failed = err
	}
}

// Failed is the first thing that could not be looked at.
func (c *Canary) Failed() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed
}

// Found lists where the token was seen, in order.
func (c *Canary) Found() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(slices.Values(c.found))
}

// Check fails the test for each place where the token was seen, and for each kind of which nothing was looked at: that would
// show nothing.
func (c *Canary) Check(t *testing.T, kinds ...string) {
	t.Helper()
	for _, where := range c.Found() {
		t.Errorf("the token is in %s", where)
	}
	if err := c.Failed(); err != nil {
		t.Errorf("not all could be looked at: %v", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var looked []string
	for _, kind := range slices.Sorted(maps.Keys(c.looked)) {
		looked = append(looked, fmt.Sprintf("%d %s", c.looked[kind], kind))
	}
	t.Logf("looked for the token in %s, and found it in %d", strings.Join(looked, ", "), len(c.found))
	for _, kind := range kinds {
		if c.looked[kind] == 0 {
			t.Errorf("nothing was looked at of %s", kind)
		}
	}
}
