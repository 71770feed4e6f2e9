// A package that go-control-plane no longer has, for the Istio of e2e/istio/v1_26, whose own version of it is not served: the
// types of a filter that Envoy has dropped, which Istio imports for nothing but their being there.
module github.com/envoyproxy/go-control-plane/contrib/envoy/extensions/filters/http/squash/v3

go 1.26.0
