package istio17

import (
	"context"
	"encoding/json"
	"flag"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/order"
)

var pods = flag.Int("pods", 1000, "how many pods to generate")

// Ours before Istio's, after it, before and again after it, or twice at each end: the same volumes, mounts and effective
// ProxyConfig, from which Istio makes the bootstrap.
func testOrder(t *testing.T, e *environment) {
	property := order.Property{
		Ours: e.injector.URL(), Istio: e.istio.URL(), Namespaces: []string{"by-secret", "by-annotation"},
		Answered: e.Answered, Certificate: e.ClientCertificate(t),
		Proxy: func(ctx context.Context, pod *corev1.Pod) (any, error) {
			made, err := e.istio.Bootstrap(ctx, pod, map[string]string{"lightstep-access-token/token": token})
			if err != nil {
				return nil, err
			}
			var effective map[string]any
			return effective, json.Unmarshal(made.ProxyConfig, &effective)
		},
		Counts: func(proxy any) bool {
			effective, _ := proxy.(map[string]any)
			tracing, _ := effective["tracing"].(map[string]any)
			return tracing["lightstep"] != nil
		},
	}
	property.Check(t, *pods)
}
