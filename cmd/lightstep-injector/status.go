package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/lightstep-injector/lightstep-injector/certs/distribute"
	"github.com/lightstep-injector/lightstep-injector/internal/escape"
	"github.com/lightstep-injector/lightstep-injector/webhook/snapshot"
	"github.com/lightstep-injector/lightstep-injector/webhook/survey"
)

// statusOptions are the flags of status.
type statusOptions struct {
	namespace string
	installed installation
}

func statusCommand(io streams) *cobra.Command {
	var o statusOptions
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Tell, namespace by namespace, which pods were injected, and what would mend those that were not",
		Long: `Tell, for each labelled namespace, how many of its pods were injected, opted out, missed (older than the label, or created
while the webhook did not answer) or are stale (injected with settings that are no longer in force); whether the copies of the
satellite CA are as their source is; what the mesh still lacks; and what makes missed and stale pods anew.

The cluster of $KUBECONFIG is read once, with your rights. Without --config, the configuration is that of the chart's ConfigMap.
Nothing is changed: the commands printed are for you to run. The exit code is 1 where anything is amiss.`,
		Example: `  lightstep-injector status
  lightstep-injector status -n shop -o json`,
		Args: cobra.NoArgs,
	}
	output := addOutput(cmd, "table", "json", "yaml")
	flags := cmd.Flags()
	flags.StringVarP(&o.namespace, "namespace", "n", "", "`NAMESPACE` to look at (without it, every labelled one)")
	o.installed.register(flags)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return status(cmd.Context(), &o, output.value, io.out) }
	return cmd
}

// clusterStatus is what is printed.
type clusterStatus struct {
	Config          statusConfig `json:"config"`
	survey.Findings `json:",inline"`
}

// statusConfig says where the configuration was found.
type statusConfig struct {
	From string `json:"from"`
	Hash string `json:"hash"`
}

func status(ctx context.Context, o *statusOptions, format string, out io.Writer) error {
	if o.namespace != "" {
		if err := checkNamespace("--namespace", o.namespace); err != nil {
			return err
		}
	}
	c, err := connect()
	if err != nil {
		return err
	}
	config, from, err := o.installed.configuration(ctx, c)
	if err != nil {
		return err
	}
	look := survey.Survey{Cluster: c.reader, Metadata: c.metadata, Store: snapshot.NewStore(config, o.installed.namespace, version())}
	findings, err := look.Look(ctx, o.namespace)
	if err != nil {
		return err
	}
	s := &clusterStatus{Config: statusConfig{from, config.Hash()}, Findings: *findings}
	if format == "table" {
		err = s.print(out)
	} else {
		err = printValue(out, format, s)
	}
	return errors.Join(err, s.problems())
}

// problems is an error where anything is amiss.
func (s *clusterStatus) problems() error {
	var amiss []string
	for i := range s.Namespaces {
		if n := &s.Namespaces[i]; len(n.Problems) > 0 {
			amiss = append(amiss, n.Name)
		}
	}
	var says []string
	if len(amiss) > 0 {
		says = append(says, "there are problems in "+listed(amiss))
	}
	if len(s.Unread) > 0 {
		says = append(says, "not all could be read, and nothing is claimed of the rest")
	}
	if len(says) == 0 {
		return nil
	}
	return errors.New(strings.Join(says, "; "))
}

// listed names the first few.
func listed(names []string) string {
	const few = 5
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}

func (s *clusterStatus) print(out io.Writer) error {
	escape.Printf(out, "configuration %s (%s)\n\n", s.Config.Hash, s.Config.From)
	if len(s.Namespaces) == 0 {
		escape.Printf(out, "no namespace is labelled %s: kubectl label namespace NAMESPACE %s\n", snapshot.NamespaceSelector, snapshot.NamespaceSelector)
	} else if err := s.printNamespaces(out); err != nil {
		return err
	}
	s.printProblems(out)
	return s.printOwners(out)
}

func (s *clusterStatus) printNamespaces(out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	escape.Printf(table, "NAMESPACE\tPROFILE\tINJECTED\tSTALE\tMISSED\tOPTED OUT\tCOPIES\n")
	for i := range s.Namespaces {
		n := &s.Namespaces[i]
		profile := n.Profile
		if n.Reason != "" {
			profile = strings.TrimPrefix(profile+" ("+string(n.Reason)+")", " ")
		}
		escape.Printf(table, "%s\t%s\t%d\t%d\t%d\t%d\t%s\n", n.Name, profile, n.Injected, n.Stale, n.Missed, n.OptedOut, copies(n.Copies))
	}
	return table.Flush()
}

// shortHash is how much of a hash the table has; the other formats have all of it.
const shortHash = 12

// copies says how it stands with each copy, and with which content.
func copies(standings []distribute.Standing) string {
	if len(standings) == 0 {
		return "-"
	}
	says := make([]string, 0, len(standings))
	for _, c := range standings {
		text := c.Secret + " " + string(c.State)
		if c.Hash != "" {
			text += " (" + c.Hash[:min(len(c.Hash), shortHash)] + ")"
		}
		says = append(says, text)
	}
	return strings.Join(says, ", ")
}

func (s *clusterStatus) printProblems(out io.Writer) {
	title := "problems"
	say := func(text string) {
		if title != "" {
			escape.Printf(out, "\n%s\n", title)
			title = ""
		}
		escape.Printf(out, "  %s\n", text)
	}
	for i := range s.Namespaces {
		for _, problem := range s.Namespaces[i].Problems {
			say(s.Namespaces[i].Name + ": " + problem)
		}
	}
	for _, what := range s.Unread {
		say("not read: " + what)
	}
}

func (s *clusterStatus) printOwners(out io.Writer) error {
	if len(s.Owners) == 0 {
		return nil
	}
	escape.Printf(out, "\nwhat makes missed and stale pods anew\n")
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for i := range s.Owners {
		o := &s.Owners[i]
		line := o.Restart
		if line == "" {
			line = fmt.Sprintf("# %s: %s", escape.Words(o.Kind, o.Name, "-n", o.Namespace), o.Says)
		}
		escape.Printf(table, "  %s\t# %d missed, %d stale\n", line, len(o.Missed), len(o.Stale))
	}
	return table.Flush()
}
