// Package meshes tests the injector in meshes that trace already, each in its own way: with the real injection of Istio
// 1.7.8, a control plane for each mesh, and with the newest istiod, whose MeshConfig goes from one to the next. What a
// proxy would be told is what Istio's own agent and bootstrap make of the pod, on both.
//
// First each mesh is seen without the injector: Istio's own marks, and a bootstrap that has the mesh's own tracer.
package meshes
