package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/lightstep-injector/lightstep-injector/webhook"
	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
	"github.com/lightstep-injector/lightstep-injector/webhook/manifest"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

// offline is what inject and explain have in common: manifests in the place of requests, and flags in the place of what
// the webhook knows of the cluster.
type offline struct {
	files        []string
	config       string
	namespace    string
	istioVersion string
	tokenFiles   []string
}

// addOffline gives a command the flags.
func addOffline(cmd *cobra.Command) *offline {
	o := new(offline)
	flags := cmd.Flags()
	flags.StringArrayVarP(&o.files, "filename", "f", nil, "`FILE` with manifests, - for standard input; repeatable")
	flags.StringVar(&o.config, "config", "", "configuration `FILE` (without it, the default configuration)")
	flags.StringVarP(&o.namespace, "namespace", "n", "default", "`NAMESPACE` of the objects that name none")
	flags.StringVar(&o.istioVersion, "istio-version", "", "Istio's `VERSION`, in the place of the configuration's")
	flags.StringArrayVar(&o.tokenFiles, "access-token-file", nil,
		"`[PROFILE=]FILE` with the token of a profile with accessToken.delivery: annotation; repeatable")
	return o
}

// source is a stream of manifests.
type source struct {
	name string
	text []byte
}

// load reads the manifests, and all that the webhook would know of the cluster.
func (o *offline) load(in io.Reader) ([]source, *inject.Snapshot, error) {
	config, err := o.settings()
	if err != nil {
		return nil, nil, err
	}
	snap := &inject.Snapshot{Settings: config, Version: version(), Offline: true}
	var sources []source
	var errs []error
	for _, name := range o.files {
		s, err := readSource(name, in)
		if err == nil {
			snap.Namespaces, err = addNamespaces(snap.Namespaces, s.text)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("read manifests %s: %w", name, err))
		}
		sources = append(sources, s)
	}
	return sources, snap, errors.Join(errs...)
}

func readSource(name string, in io.Reader) (source, error) {
	if name == "-" {
		text, err := manifest.Read(in)
		return source{name: "stdin", text: text}, err
	}
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		return source{}, errors.New("is a directory; give the files in it, one -f for each")
	}
	file, err := os.Open(name)
	if err != nil {
		return source{}, err
	}
	text, err := manifest.Read(file)
	return source{name: name, text: text}, errors.Join(err, file.Close())
}

// addNamespaces adds the Namespaces that a stream holds: what they say is better known than what is taken for granted of
// any other, that it carries the label.
func addNamespaces(namespaces inject.Namespaces, text []byte) (inject.Namespaces, error) {
	objects, err := manifest.Objects(text)
	for _, object := range objects {
		name, namespace, isOne := asNamespace(object)
		if isOne {
			namespaces = namespaces.With(name, namespace)
		}
	}
	return namespaces, err
}

func asNamespace(object jsontext.Value) (name string, namespace inject.Namespace, isOne bool) {
	var kind struct {
		APIVersion string         `json:"apiVersion"`
		Kind       string         `json:"kind"`
		Metadata   jsontext.Value `json:"metadata"`
	}
	if json.Unmarshal(object, &kind) != nil || kind.APIVersion != "v1" || kind.Kind != "Namespace" {
		return "", inject.Namespace{}, false
	}
	var metadata struct {
		Name        string            `json:"name"`
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
	}
	if json.Unmarshal(kind.Metadata, &metadata) != nil {
		return "", inject.Namespace{}, false
	}
	return metadata.Name, inject.Namespace{
		Unlabelled:     metadata.Labels[inject.NamespaceLabel] != inject.NamespaceLabelEnabled,
		Annotations:    metadata.Annotations,
		IstioInjection: metadata.Labels["istio-injection"],
	}, true
}

// settings returns the configuration with what the flags say.
func (o *offline) settings() (*settings.Settings, error) {
	config, err := readConfiguration(o.config)
	if err != nil {
		return nil, err
	}
	if o.istioVersion != "" {
		if config, err = config.WithIstioVersion(o.istioVersion); err != nil {
			return nil, fmt.Errorf("--istio-version %s: %w", o.istioVersion, err)
		}
	}
	tokens, err := accessTokens(o.tokenFiles)
	if err != nil {
		return nil, err
	}
	if config, err = config.WithAccessTokens(tokens); err != nil {
		return nil, fmt.Errorf("--access-token-file: %w", err)
	}
	return config, nil
}

// readConfiguration reads a configuration file; without a path, there is the default one.
func readConfiguration(path string) (*settings.Settings, error) {
	if path == "" {
		return settings.Default(), nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	config, err := settings.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("read configuration %s: %w", path, err)
	}
	return config, nil
}

// request is the request that the webhook would be sent for an object's pod.
func (o *offline) request(object manifest.Object) (*inject.Request, error) {
	pod, err := webhook.DecodePod(object.Pod)
	if err != nil {
		return nil, err
	}
	return &inject.Request{Namespace: o.namespaceOf(object), Pod: pod}, nil
}

func (o *offline) namespaceOf(object manifest.Object) string {
	if object.Namespace != "" {
		return object.Namespace
	}
	return o.namespace
}
