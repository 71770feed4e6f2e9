// Command istiod is Istio's control plane, and what a test asks of Istio beside it, in one binary:
//
//	istiod discovery …   Istio's own pilot-discovery, with its own flags
//	istiod charts …      the objects that its own charts install
//	istiod proxy …       what it sends to the proxy of a pod
//	istiod validate …    what its own validation and analyzers say of manifests
//	istiod analyze …     istioctl's own command, which looks at a whole cluster
//
// The version of Istio stands in go.mod, and nothing of Istio is copied here.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"istio.io/istio/pilot/cmd/pilot-discovery/app"
	"istio.io/istio/pkg/log"
)

func main() {
	log.EnableKlogWithCobra()
	root := app.NewRootCommand()
	root.Use, root.SilenceErrors = "istiod", true
	root.AddCommand(quiet(chartsCommand()), quiet(proxyCommand()), quiet(validateCommand()), quiet(analyzeCommand()))
	if err := root.Execute(); err != nil {
		root.PrintErrln("istiod:", err)
		os.Exit(1)
	}
}

// quiet has a command log errors alone, and never among what it prints.
func quiet(command *cobra.Command) *cobra.Command {
	command.PersistentPreRunE = func(*cobra.Command, []string) error {
		options := log.DefaultOptions()
		options.OutputPaths = []string{"stderr"}
		options.SetDefaultOutputLevel(log.OverrideScopeName, log.ErrorLevel)
		if err := log.Configure(options); err != nil {
			return fmt.Errorf("configure Istio's logging: %w", err)
		}
		return nil
	}
	return command
}
