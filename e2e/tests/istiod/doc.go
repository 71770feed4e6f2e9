// Package istiod shows lightstep-injector beside the newest istiod itself: both webhooks are called by a real API server,
// and istiod is asked for what it sends to the proxies of the pods that come of it.
//
// One control plane, one istiod and one injector serve all tests ([setUp]). It is this machine's own: istiod needs a
// ClusterIP on which it can listen.
package istiod
