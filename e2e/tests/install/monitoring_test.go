package install

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// TestMonitoring: of what is for monitoring there is nothing unless it is asked for, each without the others and whatever the
// cluster has; with its own labels beside the chart's, which it does not take the place of. What is in it is tests/alerts' subject.
func TestMonitoring(t *testing.T) {
	helm := buildHelm(t)
	find := func(flags ...string) (found []*unstructured.Unstructured) {
		objects, err := helm.Template(t.Context(), flags...)
		stage.Check(t, err)
		for _, o := range objects {
			if o.GetKind() == "PodMonitor" || o.GetKind() == "PrometheusRule" || o.GetName() == "lightstep-injector-dashboard" {
				found = append(found, o)
			}
		}
		return found
	}
	if found := find(); len(found) > 0 {
		t.Errorf("unasked there is %v", found)
	}
	for value, kind := range map[string]string{"podMonitor": "PodMonitor", "prometheusRule": "PrometheusRule", "dashboard": "ConfigMap"} {
		set := "monitoring." + value + "."
		found := find("--set", set+"enabled=true", "--set", set+`labels.release=mine,`+set+`labels.app\.kubernetes\.io/name=other`, "--namespace", "elsewhere")
		if len(found) != 1 || found[0].GetKind() != kind || found[0].GetNamespace() != "elsewhere" {
			t.Errorf("%s: there is %v", value, found)
			continue
		}
		if labels := found[0].GetLabels(); labels["release"] != "mine" || labels["app.kubernetes.io/name"] != "lightstep-injector" {
			t.Errorf("%s: its labels are %v", value, labels)
		}
	}
}

// TestRefusedMonitoring: what cannot be meant is refused, and the message names it.
func TestRefusedMonitoring(t *testing.T) {
	helm := buildHelm(t)
	for set, names := range map[string]string{
		"monitoring=true":                        "/monitoring",
		"monitoring.enabled=true":                "'enabled'",
		"monitoring.serviceMonitor.enabled=true": "'serviceMonitor'",
		"monitoring.podMonitor.enabled=yes":      "/monitoring/podMonitor/enabled",
		"monitoring.podMonitor.interval=30s":     "'interval'",
		"monitoring.prometheusRule.labels.a=1":   "/monitoring/prometheusRule/labels/a",
		"monitoring.dashboard.labels=x":          "/monitoring/dashboard/labels",
	} {
		t.Run(set, func(t *testing.T) {
			_, err := helm.Template(t.Context(), "--set", set)
			if err == nil || !strings.Contains(err.Error(), names) {
				t.Errorf("it is not refused by %s: %v", names, err)
			}
		})
	}
}
