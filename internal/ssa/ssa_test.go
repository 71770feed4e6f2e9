package ssa

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

func entry(manager string, operation metav1.ManagedFieldsOperationType, subresource string) metav1.ManagedFieldsEntry {
	return metav1.ManagedFieldsEntry{Manager: manager, Operation: operation, Subresource: subresource}
}

func TestOwned(t *testing.T) {
	applied := entry(FieldManager, metav1.ManagedFieldsOperationApply, "")
	for _, c := range []struct {
		name    string
		labels  map[string]string
		entries []metav1.ManagedFieldsEntry
		want    bool
	}{
		{"applied, with our labels", Labels("mesh"), []metav1.ManagedFieldsEntry{applied}, true},
		{"written by others, too", Labels("mesh"), []metav1.ManagedFieldsEntry{entry("kubectl", "Update", ""), applied}, true},
		{"another controller's", Labels("distribute"), []metav1.ManagedFieldsEntry{applied}, false},
		{"without a label", nil, []metav1.ManagedFieldsEntry{applied}, false},
		{"pasted", Labels("mesh"), []metav1.ManagedFieldsEntry{entry("kubectl", "Apply", "")}, false},
		{"updated in our name", Labels("mesh"), []metav1.ManagedFieldsEntry{entry(FieldManager, "Update", "")}, false},
		{"only its status is ours", Labels("mesh"), []metav1.ManagedFieldsEntry{entry(FieldManager, "Apply", "status")}, false},
		{"nobody's", Labels("mesh"), nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			object := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Labels: c.labels, ManagedFields: c.entries}}
			if got := Owned(object, "mesh"); got != c.want {
				t.Errorf("owned: %v", got)
			}
		})
	}
}

// sent is what an API server was asked for.
type sent struct {
	method, query string
	body          struct {
		Kind          string
		Metadata      metav1.ObjectMeta
		Data          map[string]string
		Preconditions *metav1.Preconditions
	}
}

// server answers each request in turn with a status and an object, and keeps what it was asked for.
func server(t *testing.T, answers ...any) (metadata.ResourceInterface, *[]sent) {
	t.Helper()
	var requests []sent
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request := sent{method: r.Method, query: r.URL.RawQuery}
		if body, err := io.ReadAll(r.Body); err != nil || len(body) > 0 && json.Unmarshal(body, &request.body) != nil {
			t.Errorf("%v: %q", err, body)
		}
		requests = append(requests, request)
		answer := answers[min(len(requests), len(answers))-1]
		w.Header().Set("Content-Type", "application/json")
		if status, ok := answer.(*metav1.Status); ok {
			w.WriteHeader(int(status.Code))
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(s.Close)
	client, err := metadata.NewForConfig(&rest.Config{Host: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	return client.Resource(corev1.SchemeGroupVersion.WithResource("secrets")).Namespace("shop"), &requests
}

func status(code int32, reason metav1.StatusReason, causes ...metav1.StatusCause) *metav1.Status {
	return &metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Code: code, Reason: reason,
		Message: "the API server says no", Details: &metav1.StatusDetails{Causes: causes},
	}
}

func answered(managers ...string) *metav1.PartialObjectMetadata {
	object := &metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadata"},
		ObjectMeta: metav1.ObjectMeta{Name: "copy", Namespace: "shop", UID: "uid-2", ResourceVersion: "8"},
	}
	for _, manager := range managers {
		object.ManagedFields = append(object.ManagedFields, entry(manager, metav1.ManagedFieldsOperationApply, ""))
	}
	return object
}

func secret() *corev1.Secret {
	return &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Name: "copy", Namespace: "shop"},
		Data:       map[string][]byte{"key": []byte("value")},
	}
}

func TestApply(t *testing.T) {
	seen := Version{"uid-1", "7"}
	conflict := status(http.StatusConflict, metav1.StatusReasonConflict, metav1.StatusCause{Type: metav1.CauseTypeFieldManagerConflict})
	for _, c := range []struct {
		name    string
		seen    Version
		answers []any
		want    error
		methods []string
	}{
		{"over what was seen", seen, []any{answered(FieldManager, "kubectl")}, nil, []string{"PATCH"}},
		{"new", Version{}, []any{answered(FieldManager)}, nil, []string{"PATCH"}},
		{"changed since", seen, []any{status(http.StatusConflict, metav1.StatusReasonConflict)}, ErrOvertaken, []string{"PATCH"}},
		{"a field of another", seen, []any{conflict}, ErrConflict, []string{"PATCH"}},
		{"created by another", Version{}, []any{answered("kubectl", FieldManager)}, ErrForeign, []string{"PATCH", "GET", "PATCH"}},
		{
			"created by another, who writes once more",
			Version{},
			[]any{answered("kubectl", FieldManager), answered("kubectl", FieldManager), status(http.StatusConflict, metav1.StatusReasonConflict), answered("kubectl")},
			ErrForeign,
			[]string{"PATCH", "GET", "PATCH", "GET", "PATCH"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, requests := server(t, c.answers...)
			_, err := Apply(t.Context(), client, secret(), c.seen)
			if !errors.Is(err, c.want) {
				t.Errorf("%v; want %v", err, c.want)
			}
			var methods []string
			for i, r := range *requests {
				methods = append(methods, r.method)
				if r.method == http.MethodPatch && (!strings.Contains(r.query, "fieldManager=lightstep-injector") || strings.Contains(r.query, "force") || r.body.Kind != "Secret") {
					t.Errorf("%+v", r)
				}
				version := Version{r.body.Metadata.UID, r.body.Metadata.ResourceVersion}
				if r.method == http.MethodPatch && i > 0 && (version != Version{"uid-2", "8"} || len(r.body.Data) > 0) {
					t.Errorf("it is given back by %+v", r)
				}
				if i == 0 && (version != c.seen || r.body.Data["key"] != "dmFsdWU=") {
					t.Errorf("it is applied by %+v", r)
				}
			}
			if !slices.Equal(methods, c.methods) {
				t.Errorf("%v; want %v", methods, c.methods)
			}
		})
	}
}

func TestDelete(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer *metav1.Status
		want   error
	}{
		{"deleted", &metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusSuccess, Code: http.StatusOK}, nil},
		{"gone before", status(http.StatusNotFound, metav1.StatusReasonNotFound), nil},
		{"changed since", status(http.StatusConflict, metav1.StatusReasonConflict), ErrOvertaken},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, requests := server(t, c.answer)
			if err := Delete(t.Context(), client, "copy", Version{"uid-1", "7"}); !errors.Is(err, c.want) {
				t.Errorf("%v; want %v", err, c.want)
			}
			given := (*requests)[0].body.Preconditions
			if len(*requests) != 1 || given == nil || *given.UID != "uid-1" || *given.ResourceVersion != "7" {
				t.Errorf("%+v", *requests)
			}
		})
	}
}
