package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("workflows", flag.ContinueOnError)
	root := flags.String("root", ".", "the repository's `folder`")
	online := flags.Bool("online", false, "compare the pins with GitHub and the registry")
	update := flags.Bool("update", false, "write the pins that GitHub and the registry have")
	if err := flags.Parse(args); err != nil {
		return err
	}
	r, err := readRepository(*root)
	if err != nil {
		return err
	}
	if *update {
		return r.update(ctx)
	}
	problems, err := r.problems()
	if err != nil {
		return err
	}
	if *online {
		problems = append(problems, r.compareOnline(ctx)...)
	}
	if len(problems) == 0 {
		return nil
	}
	_, err = fmt.Fprintln(stdout, strings.Join(problems, "\n"))
	return errors.Join(fmt.Errorf("%d problems", len(problems)), err)
}
