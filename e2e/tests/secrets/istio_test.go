package secrets

import (
	"context"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// provider is the name of every object that the injector keeps.
const provider = "lightstep"

func serviceEntries() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "serviceentries"}
}

func destinationRules() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "destinationrules"}
}

func telemetries() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "telemetry.istio.io", Version: "v1", Resource: "telemetries"}
}

func istioKinds() []schema.GroupVersionResource {
	return []schema.GroupVersionResource{serviceEntries(), destinationRules(), telemetries()}
}

// objectChange changes an object.
type objectChange func(*unstructured.Unstructured)

// setField sets the field at a path with dots. A nil value removes it.
func setField(path string, value any) objectChange {
	return func(o *unstructured.Unstructured) {
		fields := strings.Split(path, ".")
		if value == nil {
			unstructured.RemoveNestedField(o.Object, fields...)
			return
		}
		if err := unstructured.SetNestedField(o.Object, value, fields...); err != nil {
			panic(err)
		}
	}
}

// object is one as the injector applies it, with changes.
func object(apiVersion, kind, namespace string, spec map[string]any, changes []objectChange) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": apiVersion, "kind": kind, "spec": spec,
		"metadata": map[string]any{"name": provider, "namespace": namespace},
	}}
	o.SetLabels(map[string]string{"app.kubernetes.io/managed-by": "lightstep-injector", "lightstep.com/managed": "mesh"})
	for _, change := range changes {
		change(o)
	}
	return o
}

func entryOf(namespace string, changes ...objectChange) *unstructured.Unstructured {
	return object("networking.istio.io/v1", "ServiceEntry", namespace, map[string]any{
		"hosts": []any{"satellite.lightstep.internal"}, "location": "MESH_EXTERNAL", "resolution": "DNS", "exportTo": []any{"."},
		"ports":     []any{map[string]any{"number": int64(44317), "name": "grpc-otlp", "protocol": "GRPC"}},
		"endpoints": []any{map[string]any{"address": "satellite.example.com", "ports": map[string]any{"grpc-otlp": int64(9292)}}},
	}, changes)
}

func ruleOf(namespace string, changes ...objectChange) *unstructured.Unstructured {
	return object("networking.istio.io/v1", "DestinationRule", namespace, map[string]any{
		"host": "satellite.lightstep.internal", "exportTo": []any{"."},
		"workloadSelector": map[string]any{"matchLabels": map[string]any{"lightstep.com/injected": "true"}},
		"trafficPolicy": map[string]any{"tls": map[string]any{
			"mode": "SIMPLE", "caCertificates": "/etc/lightstep/cacert.pem", "sni": "satellite.example.com", "subjectAltNames": []any{"satellite.example.com"},
		}},
	}, changes)
}

func telemetryOf(namespace string, changes ...objectChange) *unstructured.Unstructured {
	return object("telemetry.istio.io/v1", "Telemetry", namespace, map[string]any{
		"selector": map[string]any{"matchLabels": map[string]any{"lightstep.com/injected": "true"}},
		"tracing": []any{map[string]any{
			"providers": []any{map[string]any{"name": provider}}, "randomSamplingPercentage": int64(25),
			"customTags": map[string]any{"team": map[string]any{"literal": map[string]any{"value": "shop"}}},
		}},
	}, changes)
}

// targets has a Telemetry be for a waypoint's Gateway.
func targets(ref map[string]any) objectChange {
	return func(o *unstructured.Unstructured) {
		setField("spec.selector", nil)(o)
		setField("spec.targetRefs", []any{ref})(o)
	}
}

func gateway() map[string]any {
	return map[string]any{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "waypoint"}
}

func resourceOf(o *unstructured.Unstructured) schema.GroupVersionResource {
	resource := map[string]string{"ServiceEntry": "serviceentries", "DestinationRule": "destinationrules", "Telemetry": "telemetries"}[o.GetKind()]
	return o.GroupVersionKind().GroupVersion().WithResource(resource)
}

