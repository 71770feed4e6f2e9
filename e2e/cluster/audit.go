package cluster

import (
	"os"
	"path/filepath"

	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

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

// The policies leave out the stage before the answer, which would have each request there twice.
const (
	requestsAlone = `{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": [{"level": "Metadata"}]}`
	withBodies    = `{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": [
  {"level": "Metadata", "resources": [{"group": "", "resources": ["secrets", "serviceaccounts/token"]}]},
  {"level": "Metadata", "verbs": ["get", "list", "watch"]},
  {"level": "RequestResponse"}]}`
)

func (c *Cluster) configureAudit(server *envtest.APIServer, run *Run) error {
	if c.AuditLog == "" {
		return nil
	}
	policy := filepath.Join(run.Dir, "audit-policy.json")
	server.Configure().Set("audit-policy-file", policy).Set("audit-log-path", c.AuditLog)
	return os.WriteFile(policy, []byte(c.auditPolicy), 0o600)
}
