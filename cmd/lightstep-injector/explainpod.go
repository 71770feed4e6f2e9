package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/go-json-experiment/json"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/lightstep-injector/lightstep-injector/internal/escape"
	"github.com/lightstep-injector/lightstep-injector/webhook"
	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
	"github.com/lightstep-injector/lightstep-injector/webhook/manifest"
	"github.com/lightstep-injector/lightstep-injector/webhook/snapshot"
)

// podExplanation is what is printed of a pod of the cluster: what was done to it, and what would be done now.
type podExplanation struct {
	explanation `json:",inline"`
	// Done is nil where nothing was.
	Done *podStatus     `json:"done"`
	Mesh *explainedMesh `json:"mesh,omitzero"`
	// Unread is what could not be read of the cluster, so that nothing is claimed of it.
	Unread   []string `json:"unread"`
	Problems []string `json:"problems"`
}

// podStatus is the annotation lightstep.com/status as it is found. Anybody may have written it.
type podStatus struct {
	Version    string   `json:"version"`
	Config     string   `json:"config"`
	Tracer     string   `json:"tracer"`
	Containers []string `json:"containers"`
	Warnings   []string `json:"warnings"`
}

// explainedMesh is the pod's control plane.
type explainedMesh struct {
	Revision  string `json:"revision"`
	Namespace string `json:"namespace"`
	Version   string `json:"version"`
	// Lacks is what it still lacks for spans to go anywhere; empty if nothing.
	Lacks inject.Code `json:"lacks"`
}

func explainPod(ctx context.Context, o *offline, name, format string, io streams) error {
	name = strings.TrimPrefix(strings.TrimPrefix(name, "pods/"), "pod/")
	if len(validation.IsDNS1123Subdomain(name)) > 0 {
		return usageError{fmt.Errorf("%s: write the name of a pod", name)}
	}
	config, err := o.settings()
	if err != nil {
		return err
	}
	c, err := connect()
	if err != nil {
		return err
	}
	if o.namespace == "" {
		o.namespace = c.namespace
	}
	if err := checkNamespace("--namespace", o.namespace); err != nil {
		return err
	}
	request, err := c.pod(ctx, o.namespace, name)
	if err != nil {
		return err
	}
	snap, unread, err := snapshot.Read(ctx, c.reader, snapshot.NewStore(config, "", version()), o.namespace)
	if err != nil {
		return err
	}
	e := explainLive(name, request, snap, unread)
	if format == "table" {
		err = e.print(io.out)
	} else {
		err = printValue(io.out, format, e)
	}
	if err == nil && len(e.Problems) > 0 {
		err = fmt.Errorf("pod %s -n %s: %s", name, o.namespace, strings.Join(e.Problems, "; "))
	}
	return err
}

// pod reads a pod of the cluster as the webhook reads one that is to be created.
func (c *cluster) pod(ctx context.Context, namespace, name string) (*inject.Request, error) {
	found, err := c.objects.Resource(schema.GroupVersionResource{Version: "v1", Resource: "pods"}).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("pod %s not found in namespace %s; `%s` lists its pods", name, namespace, escape.Words("kubectl", "get", "pods", "-n", namespace))
	case err != nil:
		return nil, fmt.Errorf("read pod %s -n %s: %w", name, namespace, err)
	}
	raw, err := found.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("read pod %s -n %s: %w", name, namespace, err)
	}
	pod, err := webhook.DecodePod(raw)
	return &inject.Request{Namespace: namespace, Pod: pod}, err
}

func explainLive(name string, request *inject.Request, snap *inject.Snapshot, unread []error) *podExplanation {
	e := &podExplanation{
		explanation: explain(manifest.Object{APIVersion: "v1", Kind: "Pod", Name: name}, request, snap),
		Mesh:        meshOf(request, snap),
	}
	if text, ok := request.Pod.Annotations()[inject.StatusAnnotation]; ok {
		e.Done = new(podStatus)
		if json.Unmarshal([]byte(text), e.Done) != nil {
			e.Problems = append(e.Problems, "annotation "+inject.StatusAnnotation+" is not what the injector writes: nobody knows what was done")
		}
	}
	for _, warning := range e.Warnings {
		if !slices.Contains(e.Problems, string(warning.Code)) {
			e.Problems = append(e.Problems, string(warning.Code))
		}
	}
	if slices.ContainsFunc(e.Patch, changesPod) {
		e.Problems = append(e.Problems, "it lacks what it would get if it were created now: restart its workload")
	}
	for _, err := range unread {
		e.Unread = append(e.Unread, err.Error())
	}
	if len(unread) > 0 {
		e.Problems = append(e.Problems, "not all could be read that the injector reads")
	}
	return e
}

// changesPod tells what a restart would give to a pod from a status that is merely older.
func changesPod(op inject.Operation) bool {
	return !strings.HasSuffix(op.Path, strings.ReplaceAll(inject.StatusAnnotation, "/", "~1"))
}

// meshOf is what is known of the pod's Istio; nil where that does not matter, or is nothing.
func meshOf(request *inject.Request, snap *inject.Snapshot) *explainedMesh {
	decision := inject.Decide(request, snap)
	revision := decision.Member.Revision
	if revision == nil {
		return nil
	}
	return &explainedMesh{
		Revision: revision.Name, Namespace: revision.Namespace, Version: decision.Istio.Version,
		Lacks: inject.CodeOf(snap.Mesh.Lacks(revision, request.Namespace, snap.Settings.Istio().Provider)),
	}
}

func (e *podExplanation) print(out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	e.printTitle(table)
	escape.Printf(table, "  when it was created: %s\n", e.Done)
	if e.Mesh != nil {
		escape.Printf(table, "  its mesh: %s\n", e.Mesh)
	}
	for _, what := range e.Unread {
		escape.Printf(table, "  not read: %s\n", what)
	}
	escape.Printf(table, "  were it created now:\n")
	return errors.Join(e.explanation.print(table), table.Flush())
}

// String says what was done.
func (s *podStatus) String() string {
	if s == nil {
		return "nothing was done (there is no annotation " + inject.StatusAnnotation + ")"
	}
	says := fmt.Sprintf("injected by %s with configuration %s; tracer %s; satellite CA in: %s", s.Version, s.Config, s.Tracer, strings.Join(s.Containers, ", "))
	if len(s.Warnings) > 0 {
		says += "; warnings: " + strings.Join(s.Warnings, ", ")
	}
	return says
}

// String says what the control plane is, and lacks.
func (m *explainedMesh) String() string {
	says := fmt.Sprintf("Istio %s, revision %s in %s", m.Version, m.Revision, m.Namespace)
	if m.Lacks != "" {
		says += "; it lacks something: " + string(m.Lacks)
	}
	return says
}
