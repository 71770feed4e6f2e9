// Package injector builds lightstep-injector, runs it beside a cluster as `serve` does in one, and registers it there.
//
// It stands in for the chart: the namespace, the Service and the webhook configuration are made here, and so are the
// webhook CA and the certificate that it signs. The program itself is the real one, reached by the API server through
// an unmodified Service: it listens on the Service's ClusterIP, which is an address of this machine (see cluster).
//
// [NewInstalled] runs one that the chart itself has installed.
//
// A cluster elsewhere cannot reach this machine through a Service; there the webhook is registered by URL.
package injector
