package snapshot

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/certs/distribute"
	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

const (
	ca    = "lightstep.cacert"
	token = "lightstep-access-token"
)

// configuration parses one whose only profile takes the satellite CA from the given Secret.
func configuration(t *testing.T, secret string) *settings.Settings {
	t.Helper()
	parsed, err := settings.Parse(configurationFile(secret))
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func configurationFile(secret string) []byte {
	return fmt.Appendf(nil, `
apiVersion: injector.lightstep.com/v1alpha1
kind: InjectorConfiguration
profiles:
  default:
    satellite: {address: "satellite.example.com:443"}
    caCertificate: {secretName: %s}
`, secret)
}

func namespace(name string, annotations map[string]string) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations}}
}

func secretIn(namespaces ...string) map[string]*distribute.Found {
	all := map[string]*distribute.Found{}
	for _, namespace := range namespaces {
		all[namespace] = &distribute.Found{}
	}
	return all
}

func TestNamespacesAreReduced(t *testing.T) {
	store := NewStore(configuration(t, ca), "injector", "v1")
	shop := namespace("shop", map[string]string{"lightstep.com/profile": "seed", "kubectl.kubernetes.io/last-applied-configuration": "{}"})
	shop.Labels = map[string]string{"istio-injection": "enabled", "lightstep.com/injection": "enabled"}
	store.ReplaceNamespaces([]*metav1.PartialObjectMetadata{shop, namespace("bare", nil)})

	want := map[string]inject.Namespace{
		"shop": {Annotations: map[string]string{"lightstep.com/profile": "seed"}, IstioInjection: "enabled"},
		"bare": {},
	}
	if diff := cmp.Diff(want, maps.Collect(store.Current().Namespaces.All())); diff != "" {
		t.Errorf("namespaces (-want +got):\n%s", diff)
	}
	if got := store.Current(); got.OwnNamespace != "injector" || got.Version != "v1" {
		t.Errorf("the snapshot lost what the process is: %+v", got)
	}
}

// Each step is one piece of news; after it, these Secrets are missing in the namespaces that are labelled.
func TestMissingSecrets(t *testing.T) {
	type missing map[string][]string
	store := NewStore(configuration(t, ca), "", "")
	for _, step := range []struct {
		name string
		news func()
		want missing
	}{
		{"nothing is claimed before the watches have told everything", func() {
			store.ReplaceNamespaces([]*metav1.PartialObjectMetadata{namespace("a", nil), namespace("b", nil)})
		}, missing{"a": nil, "b": nil}},
		{"a list makes its absences known", func() { store.ReplaceSecrets(ca, secretIn("a", "unlabelled")) }, missing{"a": nil, "b": {ca}}},
		{"the other Secret has its own watch", func() { store.ReplaceSecrets(token, secretIn()) }, missing{"a": {token}, "b": {token, ca}}},
		{"one appears", func() { store.SetSecret(ca, "b", &distribute.Found{}) }, missing{"a": {token}, "b": {token}}},
		{"one goes", func() { store.SetSecret(ca, "a", nil) }, missing{"a": {token, ca}, "b": {token}}},
		{"a namespace is labelled later", func() { store.SetNamespace(namespace("unlabelled", nil)) }, missing{"a": {token, ca}, "b": {token}, "unlabelled": {token}}},
		{"a namespace goes", func() { store.RemoveNamespace(namespace("a", nil)) }, missing{"b": {token}, "unlabelled": {token}}},
		{"a Secret nobody configured is no news", func() { store.ReplaceSecrets("other", secretIn()) }, missing{"b": {token}, "unlabelled": {token}}},
		{"a configuration with another name", func() { store.UseSettings(configuration(t, "other")) }, missing{"b": {token}, "unlabelled": {token}}},
		{"and its watch", func() { store.ReplaceSecrets("other", secretIn("b")) }, missing{"b": {token}, "unlabelled": {token, "other"}}},
		{"the old name's watch is late", func() { store.ReplaceSecrets(ca, secretIn()) }, missing{"b": {token}, "unlabelled": {token, "other"}}},
	} {
		before := store.Current()
		unchanged := maps.Collect(before.Namespaces.All())
		step.news()
		want := map[string]inject.Namespace{}
		for name, secrets := range step.want {
			var set map[string]bool
			for _, secret := range secrets {
				if set == nil {
					set = map[string]bool{}
				}
				set[secret] = true
			}
			want[name] = inject.Namespace{Missing: set}
		}
		if diff := cmp.Diff(want, maps.Collect(store.Current().Namespaces.All())); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
		if diff := cmp.Diff(unchanged, maps.Collect(before.Namespaces.All())); diff != "" {
			t.Errorf("%s: the snapshot in use was changed (-was +is):\n%s", step.name, diff)
		}
	}
}

func TestWaitFor(t *testing.T) {
	const patience = 500 * time.Millisecond
	for _, test := range []struct {
		name   string
		after  time.Duration // when the namespace becomes known
		want   bool
		waited time.Duration
	}{
		{"at once", 0, true, 0},
		{"in time", 200 * time.Millisecond, true, 200 * time.Millisecond},
		{"too late", time.Second, false, patience},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := NewStore(configuration(t, ca), "", "")
				go func() {
					time.Sleep(test.after / 2)
					store.SetNamespace(namespace("another", nil))
					time.Sleep(test.after - test.after/2)
					store.SetNamespace(namespace("shop", nil))
				}()
				if test.after == 0 {
					synctest.Wait()
				}
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				start := time.Now()
				_, seen := store.WaitFor(ctx, "shop").Namespaces.Get("shop")
				if waited := time.Since(start); seen != test.want || waited != test.waited {
					t.Errorf("seen %t after %s; want %t after %s", seen, waited, test.want, test.waited)
				}
				time.Sleep(time.Second) // the writer's end
			})
		})
	}
}

func TestNow(t *testing.T) {
	store := NewStore(settings.Default(), "", "")
	before, later := store.Now()
	select {
	case <-later:
		t.Fatal("there is a later one already")
	default:
	}
	store.UseSettings(settings.Default())
	<-later
	if now, _ := store.Now(); now == before || now != store.Current() {
		t.Error("Now is not the snapshot in force")
	}
}
