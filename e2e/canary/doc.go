// Package canary looks for an access token wherever it must not be: in every object that an API server has, in all that was
// ever written to it and every webhook's patch (its audit log), in logs, metrics, and whatever else a run has seen. The Secrets
// that hold the token by configuration are left out, and nothing else, unless a test says so by name.
//
//   - canary.go: what the token looks like, plain and in base64, and what was found;
//   - sweep.go: the places of a run.
package canary
