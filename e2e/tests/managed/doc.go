// Package managed shows the injector keep Istio's objects beside the newest istiod itself, with spans that go straight to the
// satellites and the access token in xDS: what the proxies of labelled and other namespaces are sent, who reads the token, and
// what `explain` says of pods while the mesh lacks something, and when it does not.
package managed
