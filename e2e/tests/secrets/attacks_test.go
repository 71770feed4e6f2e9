package secrets

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// The namespaces that attacks go for.
const (
	fresh     = "fresh"     // labelled, without Secrets
	copied    = "copied"    // labelled, with a copy
	foreigner = "foreigner" // labelled, with somebody else's Secret of a copy's name, and one of another name
	pasted    = "pasted"    // labelled, with a service account's token under a copy's name and label
	plain     = "plain"     // without the label
	exempt    = "exempt-a"  // labelled, and exempt
	going     = "going"     // labelled, with a copy, and being deleted
	password  = "password"
)

// What each clause of the policies says when it refuses.
const (
	names      = secretsPolicy + " with binding 'lightstep-injector-secrets' denied request: only copies of the configured names"
	typed      = "denied request: a copy has the type Opaque, the webhook's certificate has kubernetes.io/tls"
	unlabelled = "denied request: copies go into namespaces labelled"
	unowned    = "denied request: a copy carries the label"
	notOurs    = "denied request: the Secret that is there is not the injector's"

	otherWebhooks = webhookPolicy + " with binding 'lightstep-injector-webhook' denied request: only 0-lightstep-injector may be changed"
	webhookMeta   = "denied request: only caBundle may change, not metadata: "
	webhookNames  = "denied request: only caBundle may change, not the webhooks' number, names or order"
	webhookFields = "denied request: only caBundle may change, not a webhook's other fields"
	webhookPlace  = "denied request: only caBundle may change, not where a webhook is"
)

// attack is one that has to be refused.
type attack struct {
	name string
	// rbac says that RBAC refuses it. clause is what refuses it otherwise: empty where only RBAC does.
	rbac   bool
	clause string
	do     func(context.Context, *environment) error
}

