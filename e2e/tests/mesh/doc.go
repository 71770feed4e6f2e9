// Package mesh shows the injector keep Istio's objects in labelled namespaces, in a real API server with Istio's own
// definitions of them, as its newest release ships them. There is no istiod: the tests play the part of whoever installs it,
// and write the two ConfigMaps by which the injector knows it. What istiod makes of the objects is shown in tests/istiod.
package mesh
