package main

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"github.com/lightstep-injector/lightstep-injector/internal/escape"
	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
	"github.com/lightstep-injector/lightstep-injector/webhook/manifest"
)

func explainCommand(io streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain (-f FILE|- | POD)",
		Short: "Tell which rules decide about a manifest's pods, or a pod of the cluster, and the patch",
		Long: `Tell which rules decide about a manifest's pods, or about a pod of the cluster, in order, and the patch. They are the webhook's own.

-f: the objects' namespaces count as labelled, unless the manifests hold the Namespace: its labels and annotations decide then.

POD: the cluster of $KUBECONFIG is read as the webhook reads it, once, with your rights; --config is the injector's own
configuration. You are told what was done to the pod when it was created, what would be done to it now, and what its mesh still
lacks. The exit code is 1 where anything is amiss, or the pod lacks what one created now would have.`,
		Example: `  lightstep-injector explain -f app.yaml --config config.yaml
  kubectl get deployment app -o yaml | lightstep-injector explain -f - --config config.yaml
  lightstep-injector explain app-7d9c5b6f8-x2x7k -n shop --config config.yaml`,
		Args: cobra.MaximumNArgs(1),
	}
	o, output := addOffline(cmd), addOutput(cmd, "table", "json", "yaml")
	cmd.Flag("namespace").Usage = "`NAMESPACE` of the objects that name none, or of POD (without it, the kubeconfig's)"
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == 0 && len(o.files) == 0:
			return usageError{errors.New("what is to be explained is missing: -f FILE, or the name of a POD")}
		case len(args) == 0:
			return explainManifests(o, output.value, io)
		case len(o.files) > 0:
			return usageError{fmt.Errorf("-f and POD %s: give one of them", args[0])}
		case o.config == "":
			return usageError{fmt.Errorf("POD %s: --config FILE is missing: give the injector's own configuration", args[0])}
		}
		if !cmd.Flag("namespace").Changed {
			o.namespace = ""
		}
		return explainPod(cmd.Context(), o, args[0], output.value, io)
	}
	return cmd
}

// explanation is what is printed of one object.
type explanation struct {
	APIVersion string             `json:"apiVersion"`
	Kind       string             `json:"kind"`
	Name       string             `json:"name"`
	Namespace  string             `json:"namespace"`
	Rules      []explainedRule    `json:"rules"`
	Injected   bool               `json:"injected"`
	Reason     inject.Reason      `json:"reason"`
	Profile    string             `json:"profile,omitempty"`
	Config     string             `json:"config,omitempty"`
	Tracer     string             `json:"tracer,omitempty"`
	Containers []string           `json:"containers"`
	Warnings   []explainedWarning `json:"warnings"`
	Patch      []inject.Operation `json:"patch"`
}

type explainedRule struct {
	Reason  inject.Reason `json:"reason"`
	Applies bool          `json:"applies"`
	Says    string        `json:"says"`
}

type explainedWarning struct {
	Code    inject.Code `json:"code"`
	Message string      `json:"message"`
}

func explainManifests(o *offline, format string, io streams) error {
	sources, snap, err := o.load(io.in)
	if err != nil {
		return err
	}
	explanations := []explanation{}
	for _, s := range sources {
		pods, err := manifest.Pods(s.text)
		if err != nil {
			return fmt.Errorf("explain %s: %w", s.name, err)
		}
		for _, object := range pods {
			request, err := o.request(object)
			if err != nil {
				return fmt.Errorf("explain %s: %s %s: %w", s.name, object.Kind, object.Name, err)
			}
			explanations = append(explanations, explain(object, request, snap))
		}
	}
	if format == "table" {
		return printExplanations(io.out, explanations)
	}
	return printValue(io.out, format, explanations)
}

func explain(object manifest.Object, request *inject.Request, snap *inject.Snapshot) explanation {
	explained := inject.Explain(request, snap)
	e := explanation{
		APIVersion: object.APIVersion, Kind: object.Kind, Name: object.Name, Namespace: request.Namespace,
		Injected: explained.Result.Injected, Reason: explained.Result.Reason,
		Profile: explained.Result.Profile, Config: explained.Result.Config, Tracer: string(explained.Result.Tracer),
		Containers: explained.Result.Containers, Patch: explained.Result.Patch,
	}
	for _, rule := range explained.Rules {
		e.Rules = append(e.Rules, explainedRule{rule.Reason, rule.Applies, rule.Says})
	}
	for _, warning := range explained.Result.Warnings {
		e.Warnings = append(e.Warnings, explainedWarning{warning.Code, warning.Message})
	}
	return e
}

func printExplanations(out io.Writer, explanations []explanation) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for i := range explanations {
		e := &explanations[i]
		if i > 0 {
			escape.Printf(table, "\n")
		}
		e.printTitle(table)
		if err := e.print(table); err != nil {
			return err
		}
	}
	return table.Flush()
}

func (e *explanation) printTitle(out io.Writer) {
	escape.Printf(out, "%s\n", title(manifest.Object{Kind: e.Kind, Name: e.Name}, e.Namespace))
}

func (e *explanation) print(out io.Writer) error {
	for _, rule := range e.Rules {
		escape.Printf(out, "  %s\t%s\t%s\n", rule.Reason, yesNo(rule.Applies), rule.Says)
	}
	for _, warning := range e.Warnings {
		escape.Printf(out, "  warning: %s: %s\n", warning.Code, warning.Message)
	}
	return printPatch(out, e.Patch)
}

func printPatch(out io.Writer, patch []inject.Operation) error {
	if len(patch) == 0 {
		escape.Printf(out, "  no patch\n")
		return nil
	}
	escape.Printf(out, "  patch\n")
	for _, op := range patch {
		value, err := json.Marshal(op.Value, json.Deterministic(true))
		if err != nil {
			return fmt.Errorf("write the value of %s: %w", op.Path, err)
		}
		escape.Printf(out, "    %s %s %s\n", op.Op, op.Path, escape.JSON(value))
	}
	return nil
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}
