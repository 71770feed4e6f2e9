// Package survey looks at a cluster once and says how it stands with injection there: what `lightstep-injector status`
// prints.
//
//   - survey.go: [Survey.Look], and what it says of each namespace;
//   - pods.go: which pods were injected, opted out, missed, or have settings that are no longer in force;
//   - owners.go: what would make such a pod anew: the `kubectl rollout restart` of what owns it, or why there is none.
//
// It decides nothing by itself: whether a pod was to be injected, and with which settings, webhook/inject says; how it stands
// with a copy, certs/distribute.
package survey
