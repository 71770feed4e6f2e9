// Package certificate rotates the webhook's own certificate, over and over, while pods are created all the time, through three
// replicas behind a balancer: the injector under its own account, fenced by the chart's policies, and the API server's own
// counters say how many calls have failed.
package certificate
