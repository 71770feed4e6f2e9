// Package alerts shows that each alert of the chart fires when what it is for has really come about, and not before, and that
// every metric that an alert, the dashboard or the docs name is one that the program exports.
//
// Real are the program, its account and its cluster; the PrometheusRule and the PodMonitor, as the API server has them; the series,
// which are scraped anew for every step; and the parser, the storage, the rules and the engine, which are Prometheus' own
// (e2e/prometheus). Virtual is the time that Prometheus sees, and with it the time for which a condition lasts. It begins two hours
// ago, so that no time that the program tells is past by then.
//
// Nobody finds the targets: the labels that a target has are those that prometheus-operator would give it. Istio is not there; what
// the injector reads of it are two ConfigMaps that are made by hand, and its kinds.
package alerts
