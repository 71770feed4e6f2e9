// Package clients shows that the injector, as the chart installs it with webhook.clientCA, answers the API server and nobody
// else: a real API server authenticates to it by an AdmissionConfiguration, with the documented names. Certificates of the
// same CA for others are rejected, and the CA and the certificate are rotated while pods are created.
package clients
