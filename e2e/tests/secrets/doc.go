// Package secrets shows what the injector's service account may do, with the rights that the chart gives it: the chart is
// rendered and installed by Helm itself into a real cluster, and every attack is tried with the account's own credentials.
//
// Each attack is tried twice: with the chart's RBAC, and as if RBAC allowed everything, which leaves the policies alone to
// refuse it.
package secrets
