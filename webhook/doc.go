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
// The handler is plain: whatever serves HTTP can serve it. server.go serves it, and has the two servers beside it, for the
// kubelet and for Prometheus. All three have the same bounds:
//
//   - listener.go: accepts every connection, does its TLS handshake, and closes the least useful one at the bound;
//   - connections.go: one connection: the bytes and lines of its headers, and how long it should be kept;
//   - report.go: counts and logs the connections that fail;
//   - metricsauth.go: authentication and authorization for /metrics;
//   - drain.go: how serving ends.
//
// webhook/fairshare decides which client loses a connection, or memory, to another.
package webhook