// applyObject applies one as the account, over whatever somebody else has written.
func (e *environment) applyObject(ctx context.Context, o *unstructured.Unstructured, options ...writeOption) error {
	text, err := o.MarshalJSON()
	if err != nil {
		return err
	}
	all := metav1.PatchOptions{FieldManager: manager, Force: new(true)}
	for _, option := range options {
		option(&all)
	}
	_, err = e.accountObjects.Resource(resourceOf(o)).Namespace(o.GetNamespace()).Patch(ctx, o.GetName(), types.ApplyPatchType, text, all)
	return err
}

// istioObjects go through their whole life, in each shape that the injector renders, also after the label.
func (e *environment) istioObjects(t *testing.T) {
	namespace := e.namespace(t, "works-istio", labelled())
	overHTTP := func(o *unstructured.Unstructured) {
		setField("spec.ports", []any{map[string]any{"number": int64(44318), "name": "http-otlp", "protocol": "HTTP"}})(o)
		setField("spec.endpoints", []any{map[string]any{"address": "2001:db8::7", "ports": map[string]any{"http-otlp": int64(443)}}})(o)
		setField("spec.resolution", "STATIC")(o)
	}
	byAddress := setField("spec.trafficPolicy.tls", map[string]any{
		"mode": "SIMPLE", "caCertificates": "/etc/lightstep/cacert.pem", "subjectAltNames": []any{"2001:db8::7"},
	})
	for _, o := range []*unstructured.Unstructured{
		entryOf(namespace), entryOf(namespace, setField("spec.location", nil)), entryOf(namespace, overHTTP), ruleOf(namespace), ruleOf(namespace, byAddress),
		telemetryOf(namespace), telemetryOf(namespace, setField("apiVersion", "telemetry.istio.io/v1alpha1")),
		telemetryOf(namespace, targets(gateway())), telemetryOf(namespace),
	} {
		stage.Check(t, e.applyObject(t.Context(), o))
	}
	theirs := []byte(`{"metadata":{"labels":{"tenant":"x"}},"spec":{"trafficPolicy":{"connectionPool":{"tcp":{"maxConnections":7}}}}}`)
	_, err := e.adminObjects.Resource(destinationRules()).Namespace(namespace).Patch(t.Context(), provider, types.MergePatchType, theirs, metav1.PatchOptions{})
	stage.Check(t, err)
	stage.Check(t, e.applyObject(t.Context(), ruleOf(namespace))) // what somebody else has added stays
	stage.Check(t, e.accountObjects.Resource(serviceEntries()).Namespace(namespace).Delete(t.Context(), provider, metav1.DeleteOptions{}))
	e.label(t, namespace, map[string]any{"lightstep.com/injection": nil})
	stage.Eventually(t, func(ctx context.Context) error {
		return refused(e.applyObject(ctx, entryOf(namespace), dryRun), istioPlace)
	})
	for _, kind := range istioKinds()[1:] {
		stage.Check(t, e.accountObjects.Resource(kind).Namespace(namespace).Delete(t.Context(), provider, metav1.DeleteOptions{}))
	}
}

// The clauses of the policy about Istio's objects.
const (
	istioNames       = byIstio + "only objects of the name lightstep may be written"
	istioPlace       = byIstio + "objects go into namespaces labelled"
	istioNever       = byIstio + "objects do not go into the namespaces of Istio"
	istioForeign     = byIstio + "the object that is there is not the injector's"
	istioUnowned     = byIstio + "an object carries the injector's labels"
	istioFinalizers  = byIstio + "finalizers"
	istioOwners      = byIstio + "ownerReferences"
	istioLabels      = byIstio + "only the injector's own labels"
	istioAnnotations = byIstio + "only the injector's own annotations"
	entryHost        = byIstio + "a ServiceEntry is for the host"
	entryEndpoint    = byIstio + "a ServiceEntry has one endpoint"
	entryFields      = byIstio + "a ServiceEntry has the injector's own ports"
	ruleHost         = byIstio + "a DestinationRule is for the host"
	ruleTLS          = byIstio + "a DestinationRule opens TLS"
	ruleFields       = byIstio + "a DestinationRule has no other field"
	telemetryTargets = byIstio + "a Telemetry selects"
	telemetryTracing = byIstio + "a Telemetry has one tracing"
	telemetryFields  = byIstio + "a Telemetry has no other field"
)

