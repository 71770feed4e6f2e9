package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"istio.io/istio/operator/pkg/helm"
	"istio.io/istio/operator/pkg/values"
	"k8s.io/apimachinery/pkg/util/version"
	apiversion "k8s.io/apimachinery/pkg/version"
)

const istioNamespace = "istio-system"

// chart is one of Istio's own, by its folder, and the name of the release that it is installed as.
type chart struct{ folder, release string }

// charts are those that a control plane needs, in the order of their installation.
func charts() []chart {
	return []chart{{"base", "istio-base"}, {"istio-control/istio-discovery", "istiod"}}
}

func chartsCommand() *cobra.Command {
	var valuesFile, kubernetes string
	command := &cobra.Command{
		Use:   "charts",
		Short: "Print the objects of the charts base and istiod, rendered by Istio's own renderer",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return printCharts(command.OutOrStdout(), valuesFile, kubernetes)
		},
	}
	command.Flags().StringVar(&valuesFile, "values", "", "file of values, as for helm install")
	command.Flags().StringVar(&kubernetes, "kubernetes-version", "", "version of the cluster, such as v1.36.3")
	return command
}

func printCharts(out io.Writer, valuesFile, kubernetes string) error {
	given, err := readValues(valuesFile)
	if err != nil {
		return err
	}
	cluster, err := clusterVersion(kubernetes)
	if err != nil {
		return err
	}
	for _, c := range charts() {
		manifests, _, err := helm.Render(c.release, istioNamespace, c.folder, given, cluster)
		if err != nil {
			return fmt.Errorf("chart %s: %w", c.folder, err)
		}
		for _, m := range manifests {
			if _, err := fmt.Fprintf(out, "---\n%s\n", m.Content); err != nil {
				return err
			}
		}
	}
	return nil
}

// readValues puts a file of values where the renderer looks for them.
func readValues(file string) (values.Map, error) {
	if file == "" {
		return values.Map{}, nil
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	given, err := values.MapFromYaml(content)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return values.MakeMap(given, "spec", "values"), nil
}

func clusterVersion(text string) (*apiversion.Info, error) {
	if text == "" {
		return nil, nil
	}
	parsed, err := version.ParseSemantic(text)
	if err != nil {
		return nil, fmt.Errorf("--kubernetes-version: %w", err)
	}
	return &apiversion.Info{GitVersion: text, Major: fmt.Sprint(parsed.Major()), Minor: fmt.Sprint(parsed.Minor())}, nil
}
