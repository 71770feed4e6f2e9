package escape

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/go-json-experiment/json"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// The bounds of a log line's strings, in bytes: a name (every string field), a text (the message, errors and all other
// values), and the stack of a panic, which is the program's own text.
const (
	nameLimit  = 256
	textLimit  = 1 << 10
	stackLimit = 8 << 10
)

// core is a log core whose lines are bounded.
type core struct{ zapcore.Core }

// Core returns a log core that writes to another, every string [Cut]: names to 256 bytes, the message, errors and other
// texts to 1 KiB. Numbers, times and booleans stay. An error with a stack gets a field "stack" of at most 8 KiB.
func Core(inner zapcore.Core) zapcore.Core { return core{inner} }

// LogText is a field that holds a text, not a name: [Core] cuts it to 1 KiB.
func LogText(key, text string) zap.Field { return zap.Stringer(key, logText(text)) }

type logText string

// String returns the text.
func (t logText) String() string { return string(t) }

// With adds fields to every line.
func (c core) With(fields []zap.Field) zapcore.Core { return core{c.Core.With(bounded(fields))} }

// Check has the line written by this core where its level is enabled.
func (c core) Check(entry zapcore.Entry, line *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) {
		return line.AddCore(entry, c)
	}
	return line
}

// Write writes a line.
func (c core) Write(entry zapcore.Entry, fields []zap.Field) error {
	entry.Message = Cut(entry.Message, textLimit)
	entry.LoggerName = Cut(entry.LoggerName, nameLimit)
	entry.Stack = Cut(entry.Stack, stackLimit)
	if err := c.Core.Write(entry, bounded(fields)); err != nil {
		return fmt.Errorf("write log line: %w", err)
	}
	return nil
}

// bounded returns the fields within their bounds.
func bounded(fields []zap.Field) []zap.Field {
	out := make([]zap.Field, 0, len(fields)+1)
	for _, field := range fields {
		field.Key = Cut(field.Key, nameLimit)
		switch {
		case field.Type == zapcore.StringType:
			field.String = Cut(field.String, nameLimit)
		case !scalar(field.Type):
			if stack, ok := stackOf(field); ok {
				out = append(out, zap.String("stack", Cut(stack, stackLimit)))
			}
			field = zap.String(field.Key, Cut(textOf(field), textLimit))
		}
		out = append(out, field)
	}
	return out
}

// scalar reports whether fields of a type hold no text.
func scalar(kind zapcore.FieldType) bool {
	switch kind {
	case zapcore.StringType, zapcore.StringerType, zapcore.ErrorType, zapcore.ByteStringType, zapcore.BinaryType, zapcore.ReflectType,
		zapcore.ArrayMarshalerType, zapcore.ObjectMarshalerType, zapcore.InlineMarshalerType:
		return false
	}
	return true
}

// textOf returns the value of a field as a text: a string as it is, anything else as JSON.
func textOf(field zap.Field) string {
	values := zapcore.NewMapObjectEncoder()
	field.AddTo(values) // which catches what a String or Error method panics at
	value, ok := values.Fields[field.Key]
	if !ok {
		value = values.Fields
	}
	if text, ok := value.(string); ok {
		return text
	}
	text, err := json.Marshal(value, json.Deterministic(true))
	if err != nil {
		return fmt.Sprint(slices.Sorted(maps.Keys(values.Fields)), ": ", err)
	}
	return string(text)
}

// stackOf returns the stack that an error field has from a panic.
func stackOf(field zap.Field) (string, bool) {
	if err, ok := field.Interface.(error); ok && field.Type == zapcore.ErrorType {
		if panicked, ok := errors.AsType[interface {
			error
			Stack() string
		}](err); ok {
			return panicked.Stack(), true
		}
	}
	return "", false
}
