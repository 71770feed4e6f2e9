// Package install holds the chart to what a cluster addon is expected to be: what values make of it, and that a real API server
// takes it, upgrades and rolls it back without losing what others have written into its objects, and is rid of it again.
//
// The injector's own pods run: e2e/node has the real program run with what the Deployment says, and tells the API server of
// each whether it is ready, so that `helm install --wait` waits for what it is to wait for. What the account may do is
// tests/secrets' subject.
package install
