package webhook

import (
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/lightstep-injector/lightstep-injector/internal/escape"
	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
)

// log writes an answer's one line. Of the pod it holds names alone: no body, no annotation, and of a warning only the
// code, since its text may quote what the user wrote. The log's core bounds every field (internal/escape).
func (h *Handler) log(a *admission, took time.Duration) {
	line := h.Log.Check(level(a), "admission")
	if line == nil {
		return
	}
	q := &a.review.Request
	fields := []zap.Field{
		zap.String("uid", q.UID),
		zap.String("namespace", q.Namespace),
		zap.String("reason", string(a.result.Reason)),
		zap.String("outcome", string(outcomeOf(&a.result))),
		zap.String("config", a.result.Config),
		zap.Bool("dryRun", q.DryRun),
		zap.Duration("duration", took),
	}
	fields = append(fields, names(&a.pod)...)
	if codes := codes(a.result.Warnings); codes != "" {
		fields = append(fields, escape.LogText("warnings", codes))
	}
	if a.failure != nil {
		fields = append(fields, zap.Error(a.failure))
	}
	line.Write(fields...)
}

// level is debug for a plain success, error for our own failure, and info for everything in between.
func level(a *admission) zapcore.Level {
	switch {
	case a.result.Reason == inject.InternalError:
		return zapcore.ErrorLevel
	case outcomeOf(&a.result) == injected && len(a.result.Warnings) == 0:
		return zapcore.DebugLevel
	default:
		return zapcore.InfoLevel
	}
}

// names tell which pod it was, as far as that is known before it exists, and who made it.
func names(pod *inject.Pod) []zap.Field {
	if pod.Metadata == nil {
		return nil
	}
	var fields []zap.Field
	if pod.Metadata.Name != "" {
		fields = append(fields, zap.String("name", pod.Metadata.Name))
	} else {
		fields = append(fields, zap.String("generateName", pod.Metadata.GenerateName))
	}
	for _, owner := range pod.Metadata.Owners {
		if owner.Controller {
			return append(fields, zap.String("owner", owner.Kind+"/"+owner.Name)) // the API server has not yet rejected a second one
		}
	}
	return fields
}
