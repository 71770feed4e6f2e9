// Package cluster brings up a real Kubernetes control plane on this machine and takes it down again.
//
// [Build] compiles the program in e2e/controlplane (etcd, kube-apiserver, kube-controller-manager, kube-scheduler,
// kubectl and kwok in one binary) from Go modules; the result is kept under .cache/controlplane, by content. [Start]
// runs it: controller-runtime's envtest starts etcd and the API server, the rest is started beside them, and kwok plays
// the kubelets of a few nodes that do not exist. [Connect] uses a cluster that is there already.
//
// Everything listens on loopback, on free ports, and lives in a folder of its own under .cache/run. [Cluster.Stop]
// removes it all. After a crash the components end by themselves (see process and e2e/controlplane), and the next start
// removes the folder. [WithClientCertificate] gives the API server an AdmissionConfiguration, by which it authenticates to
// webhooks.
//
// Service addresses lie in 127.10.0.0/16. Each ClusterIP is thus an address of this machine: a process that listens on
// it is reached through an ordinary Service, with no kube-proxy. [ClaimServiceIP] keeps two runs from taking the same.
package cluster
