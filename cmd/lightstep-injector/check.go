package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/lightstep-injector/lightstep-injector/certs/serving"
	"github.com/lightstep-injector/lightstep-injector/internal/escape"
	"github.com/lightstep-injector/lightstep-injector/webhook/probe"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

func checkCommand(io streams) *cobra.Command {
	var o checkOptions
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Tell whether an installation works",
		Long: `Tell whether an installation works: whether the webhook is registered and answers where the API server calls it, with a certificate
that the API server trusts, and whether every profile has a satellite. Where the webhook requires a client certificate, check sees that it
demands one, and asks nothing more.

It calls the webhook's Service, and so runs in the cluster, as helm test has it do, or beside a port-forward. It needs list for webhook
configurations and, without --config, get for the ConfigMap. The exit code is 1 where anything is amiss.`,
		Example: `  kubectl port-forward service/lightstep-injector -n lightstep-system 8443:443 &
  lightstep-injector check --service-address localhost:8443`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.installed.config == "" || cmd.Flags().Changed("injector-namespace") {
				o.own = o.installed.namespace
			}
			return check(cmd.Context(), &o, io.out)
		},
	}
	o.installed.register(cmd.Flags())
	cmd.Flags().StringVar(&o.address, "service-address", "", "`HOST:PORT` at which the webhook's Service is reached (without it, its name)")
	return cmd
}

// checkOptions are the flags of check.
type checkOptions struct {
	installed installation
	address   string
	// own is the injector's namespace; empty where it is not known.
	own string
}

func check(ctx context.Context, o *checkOptions, out io.Writer) error {
	c, err := connect()
	if err != nil {
		return err
	}
	config, _, err := o.installed.configuration(ctx, c)
	if err != nil {
		return err
	}
	problems := checkConfiguration(config, out)
	webhooks, err := registered(ctx, c)
	if err != nil {
		return err
	}
	for i := range webhooks {
		problems += checkTarget(&webhooks[i], o.own, out)
		problems += checkWebhook(ctx, &webhooks[i], o.address, out)
	}
	if problems > 0 {
		return fmt.Errorf("%d of what was looked at needs doing", problems)
	}
	return nil
}

// checkConfiguration says what a valid configuration still lacks, and returns how much that is.
func checkConfiguration(config *settings.Settings, out io.Writer) (problems int) {
	lacking := config.WithoutSatellite()
	for _, name := range lacking {
		escape.Printf(out, "profile %s has no satellite, so pods that use it pass unchanged: set the chart's value config.profiles.%[1]s.satellite.address to HOST:PORT\n", name)
	}
	if len(lacking) == 0 {
		escape.Printf(out, "every profile has a satellite\n")
	}
	return len(lacking)
}

// registered are the webhooks that the API server calls. RBAC can hold a list to a name, and the injector's account has no get.
func registered(ctx context.Context, c *cluster) ([]registrationv1.MutatingWebhook, error) {
	list, err := c.webhooks.MutatingWebhookConfigurations().List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, serving.Configuration).String(),
	})
	if err != nil {
		return nil, fmt.Errorf("read webhook configuration %s: %w", serving.Configuration, err)
	}
	if len(list.Items) == 0 || len(list.Items[0].Webhooks) == 0 {
		return nil, fmt.Errorf("there is no webhook configuration %s, so the API server calls nobody: install or upgrade the chart", serving.Configuration)
	}
	return list.Items[0].Webhooks, nil
}

// checkTarget reports a webhook that calls another installation: the webhook configuration has one name in the cluster, so a second
// rendering of the chart by kubectl apply replaces the first one's.
func checkTarget(webhook *registrationv1.MutatingWebhook, own string, out io.Writer) (problems int) {
	service := webhook.ClientConfig.Service
	if service == nil || own == "" || service.Namespace == own {
		return 0
	}
	escape.Printf(out, "webhook %s calls the Service in namespace %q, and this installation is in %q: another installation has replaced the webhook configuration; uninstall one of the two and upgrade the other\n",
		webhook.Name, service.Namespace, own)
	return 1
}

func checkWebhook(ctx context.Context, webhook *registrationv1.MutatingWebhook, at string, out io.Writer) (problems int) {
	_, err := probe.Call(ctx, webhook, at)
	if errors.Is(err, probe.ErrCertificateRequired) {
		escape.Printf(out, "webhook %s serves a trusted certificate and requires a client certificate, which only the API server has: "+
			"see whether it is called with kubectl create --dry-run=server (docs/client-certificates.md)\n", webhook.Name)
		return 0
	}
	if err != nil {
		escape.Printf(out, "webhook %s cannot be called, so pods are created without it: %v\n", webhook.Name, err)
		return 1
	}
	escape.Printf(out, "webhook %s answers\n", webhook.Name)
	return 0
}
