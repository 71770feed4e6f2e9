package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lightstep-injector/lightstep-injector/e2e/cluster"
	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/report"
)

type options struct {
	root, kubeconfig, webhookHost string
	keep                          bool
}

func (o options) check() error {
	if o.kubeconfig != "" && o.webhookHost == "" {
		return errors.New("--kubeconfig: that cluster's API server cannot reach the webhook on this machine by itself; " +
			"give --webhook-host, a name or address of this machine that it can reach")
	}
	if o.webhookHost != "" && o.kubeconfig == "" {
		return errors.New("--webhook-host is for an existing cluster; give its --kubeconfig, or leave both out")
	}
	return nil
}

func (o options) manifest() string { return filepath.Join(o.root, "examples", "bookinfo.yaml") }
func (o options) config() string   { return filepath.Join(o.root, "examples", "config.yaml") }

// demo is one that goes on.
type demo struct {
	options
	report            *report.Report
	run               *cluster.Run
	cluster           *cluster.Cluster
	injector          *injector.Injector
	controlPlane, bin string // the built programs
	token             string // made for this run
	caller            *injector.Caller
	namespaces        []namespace
}

// cleanUpTimeout bounds the end, which a first Ctrl-C does not cut short.
const cleanUpTimeout = time.Minute

// demonstrate runs the demo from beginning to end.
func demonstrate(ctx context.Context, o options) (err error) {
	d := &demo{options: o, report: report.New(os.Stdout), namespaces: namespaces(o.kubeconfig == "")}
	d.introduce()
	if d.run, err = cluster.NewRun(o.root); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.cleanUp()) }()

	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"build the control plane and the injector", d.build},
		{"start Kubernetes: etcd, API server, controllers, scheduler, kwok", d.startCluster},
		{"start lightstep-injector and register it as 0-lightstep-injector", d.startInjector},
		{"make the Secret lightstep.cacert, once, and three namespaces", d.makeSourceAndNamespaces},
		{"kubectl apply -f examples/bookinfo.yaml, in each", d.applyBookinfo},
		{"wait until every pod is Running", d.waitForPods},
	} {
		if err := d.report.Step(step.name, func() error { return step.do(ctx) }); err != nil {
			return err
		}
	}
	if err := d.show(ctx); err != nil {
		return err
	}
	if d.keep {
		d.explainKeeping()
		<-ctx.Done()
	}
	return nil
}

func (d *demo) introduce() {
	d.report.Titlef("lightstep-injector: label a namespace, and every pod created in it trusts your satellites.")
	if d.kubeconfig != "" {
		d.report.Linef("In the cluster of %s, with the injector on this machine.", d.kubeconfig)
	} else {
		d.report.Linef("A real API server, etcd, controllers and scheduler, on this machine alone. No kubelet runs: kwok plays")
		d.report.Linef("the nodes and says that pods run. No Istio runs: you see what it is handed.")
	}
	d.report.Linef("")
}

// build compiles both at once: neither keeps two cores busy to its end.
func (d *demo) build(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		d.bin, err = injector.Build(ctx, d.root, d.run)
		return err
	})
	if d.kubeconfig == "" {
		group.Go(func() (err error) {
			d.controlPlane, err = cluster.Build(ctx, d.root, d.report.Progress)
			return err
		})
	}
	return group.Wait()
}

func (d *demo) startCluster(ctx context.Context) (err error) {
	if d.kubeconfig != "" {
		d.cluster, err = cluster.Connect(d.kubeconfig)
		return err
	}
	if d.caller, err = injector.NewCaller(); err != nil {
		return err
	}
	d.cluster, err = cluster.Start(ctx, d.controlPlane, d.run, cluster.WithClientCertificate("*", d.caller.Issue))
	return err
}

// startInjector runs it with the example's configuration. The token of its profile istio-1-7 is made up.
func (d *demo) startInjector(ctx context.Context) (err error) {
	d.token = fmt.Sprintf("demo-token-%d", time.Now().UnixNano())
	tokenFile := filepath.Join(d.run.Dir, "token")
	if err := os.WriteFile(tokenFile, []byte(d.token), 0o600); err != nil {
		return fmt.Errorf("write the access token: %w", err)
	}
	config, flags := d.config(), []string(nil)
	if d.caller != nil {
		flags = append(d.caller.Flags(), "--expose-token-in-annotations", "--access-token-file", profileOfIstio17+"="+tokenFile)
	} else if config, err = d.withoutAnnotations(); err != nil {
		return err
	}
	d.injector, err = injector.New(ctx, d.cluster, d.run, injector.Options{
		Binary:      d.bin,
		Config:      config,
		Flags:       flags,
		WebhookHost: d.webhookHost,
	})
	if err != nil {
		return err
	}
	return d.injector.Start(ctx)
}

// withoutAnnotations is the example's configuration for an API server that shows no client certificate, as one elsewhere may not:
// the injector then delivers no token by annotation.
func (d *demo) withoutAnnotations() (string, error) {
	text, err := os.ReadFile(d.config())
	if err != nil {
		return "", fmt.Errorf("read the example's configuration: %w", err)
	}
	file := filepath.Join(d.run.Dir, "config.yaml")
	return file, injector.WriteConfig(file, bytes.ReplaceAll(text, []byte("delivery: annotation"), []byte("delivery: secret")))
}

// cleanUp ends everything, and takes away what was put into somebody else's cluster.
func (d *demo) cleanUp() error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanUpTimeout)
	defer cancel()
	var errs []error
	if d.cluster != nil && d.cluster.Existing {
		errs = append(errs, d.removeNamespaces(ctx))
	}
	if d.injector != nil {
		if d.cluster.Existing {
			errs = append(errs, d.injector.Unregister(ctx))
		}
		d.injector.Kill() // nobody is left for whom it would have to drain
	}
	if d.cluster != nil {
		errs = append(errs, d.cluster.Stop())
	}
	return errors.Join(append(errs, d.run.Remove())...)
}