// onIstio are the attacks by writing Istio's objects.
func onIstio() []attack {
	applied := func(rbac bool, clause, name string, o *unstructured.Unstructured) attack {
		return attack{"istio: " + name, rbac, clause, func(ctx context.Context, e *environment) error { return e.applyObject(ctx, o) }}
	}
	merged := func(rbac bool, clause, name, namespace, text string, kind schema.GroupVersionResource, subresources ...string) attack {
		return attack{"istio: " + name, rbac, clause, func(ctx context.Context, e *environment) error {
			_, err := e.accountObjects.Resource(kind).Namespace(namespace).Patch(ctx, provider, types.MergePatchType, []byte(text), metav1.PatchOptions{}, subresources...)
			return err
		}}
	}
	removed := func(rbac bool, clause, name, namespace string, do func(ctx context.Context, in dynamicNamespace) error) attack {
		return attack{"istio: " + name, rbac, clause, func(ctx context.Context, e *environment) error {
			return do(ctx, e.accountObjects.Resource(destinationRules()).Namespace(namespace))
		}}
	}
	renamed := func(o *unstructured.Unstructured) { o.SetName("other") }
	generated := func(o *unstructured.Unstructured) { o.SetName(""); o.SetGenerateName(provider) }
	labels := func(labels map[string]string) objectChange {
		return func(o *unstructured.Unstructured) { o.SetLabels(labels) }
	}
	label := func(name, value string) objectChange {
		return func(o *unstructured.Unstructured) {
			all := o.GetLabels()
			all[name] = value
			o.SetLabels(all)
		}
	}
	owner := []any{map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "name": "lightstep-injector", "uid": "x"}}
	all := []attack{
		applied(true, istioNames, "another name", ruleOf(fresh, renamed)),
		{"istio: a generated name", true, istioNames, func(ctx context.Context, e *environment) error {
			_, err := e.accountObjects.Resource(destinationRules()).Namespace(fresh).Create(ctx, ruleOf(fresh, generated), metav1.CreateOptions{})
			return err
		}},
		merged(true, istioNames, "the status", copied, `{"status":{"observedGeneration":7}}`, serviceEntries(), "status"),
		removed(true, istioNames, "delete all at once", foreigner, func(ctx context.Context, in dynamicNamespace) error {
			return in.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
		}),
		removed(false, istioForeign, "delete another owner's DestinationRule", foreigner, func(ctx context.Context, in dynamicNamespace) error {
			return in.Delete(ctx, provider, metav1.DeleteOptions{})
		}),
		applied(false, istioPlace, "a namespace that is not labelled", entryOf(plain)),
		applied(false, istioNever, "Istio's namespace", ruleOf(istioSpace)),
		applied(false, istioNever, "Istio's namespace, TLS off for every host", ruleOf(istioSpace, setField("spec.host", "*.local"), setField("spec.trafficPolicy.tls", map[string]any{"mode": "DISABLE"}))),
		applied(false, istioNever, "Istio's namespace, a Telemetry of all pods", telemetryOf(istioSpace, setField("spec.selector", nil))),
		applied(false, istioNever, "the injector's namespace", telemetryOf(own)),
		applied(false, istioNever, "an exempt namespace", telemetryOf(exempt)),
		applied(false, istioForeign, "overwrite another owner's DestinationRule", ruleOf(foreigner)),
		applied(false, istioForeign, "merge into another owner's DestinationRule", ruleOf(foreigner, setField("spec", map[string]any{}))),
		merged(false, istioForeign, "take over another owner's object by labels", foreigner,
			`{"metadata":{"labels":{"app.kubernetes.io/managed-by":"lightstep-injector","lightstep.com/managed":"mesh"}}}`, destinationRules()),
		applied(false, istioUnowned, "an object that does not say whose it is", entryOf(fresh, labels(nil))),
		applied(false, istioUnowned, "an object of another of the injector's controllers", entryOf(fresh, label("lightstep.com/managed", "distribute"))),
		merged(false, istioUnowned, "take the labels off", copied, `{"metadata":{"labels":{"lightstep.com/managed":null}}}`, telemetries()),
		applied(false, istioFinalizers, "an object with a finalizer", entryOf(fresh, setField("metadata.finalizers", []any{"example.com/x"}))),
		merged(false, istioFinalizers, "a finalizer on an object", copied, `{"metadata":{"finalizers":["example.com/x"]}}`, telemetries()),
		applied(false, istioOwners, "an object with an owner", entryOf(fresh, setField("metadata.ownerReferences", owner))),
		applied(false, istioLabels, "another label", entryOf(fresh, label("istio.io/rev", "x"))),
		applied(false, istioAnnotations, "an annotation", entryOf(fresh, setField("metadata.annotations", map[string]any{"networking.istio.io/exportTo": "*"}))),
	}
	return append(append(all, onServiceEntries(applied, merged)...), append(onDestinationRules(applied, merged), onTelemetries(applied, merged)...)...)
}

