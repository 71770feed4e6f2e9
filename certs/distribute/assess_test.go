package distribute

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lightstep-injector/lightstep-injector/internal/ssa"
	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

// world is one namespace with, perhaps, one Secret, and the sources.
type world struct {
	snap    *inject.Snapshot
	found   *Found
	unknown bool
	sources map[string]*Source
}

func (w *world) Now() (*inject.Snapshot, <-chan struct{})   { return w.snap, nil }
func (w *world) Secret(string, string) (*Found, bool)       { return w.found, !w.unknown }
func (w *world) Source(of settings.Secret) *Source          { return w.sources[of.Name] }
func (w *world) Copies(func(types.NamespacedName))          {}
func (w *world) Listen(func(namespace string)) (end func()) { return func() {} }

const configuration = `
apiVersion: injector.lightstep.com/v1alpha1
kind: InjectorConfiguration
exemptNamespaces: [exempt]
profiles:
  default: {accessToken: {source: {name: token}, allowedNamespaces: [shop]}}
  other: {caCertificate: {secretName: other, source: {name: other}}}
  mine: {caCertificate: {source: null}}
`

// asApplied is a Secret's metadata as the API server keeps it after our apply.
func asApplied(hash string, keys string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Labels:      map[string]string{AppLabel: App, ssa.ManagedByLabel: ssa.FieldManager, ssa.OwnerLabel: Owner},
		Annotations: map[string]string{HashAnnotation: hash, SourceAnnotation: "own/source"},
		ManagedFields: []metav1.ManagedFieldsEntry{managed(ssa.FieldManager, metav1.ManagedFieldsOperationApply,
			`{"f:data":{`+keys+`},"f:metadata":{"f:labels":{"f:app":{},"f:lightstep.com/managed":{}}},"f:type":{}}`)},
	}
}

func managed(by string, operation metav1.ManagedFieldsOperationType, fields string) metav1.ManagedFieldsEntry {
	return metav1.ManagedFieldsEntry{Manager: by, Operation: operation, FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(fields)}
}

