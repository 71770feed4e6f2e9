package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"time"

	"github.com/spf13/pflag"
	"go.uber.org/zap"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"

	"github.com/lightstep-injector/lightstep-injector/certs/serving"
)

// certificateOptions are the flags that say which certificate is served.
type certificateOptions struct {
	secret            string
	selfSigned        bool
	propagation       time.Duration
	certFile, keyFile string
}

func (o *certificateOptions) register(flags *pflag.FlagSet) {
	flags.StringVar(&o.secret, "tls-secret", "lightstep-injector-tls", "Secret of the own namespace, of type kubernetes.io/tls, with the server's certificate; followed")
	flags.BoolVar(&o.selfSigned, "self-signed", false, "write that Secret, and the caBundle of the webhook configuration, and replace the certificate in time")
	flags.DurationVar(&o.propagation, "propagation-time", time.Minute, "with --self-signed, how long a change takes, at most, to be known to every API server and every replica")
	flags.StringVar(&o.certFile, "tls-cert-file", "", "PEM file of the server's certificate chain, in place of a Secret, for development; followed")
	flags.StringVar(&o.keyFile, "tls-key-file", "", "PEM file of that certificate's key; followed")
}

// certificate is what is served, and how it comes to be.
type certificate struct {
	get func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// usable says why the API server cannot call by it.
	usable func() error
	// run follows where it comes from.
	run []func(context.Context) error
	// lead keeps it, on the replica that leads.
	lead func(context.Context)
}

// newCertificate follows two files or a Secret.
func newCertificate(c *cluster, o *certificateOptions, log *zap.Logger) (*certificate, error) {
	if o.certFile != "" {
		return certificateFromFiles(o)
	}
	namespace := cmp.Or(ownNamespace(), "default")
	reader := serving.NewReader(c.core, namespace, o.secret, log)
	published := serving.NewPublished(c.webhooks, reader.GetCertificate, log)
	made := &certificate{
		get:    reader.GetCertificate,
		usable: published.Check,
		run:    []func(context.Context) error{reader.Run, published.Run},
		lead:   func(context.Context) {},
	}
	if o.selfSigned {
		writer := &serving.Writer{
			Secrets: c.core, Configurations: c.webhooks, Namespace: namespace, Name: o.secret, Host: "lightstep-injector." + namespace + ".svc",
			Propagation: o.propagation, Owners: c.owners, Reader: reader, Published: published, Log: log, Now: time.Now,
		}
		made.lead, made.run = writer.Lead, append(made.run, writer.Rescue)
	}
	return made, nil
}

// certificateFromFiles is for whoever registers the webhook by hand: nobody looks whether the API server can call.
func certificateFromFiles(o *certificateOptions) (*certificate, error) {
	files, err := certwatcher.New(o.certFile, o.keyFile)
	if err != nil {
		return nil, fmt.Errorf("read certificate %s and key %s: %w", o.certFile, o.keyFile, err)
	}
	return &certificate{
		get:    files.GetCertificate,
		usable: func() error { return nil },
		run:    []func(context.Context) error{files.Start},
		lead:   func(context.Context) {},
	}, nil
}
