package secrets

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// audited is what the audit log says of a request.
type audited struct {
	Verb string
	User struct{ Username string }
	// ObjectRef is what was asked for.
	ObjectRef      struct{ Resource, Namespace, Name string }
	ResponseStatus struct{ Code int }
}

// audited sees that the audit log has a request of the account's, with its answer.
func (e *environment) audited(t *testing.T) {
	_, err := e.account.CoreV1().Secrets(fresh).Get(t.Context(), "look-for-this", metav1.GetOptions{})
	stage.Check(t, refused(err, byRBAC))
	stage.Eventually(t, func(context.Context) error {
		log, err := os.ReadFile(e.cluster.AuditLog)
		if err != nil {
			return err
		}
		for line := range bytes.Lines(log) {
			var entry audited
			if json.Unmarshal(line, &entry) == nil && entry.ObjectRef.Name == "look-for-this" && entry.Verb == "get" &&
				entry.User.Username == username && entry.ResponseStatus.Code == 403 {
				return nil
			}
		}
		return errors.New("the audit log does not have the request")
	})
}
