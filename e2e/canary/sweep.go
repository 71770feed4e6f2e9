package canary

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/lightstep-injector/lightstep-injector/e2e/cluster"
)

// The kinds of what a run leaves. Tests look at more: what istiod sends, what a pod's bootstrap is.
const (
	Objects = "objects"
	Audit   = "lines of the audit log"
	Patches = "webhooks' patches"
	Logs    = "logs"
	Metrics = "metrics"
)

// Scene is a run that is to be looked at.
type Scene struct {
	Run     *cluster.Run
	Cluster *cluster.Cluster
	// Metrics gives the metrics of each component that has any, beside the API server.
	Metrics map[string]func(context.Context) ([]byte, error)
	// Secrets names those that hold the token by configuration.
	Secrets []string
	// Published names the namespaces whose profile has delivery: annotation: their pods alone are left out.
	Published []string
}

// Sweep looks at all that a run has left so far: objects, what was written to the API server and answered by webhooks, logs
// and metrics.
func (c *Canary) Sweep(ctx context.Context, s *Scene) error {
	return errors.Join(c.sweepObjects(ctx, s), c.sweepAudit(s), c.sweepLogs(s.Run), c.sweepMetrics(ctx, s))
}

// sweepObjects looks at every object of every resource that can be listed, Events among them.
func (c *Canary) sweepObjects(ctx context.Context, s *Scene) error {
	lists, err := discovery.ServerPreferredResources(s.Cluster.Client.Discovery())
	if err != nil {
		return fmt.Errorf("find out what the API server serves: %w", err)
	}
	quiet := rest.CopyConfig(s.Cluster.Config)
	quiet.WarningHandler = rest.NoWarnings{} // it lists what is deprecated, too
	client, err := dynamic.NewForConfig(quiet)
	if err != nil {
		return err
	}
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return err
		}
		for _, resource := range list.APIResources {
			if !slices.Contains(resource.Verbs, "list") {
				continue
			}
			if err := c.sweepResource(ctx, client.Resource(version.WithResource(resource.Name)), resource.Name, s); err != nil {
				return fmt.Errorf("list %s of %s: %w", resource.Name, version, err)
			}
		}
	}
	return nil
}

func (c *Canary) sweepResource(ctx context.Context, client dynamic.ResourceInterface, resource string, s *Scene) error {
	list, err := client.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for i := range list.Items {
		object := &list.Items[i]
		if resource == "secrets" && slices.Contains(s.Secrets, object.GetName()) || s.published(resource, object.GetNamespace()) {
			continue
		}
		text, err := object.MarshalJSON()
		if err != nil {
			return err
		}
		c.Look(Objects, fmt.Sprintf("%s %s/%s", resource, object.GetNamespace(), object.GetName()), text)
	}
	return nil
}

func (s *Scene) published(resource, namespace string) bool {
	return resource == "pods" && slices.Contains(s.Published, namespace)
}

// sweepAudit looks at each line of the audit log, of which there may be several files.
func (c *Canary) sweepAudit(s *Scene) error {
	files, err := filepath.Glob(filepath.Join(s.Run.Dir, "audit*.log"))
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := c.sweepAuditFile(file, s); err != nil {
			return fmt.Errorf("read %s: %w", filepath.Base(file), err)
		}
	}
	return nil
}

func (c *Canary) sweepAuditFile(name string, s *Scene) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	const longest = 64 << 20
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, longest)
	for lines.Scan() {
		var event struct {
			Verb       string
			RequestURI string `json:"requestURI"`
			ObjectRef  struct{ Resource, Namespace string }
			// Annotations are those of the webhooks, their patches among them.
			Annotations map[string]string
		}
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			return err
		}
		if s.published(event.ObjectRef.Resource, event.ObjectRef.Namespace) {
			continue
		}
		c.Look(Audit, event.Verb+" "+event.RequestURI, lines.Bytes())
		for name, value := range event.Annotations {
			if strings.HasPrefix(name, "patch.webhook.admission.k8s.io/") {
				c.Look(Patches, event.Verb+" "+event.RequestURI, []byte(value))
			}
		}
	}
	return lines.Err()
}

// sweepLogs looks at each component's log.
func (c *Canary) sweepLogs(run *cluster.Run) error {
	files, err := filepath.Glob(filepath.Join(run.Dir, "*.log"))
	if err != nil {
		return err
	}
	for _, file := range files {
		if strings.HasPrefix(filepath.Base(file), "audit") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		c.Look(Logs, filepath.Base(file), text)
	}
	return nil
}

func (c *Canary) sweepMetrics(ctx context.Context, s *Scene) error {
	text, err := s.Cluster.Client.RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return fmt.Errorf("read the API server's metrics: %w", err)
	}
	c.Look(Metrics, "the API server's", text)
	for component, read := range s.Metrics {
		text, err := read(ctx)
		if err != nil {
			return fmt.Errorf("read the metrics of %s: %w", component, err)
		}
		c.Look(Metrics, component, text)
	}
	return nil
}

// Without takes a value out of a JSON document: the exception that a test names. It is an error where there is no such
// string, so that an exception that nothing needs any more is seen.
func Without(document []byte, value string, path ...string) ([]byte, error) {
	var root map[string]any
	if err := json.Unmarshal(document, &root); err != nil {
		return nil, err
	}
	if found, _, err := unstructured.NestedString(root, path...); err != nil || found != value {
		return nil, fmt.Errorf("%s is not what is to be taken out", strings.Join(path, "."))
	}
	unstructured.RemoveNestedField(root, path...)
	return json.Marshal(root)
}
