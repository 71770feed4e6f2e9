package order

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	addsLabel      = `[{"op":"add","path":"/metadata/labels/example.com~1ours","value":"x"}]`
	addsVolume     = `[{"op":"add","path":"/spec/volumes","value":[{"name":"lightstep-cacert","emptyDir":{}}]}]`
	addsAnother    = `[{"op":"add","path":"/spec/volumes","value":[{"name":"lightstep-certs","emptyDir":{}}]}]`
	replacesMounts = `[{"op":"add","path":"/spec/containers/0/volumeMounts","value":[{"name":"a","mountPath":"/a"},{"name":"a","mountPath":"/a/"}]}]`
)

// A pod that Istio alone refuses says nothing of us; one that it refuses, or gets mounts that cannot stand, because of us
// is a failure, and so is anything there that is neither Istio's own nor ours.
func TestCompare(t *testing.T) {
	for name, c := range map[string]struct {
		ours    string
		refuses string
		want    func(error) bool
	}{
		"ours alone":               {addsVolume, "never", func(err error) bool { return err == nil }},
		"refused without us":       {addsLabel, `"kind"`, func(err error) bool { return errors.Is(err, errRefused) }},
		"refused because of us":    {addsLabel, "example.com/ours", func(err error) bool { return err != nil && !errors.Is(err, errRefused) }},
		"two mounts because of us": {replacesMounts, "never", func(err error) bool { return err != nil && !errors.Is(err, errRefused) }},
		"a volume of another":      {addsAnother, "never", func(err error) bool { return err != nil && !errors.Is(err, errRefused) }},
	} {
		t.Run(name, func(t *testing.T) {
			ours := serve(t, func([]byte) (bool, string) { return true, c.ours })
			istio := serve(t, func(pod []byte) (bool, string) { return !strings.Contains(string(pod), c.refuses), "" })
			property := Property{
				Answered: func(string, []byte) {},
				Ours:     ours, Istio: istio, Namespaces: []string{"any"}, client: http.DefaultClient,
				Proxy: func(context.Context, *corev1.Pod) (any, error) { return "", nil },
			}
			if _, err := property.compare(t.Context(), 4); !c.want(err) { // a pod with no volumes of its own
				t.Errorf("the error is %v", err)
			}
		})
	}
}

// serve runs a webhook.
func serve(t *testing.T, answer func(pod []byte) (allowed bool, patch string)) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		allowed, patch := answer(review.Request.Object.Raw)
		review.Response = &admissionv1.AdmissionResponse{Allowed: allowed, Patch: []byte(patch), Result: &metav1.Status{}}
		_ = json.NewEncoder(w).Encode(&review) // the client sees what is missing
	}))
	t.Cleanup(server.Close)
	return server.URL
}
