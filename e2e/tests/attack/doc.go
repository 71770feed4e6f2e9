// Package attack attacks replicas of the injector, as a tenant and as a stranger can, while pods of another namespace are created
// through a real API server. docs/attacks.md has a row for each attack: what it did, and what it does now.
//
// The replicas are those of the chart's Deployment, with its account, its policies, its webhook configuration and its memory limit,
// each a process of its own (e2e/node). As a kernel would, the test kills a replica that takes more memory than the chart allows it.
//
// The short form attacks for seconds, with fewer objects; `make attack` has the full size, and writes the page's figures.
//
//   - attack_test.go: the rows, in their order.
//   - page_test.go: the page, and its figures.
//   - setup_test.go: the cluster, the chart, and the namespaces.
//   - replicas_test.go: the replicas' memory, readiness and logs.
//   - victims_test.go: the pods of another namespace.
//   - network_test.go: attacks over the network.
//   - tenant_test.go: attacks by objects, and how memory grows with them.
//   - output_test.go: attacks on whoever reads what the program prints.
//   - stranger_test.go: what a stranger learns.
package attack
