// Package mesh makes the objects by which an Istio from 1.16.1 on sends the spans of injected pods to the satellites, and
// keeps the namespaced ones where the configuration says so. For an older Istio it says what its settings would be.
//
// Read it in this order:
//
//   - versions.go: what each version of Istio takes (one table, a row per change, each with its source);
//   - objects.go: the objects of one namespace, which render and the controller have in common;
//   - render.go, collector.go, legacy.go: all that `render istio` prints. Pure;
//   - detect.go: which of a cluster's control planes that is for, where --detect asks. Pure;
//   - wanted.go: what the controller is to keep in each namespace, out of one snapshot. Pure;
//   - controller.go, cluster.go: making it so, with one key per namespace, and only as the leader.
package mesh