// onSecrets are the attacks by writing Secrets.
func onSecrets() []attack {
	return []attack{
		{"mint a token under a permitted name", false, typed, func(ctx context.Context, e *environment) error {
			return e.apply(ctx, tokenOf(fresh, satelliteCA, "default"))
		}},
		{"mint a token under another name", true, names, func(ctx context.Context, e *environment) error {
			return e.apply(ctx, tokenOf(fresh, password, "default"))
		}},
		{"mint a token by POST", true, typed, func(ctx context.Context, e *environment) error {
			return e.post(ctx, tokenOf(fresh, satelliteCA, "default"))
		}},
		{"mint a token in the own namespace, as the certificate", false, typed, func(ctx context.Context, e *environment) error {
			return e.apply(ctx, tokenOf(own, certificate, "default"))
		}},
		{"have the API server fill in a token that a tenant has prepared", false, typed, func(ctx context.Context, e *environment) error {
			return e.merge(ctx, pasted, satelliteCA, `{"metadata":{"annotations":{"kubernetes.io/service-account.name":"default"}}}`)
		}},
		{"POST a copy", true, "", func(ctx context.Context, e *environment) error { return e.post(ctx, copyOf(fresh, satelliteCA)) }},
		{"POST a copy with a generated name", true, names, func(ctx context.Context, e *environment) error {
			secret := copyOf(fresh, "")
			secret.GenerateName = satelliteCA
			return e.post(ctx, secret)
		}},
		{"PUT a copy", true, "", func(ctx context.Context, e *environment) error {
			_, err := e.account.CoreV1().Secrets(copied).Update(ctx, copyOf(copied, satelliteCA), metav1.UpdateOptions{})
			return err
		}},
		{"create another name", true, names, func(ctx context.Context, e *environment) error { return e.apply(ctx, copyOf(fresh, password)) }},
		{"change another name", true, names, func(ctx context.Context, e *environment) error { return e.apply(ctx, moreFor(foreigner, password)) }},
		{"delete another name", true, names, func(ctx context.Context, e *environment) error { return e.remove(ctx, foreigner, password) }},
		{"copy into a namespace that is not labelled", false, unlabelled, func(ctx context.Context, e *environment) error {
			return e.apply(ctx, copyOf(plain, satelliteCA))
		}},
		{"copy the token into a namespace that is not labelled", false, unlabelled, func(ctx context.Context, e *environment) error {
			return e.apply(ctx, copyOf(plain, token))
		}},
		{"copy into the own namespace, labelled as it is", false, names, func(ctx context.Context, e *environment) error {
			return e.apply(ctx, copyOf(own, otherCA))
		}},
		{"change the source", false, names, func(ctx context.Context, e *environment) error { return e.apply(ctx, moreFor(own, satelliteCA)) }},
		{"delete the source", false, names, func(ctx context.Context, e *environment) error { return e.remove(ctx, own, satelliteCA) }},
		{"make a Secret that does not say whose it is", false, unowned, func(ctx context.Context, e *environment) error {
			secret := copyOf(fresh, satelliteCA)
			delete(secret.Labels, "lightstep.com/managed")
			return e.apply(ctx, secret)
		}},
		{"take the label off a copy", false, unowned, func(ctx context.Context, e *environment) error {
			return e.merge(ctx, copied, satelliteCA, `{"metadata":{"labels":{"lightstep.com/managed":null}}}`)
		}},
		{"give a copy to another controller", false, unowned, func(ctx context.Context, e *environment) error {
			return e.merge(ctx, copied, satelliteCA, `{"metadata":{"labels":{"lightstep.com/managed":"mesh"}}}`)
		}},
		{"apply over somebody else's Secret", false, notOurs, func(ctx context.Context, e *environment) error {
			return e.apply(ctx, moreFor(foreigner, satelliteCA))
		}},
		{"label somebody else's Secret as a copy", false, notOurs, func(ctx context.Context, e *environment) error {
			return e.merge(ctx, foreigner, satelliteCA, `{"metadata":{"labels":{"lightstep.com/managed":"distribute"}}}`)
		}},
		{"change somebody else's Secret", false, unowned, func(ctx context.Context, e *environment) error {
			return e.merge(ctx, foreigner, satelliteCA, `{"data":{"cacert.pem":"eA=="}}`)
		}},
		{"delete somebody else's Secret", false, notOurs, func(ctx context.Context, e *environment) error {
			return e.remove(ctx, foreigner, satelliteCA)
		}},
		{"delete all copies of a namespace at once", true, names, func(ctx context.Context, e *environment) error {
			return e.account.CoreV1().Secrets(copied).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
		}},
		{"a certificate of another type", false, typed, func(ctx context.Context, e *environment) error {
			return e.apply(ctx, copyOf(own, certificate))
		}},
		{"a certificate in another namespace", true, names, func(ctx context.Context, e *environment) error {
			return e.apply(ctx, certificateOf(fresh, certificate))
		}},
		{"a certificate of another name", true, names, func(ctx context.Context, e *environment) error {
			return e.apply(ctx, certificateOf(own, password))
		}},
	}
}

// The clauses about what a Secret has beside its content.
const (
	exemptOrGoing     = bySecrets + "copies do not go into namespaces that are exempt or being deleted"
	secretKeys        = bySecrets + "only the configured keys"
	secretImmutable   = bySecrets + "immutable may not be set"
	secretFinalizers  = bySecrets + "finalizers"
	secretOwners      = bySecrets + "ownerReferences"
	secretLabels      = bySecrets + "only the injector's own labels"
	secretAnnotations = bySecrets + "only the injector's own annotations"
)

