package cluster

// Option changes what Start brings up.
type Option func(*Cluster, *Run)

// WithAuditLog has the API server note every request, without bodies, in the file that AuditLog then names: a line of JSON
// for each, once it has been answered.
func WithAuditLog(c *Cluster, run *Run) { c.AuditLog, c.auditPolicy = run.Log("audit"), requestsAlone }

// WithAuditedBodies is WithAuditLog, and has whatever is written noted as it was asked for and answered, with the patches of
// all webhooks; of Secrets and service accounts' tokens the fact alone.
func WithAuditedBodies(c *Cluster, run *Run) {
	c.AuditLog, c.auditPolicy = run.Log("audit"), withBodies
}

// WithoutKwok has kwok leave the pods that a label selector names to somebody else, who then plays their kubelet.
func WithoutKwok(selector string) Option {
	return func(c *Cluster, _ *Run) { c.others = selector }
}