func TestAssess(t *testing.T) {
	config, err := settings.Parse([]byte(configuration))
	if err != nil {
		t.Fatal(err)
	}
	good := ca(t, -day, day)
	source := read(good)
	ours := func(change func(*corev1.Secret)) *Found {
		secret := &corev1.Secret{ObjectMeta: asApplied(source.Hash, `"f:cacert.pem":{}`), Type: corev1.SecretTypeOpaque, Data: map[string][]byte{"cacert.pem": good}}
		if change != nil {
			change(secret)
		}
		found := OfSecret(secret)
		return &found
	}
	tokenSource := ReadSource(settings.Secret{Name: "token", Key: "token", Token: true}, &corev1.Secret{Data: map[string][]byte{"token": []byte("x")}})
	token := func() *Found {
		meta := asApplied(tokenSource.Hash, `"f:token":{}`)
		found := OfMetadata(&meta)
		return &found
	}
	edited := func(fields string) *Found {
		return ours(func(s *corev1.Secret) {
			s.ManagedFields = append(s.ManagedFields, managed("kubectl-edit", metav1.ManagedFieldsOperationUpdate, fields))
		})
	}
	const caName, tokenName = "lightstep.cacert", "lightstep-access-token"
	for _, c := range []struct {
		name, namespace, secret, profile string
		found                            *Found
		change                           func(*world)
		want                             State
	}{
		{name: "as it should be", found: ours(nil), want: Current},
		{name: "not there", want: Missing},
		{name: "the source has changed", found: ours(func(s *corev1.Secret) { s.Annotations[HashAnnotation] = "before" }), want: Behind},
		{name: "the profile's key has changed", found: ours(func(s *corev1.Secret) {
			s.ManagedFields = asApplied("", `"f:before":{}`).ManagedFields
		}), want: Behind},
		{name: "a value edited", found: edited(`{"f:data":{"f:cacert.pem":{}}}`), want: Edited},
		{name: "a key added", found: edited(`{"f:data":{"f:more":{}}}`), want: Edited},
		{name: "a mark edited", found: edited(`{"f:metadata":{"f:labels":{"f:app":{}}}}`), want: Edited},
		{name: "an annotation of ours taken away", found: ours(func(s *corev1.Secret) { delete(s.Annotations, SourceAnnotation) }), want: Edited},
		{name: "a label of ours taken away", found: ours(func(s *corev1.Secret) { delete(s.Labels, AppLabel) }), want: Edited},
		{name: "made immutable", found: edited(`{"f:immutable":{}}`), want: Edited},
		{name: "a label of theirs added", found: edited(`{"f:metadata":{"f:labels":{"f:team":{}}}}`), want: Current},
		{name: "edited in our name", found: ours(func(s *corev1.Secret) { s.Data["cacert.pem"] = []byte("x") }), want: Edited},
		{name: "a key added in our name", found: ours(func(s *corev1.Secret) { s.Data["more"] = nil }), want: Edited},
		{name: "somebody's", found: ours(func(s *corev1.Secret) { s.Labels = nil }), want: Foreign},
		{name: "pasted, with our marks", found: ours(func(s *corev1.Secret) { s.ManagedFields[0].Manager = "kubectl-create" }), want: Foreign},
		{name: "our marks, another type", found: ours(func(s *corev1.Secret) { s.Type = corev1.SecretTypeTLS }), want: Foreign},
		{name: "nothing known of Secrets", change: func(w *world) { w.unknown = true }, want: Unknown},
		{name: "nothing known of the source", change: func(w *world) { w.sources = nil }, want: Unknown},
		{name: "the source is bad", found: ours(nil), change: func(w *world) { w.sources[caName] = read(nil) }, want: Withheld},
		{name: "the source is gone, and nothing is there", change: func(w *world) { w.sources[caName] = ReadSource(settings.Secret{}, nil) }, want: Withheld},
		{name: "a foreign one, and the source is bad", found: &Found{}, change: func(w *world) { w.sources[caName] = read(nil) }, want: Foreign},
		{name: "not labelled", namespace: "away", found: ours(nil), want: Leaving},
		{name: "not labelled, a foreign one", namespace: "away", found: &Found{}, want: None},
		{name: "not labelled, nothing there", namespace: "away", want: None},
		{name: "not labelled, going already", namespace: "away", found: &Found{Ours: true, Deleting: true}, want: None},
		{name: "exempt", namespace: "exempt", found: ours(nil), want: Leaving},
		{name: "the injector's own", namespace: "own", want: None},
		{name: "terminating", namespace: "going", found: ours(nil), want: Unknown},
		{name: "a profile nobody knows", profile: "nosuch", found: ours(nil), want: Unknown},
		{name: "another profile's", profile: "other", found: ours(nil), want: Leaving},
		{name: "copied by the user", profile: "mine", want: None},
		{name: "once copied, now by the user", profile: "mine", found: ours(nil), want: Leaving},
		{name: "a token, allowed", secret: tokenName, found: token(), want: Current},
		{name: "a token, not allowed", namespace: "bare", secret: tokenName, want: None},
		{name: "a token, no longer allowed", namespace: "bare", secret: tokenName, found: token(), want: Revoked},
		{name: "a token, no longer labelled", namespace: "away", secret: tokenName, found: token(), want: Leaving},
		{name: "a token nobody copies", namespace: "bare", secret: tokenName, found: &Found{}, want: None},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &world{found: c.found, sources: map[string]*Source{caName: source, "other": source, "token": tokenSource}, snap: &inject.Snapshot{
				Settings: config, OwnNamespace: "own", Namespaces: inject.Namespaces{}.With("shop", inject.Namespace{}).With("bare", inject.Namespace{}).
						With("exempt", inject.Namespace{}).With("own", inject.Namespace{}).With("going", inject.Namespace{Terminating: true}),
			}}
			key := types.NamespacedName{Namespace: "shop", Name: caName}
			if c.namespace != "" {
				key.Namespace = c.namespace
			}
			if c.secret != "" {
				key.Name = c.secret
			}
			if c.profile != "" {
				w.snap.Namespaces = w.snap.Namespaces.With("shop", inject.Namespace{Annotations: map[string]string{settings.ProfileAnnotation: c.profile}})
			}
			if c.change != nil {
				c.change(w)
			}
			if got := assess(w, w.snap, key, at); got.state != c.want {
				t.Errorf("%s; want %s", got.state, c.want)
			}
		})
	}
}