// onSecretsMetadata are the attacks by what a Secret has beside its content.
func onSecretsMetadata() []attack {
	changed := func(clause, name string, made *corev1.Secret, change func(*corev1.Secret)) attack {
		change(made)
		return attack{name, false, clause, func(ctx context.Context, e *environment) error { return e.apply(ctx, made) }}
	}
	merged := func(clause, name, namespace, text string) attack {
		return attack{name, false, clause, func(ctx context.Context, e *environment) error { return e.merge(ctx, namespace, satelliteCA, text) }}
	}
	owner := []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "lightstep-injector", UID: "x"}}
	blocking := []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "Deployment", Name: "lightstep-injector", UID: "x", BlockOwnerDeletion: new(true)}}
	several := []metav1.OwnerReference{
		{APIVersion: "apps/v1", Kind: "Deployment", Name: "lightstep-injector", UID: "x"},
		{APIVersion: "apps/v1", Kind: "Deployment", Name: "lightstep-injector", UID: "y"},
	}
	return []attack{
		changed(secretFinalizers, "a copy with a finalizer", copyOf(fresh, satelliteCA), func(s *corev1.Secret) { s.Finalizers = []string{"example.com/x"} }),
		changed(secretFinalizers, "a certificate with a finalizer", certificateOf(own, certificate), func(s *corev1.Secret) { s.Finalizers = []string{"example.com/x"} }),
		merged(secretFinalizers, "a finalizer on a copy", copied, `{"metadata":{"finalizers":["example.com/x"]}}`),
		merged(secretFinalizers, "a finalizer that keeps the namespace", copied, `{"metadata":{"finalizers":["foregroundDeletion"]}}`),
		changed(secretOwners, "a copy with an owner", copyOf(fresh, satelliteCA), func(s *corev1.Secret) { s.OwnerReferences = owner }),
		changed(secretOwners, "a copy that belongs to the Deployment", copyOf(fresh, satelliteCA), func(s *corev1.Secret) { s.OwnerReferences = several[:1] }),
		changed(secretOwners, "a certificate of another owner", certificateOf(own, certificate), func(s *corev1.Secret) { s.OwnerReferences = owner }),
		changed(secretOwners, "a certificate of two owners", certificateOf(own, certificate), func(s *corev1.Secret) { s.OwnerReferences = several }),
		changed(secretOwners, "a certificate that blocks its owner", certificateOf(own, certificate), func(s *corev1.Secret) { s.OwnerReferences = blocking }),
		merged(secretOwners, "an owner of a copy", copied, `{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"x","uid":"x"}]}}`),
		changed(secretLabels, "a copy with another label", copyOf(fresh, satelliteCA), func(s *corev1.Secret) { s.Labels["owner"] = "helm" }),
		changed(secretLabels, "a copy with another value of its label", copyOf(fresh, satelliteCA), func(s *corev1.Secret) { s.Labels["app.kubernetes.io/managed-by"] = "Helm" }),
		changed(secretLabels, "a certificate with another label", certificateOf(own, certificate), func(s *corev1.Secret) { s.Labels = map[string]string{"owner": "helm"} }),
		merged(secretLabels, "another label on a copy", copied, `{"metadata":{"labels":{"owner":"helm"}}}`),
		merged(secretLabels, "take a tenant's label off a copy", copied, `{"metadata":{"labels":{"tenant":null}}}`),
		changed(secretAnnotations, "a copy with another annotation", copyOf(fresh, satelliteCA), func(s *corev1.Secret) { s.Annotations["kubernetes.io/service-account.name"] = "default" }),
		changed(secretAnnotations, "a certificate with an annotation", certificateOf(own, certificate), func(s *corev1.Secret) { s.Annotations = map[string]string{"lightstep.com/source": "x"} }),
		merged(secretAnnotations, "another annotation on a copy", copied, `{"metadata":{"annotations":{"reflector.v1.k8s.emberstack.com/reflection-allowed":"true"}}}`),
		merged(secretAnnotations, "a long annotation on a copy", copied, `{"metadata":{"annotations":{"lightstep.com/source":"`+strings.Repeat("x", 1000)+`"}}}`),
		merged(secretAnnotations, "take a tenant's annotation off a copy", copied, `{"metadata":{"annotations":{"tenant":null}}}`),
		changed(secretKeys, "a copy with another key", copyOf(fresh, satelliteCA), func(s *corev1.Secret) { s.Data["tls.key"] = []byte("x") }),
		changed(secretKeys, "a token under the satellite CA's name", copyOf(fresh, satelliteCA), func(s *corev1.Secret) { s.Data = map[string][]byte{"token": []byte("x")} }),
		changed(secretKeys, "a certificate with another key", certificateOf(own, certificate), func(s *corev1.Secret) { s.Data["token"] = []byte("x") }),
		changed(secretKeys, "a copy that is too large", copyOf(fresh, satelliteCA), func(s *corev1.Secret) { s.Data["cacert.pem"] = make([]byte, 500_000) }),
		merged(secretKeys, "another key in a copy", copied, `{"stringData":{"more":"x"}}`),
		changed(secretImmutable, "an immutable copy", copyOf(fresh, satelliteCA), func(s *corev1.Secret) { s.Immutable = new(true) }),
		changed(secretImmutable, "an immutable certificate", certificateOf(own, certificate), func(s *corev1.Secret) { s.Immutable = new(true) }),
		merged(secretImmutable, "make a copy immutable", copied, `{"immutable":true}`),
		changed(exemptOrGoing, "copy into an exempt namespace", copyOf(exempt, satelliteCA), func(*corev1.Secret) {}),
		merged(exemptOrGoing, "change a copy in a namespace that is being deleted", going, `{"data":{"cacert.pem":"eA=="}}`),
	}
}

