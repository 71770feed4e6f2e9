package secrets

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// everywhere are the account's rights in any namespace, and over what is in none: each a group's resource, the names that
// it is limited to, and the verbs. This list is read, and not made: a right that is new has to be argued for here.
func everywhere() []string {
	return []string{
		"admissionregistration.k8s.io/mutatingwebhookconfigurations [0-lightstep-injector]: get patch",
		"admissionregistration.k8s.io/mutatingwebhookconfigurations: list watch",
		"events.k8s.io/events: create patch",
		"namespaces: list watch",
		"networking.istio.io/destinationrules [lightstep]: create delete get patch",
		"networking.istio.io/destinationrules: list watch",
		"networking.istio.io/serviceentries [lightstep]: create delete get patch",
		"networking.istio.io/serviceentries: list watch",
		"pods: list",
		"secrets [lightstep-access-token lightstep.cacert other.cacert]: create delete get patch",
		"secrets [lightstep-access-token lightstep.cacert other.cacert]: list watch",
		"telemetry.istio.io/telemetries [lightstep]: create delete get patch",
		"telemetry.istio.io/telemetries: list watch",
	}
}

// atHome are those that it has in its own namespace only.
func atHome() []string {
	return []string{
		"apps/deployments [lightstep-injector]: get",
		"coordination.k8s.io/leases [lightstep-injector]: get update",
		"coordination.k8s.io/leases: create",
		"secrets [lightstep-injector-tls]: create get list patch watch",
		"secrets [lightstep.cacert other-source token-source]: list watch",
	}
}

// besideIstio are those that it has in Istio's namespace only.
func besideIstio() []string { return []string{"configmaps: list watch"} }

// rights compares what the API server says that the account can do with the lists above.
func (e *environment) rights(t *testing.T) {
	everyones := e.ordinary(t, plain)
	for namespace, more := range map[string][]string{fresh: nil, own: atHome(), istioSpace: besideIstio()} {
		t.Run("Rules/"+namespace, func(t *testing.T) {
			got := without(rules(t, e.account, namespace), rules(t, everyones, namespace))
			want := slices.Sorted(slices.Values(slices.Concat(everywhere(), more)))
			if diff := cmp.Diff(want, slices.Compact(got)); diff != "" {
				t.Errorf("rights in %s (-want +got):\n%s", namespace, diff)
			}
		})
	}
	t.Run("Matrix", e.matrix)
}

// rules are the rights of an account in a namespace, a line for each resource of each rule, sorted.
func rules(t *testing.T, account *kubernetes.Clientset, namespace string) []string {
	t.Helper()
	review, err := account.AuthorizationV1().SelfSubjectRulesReviews().Create(t.Context(), &authorizationv1.SelfSubjectRulesReview{
		Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: namespace},
	}, metav1.CreateOptions{})
	stage.Check(t, err)
	if review.Status.Incomplete {
		t.Fatalf("not all rules are known: %s", review.Status.EvaluationError)
	}
	var lines []string
	for _, rule := range review.Status.ResourceRules {
		limit := ""
		if len(rule.ResourceNames) > 0 {
			limit = " " + fmt.Sprint(rule.ResourceNames)
		}
		slices.Sort(rule.Verbs)
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				lines = append(lines, strings.TrimPrefix(group+"/"+resource, "/")+limit+": "+strings.Join(rule.Verbs, " "))
			}
		}
	}
	for _, rule := range review.Status.NonResourceRules {
		lines = append(lines, fmt.Sprint(rule.NonResourceURLs, rule.Verbs))
	}
	slices.Sort(lines)
	return lines
}

func without(lines, others []string) []string {
	return slices.DeleteFunc(lines, func(line string) bool { return slices.Contains(others, line) })
}

// unnamed is what the account may do whatever an object's name is, as the API server answers when
// it is asked for each resource and verb.
func unnamed() []string {
	return []string{
		"admissionregistration.k8s.io/mutatingwebhookconfigurations list",
		"admissionregistration.k8s.io/mutatingwebhookconfigurations watch",
		"authentication.k8s.io/selfsubjectreviews create",
		"authorization.k8s.io/selfsubjectaccessreviews create",
		"authorization.k8s.io/selfsubjectrulesreviews create",
		"events.k8s.io/events create",
		"events.k8s.io/events patch",
		"namespaces list",
		"namespaces watch",
		"networking.istio.io/destinationrules list",
		"networking.istio.io/destinationrules watch",
		"networking.istio.io/serviceentries list",
		"networking.istio.io/serviceentries watch",
		"pods list",
		"telemetry.istio.io/telemetries list",
		"telemetry.istio.io/telemetries watch",
	}
}

// matrix asks for each resource and each verb.
func (e *environment) matrix(t *testing.T) {
	_, lists, err := e.admin.Discovery().ServerGroupsAndResources()
	stage.Check(t, err)
	verbs := []string{
		"approve", "attest", "bind", "create", "delete", "deletecollection", "escalate", "get", "impersonate", "list",
		"patch", "proxy", "sign", "update", "use", "watch",
	}
	var got []string
	for _, list := range lists {
		group, _, namesGroup := strings.Cut(list.GroupVersion, "/")
		if !namesGroup {
			group = ""
		}
		for _, resource := range list.APIResources {
			for _, verb := range verbs {
				if e.may(t, group, resource, verb) {
					got = append(got, strings.TrimPrefix(group+"/"+resource.Name, "/")+" "+verb)
				}
			}
		}
	}
	slices.Sort(got)
	if diff := cmp.Diff(unnamed(), slices.Compact(got)); diff != "" {
		t.Errorf("what the account may do (-want +got):\n%s", diff)
	}
}

// may asks the API server as the account.
func (e *environment) may(t *testing.T, group string, resource metav1.APIResource, verb string) bool {
	t.Helper()
	name, subresource, _ := strings.Cut(resource.Name, "/")
	attributes := &authorizationv1.ResourceAttributes{Group: group, Resource: name, Subresource: subresource, Verb: verb}
	if resource.Namespaced {
		attributes.Namespace = fresh
	}
	review, err := e.account.AuthorizationV1().SelfSubjectAccessReviews().Create(t.Context(), &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: attributes},
	}, metav1.CreateOptions{})
	stage.Check(t, err)
	return review.Status.Allowed
}
