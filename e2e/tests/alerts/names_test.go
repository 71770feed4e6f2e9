package alerts

import (
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// scrapes: the PodMonitor selects the Deployment's pods, and names a port that they have.
func (e *environment) scrapes(t *testing.T) {
	var monitor struct {
		Spec struct {
			Selector            metav1.LabelSelector
			PodMetricsEndpoints []struct {
				Port        string
				HonorLabels bool
			}
		}
	}
	stage.Check(t, json.Unmarshal([]byte(e.kubectl(t, "get", "podmonitor", "lightstep-injector", "-n", own, "-o", "json")), &monitor))
	endpoint := monitor.Spec.PodMetricsEndpoints[0]
	e.honorLabels = endpoint.HonorLabels
	deployment, err := e.Client.AppsV1().Deployments(own).Get(t.Context(), "lightstep-injector", metav1.GetOptions{})
	stage.Check(t, err)
	selector, err := metav1.LabelSelectorAsSelector(&monitor.Spec.Selector)
	stage.Check(t, err)
	if !selector.Matches(labels.Set(deployment.Spec.Template.Labels)) || selector.Empty() {
		t.Errorf("%s does not select %v", selector, deployment.Spec.Template.Labels)
	}
	if !hasPort(deployment, endpoint.Port) {
		t.Errorf("the pods have no port %q", endpoint.Port)
	}
}

func hasPort(deployment *appsv1.Deployment, name string) bool {
	for _, port := range deployment.Spec.Template.Spec.Containers[0].Ports {
		if port.Name == name {
			return true
		}
	}
	return false
}

// rule is one of the PrometheusRule's.
type rule struct {
	Alert, Expr         string
	Labels, Annotations map[string]string
}

func (e *environment) alertRules(t *testing.T) (all []rule) {
	t.Helper()
	var spec struct{ Groups []struct{ Rules []rule } }
	stage.Check(t, json.Unmarshal(e.rules, &spec))
	for _, group := range spec.Groups {
		all = append(all, group.Rules...)
	}
	return all
}

// complete: every alert that there is has been seen to fire.
func (e *environment) complete(t *testing.T) {
	rules := map[string]bool{}
	for _, r := range e.alertRules(t) {
		rules[r.Alert+" "+r.Labels["severity"]] = true
	}
	if diff := cmp.Diff(rules, e.fired); diff != "" {
		t.Errorf("the rules and what was seen to fire (-rules +seen):\n%s", diff)
	}
}

// expressions are the dashboard's, as Grafana sends them.
func (e *environment) expressions(t *testing.T) (all []string) {
	t.Helper()
	object, err := e.Client.CoreV1().ConfigMaps(own).Get(t.Context(), "lightstep-injector-dashboard", metav1.GetOptions{})
	stage.Check(t, err)
	var dashboard struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	stage.Check(t, json.Unmarshal([]byte(object.Data["lightstep-injector.json"]), &dashboard))
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			all = append(all, strings.ReplaceAll(target.Expr, "$__rate_interval", "5m"))
		}
	}
	return all
}

// named: every metric that a rule or the dashboard names is one that is exported.
func (e *environment) named(t *testing.T) {
	exported := e.exported(t).Series
	for _, r := range e.alertRules(t) {
		e.names(t, r.Expr, exported)
	}
	expressions := e.expressions(t)
	for _, expr := range expressions {
		e.names(t, expr, exported)
	}
	if len(expressions) < 10 {
		t.Errorf("the dashboard has %d expressions", len(expressions))
	}
}

// names parses an expression, and sees that each metric that it names is exported.
func (e *environment) names(t *testing.T, expr string, exported []string) {
	t.Helper()
	var names []string
	stage.Check(t, e.ask(t.Context(), http.MethodPost, "/names", map[string]string{"expr": expr}, &names))
	for _, name := range names {
		if !slices.Contains(exported, name) {
			t.Errorf("%s: %s is not exported", expr, name)
		}
	}
	if len(names) == 0 {
		t.Errorf("%s names nothing", expr)
	}
}

// look counts the series that each expression of the dashboard has now.
func (e *environment) look(t *testing.T) {
	t.Helper()
	for _, expr := range e.expressions(t) {
		var series int
		stage.Check(t, e.ask(t.Context(), http.MethodPost, "/query", map[string]string{"expr": expr}, &series))
		e.panels[expr] += series
	}
}

// shown: while each of the alerts fired, each of the dashboard's expressions has had something to show.
func (e *environment) shown(t *testing.T) {
	for _, expr := range e.expressions(t) {
		if e.panels[expr] == 0 {
			t.Errorf("there never was anything to show: %s", expr)
		}
	}
}

// exported is what was ever scraped.
type exported struct{ Families, Series []string }

func (e *environment) exported(t *testing.T) (all exported) {
	t.Helper()
	stage.Check(t, e.ask(t.Context(), http.MethodPost, "/scraped", struct{}{}, &all))
	return all
}

// documented: docs/operations.md has every metric of the program's and every alert, under its heading, and no others.
func (e *environment) documented(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(root, "docs", "operations.md"))
	stage.Check(t, err)
	got := map[string]bool{}
	for _, found := range regexp.MustCompile("(?m)^\\| `(lightstep_injector_[a-z_]+)").FindAllStringSubmatch(string(content), -1) {
		got[found[1]] = true
	}
	want := map[string]bool{}
	for _, family := range e.exported(t).Families {
		if strings.HasPrefix(family, "lightstep_injector_") {
			want[family] = true
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what is exported and the table of metrics (-exported +table):\n%s", diff)
	}
	headings := map[string]bool{}
	for _, found := range regexp.MustCompile(`(?m)^### (LightstepInjector\w+)$`).FindAllStringSubmatch(string(content), -1) {
		headings[found[1]] = true
	}
	alerts := map[string]bool{}
	for _, r := range e.alertRules(t) {
		alerts[r.Alert] = true
		const page = "https://github.com/lightstep-injector/lightstep-injector/blob/main/docs/operations.md#"
		if r.Annotations["runbook_url"] != page+strings.ToLower(r.Alert) {
			t.Errorf("%s has the runbook %s", r.Alert, r.Annotations["runbook_url"])
		}
	}
	if diff := cmp.Diff(alerts, headings); diff != "" {
		t.Errorf("the alerts and the headings (-alerts +headings):\n%s", diff)
	}
	t.Logf("%d alerts, %d metrics: %v", len(alerts), len(want), slices.Sorted(maps.Keys(want)))
}
