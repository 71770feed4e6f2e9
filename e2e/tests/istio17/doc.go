// Package istio17 tests the injector beside the injection of Istio 1.7.8, the real one, through a real API server. No
// Envoy runs: what a proxy would be told is the bootstrap that Istio's own agent and bootstrap make of the pod.
package istio17
