package certificate

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/lightstep-injector/lightstep-injector/e2e/load"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// answered stops a replica in the midst of a request, and sees that the request is answered all the same, with a patch. It
// returns once the replica has gone.
func (e *environment) answered(r *replica) error {
	review, err := json.Marshal(&admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "held", Operation: admissionv1.Create, Namespace: "first", Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Pod"},
			Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"}, Object: runtime.RawExtension{Object: load.Pod(0)},
		},
	})
	if err != nil {
		return err
	}
	stopped := make(chan error, 1)
	body := &heldBody{Reader: bytes.NewReader(review), hold: func() error {
		go func() { stopped <- r.Stop() }()
		return wait.PollUntilContextTimeout(context.Background(), 5*time.Millisecond, stage.Deadline, true, func(ctx context.Context) (bool, error) {
			return r.Ready(ctx) != nil, nil
		})
	}}
	if err := call(r.URL(), body, int64(len(review))); err != nil {
		return fmt.Errorf("a request that was under way when its replica was told to stop: %w", err)
	}
	e.held.Add(1)
	return <-stopped
}

// heldBody is sent once hold has returned: it is not read before the webhook asks for it.
type heldBody struct {
	io.Reader
	hold func() error
}

// Read holds the first byte back.
func (b *heldBody) Read(p []byte) (int, error) {
	if b.hold != nil {
		err := b.hold()
		if b.hold = nil; err != nil {
			return 0, err
		}
	}
	return b.Reader.Read(p)
}

// call sends a body when it is asked to, and expects a patch.
func call(url string, body io.Reader, length int64) error {
	request, err := http.NewRequest(http.MethodPost, url, body)
	if err != nil {
		return err
	}
	request.ContentLength = length
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Expect", "100-continue")
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ExpectContinueTimeout: stage.Deadline}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	var answer admissionv1.AdmissionReview
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%s: %w", response.Status, err)
	}
	if answer.Response == nil || !answer.Response.Allowed || len(answer.Response.Patch) == 0 {
		return fmt.Errorf("%s, with no patch", response.Status)
	}
	return nil
}
