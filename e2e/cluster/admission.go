package cluster

import (
	"encoding/json"
	"os"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// configureAdmission has the API server show a client certificate to webhooks: an AdmissionConfiguration names a kubeconfig,
// whose users are the webhooks.
func (c *Cluster) configureAdmission(server *envtest.APIServer, run *Run) error {
	if c.issueClient == nil {
		return nil
	}
	certFile, keyFile, err := c.issueClient(run.Dir)
	if err != nil {
		return err
	}
	kubeconfig, admission := filepath.Join(run.Dir, "webhooks.kubeconfig"), filepath.Join(run.Dir, "admission.json")
	users := map[string]*api.AuthInfo{c.webhookUser: {ClientCertificate: certFile, ClientKey: keyFile}}
	if err := clientcmd.WriteToFile(api.Config{AuthInfos: users}, kubeconfig); err != nil {
		return err
	}
	object := map[string]any{"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration", "plugins": []any{map[string]any{
		"name": "MutatingAdmissionWebhook",
		"configuration": map[string]any{
			"apiVersion": "apiserver.config.k8s.io/v1", "kind": "WebhookAdmissionConfiguration", "kubeConfigFile": kubeconfig,
		},
	}}}
	text, err := json.Marshal(object)
	if err != nil {
		return err
	}
	server.Configure().Set("admission-control-config-file", admission)
	return os.WriteFile(admission, text, 0o600)
}
