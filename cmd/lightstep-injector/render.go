package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"github.com/lightstep-injector/lightstep-injector/internal/escape"
	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
	"github.com/lightstep-injector/lightstep-injector/webhook/mesh"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
	"github.com/lightstep-injector/lightstep-injector/webhook/snapshot"
)

func renderCommand(io streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "render",
		Short: "Print objects that go with the webhook",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usageError{errors.New("a command is missing: render istio")}
		},
	}
	cmd.AddCommand(renderIstioCommand(io))
	return cmd
}

// renderOptions are the flags of render istio.
type renderOptions struct {
	config, profile, istioVersion string
	namespaces                    []string
	collector                     string
	detect, direct, tokenInXDS    bool
	protocol, parts, output       *choice
}

func renderIstioCommand(io streams) *cobra.Command {
	var o renderOptions
	cmd := &cobra.Command{
		Use:   "istio",
		Short: "Print what a mesh needs for its sidecars to send spans",
		Long: `Print what a mesh needs for its sidecars to send spans, as the configuration's profile and Istio's version have it.

From Istio 1.16.1 on, spans go through a provider of MeshConfig, which is switched on in each labelled namespace. The provider
sends them to an OpenTelemetry collector that holds the access token, of which an example is printed, or, with --direct, to the
satellites. For Istio 1.7 to 1.14 the native tracer's settings are printed; the injector does not need them.

Istio's version is the configuration's, or --istio-version, or, with --detect, that of the control plane in the cluster of
$KUBECONFIG that the namespaces belong to.

No token is ever printed. Standard error has what to know before any of it is applied.`,
		Example: `  lightstep-injector render istio --config config.yaml --istio-version 1.31 -n shop
  lightstep-injector render istio --config config.yaml --detect --direct -n shop --print objects | kubectl apply -f -`,
		Args: cobra.NoArgs,
	}
	flags := cmd.Flags()
	flags.StringVar(&o.config, "config", "", "configuration `FILE`")
	flags.StringVar(&o.profile, "profile", settings.DefaultProfile, "`NAME` of the profile")
	flags.StringVar(&o.istioVersion, "istio-version", "", "Istio's `VERSION`, in the place of the configuration's")
	flags.BoolVar(&o.detect, "detect", false, "read the version of Istio, and what its MeshConfig has already, in the cluster")
	flags.StringArrayVarP(&o.namespaces, "namespace", "n", nil, "labelled `NAMESPACE` to print objects for; repeatable")
	flags.StringVar(&o.collector, "collector", "", "`HOST:PORT` of a collector of yours, in the place of the example's")
	flags.BoolVar(&o.direct, "direct", false, "send spans from the proxies to the satellites, with no collector between")
	flags.BoolVar(&o.tokenInXDS, "token-in-xds", false, "with --direct: have istiod send the access token to every proxy that uses the provider")
	o.protocol = addChoice(cmd, "protocol", "", "what proxies send: OTLP over gRPC or HTTP", string(mesh.GRPC), string(mesh.HTTP))
	o.parts = addChoice(cmd, "print", "", "which part: what goes into Istio's installation, what is applied to the cluster, the example",
		"all", string(mesh.PartMesh), string(mesh.PartObjects), string(mesh.PartCollector))
	o.output = addOutput(cmd, "yaml", "json")
	cobra.CheckErr(cmd.MarkFlagRequired("config"))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return renderIstio(cmd.Context(), &o, io) }
	return cmd
}

func renderIstio(ctx context.Context, o *renderOptions, io streams) error {
	request, notes, err := o.request(ctx)
	if err != nil {
		return err
	}
	rendered, err := mesh.Render(request)
	if err != nil {
		return fmt.Errorf("render istio: %w", err)
	}
	for _, note := range append(notes, rendered.Notes...) {
		escape.Printf(io.err, "note: %s\n", note)
	}
	sections := slices.DeleteFunc(rendered.Sections, func(s mesh.Section) bool {
		return o.parts.value != "all" && o.parts.value != string(s.Part)
	})
	if o.output.value == "json" {
		return printList(io.out, sections)
	}
	return printSections(io.out, sections)
}

