// Package node plays a node for the injector's own pods: its kubelet and its kube-proxy, neither of which can run here.
//
// A pod's container is a process: the real program, with the arguments, the environment, the configuration and the service
// account of the pod's spec, on an address of its own. What it says of itself, by its readiness probe and its exit code, is
// what the API server is told of the pod; a pod that is deleted is sent SIGTERM, and goes when its process has. What a
// configuration's ConfigMap has is brought to its file, as often as it changes.
//
// The injector's Service is what e2e/balancer makes of the pods that are ready.
//
// No image is pulled, nothing is isolated, and liveness is not looked at. The cluster is started with [Pods], so that kwok
// leaves these pods alone.
package node