// dynamicNamespace is what of a dynamic client deletes.
type dynamicNamespace interface {
	Delete(ctx context.Context, name string, options metav1.DeleteOptions, subresources ...string) error
	DeleteCollection(ctx context.Context, options metav1.DeleteOptions, listOptions metav1.ListOptions) error
}

type (
	appliedFunc func(rbac bool, clause, name string, o *unstructured.Unstructured) attack
	mergedFunc  func(rbac bool, clause, name, namespace, text string, kind schema.GroupVersionResource, subresources ...string) attack
)

func onServiceEntries(applied appliedFunc, merged mergedFunc) []attack {
	port := func(number int64, name, protocol string) objectChange {
		return setField("spec.ports", []any{map[string]any{"number": number, "name": name, "protocol": protocol}})
	}
	endpoint := func(fields map[string]any) objectChange { return setField("spec.endpoints", []any{fields}) }
	satellite := func() map[string]any {
		return map[string]any{"address": "satellite.example.com", "ports": map[string]any{"grpc-otlp": int64(9292)}}
	}
	weighted := satellite()
	weighted["weight"] = int64(1)
	return []attack{
		applied(false, entryHost, "ServiceEntry of a foreign host", entryOf(fresh, setField("spec.hosts", []any{"bank.example.com"}))),
		applied(false, entryHost, "ServiceEntry of a foreign host, in an older version", entryOf(fresh, setField("apiVersion", "networking.istio.io/v1beta1"), setField("spec.hosts", []any{"bank.example.com"}))),
		applied(false, entryHost, "ServiceEntry of a foreign host, in the oldest version", entryOf(fresh, setField("apiVersion", "networking.istio.io/v1alpha3"), setField("spec.hosts", []any{"bank.example.com"}))),
		applied(false, entryHost, "ServiceEntry of one host more", entryOf(fresh, setField("spec.hosts", []any{"satellite.lightstep.internal", "bank.example.com"}))),
		applied(false, entryHost, "ServiceEntry for every namespace", entryOf(fresh, setField("spec.exportTo", []any{"*"}))),
		applied(false, entryHost, "ServiceEntry for Istio's default", entryOf(fresh, setField("spec.exportTo", nil))),
		merged(false, entryHost, "a kept ServiceEntry for every namespace", copied, `{"spec":{"exportTo":["*"]}}`, serviceEntries()),
		applied(false, entryEndpoint, "ServiceEntry that leads elsewhere", entryOf(fresh, endpoint(map[string]any{"address": "evil.example.com", "ports": map[string]any{"grpc-otlp": int64(9292)}}))),
		applied(false, entryEndpoint, "ServiceEntry that leads to another port", entryOf(fresh, endpoint(map[string]any{"address": "satellite.example.com", "ports": map[string]any{"grpc-otlp": int64(443)}}))),
		applied(false, entryEndpoint, "ServiceEntry without a port", entryOf(fresh, endpoint(map[string]any{"address": "satellite.example.com"}))),
		applied(false, entryEndpoint, "ServiceEntry with another field of the endpoint", entryOf(fresh, endpoint(weighted))),
		applied(false, entryEndpoint, "ServiceEntry without endpoints", entryOf(fresh, setField("spec.endpoints", nil))),
		applied(false, entryEndpoint, "ServiceEntry with two endpoints", entryOf(fresh, setField("spec.endpoints", []any{satellite(), satellite()}))),
		merged(false, entryEndpoint, "a kept ServiceEntry that leads elsewhere", copied, `{"spec":{"endpoints":[{"address":"192.0.2.1","ports":{"grpc-otlp":9292}}]}}`, serviceEntries()),
		applied(false, entryFields, "ServiceEntry that takes another port", entryOf(fresh, port(443, "grpc-otlp", "GRPC"))),
		applied(false, entryFields, "ServiceEntry of another protocol", entryOf(fresh, port(44317, "grpc-otlp", "TCP"))),
		applied(false, entryFields, "ServiceEntry with two ports", entryOf(fresh, setField("spec.ports", []any{
			map[string]any{"number": int64(44317), "name": "grpc-otlp", "protocol": "GRPC"}, map[string]any{"number": int64(44318), "name": "http-otlp", "protocol": "HTTP"},
		}))),
		applied(false, entryFields, "ServiceEntry of the mesh", entryOf(fresh, setField("spec.location", "MESH_INTERNAL"))),
		applied(false, entryFields, "ServiceEntry of another resolution", entryOf(fresh, setField("spec.resolution", "DNS_ROUND_ROBIN"))),
		applied(false, entryFields, "ServiceEntry with addresses", entryOf(fresh, setField("spec.addresses", []any{"10.0.0.1"}))),
		applied(false, entryFields, "ServiceEntry with subjectAltNames", entryOf(fresh, setField("spec.subjectAltNames", []any{"x"}))),
	}
}