// reading are the attacks by reading Secrets, of which RBAC alone keeps.
func reading() []attack {
	list := func(namespace string, options metav1.ListOptions) func(context.Context, *environment) error {
		return func(ctx context.Context, e *environment) error {
			_, err := e.account.CoreV1().Secrets(namespace).List(ctx, options)
			return err
		}
	}
	watch := func(options metav1.ListOptions) func(context.Context, *environment) error {
		return func(ctx context.Context, e *environment) error {
			watch, err := e.account.CoreV1().Secrets("").Watch(ctx, options)
			if err == nil {
				watch.Stop()
			}
			return err
		}
	}
	ours := metav1.ListOptions{LabelSelector: "lightstep.com/managed=distribute"}
	return []attack{
		{"get another Secret", true, "", func(ctx context.Context, e *environment) error {
			_, err := e.account.CoreV1().Secrets(foreigner).Get(ctx, password, metav1.GetOptions{})
			return err
		}},
		{"list all Secrets", true, "", list("", metav1.ListOptions{})},
		{"list the Secrets of a namespace", true, "", list(copied, metav1.ListOptions{})},
		{"list the Secrets of the own namespace", true, "", list(own, metav1.ListOptions{})},
		{"list Secrets by label", true, "", list("", ours)},
		{"list Secrets of another name", true, "", list("", named(password))},
		{"list Secrets by type", true, "", list("", metav1.ListOptions{FieldSelector: "type=Opaque"})},
		{"list Secrets of all names but one", true, "", list("", metav1.ListOptions{FieldSelector: "metadata.name!=" + satelliteCA})},
		{"list a source's name in another namespace", true, "", list(fresh, named("token-source"))},
		{"watch all Secrets", true, "", watch(metav1.ListOptions{})},
		{"watch Secrets by label", true, "", watch(ours)},
		{"watch Secrets of another name", true, "", watch(named(password))},
	}
}

