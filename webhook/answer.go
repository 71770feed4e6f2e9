package webhook

import (
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/lightstep-injector/lightstep-injector/internal/escape"
	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
)

// A warning travels as an HTTP header, without control characters; the apiserver cuts longer ones, and drops what goes beyond the
// total. In bytes.
const (
	maxWarning  = 256
	maxWarnings = 4096
)

// reviewAnswer is the AdmissionReview that goes back.
type reviewAnswer struct {
	Kind       string   `json:"kind"`
	APIVersion string   `json:"apiVersion"`
	Response   response `json:"response"`
}

// response is an AdmissionResponse. There is no way to refuse a pod in it.
type response struct {
	UID              string           `json:"uid"`
	Allowed          bool             `json:"allowed"`
	Patch            []byte           `json:"patch,omitempty"`
	PatchType        string           `json:"patchType,omitempty"`
	AuditAnnotations auditAnnotations `json:"auditAnnotations"`
	Warnings         []string         `json:"warnings,omitempty"`
}

// auditAnnotations are what the audit log keeps of a decision, under the webhook's name.
type auditAnnotations struct {
	Reason   inject.Reason `json:"reason"`
	Config   string        `json:"config,omitempty"`
	Warnings string        `json:"warnings,omitempty"`
}

// answer encodes a result: the same result, the same bytes.
func answer(uid string, result *inject.Result) ([]byte, error) {
	out := reviewAnswer{
		Kind:       reviewKind,
		APIVersion: reviewVersion,
		Response: response{
			UID:      uid,
			Allowed:  true,
			Warnings: warnings(result.Warnings),
			AuditAnnotations: auditAnnotations{
				Reason:   result.Reason,
				Config:   result.Config,
				Warnings: codes(result.Warnings),
			},
		},
	}
	if len(result.Patch) > 0 {
		patch, err := json.Marshal(&result.Patch, json.Deterministic(true))
		if err != nil {
			return nil, fmt.Errorf("encode patch: %w", err)
		}
		out.Response.Patch, out.Response.PatchType = patch, "JSONPatch"
	}
	encoded, err := json.Marshal(&out)
	if err != nil {
		return nil, fmt.Errorf("encode AdmissionReview: %w", err)
	}
	return encoded, nil
}

// warnings are those that fit, as kubectl prints them. The last one says how many did not fit.
func warnings(in []inject.Warning) []string {
	if len(in) == 0 {
		return nil
	}
	const room = maxWarnings - maxWarning
	out := make([]string, 0, len(in))
	total := 0
	for i, w := range in {
		text := escape.Cut("lightstep-injector: "+string(w.Code)+": "+w.Message, maxWarning)
		if total+len(text) > room {
			return append(out, fmt.Sprintf("lightstep-injector: %d more warnings; the annotation lightstep.com/status has the codes of all", len(in)-i))
		}
		total += len(text)
		out = append(out, text)
	}
	return out
}

// codes lists each code once, in the order of the warnings.
func codes(in []inject.Warning) string {
	var out strings.Builder
	for i, w := range in {
		if mentioned(in[:i], w.Code) {
			continue
		}
		if out.Len() > 0 {
			_ = out.WriteByte(',')
		}
		_, _ = out.WriteString(string(w.Code))
	}
	return out.String()
}

func mentioned(in []inject.Warning, code inject.Code) bool {
	for _, w := range in {
		if w.Code == code {
			return true
		}
	}
	return false
}
