// Command lightstep-injector is the webhook, and the same mutation offline.
//
// Every command has a file of its own. root.go says what they share: where they read and write, and how they end.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr))
}
