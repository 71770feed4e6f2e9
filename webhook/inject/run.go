package inject

import "github.com/lightstep-injector/lightstep-injector/webhook/istio"

// Result is the whole answer to a request.
type Result struct {
	// Reason is why the pod was injected, or not.
	Reason Reason
	// Injected says that the pod has, or will have once Patch is applied, what the settings ask for, as far as nothing
	// stood in the way.
	Injected bool
	// Patch is the RFC 6902 document, nil where nothing is to change.
	Patch []Operation
	// Warnings are for the user: kubectl prints them, the status annotation holds their codes.
	Warnings []Warning
	// Profile and Config name the settings used and their hash; empty where none were.
	Profile, Config string
	// Tracer is what the sidecar's spans go through.
	Tracer istio.Tracer
	// Containers names those that have the mount.
	Containers []string
}

// Run is the whole way of one request: decide, plan, patch. It is pure; the webhook and the offline commands call it
// alike.
func Run(req *Request, snap *Snapshot) Result {
	decision := Decide(req, snap)
	if !decision.Inject {
		return Result{Reason: decision.Reason, Warnings: decision.Warnings, Profile: decision.Settings.Profile, Config: decision.Settings.Config, Tracer: istio.NoTracer}
	}
	plan := MakePlan(req, snap, &decision)
	result := Result{
		Reason:     decision.Reason,
		Injected:   plan.effective(),
		Patch:      plan.Patch(&req.Pod),
		Warnings:   plan.Warnings,
		Profile:    decision.Settings.Profile,
		Config:     decision.Settings.Config,
		Tracer:     plan.Tracer,
		Containers: plan.Containers,
	}
	switch {
	case !result.Injected && len(plan.Warnings) > 0:
		result.Reason = Conflict
	case !result.Injected:
		result.Reason = NothingToDo
	case len(result.Patch) == 0:
		result.Reason = UpToDate
	}
	return result
}