// sideways are the attacks by other objects than Secrets, of which RBAC alone keeps.
func sideways() []attack {
	patch := func(resource, name, text string) func(context.Context, *environment) error {
		return func(ctx context.Context, e *environment) error {
			api := e.account.AdmissionregistrationV1().RESTClient()
			return api.Patch(types.MergePatchType).Resource(resource).Name(name).Body([]byte(text)).Do(ctx).Error()
		}
	}
	remove := func(resource, name string) func(context.Context, *environment) error {
		return func(ctx context.Context, e *environment) error {
			return e.account.AdmissionregistrationV1().RESTClient().Delete().Resource(resource).Name(name).Do(ctx).Error()
		}
	}
	return []attack{
		{"change a policy", true, "", patch("validatingadmissionpolicies", "lightstep-injector-secrets", `{"spec":{"failurePolicy":"Ignore"}}`)},
		{"delete a policy", true, "", remove("validatingadmissionpolicies", "lightstep-injector-secrets")},
		{"change a binding", true, "", patch("validatingadmissionpolicybindings", "lightstep-injector-secrets", `{"spec":{"validationActions":["Audit"]}}`)},
		{"delete a binding", true, "", remove("validatingadmissionpolicybindings", "lightstep-injector-webhook")},
		{"delete a validating webhook", true, "", remove("validatingwebhookconfigurations", "any")},
		{"label a namespace", true, "", func(ctx context.Context, e *environment) error {
			_, err := e.account.CoreV1().Namespaces().Patch(ctx, plain, types.MergePatchType,
				[]byte(`{"metadata":{"labels":{"lightstep.com/injection":"enabled"}}}`), metav1.PatchOptions{})
			return err
		}},
		{"ask for another account's token", true, "", func(ctx context.Context, e *environment) error {
			_, err := e.account.CoreV1().ServiceAccounts(own).CreateToken(ctx, "default", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
			return err
		}},
		{"impersonate", true, "", func(ctx context.Context, e *environment) error {
			config, err := e.cluster.As(ctx, own, accountName)
			if err != nil {
				return err
			}
			config.Impersonate = rest.ImpersonationConfig{UserName: "system:admin", Groups: []string{"system:masters"}}
			admin, err := kubernetes.NewForConfig(config)
			if err != nil {
				return err
			}
			_, err = admin.CoreV1().Secrets("").List(ctx, metav1.ListOptions{})
			return err
		}},
		{"grant itself more", true, "", func(ctx context.Context, e *environment) error {
			_, err := e.account.RbacV1().ClusterRoles().Patch(ctx, "lightstep-injector", types.MergePatchType, []byte(`{"rules":[]}`), metav1.PatchOptions{})
			return err
		}},
		{"bind itself to more", true, "", func(ctx context.Context, e *environment) error {
			_, err := e.account.RbacV1().RoleBindings(fresh).Create(ctx, &rbacv1.RoleBinding{
				ObjectMeta: metav1.ObjectMeta{Name: "more"},
				RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "admin"},
			}, metav1.CreateOptions{})
			return err
		}},
		{"run a pod with a Secret", true, "", func(ctx context.Context, e *environment) error {
			_, err := e.account.CoreV1().Pods(own).Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, metav1.CreateOptions{})
			return err
		}},
		{"change the configuration", true, "", func(ctx context.Context, e *environment) error {
			_, err := e.account.CoreV1().ConfigMaps(own).Patch(ctx, "lightstep-injector", types.MergePatchType, []byte(`{"data":{}}`), metav1.PatchOptions{})
			return err
		}},
	}
}

// onWebhooks are the attacks on webhook configurations.
func onWebhooks() []attack {
	all := []attack{
		{"change another webhook configuration", true, otherWebhooks, func(ctx context.Context, e *environment) error {
			return e.patchWebhook(ctx, "1-other", `{"metadata":{"labels":{"x":"y"}}}`)
		}},
		{"the caBundle of another webhook configuration", true, otherWebhooks, func(ctx context.Context, e *environment) error {
			return e.patchWebhookBy(ctx, types.JSONPatchType, "1-other", caBundle(0))
		}},
		{"create a webhook configuration", true, otherWebhooks, func(ctx context.Context, e *environment) error {
			return e.createWebhook(ctx, "2-new")
		}},
		{"create one by apply", true, otherWebhooks, func(ctx context.Context, e *environment) error {
			return e.patchWebhookBy(ctx, types.ApplyPatchType, "2-new", `{"apiVersion":"admissionregistration.k8s.io/v1","kind":"MutatingWebhookConfiguration","metadata":{"name":"2-new"}}`)
		}},
		{"delete its webhook configuration", true, otherWebhooks, func(ctx context.Context, e *environment) error {
			return e.account.AdmissionregistrationV1().MutatingWebhookConfigurations().Delete(ctx, webhookName, metav1.DeleteOptions{})
		}},
		{"delete another webhook configuration", true, otherWebhooks, func(ctx context.Context, e *environment) error {
			return e.account.AdmissionregistrationV1().MutatingWebhookConfigurations().Delete(ctx, "1-other", metav1.DeleteOptions{})
		}},
		{"PUT its webhook configuration", true, "", func(ctx context.Context, e *environment) error {
			configurations := e.account.AdmissionregistrationV1().MutatingWebhookConfigurations()
			_, err := configurations.Update(ctx, &admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: webhookName}}, metav1.UpdateOptions{})
			return err
		}},
	}
	for _, change := range webhookChanges() {
		all = append(all, attack{"webhook: " + change.name, false, change.clause, func(ctx context.Context, e *environment) error {
			return e.patchWebhookBy(ctx, types.JSONPatchType, webhookName, "["+change.operation+"]")
		}})
	}
	return all
}

