// Package istiod runs Istio's own control plane, the newest or an older one, beside a cluster, as its charts install it in one.
//
// The objects are those of the charts base and istiod, but for the Deployment: istiod runs as a process of this machine,
// with the environment that the Deployment would give it and the rights that the charts give its service account. Its
// Service has a ClusterIP that is an address of this machine (see cluster), so the API server calls its webhook through
// the charts' own webhook configurations, to which istiod itself adds its CA.
package istiod
