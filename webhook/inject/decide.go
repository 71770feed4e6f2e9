package inject

import (
	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

// Decision is what becomes of a pod, and why.
type Decision struct {
	// Reason is the rule that decided.
	Reason Reason
	// Inject says whether a plan is to be made.
	Inject bool
	// Settings are those that hold for this pod; empty where no rule came as far as needing them.
	Settings settings.Resolved
	// Sidecar is what Istio has done, or will do, to the pod.
	Sidecar istio.Sidecar
	// Warnings holds what was wrong with the request's own settings.
	Warnings []Warning
}
