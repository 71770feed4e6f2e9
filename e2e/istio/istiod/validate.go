package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"istio.io/istio/istioctl/pkg/analyze"
	"istio.io/istio/istioctl/pkg/cli"
	"istio.io/istio/istioctl/pkg/validate"
	"istio.io/istio/pkg/config/mesh"
	"istio.io/istio/pkg/config/validation/agent"
)

// analyzeCommand is istioctl's own.
func analyzeCommand() *cobra.Command {
	command := &cobra.Command{}
	context := cli.NewCLIContext(cli.AddRootFlags(command.PersistentFlags()))
	analyzer := analyze.Analyze(context)
	analyzer.PersistentFlags().AddFlagSet(command.PersistentFlags())
	return analyzer
}

func validateCommand() *cobra.Command {
	var meshConfig string
	command := &cobra.Command{
		Use:   "validate FILE",
		Short: "Check manifests as istioctl validate and istioctl analyze do, with no cluster",
		Args:  cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			return validateAll(command, args[0], meshConfig)
		},
	}
	command.Flags().StringVar(&meshConfig, "mesh-config", "", "file of the MeshConfig that the manifests are to work with; checked, too")
	return command
}

func validateAll(command *cobra.Command, manifests, meshConfig string) error {
	if err := runAs(command, validate.NewValidateCommand(cli.NewCLIContext(nil)), "--filename", manifests); err != nil {
		return fmt.Errorf("istioctl validate: %w", err)
	}
	arguments := []string{manifests, "--use-kube=false", "--all-namespaces", "--color=false"}
	if meshConfig != "" {
		if err := validateMeshConfig(meshConfig); err != nil {
			return fmt.Errorf("MeshConfig in %s: %w", meshConfig, err)
		}
		arguments = append(arguments, "--meshConfigFile", meshConfig)
	}
	if err := runAs(command, analyzeCommand(), arguments...); err != nil {
		return fmt.Errorf("istioctl analyze: %w", err)
	}
	return nil
}

// validateMeshConfig checks it as istiod does when it reads it, and its OpenTelemetry providers, of which istiod only logs
// what is wrong.
func validateMeshConfig(file string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	config, err := mesh.ApplyMeshConfigDefaults(string(content))
	if err != nil {
		return err
	}
	for _, provider := range config.GetExtensionProviders() {
		tracer := provider.GetOpentelemetry()
		if tracer == nil {
			continue
		}
		if err := agent.ValidateExtensionProviderTracingOpentelemetry(tracer); err != nil {
			return fmt.Errorf("extension provider %s: %w", provider.GetName(), err)
		}
	}
	return nil
}

// runAs runs one of istioctl's commands, with the output of ours.
func runAs(parent, command *cobra.Command, arguments ...string) error {
	command.SetOut(parent.OutOrStdout())
	command.SetErr(parent.ErrOrStderr())
	command.SetArgs(arguments)
	command.SilenceErrors, command.SilenceUsage = true, true
	return command.Execute()
}