func (e *environment) createWebhook(ctx context.Context, name string) error {
	made := &admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: name}}
	_, err := e.account.AdmissionregistrationV1().MutatingWebhookConfigurations().Create(ctx, made, metav1.CreateOptions{})
	return err
}

// webhookChange is an operation of a JSON patch.
type webhookChange struct{ name, clause, operation string }

// webhookChanges change each field of a webhook configuration but caBundle.
func webhookChanges() []webhookChange {
	set := func(name, clause, path, value string) webhookChange {
		return webhookChange{name, clause, fmt.Sprintf(`{"op":"add","path":%q,"value":%s}`, path, value)}
	}
	field := func(name, value string) webhookChange { return set(name, webhookFields, "/webhooks/0/"+name, value) }
	third := `{"name":"third.lightstep.com","clientConfig":{"url":"https://example.com"},"sideEffects":"None","admissionReviewVersions":["v1"]}`
	return []webhookChange{
		set("labels", webhookMeta+"labels", "/metadata/labels/more", `"x"`),
		{"labels, taken away", webhookMeta + "labels", `{"op":"remove","path":"/metadata/labels"}`},
		set("annotations", webhookMeta+"annotations", "/metadata/annotations/more", `"x"`),
		set("finalizers", webhookMeta+"finalizers", "/metadata/finalizers", `["example.com/x"]`),
		set("ownerReferences", webhookMeta+"ownerReferences", "/metadata/ownerReferences", `[{"apiVersion":"v1","kind":"Node","name":"x","uid":"x"}]`),
		set("a webhook more", webhookNames, "/webhooks/-", third),
		set("another name", webhookNames, "/webhooks/0/name", `"third.lightstep.com"`),
		{"a webhook less", webhookNames, `{"op":"remove","path":"/webhooks/1"}`},
		{"no webhooks", webhookNames, `{"op":"remove","path":"/webhooks"}`},
		{"another order", webhookNames, `{"op":"move","from":"/webhooks/0","path":"/webhooks/1"}`},
		field("rules", `[{"apiGroups":[""],"apiVersions":["v1"],"operations":["*"],"resources":["*"]}]`),
		set("another resource", webhookFields, "/webhooks/1/rules/0/resources/-", `"secrets"`),
		field("namespaceSelector", `{}`),
		field("objectSelector", `{"matchLabels":{"x":"y"}}`),
		field("failurePolicy", `"Fail"`),
		field("matchPolicy", `"Exact"`),
		field("reinvocationPolicy", `"IfNeeded"`),
		field("sideEffects", `"NoneOnDryRun"`),
		field("timeoutSeconds", `30`),
		field("admissionReviewVersions", `["v1","v1beta1"]`),
		field("matchConditions", `[{"name":"never","expression":"true"}]`),
		{"matchConditions, taken away", webhookFields, `{"op":"remove","path":"/webhooks/0/matchConditions"}`},
		set("url", webhookPlace, "/webhooks/0/clientConfig", `{"url":"https://example.com"}`),
		set("service.name", webhookPlace, "/webhooks/0/clientConfig/service/name", `"other"`),
		set("service.namespace", webhookPlace, "/webhooks/0/clientConfig/service/namespace", `"other"`),
		set("service.path", webhookPlace, "/webhooks/1/clientConfig/service/path", `"/other"`),
		set("service.port", webhookPlace, "/webhooks/0/clientConfig/service/port", `8443`),
	}
}

