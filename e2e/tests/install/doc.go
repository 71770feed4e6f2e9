// Package install holds the chart to what a cluster addon is expected to be: what values make of it, and that a real API server
// takes it, upgrades and rolls it back without losing what others have written into its objects, and is rid of it again.
//
// The pods of the chart's Deployment are kwok's. The program itself runs beside them, with the Deployment's arguments, and is
// called through the chart's own Service and webhook configuration. What the account may do is tests/secrets' subject.
package install
