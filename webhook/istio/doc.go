// Package istio holds what is true of Istio, by version, and nothing else: it is pure, it knows neither Kubernetes objects
// nor this project's settings, and every fact names its source.
//
// Read it in this order:
//
//   - capabilities.go: which proxy has which tracer, and what changed when (one table, a row per change);
//   - sidecar.go: whether a pod has a sidecar, will get one, or will not;
//   - tracing.go: the `tracing` block of ProxyConfig, and how it is merged into what a user or Istio wrote;
//   - volumemount.go: the annotation by which Istio's injector mounts a pod's volume into the sidecar.
package istio