func onDestinationRules(applied appliedFunc, merged mergedFunc) []attack {
	tls := func(field string, value any) objectChange { return setField("spec.trafficPolicy.tls."+field, value) }
	return []attack{
		applied(false, ruleHost, "DestinationRule of another host", ruleOf(fresh, setField("spec.host", "*.local"))),
		applied(false, ruleHost, "DestinationRule for every namespace", ruleOf(fresh, setField("spec.exportTo", []any{"*"}))),
		applied(false, ruleHost, "DestinationRule of all pods", ruleOf(fresh, setField("spec.workloadSelector", nil))),
		applied(false, ruleHost, "DestinationRule of other pods", ruleOf(fresh, setField("spec.workloadSelector", map[string]any{"matchLabels": map[string]any{"app": "bank"}}))),
		merged(false, ruleHost, "a kept DestinationRule of another host", copied, `{"spec":{"host":"*.local"}}`, destinationRules()),
		applied(false, ruleTLS, "DestinationRule with TLS off", ruleOf(fresh, setField("spec.trafficPolicy.tls", map[string]any{"mode": "DISABLE"}))),
		applied(false, ruleTLS, "DestinationRule without TLS", ruleOf(fresh, setField("spec.trafficPolicy", nil))),
		applied(false, ruleTLS, "DestinationRule that trusts other roots", ruleOf(fresh, tls("caCertificates", "/tmp/evil.pem"))),
		applied(false, ruleTLS, "DestinationRule that trusts any certificate", ruleOf(fresh, tls("caCertificates", nil))),
		applied(false, ruleTLS, "DestinationRule that takes any name", ruleOf(fresh, tls("subjectAltNames", nil))),
		applied(false, ruleTLS, "DestinationRule that takes another name", ruleOf(fresh, tls("subjectAltNames", []any{"evil.example.com"}))),
		applied(false, ruleTLS, "DestinationRule that takes a name more", ruleOf(fresh, tls("subjectAltNames", []any{"satellite.example.com", "evil.example.com"}))),
		applied(false, ruleTLS, "DestinationRule with another server name", ruleOf(fresh, tls("sni", "evil.example.com"))),
		applied(false, ruleTLS, "DestinationRule that verifies nothing", ruleOf(fresh, tls("insecureSkipVerify", true))),
		merged(false, ruleTLS, "a kept DestinationRule with TLS off", copied, `{"spec":{"trafficPolicy":{"tls":{"mode":"DISABLE"}}}}`, destinationRules()),
		applied(false, ruleFields, "DestinationRule with a limit", ruleOf(fresh, setField("spec.trafficPolicy.connectionPool", map[string]any{"tcp": map[string]any{"maxConnections": int64(1)}}))),
		applied(false, ruleFields, "DestinationRule with settings of a port", ruleOf(fresh, setField("spec.trafficPolicy.portLevelSettings", []any{map[string]any{"port": map[string]any{"number": int64(44317)}, "tls": map[string]any{"mode": "DISABLE"}}}))),
		applied(false, ruleFields, "DestinationRule with subsets", ruleOf(fresh, setField("spec.subsets", []any{map[string]any{"name": "x"}}))),
		merged(false, ruleFields, "a kept DestinationRule with subsets", copied, `{"spec":{"subsets":[{"name":"x"}]}}`, destinationRules()),
	}
}

