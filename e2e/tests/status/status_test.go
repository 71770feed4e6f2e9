package status

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// TestStatus runs every test against one control plane and one injector, in this order.
func TestStatus(t *testing.T) {
	e := setUp(t)
	t.Run("Fine", e.fine)
	t.Run("Missed", e.missed)
	t.Run("Rights", e.rights)
	t.Run("Mended", e.mended)
	t.Run("Stale", e.stale)
	t.Run("NotConfigured", e.notConfigured)
	t.Run("CopyGone", e.copyGone)
	t.Run("NoConfiguration", e.noConfiguration)
}

// fine: nothing is amiss, the copies are there, and only labelled namespaces are spoken of.
func (e *environment) fine(t *testing.T) {
	var f *found
	stage.Eventually(t, func(context.Context) error {
		if f = e.status(t, "-o", "json"); f.code != 0 {
			return fmt.Errorf("exit %d: %s", f.code, f.stderr)
		}
		return nil
	})
	if len(f.Namespaces) != 2 || len(f.Owners)+len(f.Unread) > 0 || f.Config.From != "ConfigMap lightstep-injector -n "+own {
		t.Errorf("it says %s", f.stdout)
	}
	copies := f.namespace(t, shop).Copies
	if len(copies) != 1 || copies[0].Secret != "lightstep.cacert" || copies[0].State != "current" || copies[0].Hash == "" || copies[0].Hash != copies[0].SourceHash {
		t.Errorf("the copies are %v", copies)
	}
	if one := e.status(t, "-n", plain, "-o", "json"); one.code != 0 || one.namespace(t, plain).Reason != "NamespaceNotLabelled" {
		t.Errorf("of a namespace that is not labelled it says %s%s", one.stdout, one.stderr)
	}
	for _, format := range []string{"table", "yaml"} {
		if one := e.status(t, "-n", shop, "-o", format); one.code != 0 || !strings.Contains(one.stdout, shop) || strings.Contains(one.stdout, "quiet") {
			t.Errorf("%s: exit %d: %s%s", format, one.code, one.stdout, one.stderr)
		}
	}
}

// Of testdata/workloads.yaml.
const (
	missedPods   = 2 + 1 + 2 + 1 + 1 // web, db, agent on two nodes, alone, bare
	optedOutPods = 3
)

// missed: pods that are created while nobody answers are counted and named, with what makes them anew, and no others.
func (e *environment) missed(t *testing.T) {
	e.kubectl(t, "create", "deployment", "before", "--image=app", "-n", shop)
	e.running(t, shop, 1)
	e.injector.Kill()
	for _, namespace := range []string{shop, plain} {
		e.kubectl(t, "apply", "-f", "testdata/workloads.yaml", "-n", namespace)
	}
	e.kubectl(t, "wait", "--for=condition=complete", "job/once", "-n", shop, "--timeout=60s")
	e.running(t, shop, 1+missedPods+optedOutPods)
	e.running(t, plain, missedPods+optedOutPods)
	e.start(t)
	e.gauge(t, shop, missedPods)
	e.gauge(t, plain, 0)
	e.gauge(t, "quiet", 0)

	f := e.status(t, "-o", "json")
	n := f.namespace(t, shop)
	if f.code != 1 || n.Injected != 1 || n.Stale != 0 || n.Missed != missedPods || n.OptedOut != optedOutPods || len(f.Namespaces) != 2 || len(f.Unread) > 0 {
		t.Errorf("exit %d: %s%s", f.code, f.stdout, f.stderr)
	}
	if !strings.Contains(f.stderr, "there are problems in "+shop) {
		t.Errorf("it ends with %s", f.stderr)
	}
	for _, c := range []struct {
		kind, name string
		pods       int
		restart    string
	}{
		{"Deployment", "web", 2, "kubectl rollout restart deployment/web -n shop"},
		{"StatefulSet", "db", 1, "kubectl rollout restart statefulset/db -n shop"},
		{"DaemonSet", "agent", 2, "kubectl rollout restart daemonset/agent -n shop"},
		{"ReplicaSet", "alone", 1, ""},
		{"Pod", "bare", 1, ""},
	} {
		if o := f.owner(c.kind, c.name); len(o.Missed) != c.pods || len(o.Stale) > 0 || o.Restart != c.restart || (o.Restart == "") == (o.Says == "") {
			t.Errorf("of %s %s it says %+v", c.kind, c.name, o)
		}
	}
	if len(f.Owners) != 5 {
		t.Errorf("it says of other owners, too: %+v", f.Owners)
	}
	e.names(t, f)
	t.Logf("\n%s", e.status(t).stdout)
}

// names: the pods that are named are those that lack the label, to the last.
func (e *environment) names(t *testing.T, f *found) {
	t.Helper()
	var named, want []string
	for _, o := range f.Owners {
		named = append(named, o.Missed...)
	}
	pods, err := e.Client.CoreV1().Pods(shop).List(t.Context(), metav1.ListOptions{
		LabelSelector: "!lightstep.com/injected,app!=out", FieldSelector: "status.phase!=Succeeded",
	})
	stage.Check(t, err)
	for i := range pods.Items {
		want = append(want, pods.Items[i].Name)
	}
	slices.Sort(named)
	slices.Sort(want)
	if !slices.Equal(named, want) {
		t.Errorf("it names %v, not %v", named, want)
	}
}

