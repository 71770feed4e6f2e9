package snapshot

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lightstep-injector/lightstep-injector/certs/distribute"
)

// satelliteCA is a source's content that is valid for an hour.
func satelliteCA(t *testing.T) map[string][]byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{"cacert.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// TestAwaits: a copy is waited for where it may come any moment, and nowhere else.
func TestAwaits(t *testing.T) {
	source := func(t *testing.T, data map[string][]byte) func(*Store) {
		t.Helper()
		return func(s *Store) { s.SetSource(ca, &corev1.Secret{Data: data}) }
	}
	terminating := namespace("shop", nil)
	terminating.DeletionTimestamp = &metav1.Time{}
	for name, c := range map[string]struct {
		news func(t *testing.T, s *Store)
		want bool
	}{
		"a fresh namespace, a good source": {func(*testing.T, *Store) {}, true},
		"the copy is there":                {func(_ *testing.T, s *Store) { s.SetSecret(ca, "shop", &distribute.Found{}) }, false},
		"the copy is gone again": {func(_ *testing.T, s *Store) {
			s.SetSecret(ca, "shop", &distribute.Found{})
			s.SetSecret(ca, "shop", nil)
		}, true},
		"a bad source":       {func(t *testing.T, s *Store) { source(t, nil)(s) }, false},
		"no source":          {func(_ *testing.T, s *Store) { s.SetSource(ca, nil) }, false},
		"a while later":      {func(*testing.T, *Store) { time.Sleep(freshFor) }, false},
		"not quite so late":  {func(*testing.T, *Store) { time.Sleep(freshFor - 1) }, true},
		"changed since then": {func(_ *testing.T, s *Store) { time.Sleep(freshFor / 2); s.SetNamespace(namespace("shop", nil)) }, true},
		"fresh but once": {func(_ *testing.T, s *Store) {
			time.Sleep(freshFor / 2)
			s.SetNamespace(namespace("shop", nil))
			time.Sleep(freshFor / 2)
		}, false},
		"listed anew": {func(_ *testing.T, s *Store) {
			time.Sleep(freshFor)
			s.ReplaceNamespaces([]*metav1.PartialObjectMetadata{namespace("shop", nil)})
		}, false},
		"labelled anew": {func(_ *testing.T, s *Store) {
			time.Sleep(freshFor)
			s.RemoveNamespace(namespace("shop", nil))
			s.SetNamespace(namespace("shop", nil))
		}, true},
		"terminating": {func(_ *testing.T, s *Store) { s.SetNamespace(terminating) }, false},
		"a profile of nowhere": {func(_ *testing.T, s *Store) {
			s.SetNamespace(namespace("shop", map[string]string{"lightstep.com/profile": "x"}))
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := NewStore(configuration(t, ca), "own", "")
				store.ReplaceSecrets(ca, secretIn())
				source(t, satelliteCA(t))(store)
				store.SetNamespace(namespace("shop", nil))
				c.news(t, store)
				synctest.Wait()
				if got := Awaits(store.Current(), "shop"); got != c.want {
					t.Errorf("%t", got)
				}
			})
		})
	}
	if !Awaits(NewStore(configuration(t, ca), "own", "").Current(), "shop") {
		t.Error("a namespace that is not known is not awaited")
	}
}

// TestListeners: whoever listens is told where something has changed, and is no longer told afterwards.
func TestListeners(t *testing.T) {
	store := NewStore(configuration(t, ca), "own", "")
	var told []string
	stop := store.Listen(func(namespace string) { told = append(told, namespace) })
	store.ReplaceSecrets(ca, secretIn("a"))
	store.SetNamespace(namespace("b", nil))
	store.SetSecret(ca, "c", &distribute.Found{Ours: true})
	store.SetSource(ca, nil)
	store.RemoveNamespace(namespace("b", nil))
	stop()
	store.SetNamespace(namespace("d", nil))
	if want := []string{"", "b", "c", "", "b"}; !slices.Equal(told, want) {
		t.Errorf("told %q; want %q", told, want)
	}
	var copies []types.NamespacedName
	store.Copies(func(key types.NamespacedName) { copies = append(copies, key) })
	if want := (types.NamespacedName{Namespace: "c", Name: ca}); len(copies) != 1 || copies[0] != want {
		t.Errorf("copies %v; want %v", copies, want)
	}
}
