package snapshot

import (
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
)

// reducedTelemetry is a Telemetry resource, reduced.
type reducedTelemetry struct {
	istio.Telemetry
	created time.Time
}

// reduceTelemetry keeps what some rule reads; what is not of the type that Istio gives it says nothing.
func reduceTelemetry(object *unstructured.Unstructured) reducedTelemetry {
	t := reducedTelemetry{istio.Telemetry{Name: object.GetName()}, object.GetCreationTimestamp().Time}
	t.Selector, _, _ = unstructured.NestedStringMap(object.Object, "spec", "selector", "matchLabels")
	for _, field := range []string{"targetRef", "targetRefs"} {
		_, found, _ := unstructured.NestedFieldNoCopy(object.Object, "spec", field)
		t.Targeted = t.Targeted || found
	}
	entries, _, _ := unstructured.NestedSlice(object.Object, "spec", "tracing")
	for _, entry := range entries {
		fields, _ := entry.(map[string]any)
		if provider := providerOf(fields); provider != "" {
			t.Providers = append(t.Providers, provider)
		}
		if percent, ok := number(fields["randomSamplingPercentage"]); ok {
			t.Sampling = &percent
		}
		if tags, _, _ := unstructured.NestedMap(fields, "customTags"); len(tags) > 0 {
			t.CustomTags, t.SetsTags = literals(tags), true
		}
	}
	return t
}

// providerOf is the first of an entry's, which is the one that counts (istio@1.31.0 pilot/pkg/model/telemetry.go); empty
// where it switches none on.
func providerOf(entry map[string]any) string {
	disabled, _, _ := unstructured.NestedBool(entry, "disableSpanReporting")
	providers, _, _ := unstructured.NestedSlice(entry, "providers")
	if disabled || len(providers) == 0 {
		return ""
	}
	provider, _ := providers[0].(map[string]any)
	name, _, _ := unstructured.NestedString(provider, "name")
	return name
}

// literals are the tags whose value stands in them.
func literals(tags map[string]any) map[string]string {
	found := map[string]string{}
	for name, tag := range tags {
		fields, _ := tag.(map[string]any)
		if value, ok, err := unstructured.NestedString(fields, "literal", "value"); ok && err == nil {
			found[name] = value
		}
	}
	return found
}

// number reads a JSON number, which is decoded as an integer where it is one.
func number(value any) (float64, bool) {
	switch n := value.(type) {
	case int64:
		return float64(n), true
	case float64:
		return n, true
	}
	return 0, false
}
