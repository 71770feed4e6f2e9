// Package serving has the webhook's own certificate: which one is served, that the API server trusts it, and, where the
// injector manages it itself, that it is replaced in time without a call being lost.
//
//   - pair.go: a [Pair], what a server needs and what verifies it; a new one, of a webhook CA of its own;
//   - object.go: one object of the cluster, by name, as a watch tells of it;
//   - reader.go: the [Reader], which serves what one Secret has;
//   - clientca.go: the [ClientCA], the CA of the API server's client certificate, in a Secret;
//   - published.go: [Published], whether the webhook configuration's caBundle verifies what is served;
//   - state.go: what the Secret and the webhook configuration say about a rotation;
//   - step.go: which one step is next; pure, and the one place that decides it;
//   - writer.go, write.go: the [Writer], which takes that step, and the requests by which it does;
//   - rescue.go: when a replica takes it that does not lead.
//
// Whoever writes the Secret, every replica reads it. The Writer is one of those who may.
package serving
