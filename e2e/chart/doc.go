// Package chart renders and installs the chart of manifests/chart with Helm itself, which [Build] compiles from the module
// in e2e/helm.
package chart
