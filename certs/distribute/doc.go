// Package distribute brings the satellite CA, and where the configuration allows it the access token, from the injector's
// own namespace into the labelled ones, and keeps the copies right.
//
//   - source.go: the [Source], and why one is not fit to be handed out;
//   - bundle.go: the strict reading of a satellite CA, and its re-encoding; pure;
//   - copy.go: what marks a copy as ours, and what is kept of a Secret that has been seen ([Found]);
//   - assess.go: how it stands with one Secret of one namespace; pure, and the one place that decides what is to be done;
//   - controller.go: the [Controller], which assesses whatever has changed while this process leads;
//   - write.go: the requests: server-side apply and deletion by internal/ssa; the repair of an edited copy; deletion;
//   - standing.go: how it stands with the Secrets of a namespace, for whoever asks;
//   - metrics.go, notices.go: how far it has come, and what somebody should know of.
//
// The watches are webhook/snapshot's: the webhook needs to know the same Secrets.
package distribute
