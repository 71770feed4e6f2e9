// Command v1_31 is what the agent and the bootstrap of Istio 1.31 make of an injected pod, from Istio's own module. It needs
// no cluster. Its injection is istiod's own (e2e/istio/istiod).
//
//   - main.go: this;
//   - serve.go: the flags, and the server;
//   - bootstrap.go: POST /bootstrap, a pod as a kubelet would start it, through Istio's agent's rules to Envoy's bootstrap;
//   - kubelet.go: the stand-in for a kubelet, one for all versions of Istio: a container's environment and its files.
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := serve(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}
