package escape

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

type loud struct{ text string }

func (l *loud) String() string { return l.text }
func (l *loud) Error() string  { return l.text }

// Format makes zap log an error a second time, at length.
func (l *loud) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, l.text, l.text) }

// MarshalLogObject logs the text in an object.
func (l *loud) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("inner", l.text)
	return nil
}

type panicked struct{ error }

// Stack is long.
func (panicked) Stack() string { return "goroutine 1\n" + strings.Repeat("frame\n", 10_000) }

// TestCore: whatever the kind of field, its text is bounded and visible; numbers stay numbers.
func TestCore(t *testing.T) {
	bad := strings.Repeat("\x1b[2J\u009b\u202e\n\"\\", 100_000)
	var out bytes.Buffer
	log := zap.New(Core(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(&out), zapcore.InfoLevel)))
	log.Debug("not enabled")
	log.Named(bad).With(zap.String("with", bad)).Info(bad,
		zap.String("name", bad), LogText("text", bad), zap.String(bad, "key"), zap.Error(errors.New(bad)), zap.NamedError("loud", &loud{bad}),
		zap.NamedError("joined", errors.Join(errors.New(bad), errors.New(bad))), zap.NamedError("panic", fmt.Errorf("x: %w", panicked{errors.New(bad)})),
		zap.Stringer("stringer", &loud{bad}), zap.Stringer("nil", (*loud)(nil)), zap.Strings("strings", []string{bad, bad}), zap.ByteString("bytes", []byte(bad)),
		zap.Binary("binary", []byte(bad)), zap.Reflect("any", map[string]string{bad: bad}), zap.Object("object", &loud{bad}), zap.Inline(&loud{bad}),
		zap.Int("number", 7), zap.Bool("yes", true), zap.Errors("errors", []error{errors.New(bad)}), zap.Namespace("in"), zap.String("last", bad))
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("%d bytes, not one line of JSON: %v", out.Len(), err)
	}
	if line["number"] != 7.0 || line["yes"] != true || line["nil"] != "<nil>" {
		t.Errorf("got %v", line)
	}
	bound(t, "", line)
	if len(line) < 20 || !strings.HasPrefix(line["stack"].(string), `goroutine 1\nframe\n`) {
		t.Errorf("%d fields, and the stack is %.100v", len(line), line["stack"])
	}
	if out.Len() > 64<<10 {
		t.Errorf("the line has %d bytes", out.Len())
	}
}

// bound checks every string of a decoded line.
func bound(t *testing.T, key string, value any) {
	t.Helper()
	limit := map[string]int{"name": nameLimit, "with": nameLimit, "last": nameLimit, "logger": nameLimit, "stack": stackLimit}[key]
	if limit == 0 {
		limit = textLimit
	}
	switch v := value.(type) {
	case string:
		if len(v) > limit || !plain(v) || len(key) > nameLimit || !plain(key) {
			t.Errorf("%.300s: %d bytes: %.300q", key, len(v), v)
		}
	case map[string]any:
		for key, inner := range v {
			bound(t, key, inner)
		}
	}
}
