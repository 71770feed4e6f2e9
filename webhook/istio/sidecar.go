package istio

// Sidecar is what Istio has done, or will do, to a pod.
type Sidecar struct{}