// caBundle is the one change that is allowed.
func caBundle(webhook int) string {
	return fmt.Sprintf(`[{"op":"add","path":"/webhooks/%d/clientConfig/caBundle","value":%q}]`, webhook, anyCA)
}

// prepareTargets makes what the attacks go for.
func (e *environment) prepareTargets(t *testing.T) {
	t.Helper()
	for _, name := range []string{fresh, copied, foreigner, pasted, exempt, going} {
		e.namespace(t, name, labelled())
	}
	e.namespace(t, plain, nil)
	e.label(t, istioSpace, map[string]any{"lightstep.com/injection": "enabled"})
	e.label(t, own, map[string]any{"lightstep.com/injection": "enabled"})
	stage.Check(t, e.apply(t.Context(), copyOf(copied, satelliteCA)))
	theirs := []byte(`{"metadata":{"labels":{"tenant":"x"},"annotations":{"tenant":"x"}}}`) // on a copy they may stay
	_, err := e.admin.CoreV1().Secrets(copied).Patch(t.Context(), satelliteCA, types.MergePatchType, theirs, metav1.PatchOptions{})
	stage.Check(t, err)
	stage.Check(t, e.apply(t.Context(), copyOf(copied, satelliteCA)))
	e.given(t, foreign(foreigner, satelliteCA))
	e.given(t, foreign(foreigner, password))
	e.given(t, foreign(own, satelliteCA))
	prepared := tokenOf(pasted, satelliteCA, "default")
	e.ordinary(t, pasted) // without the account, the token would be removed
	e.given(t, prepared)
	e.prepareIstio(t)
	stage.Check(t, e.apply(t.Context(), copyOf(going, satelliteCA)))
	_, err = e.admin.CoreV1().Secrets(going).Patch(t.Context(), satelliteCA, types.MergePatchType, []byte(`{"metadata":{"finalizers":["example.com/hold"]}}`), metav1.PatchOptions{})
	stage.Check(t, err)
	stage.Check(t, e.admin.CoreV1().Namespaces().Delete(t.Context(), going, metav1.DeleteOptions{}))
	stage.Eventually(t, func(context.Context) error { // a controller deletes what is in it
		if e.secret(t, going, satelliteCA).DeletionTimestamp == nil {
			return errors.New("the copy is not being deleted yet")
		}
		return nil
	})
	stage.Eventually(t, func(ctx context.Context) error { // the policy knows of the namespace by a watch
		return refused(e.merge(ctx, going, satelliteCA, `{"data":{"cacert.pem":"eA=="}}`), exemptOrGoing)
	})
	_, err = e.admin.EventsV1().Events(fresh).Create(t.Context(), othersEvent(), metav1.CreateOptions{})
	stage.Check(t, err)
	_, err = e.admin.EventsV1().Events(fresh).Create(t.Context(), eventOf(fresh), metav1.CreateOptions{})
	stage.Check(t, err)
}

// attacks tries all of them, and sees afterwards that nothing has changed.
func (e *environment) attacks(t *testing.T, attacks []attack, expect func(attack) string) {
	before := e.everything(t)
	for _, attack := range attacks {
		by := expect(attack)
		if by == "" {
			continue
		}
		t.Run(strings.ReplaceAll(attack.name, " ", "-"), func(t *testing.T) {
			if err := refused(attack.do(t.Context(), e), by); err != nil {
				t.Error(err)
			}
		})
	}
	if diff := cmp.Diff(before, e.everything(t)); diff != "" {
		t.Errorf("something has changed (-before +after):\n%s", diff)
	}
}

