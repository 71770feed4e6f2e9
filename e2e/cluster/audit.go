package cluster

import (
	"os"
	"path/filepath"

	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

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
