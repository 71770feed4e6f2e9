// Package certificate shows that no call of the webhook is lost: not while its certificate and its CA are replaced, not in a
// roll-out, and, where a replica is killed, none but those that it had or was given until its endpoint was dropped. Pods are
// created all the time, through three replicas behind a balancer: the injector under its own account, fenced by the chart's
// policies. What is counted, the API server has counted.
//
// The flags say how often all this is done: seldom with `go test`, often with `make reliability`, which writes what came of it
// into docs/reliability.md.
package certificate
