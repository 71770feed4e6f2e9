package istiod

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Answer is what istiod sends to a proxy, as far as tests look at it.
type Answer struct {
	Clusters  []map[string]any `json:"CDS"`
	Listeners []map[string]any `json:"LDS"`
	// Raw is all of it.
	Raw []byte `json:"-"`
}

// AskFor is Ask, read. An answer without clusters or HTTP listeners is none yet.
func (i *Istiod) AskFor(ctx context.Context, pod *corev1.Pod) (*Answer, error) {
	raw, err := i.Ask(ctx, pod)
	if err != nil {
		return nil, err
	}
	answer := &Answer{Raw: raw}
	if err := json.Unmarshal(raw, answer); err != nil {
		return nil, fmt.Errorf("read what istiod sent: %w", err)
	}
	if len(answer.Clusters) == 0 || len(answer.Managers()) == 0 {
		return nil, errors.New("istiod sent no clusters, or no HTTP listeners")
	}
	return answer, nil
}

// Managers are the HTTP connection managers of all listeners: what traces.
func (a *Answer) Managers() []map[string]any {
	return packed(a.Listeners, "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager")
}

// packed finds the messages of a type in what was unpacked.
func packed(in any, messageType string) []map[string]any {
	var found []map[string]any
	switch value := in.(type) {
	case map[string]any:
		if value["@type"] == "type.googleapis.com/"+messageType {
			found = append(found, value)
		}
		for _, member := range value {
			found = append(found, packed(member, messageType)...)
		}
	case []any:
		for _, element := range value {
			found = append(found, packed(element, messageType)...)
		}
	case []map[string]any:
		for _, element := range value {
			found = append(found, packed(element, messageType)...)
		}
	}
	return found
}

// At walks into nested objects; what is not there is nil.
func At(value any, names ...string) any {
	for _, name := range names {
		object, _ := value.(map[string]any)
		value = object[name]
	}
	return value
}

// Route is where injected proxies are to send spans.
type Route struct {
	// Host and Port are the satellites' own.
	Host, Port string
	// Cluster is the one that leads there.
	Cluster string
	// CAFile is what their certificate is checked against.
	CAFile string
	// Sampling in percent.
	Sampling float64
}

// Traces tells what is wrong with a proxy's tracing.
func (a *Answer) Traces(r *Route) error {
	errs := []error{a.connectsOverTLS(r)}
	for _, manager := range a.Managers() {
		tracing := manager["tracing"]
		provider := At(tracing, "provider", "name")
		cluster := At(tracing, "provider", "typedConfig", "grpcService", "envoyGrpc", "clusterName")
		percent := At(tracing, "randomSampling", "value")
		if provider != "envoy.tracers.opentelemetry" || cluster != r.Cluster || percent != r.Sampling {
			errs = append(errs, fmt.Errorf("listener %v traces with provider %v to cluster %v, %v %% of requests",
				manager["statPrefix"], provider, cluster, percent))
		}
	}
	return errors.Join(errs...)
}

func (a *Answer) connectsOverTLS(r *Route) error {
	index := slices.IndexFunc(a.Clusters, func(c map[string]any) bool { return c["name"] == r.Cluster })
	if index < 0 {
		return fmt.Errorf("there is no cluster %s", r.Cluster)
	}
	cluster := a.Clusters[index]
	tls := At(cluster, "transportSocket", "typedConfig")
	validation := At(tls, "commonTlsContext", "combinedValidationContext")
	endpoint := fmt.Sprint(At(cluster, "loadAssignment", "endpoints"))
	names, err := json.Marshal(At(validation, "defaultValidationContext", "matchSubjectAltNames"))
	if err != nil {
		return err
	}
	switch {
	case At(tls, "@type") != "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext":
		return fmt.Errorf("cluster %s has no TLS: %v", r.Cluster, cluster["transportSocket"])
	case !strings.Contains(endpoint, "address:"+r.Host+" portValue:"+r.Port):
		return fmt.Errorf("the cluster's endpoint is %s", endpoint)
	case At(tls, "sni") != r.Host:
		return fmt.Errorf("the SNI is %v", At(tls, "sni"))
	case At(validation, "validationContextSdsSecretConfig", "name") != "file-root:"+r.CAFile:
		return fmt.Errorf("the certificate is checked against %v", At(validation, "validationContextSdsSecretConfig", "name"))
	case !strings.Contains(string(names), r.Host):
		return fmt.Errorf("the name in the certificate is not checked: %s", names)
	}
	return nil
}

// TracesNot tells which listener has a provider.
func (a *Answer) TracesNot() error {
	var errs []error
	for _, manager := range a.Managers() {
		if provider := At(manager, "tracing", "provider"); provider != nil {
			errs = append(errs, fmt.Errorf("listener %v has the provider %v", manager["statPrefix"], provider))
		}
	}
	return errors.Join(errs...)
}