// request is what is to be rendered, and what to know of the cluster first.
func (o *renderOptions) request(ctx context.Context) (*mesh.Request, []string, error) {
	if err := o.check(); err != nil {
		return nil, nil, err
	}
	config, err := readConfiguration(o.config)
	if err != nil {
		return nil, nil, err
	}
	if o.istioVersion != "" {
		if config, err = config.WithIstioVersion(o.istioVersion); err != nil {
			return nil, nil, fmt.Errorf("--istio-version %s: %w", o.istioVersion, err)
		}
	}
	profile, err := config.Profile(o.profile, o.namespaces...)
	if err != nil {
		return nil, nil, fmt.Errorf("--profile %s: %w", o.profile, err)
	}
	namespaces := config.Istio().Namespaces
	if len(namespaces) == 0 {
		return nil, nil, errors.New("istio.namespaces: []: write the namespace of Istio's control plane, such as istio-system")
	}
	request := &mesh.Request{
		Settings: profile, Provider: config.Istio().Provider, IstioNamespace: namespaces[0], Namespaces: o.namespaces,
		Protocol: mesh.Protocol(o.protocol.value), Collector: o.collector, Direct: o.direct, TokenInXDS: o.tokenInXDS,
	}
	if !o.detect {
		return request, nil, nil
	}
	found, unread, err := o.find(ctx, config)
	if err != nil {
		return nil, nil, fmt.Errorf("--detect: %w", err)
	}
	return request, append(unread, use(request, found)...), nil
}

// use has a request be for a control plane, and tells what there is to know of that.
func use(request *mesh.Request, found *istio.Revision) []string {
	notes := mesh.Existing(found, request.Provider)
	request.IstioNamespace = found.Namespace
	written := request.Settings.Istio
	if written.Known && written.Version != found.Capabilities.Version {
		return append(notes, "profiles."+request.Settings.Profile+".mesh.istioVersion is "+written.Version+", which counts")
	}
	request.Settings.Istio = found.Capabilities
	return notes
}

func (o *renderOptions) check() error {
	if o.detect && o.istioVersion != "" {
		return usageError{fmt.Errorf("--detect and --istio-version %s: give one of them", o.istioVersion)}
	}
	for _, namespace := range o.namespaces {
		if err := checkNamespace("--namespace", namespace); err != nil {
			return err
		}
	}
	return nil
}

// find reads the cluster for the control plane, and tells what could not be read.
func (o *renderOptions) find(ctx context.Context, config *settings.Settings) (found *istio.Revision, unread []string, err error) {
	c, err := connect()
	if err != nil {
		return nil, nil, err
	}
	snap, refused, err := snapshot.ReadIstio(ctx, c.reader, snapshot.NewStore(config, "", version()), o.namespaces...)
	if err != nil {
		return nil, nil, err
	}
	if snap.Mesh == nil {
		return nil, nil, errors.Join(refused...)
	}
	for _, err := range refused {
		unread = append(unread, err.Error())
	}
	found, err = mesh.Detect(snap, o.namespaces)
	return found, unread, err
}

// printSections prints a document for each object, with what is said of each section in comments above it.
func printSections(out io.Writer, sections []mesh.Section) error {
	var text bytes.Buffer
	for _, section := range sections {
		for i, object := range section.Objects {
			if text.Len() > 0 {
				text.WriteString("---\n")
			}
			if i == 0 {
				for _, line := range section.Says {
					escape.Printf(&text, "# %s\n", line)
				}
			}
			written, err := json.Marshal(object.Object)
			if err == nil {
				written, err = escape.YAML(written)
			}
			if err != nil {
				return fmt.Errorf("write %s %s: %w", object.GetKind(), object.GetName(), err)
			}
			text.Write(written)
		}
	}
	_, err := out.Write(text.Bytes())
	return err
}

// printList prints the objects in a List, as kubectl takes it.
func printList(out io.Writer, sections []mesh.Section) error {
	items := []any{}
	for _, section := range sections {
		for _, object := range section.Objects {
			items = append(items, object.Object)
		}
	}
	return printValue(out, "json", struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Items      []any  `json:"items"`
	}{"v1", "List", items})
}