func onTelemetries(applied appliedFunc, merged mergedFunc) []attack {
	tracing := func(change func(map[string]any)) objectChange {
		return func(o *unstructured.Unstructured) {
			list, _, _ := unstructured.NestedSlice(o.Object, "spec", "tracing")
			change(list[0].(map[string]any))
			setField("spec.tracing", list)(o)
		}
	}
	field := func(name string, value any) objectChange {
		return tracing(func(t map[string]any) { t[name] = value })
	}
	return []attack{
		applied(false, telemetryTargets, "Telemetry of all pods", telemetryOf(fresh, setField("spec.selector", nil))),
		applied(false, telemetryTargets, "Telemetry of other pods", telemetryOf(fresh, setField("spec.selector", map[string]any{"matchLabels": map[string]any{"app": "bank"}}))),
		applied(false, telemetryTargets, "Telemetry of a Service", telemetryOf(fresh, targets(map[string]any{"kind": "Service", "group": "", "name": "bank"}))),
		applied(false, telemetryTargets, "Telemetry of a GatewayClass", telemetryOf(fresh, targets(map[string]any{"kind": "GatewayClass", "group": "gateway.networking.k8s.io", "name": "istio-waypoint"}))),
		merged(false, telemetryTargets, "a kept Telemetry of all pods", copied, `{"spec":{"selector":null}}`, telemetries()),
		applied(false, telemetryTracing, "Telemetry of another provider", telemetryOf(fresh, field("providers", []any{map[string]any{"name": "evil"}}))),
		applied(false, telemetryTracing, "Telemetry of a provider more", telemetryOf(fresh, field("providers", []any{map[string]any{"name": provider}, map[string]any{"name": "evil"}}))),
		applied(false, telemetryTracing, "Telemetry of the default provider", telemetryOf(fresh, tracing(func(t map[string]any) { delete(t, "providers") }))),
		applied(false, telemetryTracing, "Telemetry that switches tracing off", telemetryOf(fresh, field("disableSpanReporting", true))),
		applied(false, telemetryTracing, "Telemetry of one direction", telemetryOf(fresh, field("match", map[string]any{"mode": "CLIENT"}))),
		applied(false, telemetryTracing, "Telemetry with a tag from the environment", telemetryOf(fresh, field("customTags", map[string]any{"x": map[string]any{"environment": map[string]any{"name": "PASSWORD"}}}))),
		applied(false, telemetryTracing, "Telemetry with a tag from a header", telemetryOf(fresh, field("customTags", map[string]any{"x": map[string]any{"header": map[string]any{"name": "authorization"}}}))),
		applied(false, telemetryTracing, "Telemetry without tracing", telemetryOf(fresh, setField("spec.tracing", nil))),
		applied(false, telemetryFields, "Telemetry with an access log", telemetryOf(fresh, setField("spec.accessLogging", []any{map[string]any{"disabled": true}}))),
		applied(false, telemetryFields, "Telemetry with metrics", telemetryOf(fresh, setField("spec.metrics", []any{map[string]any{"providers": []any{map[string]any{"name": "prometheus"}}}}))),
	}
}

// prepareIstio makes what attacks on Istio's objects go for.
func (e *environment) prepareIstio(t *testing.T) {
	t.Helper()
	for _, o := range []*unstructured.Unstructured{entryOf(copied), ruleOf(copied), telemetryOf(copied)} {
		stage.Check(t, e.applyObject(t.Context(), o))
	}
	theirs := ruleOf(foreigner, setField("spec", map[string]any{"host": "bank.example.com"}), func(o *unstructured.Unstructured) { o.SetLabels(nil) })
	_, err := e.adminObjects.Resource(destinationRules()).Namespace(foreigner).Create(t.Context(), theirs, metav1.CreateOptions{})
	stage.Check(t, err)
}
