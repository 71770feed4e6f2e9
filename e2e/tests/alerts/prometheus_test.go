package alerts

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lightstep-injector/lightstep-injector/e2e/compile"
	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/process"
	"github.com/lightstep-injector/lightstep-injector/e2e/report"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

const (
	// step is between two scrapes, in virtual time.
	step = 30 * time.Second
	// patience is longer than any alert waits, in virtual time.
	patience = 30 * time.Minute
	// earlier is how long ago virtual time begins.
	earlier = 2 * time.Hour
)

// startPrometheus compiles Prometheus, unless it is there already, and runs it.
func (e *environment) startPrometheus(t *testing.T) {
	t.Helper()
	binary, err := compile.Cached(t.Context(), root, "e2e/prometheus", "-s -w", func() {
		report.New(os.Stdout).Linef("Prometheus is built from source the first time: some minutes.")
	})
	stage.Check(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	stage.Check(t, err)
	e.prometheus = listener.Addr().String()
	stage.Check(t, listener.Close())
	log := e.Run.Log("prometheus")
	running, err := process.Start(process.Spec{Name: "Prometheus", Path: binary, Args: []string{"--listen", e.prometheus, "--dir", e.Run.Dir}, Log: log})
	stage.Check(t, err)
	t.Cleanup(func() { stage.LogOnFailure(t, log); stage.Check(t, running.Stop(15*time.Second)) })
	stage.Eventually(t, func(ctx context.Context) error {
		return errors.Join(running.Ended(), e.ask(ctx, http.MethodGet, "/ready", nil, nil))
	})
}

// ask asks Prometheus.
func (e *environment) ask(ctx context.Context, method, path string, what, answer any) error {
	body, err := json.Marshal(what)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+e.prometheus+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("Prometheus: %s", bytes.TrimSpace(text))
	}
	if err != nil || answer == nil {
		return err
	}
	return json.Unmarshal(text, answer)
}

// begin has Prometheus begin anew, with the rules that the API server has.
func (e *environment) begin(t *testing.T) {
	t.Helper()
	stage.Check(t, e.ask(t.Context(), http.MethodPost, "/start", map[string]any{"at": time.Now().Add(-earlier), "rules": e.rules}, nil))
}

// alert is one that is pending or firing.
type alert struct {
	Name, State         string
	Labels, Annotations map[string]string
	Value               float64
}

// String is the alert as a test names it: with its severity, and what else tells it from others.
func (a *alert) String() string {
	text := []string{strings.TrimPrefix(a.Name, "LightstepInjector"), a.Labels["severity"]}
	for _, name := range []string{"namespace", "secret", "fault", "state", "reason", "instance"} {
		if value := a.Labels[name]; value != "" {
			text = append(text, value)
		}
	}
	return strings.Join(text, " ")
}

// advance lets virtual time pass, and returns what is pending or firing at its end.
func (e *environment) advance(t *testing.T, by time.Duration) []alert {
	t.Helper()
	var targets []map[string]any
	for name, replica := range e.scraped {
		targets = append(targets, map[string]any{"url": replica.MetricsURL(), "honorLabels": e.honorLabels, "labels": map[string]string{
			"job": injector.Name, "namespace": own, "container": "injector", "pod": name, "endpoint": "metrics", "instance": name,
		}})
	}
	var active []alert
	stage.Check(t, e.ask(t.Context(), http.MethodPost, "/advance", map[string]any{"steps": by / step, "step": step.String(), "targets": targets}, &active))
	active = slices.DeleteFunc(active, func(a alert) bool { return a.String() == e.besides })
	slices.SortFunc(active, func(a, b alert) int { return cmp.Compare(a.String(), b.String()) })
	return active
}

func firing(active []alert) (names []string) {
	for i := range active {
		if active[i].State == "firing" {
			names = append(names, active[i].String())
		}
	}
	return names
}

// quiet sees that nothing is pending, nor has fired, before a condition comes about.
func (e *environment) quiet(t *testing.T) {
	t.Helper()
	e.begin(t)
	if active := e.advance(t, patience); len(active) > 0 {
		t.Fatalf("before anything has happened there is %v", names(active))
	}
}

func names(active []alert) (all []string) {
	for i := range active {
		all = append(all, active[i].String()+": "+active[i].State)
	}
	return all
}

// fires lets virtual time pass until these alerts fire. They are pending first, and no others are active.
func (e *environment) fires(t *testing.T, want ...string) {
	t.Helper()
	active := e.advance(t, 2*step)
	if pending := slices.Collect(each(active)); len(firing(active)) > 0 || !slices.Equal(pending, want) {
		t.Fatalf("at first there is %v, and not %v, pending", names(active), want)
	}
	lasted := 2 * step
	for ; lasted < patience && !slices.Equal(firing(active), want); lasted += step {
		active = e.advance(t, step)
	}
	if all := slices.Collect(each(active)); !slices.Equal(firing(active), want) || !slices.Equal(all, want) {
		t.Fatalf("after %s there is %v, and not %v, firing", lasted, names(active), want)
	}
	for i := range active {
		active[i].readable(t)
		e.fired[active[i].Name+" "+active[i].Labels["severity"]] = true
		t.Logf("after %s: %s: %s", lasted, &active[i], active[i].Annotations["description"])
	}
	e.look(t)
}

func each(active []alert) func(func(string) bool) {
	return func(yield func(string) bool) {
		for i := range active {
			if !yield(active[i].String()) {
				return
			}
		}
	}
}

// readable sees that the alert says what it is to say, with the values filled in.
func (a *alert) readable(t *testing.T) {
	t.Helper()
	for _, name := range []string{"summary", "description", "runbook_url"} {
		if text := a.Annotations[name]; text == "" || strings.Contains(text, "<no value>") || strings.Contains(text, "<error") || strings.Contains(text, "{{") {
			t.Errorf("%s: %s is %q", a, name, text)
		}
	}
}

// resolved lets virtual time pass until nothing is active.
func (e *environment) resolved(t *testing.T) {
	t.Helper()
	var active []alert
	for lasted := time.Duration(0); lasted < patience; lasted += step {
		if active = e.advance(t, step); len(active) == 0 {
			return
		}
	}
	t.Errorf("long after its end there is %v", names(active))
}
