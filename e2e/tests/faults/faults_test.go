package faults

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/load"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// fault is one that is brought about.
type fault struct {
	// options are those of an injector that is not run as usual.
	options func(*testing.T, *environment) injector.Options
	// before is brought about before the injector is started; what it returns ends it.
	before func(*testing.T, *environment) func()
	// during is brought about while it runs.
	during func(*testing.T, *environment) func()
}

// faults has each by its name, as the page has it.
func faults() map[string]fault {
	return map[string]fault{
		"The API server is away when the injector starts": {before: cut},
		"The API server goes away":                        {during: cut},
		"The lease cannot be renewed":                     {during: refuseLeases},
		"The watch of namespaces lags":                    {during: coldCache},
		"The satellite CA's source is missing":            {before: removeSource},

		"The serving Secret is missing at the start":        {before: removeServing, options: notSelfSigned},
		"The serving Secret is deleted":                     {during: removeServing, options: notSelfSigned},
		"The serving Secret is deleted, with --self-signed": {during: removeServingKept},
		"The serving Secret is filled with garbage":         {during: fillServing, options: notSelfSigned},
		"The serving certificate is of tomorrow":            {during: serveTomorrows, options: notSelfSigned},

		"The clock jumps by 300 days, and back": {during: setClock, options: shifted},

		"The configuration is not valid at the start": {before: writeInvalid},
		"The configuration becomes invalid":           {during: writeInvalid},
		"The configuration can no longer be read":     {during: removeConfig},
		"The log's disk is full":                      {options: logToFullDisk},

		"The decision panics":                     {during: panicDecision, options: panicking},
		"Controllers panic":                       {before: panicControllers, options: panicking},
		"Watches panic":                           {before: panicWatches, options: panicking},
		"Clients get stuck":                       {during: stickClients},
		"1000 slow connections":                   {during: connectSlowly, options: bounded},
		"64 bodies of 7 MiB at once":              {during: sendLarge, options: bounded},
		"JSON that is nested 100,000 levels deep": {during: sendDeep, options: bounded},
		"A stranger sends what is no request":     {during: sendNonsense, options: bounded},
	}
}

// TestFaults goes through the page's rows.
func TestFaults(t *testing.T) {
	rows, known := readPage(t, root+"/docs/faults.md"), faults()
	if len(rows) != len(known) {
		t.Errorf("the page has %d rows, and there are %d faults", len(rows), len(known))
	}
	e := setUp(t)
	for _, row := range rows {
		f, ok := known[row.name]
		if !ok {
			t.Errorf("nothing brings about %q", row.name)
			continue
		}
		t.Run(row.name, func(t *testing.T) { e.try(t, row, f) })
	}
}

// try brings a fault about, sees that all is as the row says, ends the fault, and sees that all is well by itself.
func (e *environment) try(t *testing.T, row *row, f fault) {
	t.Helper()
	options := injector.Options{}
	if f.options != nil {
		options = f.options(t, e)
	}
	end := func() {}
	finish := func() { now := end; end = func() {}; now() } // once, and where the test fails, too
	defer func() { finish() }()
	if f.before != nil {
		end = f.before(t, e)
	}
	defer e.stop(t)
	e.run(t, options, f.before == nil)
	var pods *creation
	if row.injected {
		e.awaitRouted(t)
		pods = e.create(t)
	}
	if f.during != nil {
		end = f.during(t, e)
	}
	if !row.injected {
		pods = e.create(t)
	}
	pods.await(t)
	e.look(t, row)
	if !row.injected {
		pods.end(t, row)
	}
	finish()
	e.recover(t)
	if row.injected {
		pods.end(t, row)
	}
}

// look sees that the injector says what the row says.
func (e *environment) look(t *testing.T, row *row) {
	t.Helper()
	stage.Eventually(t, func(ctx context.Context) error { return e.readiness(ctx, row) })
	for _, series := range row.metrics {
		stage.Eventually(t, func(ctx context.Context) error { return e.tells(ctx, series) })
	}
	for _, line := range row.log {
		stage.Eventually(t, func(context.Context) error {
			log, err := os.ReadFile(e.injector.LogFile())
			if err == nil && !strings.Contains(string(log[e.logged:]), line) {
				err = fmt.Errorf("the log does not say %q", line)
			}
			return err
		})
	}
}

func (e *environment) readiness(ctx context.Context, row *row) error {
	err := e.injector.Ready(ctx)
	switch {
	case row.ended && e.injector.Ended() == nil:
		return fmt.Errorf("it has not ended: %w", err)
	case row.ended || row.ready && err == nil:
		return nil
	case row.ready:
		return err
	case err == nil:
		return fmt.Errorf("it is ready")
	case !strings.Contains(err.Error(), row.unready):
		return fmt.Errorf("it does not say %q: %w", row.unready, err)
	}
	return nil
}

// tells sees that the metrics have a series, with its value, or with one above 0 where the row gives none.
func (e *environment) tells(ctx context.Context, series string) error {
	text, err := e.injector.Metrics(ctx)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		at := strings.LastIndexByte(line, ' ')
		if line == series || at > 0 && line[:at] == series && line[at+1:] != "0" {
			return nil
		}
	}
	return fmt.Errorf("the metrics do not say %s", series)
}

// recover sees that, once the fault is over, the injector is ready, and gives a pod what a namespace that is just made asks for.
func (e *environment) recover(t *testing.T) {
	t.Helper()
	if e.injector.Ended() != nil { // a kubelet starts it again
		stage.Check(t, e.injector.Launch())
	}
	e.awaitRouted(t)
	stage.Eventually(t, func(ctx context.Context) error {
		namespace, err := e.labelled(ctx, map[string]string{"lightstep.com/profile": "second"})
		if err != nil {
			return err
		}
		pod, err := e.Client.CoreV1().Pods(namespace).Create(ctx, load.Pod(0), metav1.CreateOptions{})
		if err != nil {
			return err
		}
		if mounts := pod.Spec.Containers[0].VolumeMounts; len(mounts) == 0 || mounts[len(mounts)-1].MountPath != "/etc/second" {
			return fmt.Errorf("pod %s/%s has the mounts %v", namespace, pod.Name, mounts)
		}
		return nil
	})
}
