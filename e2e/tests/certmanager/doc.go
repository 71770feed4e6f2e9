// Package certmanager has a real cert-manager keep the webhook's certificate, as the chart asks it to, while pods are created all the
// time through three replicas behind a balancer; and goes from one keeper of the certificate to the other and back.
//
// The replicas are run with the arguments of the chart's Deployment, under its account; kwok's pods stand in for them in the
// cluster. cert-manager runs as an administrator, and without its validating webhook.
package certmanager
