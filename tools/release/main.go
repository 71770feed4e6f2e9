package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
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
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	o := options{platforms: everywhere()}
	flags.StringVar(&o.root, "root", ".", "the repository's `folder`")
	flags.StringVar(&o.out, "out", "bin/dist", "`folder` for what is made; what it had before is removed")
	flags.StringVar(&o.helm, "helm", "helm", "Helm's `program`")
	imageOnly := flags.Bool("image", false, "make the image and its SBOMs alone, of uncommitted changes, too")
	repository := flags.String("push", "", "push the image to this `repository`, under its version")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *imageOnly {
		o.platforms, o.helm, o.uncommitted = linux(), "", true
	}
	made, err := release(ctx, &o)
	if err != nil {
		return err
	}
	if *repository == "" {
		return tell(stdout, made)
	}
	if err := push(ctx, *repository, made); err != nil {
		return err
	}
	return tell(stdout, made)
}

// tell says what there is now.
func tell(stdout io.Writer, made *made) error {
	digest, err := made.index.Digest()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%s of %s in %s; the image is %s\n", made.version, made.revision, made.out, digest)
	return err
}
