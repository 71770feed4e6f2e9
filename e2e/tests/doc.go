// Package tests shows lightstep-injector at work, end to end: real workload controllers create pods through a real API
// server's admission chain, and each assertion reads the pods back from it.
//
// One control plane and one injector serve all tests ([setUp]). Tests that leave both alone run in parallel; those that
// change the injector's configuration, or kill it, run after them, one by one. Each makes namespaces of its own.
//
// To run them against another cluster set E2E_KUBECONFIG, and E2E_WEBHOOK_HOST to a name or address of this machine
// that its API server can reach.
package tests
