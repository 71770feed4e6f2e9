package panics

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestCaught(t *testing.T) {
	failure := errors.New("failed")
	for name, c := range map[string]struct {
		task      func() error
		says, not string
	}{
		"the runtime's":  {task: func() error { var missing []int; return fmt.Errorf("%d", missing[1]) }, says: "index out of range"},
		"somebody's own": {task: func() error { panic("s3cret") }, says: "panic: a string", not: "s3cret"},
		"an error":       {task: func() error { return failure }, says: "failed", not: "panic"},
	} {
		err := Caught(c.task)
		if err == nil || !strings.Contains(err.Error(), c.says) || c.not != "" && strings.Contains(err.Error(), c.not) {
			t.Errorf("%s: %v", name, err)
		}
	}
	err := Caught(func() error { panic("x") })
	if stack, ok := err.(interface{ Stack() string }); !ok || !strings.Contains(stack.Stack(), "TestCaught") || strings.Contains(err.Error(), "goroutine") {
		t.Errorf("the stack is not apart from %q", err)
	}
	if err := Caught(func() error { return nil }); err != nil {
		t.Error(err)
	}
}
