// Package missed counts the pods that run in labelled namespaces and were never injected: those that are older than the
// label, and those that the API server created without an answer from us, which it does rather than reject them.
//
//   - counter.go: the [Counter], which lists each labelled namespace in turn while this process leads;
//   - metrics.go: what it has counted, as gauges.
//
// Nothing is kept but a number for each namespace that has such pods, and the API server sends nothing but their metadata
// (docs/decisions/0011-missed-pods.md).
package missed
