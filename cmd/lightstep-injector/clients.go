package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	"go.uber.org/zap"

	"github.com/lightstep-injector/lightstep-injector/certs/serving"
	"github.com/lightstep-injector/lightstep-injector/webhook"
)

// clientCAKey is the key of the client CA in a Secret, unless another is given.
const clientCAKey = "ca.crt"

// clientOptions are the flags that limit who may call the webhook.
type clientOptions struct {
	secret, file string
	names        []string
}

func (o *clientOptions) register(flags *pflag.FlagSet) {
	flags.StringVar(&o.secret, "client-ca-secret", "", "Secret of the own namespace with the CA of the API server's client certificate, as `NAME[:KEY]` (KEY "+clientCAKey+"), reloaded on change; clients without such a certificate are rejected")
	flags.StringVar(&o.file, "client-ca-file", "", "PEM `FILE` with that CA, in place of a Secret; reloaded on change")
	flags.StringArrayVar(&o.names, "client-name", nil, "accepted common name or subject alternative name of a client certificate, compared exactly; required with a client CA; repeatable")
}

// required tells whether clients need a certificate.
func (o *clientOptions) required() bool { return o.secret != "" || o.file != "" }

// validate rejects one flag without the other, and a Secret without a name.
func (o *clientOptions) validate() error {
	switch {
	case strings.HasPrefix(o.secret, ":"):
		return fmt.Errorf("--client-ca-secret %s: the Secret's name is missing; write NAME or NAME:KEY", o.secret)
	case o.required() && len(o.names) == 0:
		return errors.New("--client-name is missing: without it, every certificate of the client CA is accepted, such as a kubelet's; give the name in the API server's client certificate")
	case !o.required() && len(o.names) > 0:
		return fmt.Errorf("--client-name %s: without a client CA no certificate is verified; add --client-ca-secret or --client-ca-file", o.names[0])
	}
	return nil
}

// clients is who may call the webhook, and how their CA is kept current.
type clients struct {
	// auth is nil where every client is served.
	auth *webhook.ClientAuth
	// usable says why no client can be served.
	usable func() error
	// run follows where the client CA comes from.
	run []func(context.Context) error
}

// newClients follows a file, which has to be there, or a Secret, which may come later.
func newClients(c *cluster, o *clientOptions, log *zap.Logger) (*clients, error) {
	if err := o.validate(); err != nil {
		return nil, usageError{err}
	}
	if !o.required() {
		return &clients{usable: func() error { return nil }}, nil
	}
	auth, err := webhook.NewClientAuth(o.names)
	if err != nil {
		return nil, usageError{fmt.Errorf("--client-name: %w", err)}
	}
	if o.file == "" {
		name, key, _ := strings.Cut(o.secret, ":")
		secret := serving.NewClientCA(c.core, cmp.Or(ownNamespace(), "default"), name, cmp.Or(key, clientCAKey), auth.Trust, log)
		return &clients{auth: auth, usable: secret.Check, run: []func(context.Context) error{secret.Run}}, nil
	}
	if err := auth.TrustFile(o.file); err != nil {
		return nil, err
	}
	follow := func(ctx context.Context) error {
		return auth.FollowFile(ctx, o.file, func(err error) {
			log.Error("client CA rejected, the last valid one stays active", zap.Error(err))
		})
	}
	return &clients{auth: auth, usable: func() error { return nil }, run: []func(context.Context) error{follow}}, nil
}

// register registers the metrics.
func (c *clients) register(registry prometheus.Registerer) error {
	if c.auth == nil {
		return nil
	}
	if err := registry.Register(c.auth); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	return nil
}

// first returns the first error of some checks.
func first(checks ...func() error) func() error {
	return func() error {
		for _, check := range checks {
			if err := check(); err != nil {
				return err
			}
		}
		return nil
	}
}
