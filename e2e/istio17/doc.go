// Package istio17 runs the injection of Istio 1.7.8, the real one (e2e/istio/v1_7), beside a cluster, as that version's own
// installation does: its ConfigMaps, its webhook configuration under its own name, selectors and policy, its Service.
// There is no istiod of that version: what is asked of it beyond injection, the bootstrap, the program answers by itself.
package istio17
