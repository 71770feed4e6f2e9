// Package istio126 shows lightstep-injector beside istiod 1.26.0, the last release whose sidecars are plain containers by
// themselves and whose injector takes more than true and false: in a mesh that traces already, through a real API server.
// What a proxy would be told is what that release's own agent and bootstrap make of the pod.
package istio126
