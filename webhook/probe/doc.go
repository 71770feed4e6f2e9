// Package probe calls the webhook as the API server does: where its webhook configuration says that it is, trusting nobody
// but whom its caBundle trusts. What is asked about is a pod that nobody creates.
//
// A webhook that requires client certificates is not asked about anything: the probe has none, and sees that the certificate
// that the webhook serves is trusted, and that it demands one.
//
// It shows that the Service leads to a replica that serves with the right certificate and answers well; not that the API
// server's own network reaches it, which only the API server can show (kubectl create --dry-run=server).
package probe
