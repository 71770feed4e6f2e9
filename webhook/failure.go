package webhook

import (
	"net/http"

	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
)

// fail turns a failure into the answer that leaves the pod as it is; without a UID, none is possible.
func (a *admission) fail(reason inject.Reason, failure error) {
	a.failure = failure
	a.result = inject.Result{Reason: reason, Warnings: []inject.Warning{{Code: inject.Code(reason), Message: consequence(reason, failure)}}}
	a.answer, a.status = nil, http.StatusBadRequest
	if a.review.Request.UID == "" {
		return
	}
	if encoded, err := answer(a.review.Request.UID, &a.result); err == nil {
		a.answer = encoded
	}
}

// refuse answers what is no admission request, or cannot be read, with an HTTP status.
func (a *admission) refuse(status int, failure error) {
	a.fail(inject.BadRequest, failure)
	a.status = status
}

// consequence says to the user what a failure means. Only a bad request's error is the user's business.
func consequence(reason inject.Reason, failure error) string {
	switch reason {
	case inject.BadRequest:
		return "admitted unchanged: " + failure.Error()
	case inject.Overloaded:
		return "the pod was admitted without injection, too many requests came at once; create it again to have it injected"
	default:
		return "the pod was admitted without injection after a failure of the injector; its log has the cause under this request's uid"
	}
}
