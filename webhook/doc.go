// Package webhook is the admission edge: bytes in, bytes out, and everything around the decision that the pure core
// (webhook/inject) makes. A request's way, a file per step:
//
//   - handler.go: the http.Handler; [Handler.ServeHTTP] reads top to bottom, and Handler.admit is the one place that
//     decides what a failure becomes: the pod admitted unchanged, with a warning, a metric and a log line;
//   - limits.go: what a request may cost: its time, its bytes, and the bytes of all requests in flight;
//   - decode.go: the few fields that some rule reads, decoded once; the only file that knows the decoder;
//   - answer.go: the AdmissionReview sent back, deterministic to the byte, and never `allowed: false`;
//   - failure.go: what a failure says to the user, to the caller and to the log;
//   - clientauth.go: who may call at all, where client certificates are required;
//   - log.go and metrics.go: what is said about it afterwards. Neither ever holds anything of a pod but its names.
//
// The handler is plain: whatever serves HTTP can serve it. server.go hands it to controller-runtime's webhook server, and
// has the two plain servers beside it, for the kubelet and for Prometheus.
package webhook
