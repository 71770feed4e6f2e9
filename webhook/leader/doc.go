// Package leader has one of the injector's replicas do what only one may do at a time: it stands for a [Lease], and stands
// again when it has lost it. The process itself, which answers admission requests, never ends with a lease.
// bound.go bounds what a Lease that somebody else wrote can do to an election.
package leader
