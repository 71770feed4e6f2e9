package inject

// Result is the whole answer to a request.
type Result struct {
	// Reason is why the pod was injected, or not.
	Reason Reason
	// Injected says that the pod has what the settings ask for once Patch is applied.
	Injected bool
	// Patch is the RFC 6902 document, nil where nothing is to change.
	Patch []Operation
	// Warnings are for the user: kubectl prints them, the status annotation holds their codes.
	Warnings []Warning
	// Profile and Config name the settings used and their hash; empty where none were.
	Profile, Config string
	// Tracer is what the sidecar's spans go through: lightstep, opentelemetry or none.
	Tracer string
}

// Run is the whole way of one request: decide, plan, patch. It is pure; the webhook and the offline commands call it
// alike.
func Run(req *Request, snap *Snapshot) Result { panic("being written") }
