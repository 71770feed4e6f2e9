package snapshot

import (
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/lightstep-injector/lightstep-injector/internal/clusterstate"
	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
)

// The bounds of what is kept of Telemetry resources.
const (
	// mostTelemetry is the number of bytes of JSON that the fields of one may have that are read.
	mostTelemetry = 16 << 10
	// mostEntries is the number of selector labels, of tracing entries and of custom tags that one may have.
	mostEntries = 100
	// entrySize is what an entry costs in memory beside its text, in bytes.
	entrySize = 100
)

// reducedTelemetry is what is kept of a Telemetry.
type reducedTelemetry struct {
	istio.Telemetry

	created time.Time
	// size is what it costs in memory, in bytes: the JSON that it was read from, and its entries.
	size int
	// unreadable reports that it exceeds a bound. Nothing of it is kept but its name.
	unreadable bool
}

// telemetryObject is a Telemetry as it arrives.
type telemetryObject = clusterstate.Reduced[reducedTelemetry]

// reduceTelemetry keeps what some rule reads; a field that is not of the type that Istio gives it says nothing.
func reduceTelemetry(object *clusterstate.Custom) reducedTelemetry {
	t := reducedTelemetry{Telemetry: istio.Telemetry{Name: object.Name}, created: object.CreationTimestamp.Time}
	fields := telemetryFields(object.Raw)
	t.size = len(object.Name) + len(fields.selector) + len(fields.tracing)
	if t.size > mostTelemetry {
		t.unreadable = true
		return t
	}
	t.Targeted = fields.targeted
	readSelector(&t.Telemetry, fields.selector)
	entries := 0
	for entry := range clusterstate.Elements(fields.tracing) {
		readTracing(&t.Telemetry, entry)
		entries++
	}
	t.unreadable = max(len(t.Selector), entries, len(t.CustomTags)) > mostEntries
	t.size += entrySize * (len(t.Selector) + len(t.Providers) + len(t.CustomTags))
	return t
}

// rawTelemetry are the fields of a Telemetry's spec that are read, still encoded.
type rawTelemetry struct {
	selector, tracing jsontext.Value
	targeted          bool
}

func telemetryFields(object jsontext.Value) (fields rawTelemetry) {
	for name, spec := range clusterstate.Members(object) {
		if name != "spec" {
			continue
		}
		for field, value := range clusterstate.Members(spec) {
			switch field {
			case "selector":
				fields.selector = value
			case "tracing":
				fields.tracing = value
			case "targetRef", "targetRefs":
				fields.targeted = true
			}
		}
	}
	return fields
}

func readSelector(t *istio.Telemetry, selector jsontext.Value) {
	for name, value := range clusterstate.Members(selector) {
		if name != "matchLabels" {
			continue
		}
		var labels map[string]string
		if json.Unmarshal(value, &labels) == nil {
			t.Selector = labels
		}
	}
}

// readTracing reads an entry of spec.tracing. Of what several set, the last counts.
func readTracing(t *istio.Telemetry, entry jsontext.Value) {
	var disabled bool
	var provider string
	for field, value := range clusterstate.Members(entry) {
		switch field {
		case "providers":
			provider = providerOf(value)
		case "disableSpanReporting":
			_ = json.Unmarshal(value, &disabled)
		case "randomSamplingPercentage":
			var percent float64
			if value.Kind() == jsontext.KindNumber && json.Unmarshal(value, &percent) == nil {
				t.Sampling = &percent
			}
		case "customTags":
			if tags, some := literals(value); some {
				t.CustomTags, t.SetsTags = tags, true
			}
		}
	}
	if provider != "" && !disabled {
		t.Providers = append(t.Providers, provider)
	}
}

// providerOf is the first of an entry's, which is the one that counts (istio@1.31.0 pilot/pkg/model/telemetry.go).
func providerOf(providers jsontext.Value) (name string) {
	for provider := range clusterstate.Elements(providers) {
		for field, value := range clusterstate.Members(provider) {
			if field == "name" {
				_ = json.Unmarshal(value, &name)
			}
		}
		break
	}
	return name
}

// literals are the tags whose value stands in them; some reports whether there are tags at all.
func literals(tags jsontext.Value) (found map[string]string, some bool) {
	found = map[string]string{}
	for name, tag := range clusterstate.Members(tags) {
		some = true
		var fields struct {
			Literal struct {
				Value *string `json:"value"`
			} `json:"literal"`
		}
		if json.Unmarshal(tag, &fields) == nil && fields.Literal.Value != nil {
			found[name] = *fields.Literal.Value
		}
	}
	return found, some
}
