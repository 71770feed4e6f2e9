// Command v1_26 is Istio 1.26.0, from its own module: the last before sidecars are native ones by themselves.
//
//	v1_26 discovery …   Istio's own pilot-discovery, with its own flags
//	v1_26 charts …      the objects that its own charts install
//	v1_26 agent …       what its agent and its bootstrap make of an injected pod, with no cluster
//
// The files beside this one are those of istiod, v1_31 and v1_7, which compile with this version, too.
package main

import (
	"os"

	"github.com/spf13/cobra"
	"istio.io/istio/pilot/cmd/pilot-discovery/app"
	"istio.io/istio/pkg/log"
)

func main() {
	log.EnableKlogWithCobra()
	root := app.NewRootCommand()
	root.Use, root.SilenceErrors = "v1_26", true
	charts := chartsCommand()
	charts.PersistentPreRunE = func(*cobra.Command, []string) error { return nil } // which would log among what is printed
	root.AddCommand(charts, &cobra.Command{
		Use:                "agent",
		Short:              "Serve what the agent and the bootstrap make of a pod",
		DisableFlagParsing: true,
		PersistentPreRunE:  charts.PersistentPreRunE,
		RunE:               func(_ *cobra.Command, args []string) error { return serve(args) },
	})
	if err := root.Execute(); err != nil {
		root.PrintErrln("v1_26:", err)
		os.Exit(1)
	}
}
