package main

import (
	"fmt"
	"net/http"

	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pkg/config/mesh"
	"istio.io/istio/pkg/kube/inject"
	"istio.io/pkg/filewatcher"
)

// addWebhook has Istio's own webhook answer /inject, made as istiod makes it (istio@1.7.8 pilot/pkg/bootstrap/sidecarinjector.go).
func (o *options) addWebhook(mux *http.ServeMux) error {
	watcher, err := mesh.NewWatcher(filewatcher.NewWatcher(), o.mesh)
	if err != nil {
		return fmt.Errorf("read the mesh's configuration: %w", err)
	}
	_, err = inject.NewWebhook(inject.WebhookParameters{
		ConfigFile:     o.config,
		ValuesFile:     o.values,
		Env:            &model.Environment{Watcher: watcher},
		Mux:            mux,
		MonitoringPort: -1,
		Revision:       o.revision,
	})
	if err != nil {
		return fmt.Errorf("make the webhook: %w", err)
	}
	return nil
}
