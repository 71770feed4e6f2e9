package meshes

import (
	"context"
	"errors"
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/istiod"
)

// Where Istio's injector takes the pods alone that alwaysInjectSelector names, those get their sidecar with the mount, and
// the others nothing that waits for one.
func testPolicy(t *testing.T, e *environment) {
	always := []metav1.LabelSelector{{MatchLabels: map[string]string{"always": "yes"}}}
	e.edit(t, "istio-sidecar-injector", "config", func(config map[string]any) {
		config["policy"], config["alwaysInjectSelector"] = "disabled", always
	})
	e.edit(t, "istio-sidecar-injector", "values", func(values map[string]any) {
		values["global"].(map[string]any)["proxy"].(map[string]any)["autoInject"] = "disabled"
		values["sidecarInjectorWebhook"].(map[string]any)["alwaysInjectSelector"] = always
	})
	eventually(t, func(ctx context.Context) error {
		pod, err := e.try(ctx, newest, plain())
		if err != nil {
			return err
		}
		if len(containers(pod)) != 1 {
			return errors.New("istiod has not seen the new policy")
		}
		if asked, ok := pod.Annotations["sidecar.istio.io/userVolumeMount"]; ok {
			return fmt.Errorf("Istio is asked for a mount in a sidecar that will not come: %s", asked)
		}
		return mounted(pod)
	})
	named := plain()
	named.Labels["always"] = "yes"
	pod, err := e.try(t.Context(), newest, named)
	check(t, err)
	check(t, errors.Join(marked(pod, istiod.Version), mounted(pod)))
}
