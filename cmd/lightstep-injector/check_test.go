package main

import (
	"strings"
	"testing"

	registrationv1 "k8s.io/api/admissionregistration/v1"
)

// TestCheckNamespace: a webhook configuration that calls another installation is reported, with both namespaces.
func TestCheckNamespace(t *testing.T) {
	calls := func(namespace string) *registrationv1.MutatingWebhook {
		return &registrationv1.MutatingWebhook{
			Name:         "inject.lightstep.com",
			ClientConfig: registrationv1.WebhookClientConfig{Service: &registrationv1.ServiceReference{Namespace: namespace}},
		}
	}
	for name, c := range map[string]struct {
		webhook  *registrationv1.MutatingWebhook
		own      string
		problems int
	}{
		"its own":                    {calls("here"), "here", 0},
		"another installation":       {calls("there"), "here", 1},
		"own namespace is not known": {calls("there"), "", 0},
		"a URL":                      {&registrationv1.MutatingWebhook{}, "here", 0},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			if got := checkTarget(c.webhook, c.own, &out); got != c.problems {
				t.Errorf("it reports %d problems: %s", got, &out)
			}
			if says := out.String(); c.problems > 0 && (!strings.Contains(says, `"there"`) || !strings.Contains(says, `"here"`)) {
				t.Errorf("it says %s", says)
			}
		})
	}
}