// rights: whoever may not read all is told what, by the API server's own words, and nothing is claimed of it.
func (e *environment) rights(t *testing.T) {
	none := e.statusAs(t, e.account)
	if none.code != 1 || none.stdout != "" || !strings.Contains(none.stderr, `cannot get resource "configmaps" in API group "" in the namespace "lightstep-system"`) {
		t.Errorf("exit %d: %s%s", none.code, none.stdout, none.stderr)
	}
	few := e.statusAs(t, e.account, "--config", e.Config, "-o", "json")
	const right = `cannot get resource "replicasets" in API group "apps" in the namespace "shop"`
	if few.code != 1 || !strings.Contains(strings.Join(few.Unread, "\n"), right) || !strings.Contains(few.stderr, "not all could be read") {
		t.Errorf("exit %d: %s%s", few.code, few.stdout, few.stderr)
	}
	if few.owner("Deployment", "web").Name != "" || few.namespace(t, shop).Missed != missedPods {
		t.Errorf("it makes up an owner, or does not count: %s", few.stdout)
	}
}

// mended: what is printed is run as it is, what has no command is done as it says, and all is well.
func (e *environment) mended(t *testing.T) {
	e.mend(t)
	e.kubectl(t, "delete", "pod", "bare", "-n", shop)
	e.kubectl(t, "delete", "pod", "-l", "app=alone", "-n", shop)
	e.allIsWell(t)
	e.gauge(t, shop, 0)
}

func (e *environment) allIsWell(t *testing.T) {
	t.Helper()
	stage.Eventually(t, func(context.Context) error {
		if f := e.status(t); f.code != 0 {
			return fmt.Errorf("exit %d: %s%s", f.code, f.stdout, f.stderr)
		}
		return nil
	})
}

// stale: after a change of the configuration every injected pod has other settings than those in force, and none is missed.
func (e *environment) stale(t *testing.T) {
	before := e.status(t, "-o", "json").namespace(t, shop)
	e.configure(t, "sampling: 7")
	f := e.status(t, "-o", "json")
	n := f.namespace(t, shop)
	if f.code != 1 || n.Stale != before.Injected || n.Injected != before.Injected || n.Missed != 0 || n.OptedOut != optedOutPods {
		t.Errorf("exit %d: %s%s", f.code, f.stdout, f.stderr)
	}
	if o := f.owner("Deployment", "before"); len(o.Stale) != 1 || o.Restart != "kubectl rollout restart deployment/before -n shop" {
		t.Errorf("of a stale pod's owner it says %+v", o)
	}
	if old := e.status(t, "--config", "testdata/config.yaml", "-o", "json"); old.code != 0 || old.Config.From != "testdata/config.yaml" {
		t.Errorf("with the file that was in force: exit %d: %s%s", old.code, old.stdout, old.stderr)
	}
	stage.Eventually(t, func(context.Context) error { return e.inForce(f.Config.Hash) })
	e.mend(t)
	e.kubectl(t, "delete", "pod", "-l", "app=alone", "-n", shop)
	e.allIsWell(t)
	e.gauge(t, shop, 0)
}

// notConfigured: a namespace whose profile leaves its pods alone says which value is to be set, and its pods are not missed.
func (e *environment) notConfigured(t *testing.T) {
	e.kubectl(t, "annotate", "namespace", "quiet", "lightstep.com/profile=empty")
	e.kubectl(t, "create", "deployment", "idle", "--image=app", "-n", "quiet")
	e.running(t, "quiet", 1)
	f := e.status(t, "-n", "quiet", "-o", "json")
	n := f.namespace(t, "quiet")
	if f.code != 1 || n.Reason != "NotConfigured" || n.Missed != 0 || !strings.Contains(strings.Join(n.Problems, "\n"), "set profiles.empty.satellite.address") {
		t.Errorf("exit %d: %s%s", f.code, f.stdout, f.stderr)
	}
	e.gauge(t, "quiet", 0)
	e.kubectl(t, "label", "namespace", "quiet", "lightstep.com/injection-")
}

// copyGone: a source that is gone is a problem of every namespace that has a copy.
func (e *environment) copyGone(t *testing.T) {
	e.kubectl(t, "delete", "secret", "lightstep.cacert", "-n", own)
	f := e.status(t, "-o", "json")
	n := f.namespace(t, shop)
	if f.code != 1 || n.Copies[0].State != "withheld" || len(n.Problems) != 1 || !strings.Contains(n.Problems[0], "lightstep.cacert is withheld") {
		t.Errorf("exit %d: %s%s", f.code, f.stdout, f.stderr)
	}
}

func (e *environment) noConfiguration(t *testing.T) {
	f := e.status(t, "--injector-namespace", plain)
	if f.code != 1 || f.stdout != "" || !strings.Contains(f.stderr, "there is no ConfigMap lightstep-injector -n plain") || !strings.Contains(f.stderr, "--config FILE") {
		t.Errorf("exit %d: %s%s", f.code, f.stdout, f.stderr)
	}
	if f := e.status(t, "-n", "nowhere"); f.code != 1 || !strings.Contains(f.stderr, `read namespace nowhere: namespaces "nowhere" not found`) {
		t.Errorf("exit %d: %s%s", f.code, f.stdout, f.stderr)
	}
}
