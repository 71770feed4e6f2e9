// Package snapshot keeps the one immutable value that every decision is made from: the configuration in force, the
// labelled namespaces, and which Secrets are missing in them.
//
//   - store.go: the [Store]; readers take [Store.Current] without a lock, writers build the next snapshot and swap it whole;
//   - watch.go: [Watch], which feeds a store from a cluster: the labelled namespaces, and one watch for each Secret name
//     that the configuration has, all of them metadata alone;
//   - subject.go: what is watched, and how it is reduced; read.go: [Read], which lists it once in the place of watching it;
//   - file.go: the configuration [File], loaded at the start and followed from then on; one that is refused changes nothing.
package snapshot
