// Command prometheus is as much of Prometheus as it takes to see an alert fire, from Prometheus' own modules: its parser of
// what is scraped, its storage, its rules and its query engine. It is told when to scrape what, over HTTP:
//
//   - main.go: this, and the server;
//   - requests.go: what can be asked for;
//   - prometheus.go: one Prometheus, which begins with an empty storage;
//   - scrape.go: a scrape, into the storage.
//
// The time is virtual: a quarter of an hour takes as long as the thirty scrapes in it. What is scraped is real, and was so when
// the scrape was asked for. Prometheus' loop around a scrape (service discovery, relabelling, timers) is not here: a target's
// labels are given, and scrape.go says of three rules of that loop that it keeps them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// run serves until it is told to end.
func run(args []string) error {
	flags := flag.NewFlagSet("prometheus", flag.ContinueOnError)
	listen := flags.String("listen", "", "address to serve on")
	dir := flags.String("dir", "", "folder for data")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	h := &handler{dir: *dir, seen: seen{map[string]bool{}, map[string]bool{}}}
	defer h.close()
	server := &http.Server{Addr: *listen, Handler: h.routes(), ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