// everything has the version of each object that attacks go for.
func (e *environment) everything(t *testing.T) map[string]string {
	t.Helper()
	versions := map[string]string{}
	secrets, err := e.admin.CoreV1().Secrets("").List(t.Context(), metav1.ListOptions{})
	stage.Check(t, err)
	for _, s := range secrets.Items {
		versions[s.Namespace+"/"+s.Name] = s.ResourceVersion
	}
	webhooks, err := e.admin.AdmissionregistrationV1().MutatingWebhookConfigurations().List(t.Context(), metav1.ListOptions{})
	stage.Check(t, err)
	for _, w := range webhooks.Items {
		versions[w.Name] = w.ResourceVersion
	}
	leases, err := e.admin.CoordinationV1().Leases(own).List(t.Context(), metav1.ListOptions{})
	stage.Check(t, err)
	for _, l := range leases.Items {
		versions["Lease "+l.Name] = l.ResourceVersion
	}
	for _, kind := range istioKinds() {
		list, err := e.adminObjects.Resource(kind).List(t.Context(), metav1.ListOptions{})
		stage.Check(t, err)
		for _, o := range list.Items {
			versions[kind.Resource+" "+o.GetNamespace()+"/"+o.GetName()] = o.GetResourceVersion()
		}
	}
	return versions
}

// underRBAC tells who refuses an attack with the rights that the chart gives.
func underRBAC(a attack) string {
	if a.rbac {
		return byRBAC
	}
	return a.clause
}

// underPolicies tells which clause refuses it where RBAC allows everything.
func underPolicies(a attack) string { return a.clause }

func allAttacks() []attack {
	return slices.Concat(onSecrets(), onSecretsMetadata(), reading(), sideways(), onWebhooks(), onIstio(), onLeases(), onEvents())
}

// retype tries to have a copy become a token: to delete it, which is allowed, and to make it anew.
func (e *environment) retype(t *testing.T) {
	namespace := e.namespace(t, "retyped", labelled())
	stage.Check(t, e.apply(t.Context(), copyOf(namespace, satelliteCA)))
	stage.Check(t, e.remove(t.Context(), namespace, satelliteCA))
	stage.Check(t, refused(e.apply(t.Context(), tokenOf(namespace, satelliteCA, "default")), typed))
}

// deleteCertificate sees that the account, which may delete copies, cannot delete the certificate: to make it anew would be
// to give it another type.
func (e *environment) deleteCertificate(t *testing.T) {
	stage.Check(t, e.apply(t.Context(), certificateOf(own, certificate)))
	stage.Check(t, refused(e.remove(t.Context(), own, certificate), names))
}

// race has somebody else make a Secret of a copy's name at the same moment, again and again: whoever comes first, theirs
// is never changed.
func (e *environment) race(t *testing.T) {
	const rounds = 60
	namespace := e.namespace(t, "raced", labelled())
	theirsFirst := 0
	for range rounds {
		applied := make(chan error, 1)
		go func() { applied <- e.apply(t.Context(), copyOf(namespace, otherCA)) }()
		theirs, err := e.admin.CoreV1().Secrets(namespace).Create(t.Context(), foreign(namespace, otherCA), metav1.CreateOptions{})
		refusal := <-applied
		now := e.secret(t, namespace, otherCA)
		if err == nil {
			theirsFirst++
			if refusal == nil || now.ResourceVersion != theirs.ResourceVersion {
				t.Fatalf("their Secret was written to: %v, %v", refusal, now.Labels)
			}
		} else {
			stage.Check(t, refusal)
		}
		stage.Check(t, e.admin.CoreV1().Secrets(namespace).Delete(t.Context(), otherCA, metav1.DeleteOptions{}))
	}
	t.Logf("they came first %d times of %d", theirsFirst, rounds)
}
