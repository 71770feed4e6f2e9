package webhook

import (
	"encoding/base64"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
)

// A warning travels as an HTTP header; the apiserver cuts longer ones, and drops what goes beyond the total.
const (
	maxWarning  = 256
	maxWarnings = 4096
)

// answer encodes a result as the AdmissionReview that goes back: the same result, the same bytes. There is no way to
// refuse a pod in it. It is put together member by member, since encoding by reflection costs as much as the decision.
func answer(uid string, result *inject.Result) ([]byte, error) {
	var room [1 << 10]byte
	patch, err := inject.AppendPatch(room[:0], result.Patch)
	if err != nil {
		return nil, fmt.Errorf("encode patch: %w", err)
	}
	const rest = 512
	out := make([]byte, 0, base64.StdEncoding.EncodedLen(len(patch))+rest)
	out = append(out, `{"kind":"`+reviewKind+`","apiVersion":"`+reviewVersion+`","response":{"allowed":true`...)
	out = appendMember(out, "uid", uid)
	if len(result.Patch) > 0 {
		out = append(out, `,"patchType":"JSONPatch","patch":"`...)
		out = append(base64.StdEncoding.AppendEncode(out, patch), '"')
	}
	out = append(out, `,"auditAnnotations":`...)
	out = appendAudit(out, result)
	if texts := warnings(result.Warnings); len(texts) > 0 {
		out = append(out, `,"warnings":`...)
		if out, err = appendJSON(out, texts); err != nil {
			return nil, fmt.Errorf("encode warnings: %w", err)
		}
	}
	return append(out, "}}"...), nil
}

// appendAudit writes what the audit log keeps of a decision, under the webhook's name.
func appendAudit(out []byte, result *inject.Result) []byte {
	out = append(out, '{')
	out = quote(append(out, `"reason":`...), string(result.Reason))
	if result.Config != "" {
		out = appendMember(out, "config", result.Config)
	}
	if codes := codes(result.Warnings); codes != "" {
		out = appendMember(out, "warnings", codes)
	}
	return append(out, '}')
}

func appendMember(out []byte, name, value string) []byte {
	out = append(quote(append(out, ','), name), ':')
	return quote(out, value)
}

// quote writes a string. What is not valid UTF-8 in it is replaced.
func quote(out []byte, text string) []byte {
	out, _ = jsontext.AppendQuote(out, text)
	return out
}

func appendJSON(out []byte, v any) ([]byte, error) {
	text, err := json.Marshal(v)
	return append(out, text...), err
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
		text := header("lightstep-injector: " + string(w.Code) + ": " + w.Message)
		if total+len(text) > room {
			return append(out, fmt.Sprintf("lightstep-injector: %d more warnings; the annotation lightstep.com/status has the codes of all", len(in)-i))
		}
		total += len(text)
		out = append(out, text)
	}
	return out
}

// header makes a text fit for a header's value: short, valid UTF-8, no control characters.
func header(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	if len(text) <= maxWarning {
		return text
	}
	const ellipsis = "…"
	cut := maxWarning - len(ellipsis)
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + ellipsis
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
