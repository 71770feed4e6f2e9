package survey

import (
	"context"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/metadata"

	"github.com/lightstep-injector/lightstep-injector/certs/distribute"
	"github.com/lightstep-injector/lightstep-injector/internal/clusterstate"
	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
	"github.com/lightstep-injector/lightstep-injector/webhook/snapshot"
)

// Survey is how a cluster is looked at.
type Survey struct {
	Cluster *clusterstate.Reader
	// Metadata reads the owners of pods.
	Metadata metadata.Interface
	// Store holds the configuration, and what is read of the cluster.
	Store *snapshot.Store
}

// Findings are what was found.
type Findings struct {
	Namespaces []Namespace `json:"namespaces"`
	// Owners are those of missed and stale pods.
	Owners []Owner `json:"owners"`
	// Unread is what could not be read, so that nothing is claimed of it.
	Unread []string `json:"unread"`
}

// Namespace is one namespace, as it stands.
type Namespace struct {
	Name string `json:"name"`
	// Profile and Config are the profile that holds in it, and the hash of its settings. Reason is why none does, and
	// pods are left alone.
	Profile string        `json:"profile,omitempty"`
	Config  string        `json:"config,omitempty"`
	Reason  inject.Reason `json:"reason,omitempty"`
	// Stale are those of the Injected whose settings are no longer in force.
	Injected int                   `json:"injected"`
	Stale    int                   `json:"stale"`
	OptedOut int                   `json:"optedOut"`
	Missed   int                   `json:"missed"`
	Copies   []distribute.Standing `json:"copies"`
	// MeshLacks is what its mesh still lacks for spans to go anywhere; empty if nothing.
	MeshLacks inject.Code `json:"meshLacks,omitempty"`
	Problems  []string    `json:"problems"`
}

// Look surveys one namespace, or, without a name, all that are labelled.
func (s *Survey) Look(ctx context.Context, namespace string) (*Findings, error) {
	if namespace != "" && len(validation.IsDNS1123Label(namespace)) > 0 {
		return nil, fmt.Errorf("read namespace %s: not the name of a namespace", namespace)
	}
	snap, unread, err := snapshot.Read(ctx, s.Cluster, s.Store, namespace)
	if err != nil {
		return nil, err
	}
	look := look{Survey: s, snap: snap, now: time.Now(), owners: map[ownerKey]*Owner{}, replicaSets: map[ownerKey]ownerKey{}}
	look.failed(unread...)
	for name := range snap.Namespaces.All() {
		look.Namespaces = append(look.Namespaces, look.namespace(ctx, name))
	}
	look.Owners = look.sortedOwners()
	return &look.Findings, nil
}

// look is one look, under way.
type look struct {
	*Survey
	Findings

	snap   *inject.Snapshot
	now    time.Time
	owners map[ownerKey]*Owner
	// replicaSets has the controller of each that was asked for.
	replicaSets map[ownerKey]ownerKey
}

// failed notes what could not be read.
func (l *look) failed(errs ...error) {
	for _, err := range errs {
		if text := err.Error(); !slices.Contains(l.Unread, text) {
			l.Unread = append(l.Unread, text)
		}
	}
}

func (l *look) namespace(ctx context.Context, name string) Namespace {
	n := Namespace{Name: name}
	decision := inject.Decide(anyPod(name), l.snap)
	n.Profile, n.Config = decision.Settings.Profile, decision.Settings.Config
	if !decision.Inject {
		n.Reason = decision.Reason
	}
	switch n.Reason {
	case inject.NamespaceNotLabelled, inject.NamespaceExempt:
		return n
	}
	for _, warning := range decision.Warnings {
		n.problemf("%s: %s", warning.Code, warning.Message)
	}
	l.countPods(ctx, &n)
	l.lookAtSecrets(&n, &decision)
	n.MeshLacks = inject.CodeOf(l.snap.Mesh.Lacks(decision.Member.Revision, name, l.snap.Settings.Istio().Provider))
	if n.MeshLacks != "" {
		n.problemf("%s: no spans are sent: apply what `lightstep-injector render istio` prints", n.MeshLacks)
	}
	return n
}

// anyPod stands for the pods of a namespace that set nothing themselves.
func anyPod(namespace string) *inject.Request {
	return &inject.Request{Namespace: namespace, Pod: inject.Pod{Spec: &inject.Spec{Containers: []inject.Container{{Name: "app"}}}}}
}

func (n *Namespace) problemf(format string, args ...any) {
	n.Problems = append(n.Problems, fmt.Sprintf(format, args...))
}

// lookAtSecrets says how it stands with the copies, and with a satellite CA that is not one.
func (l *look) lookAtSecrets(n *Namespace, decision *inject.Decision) {
	n.Copies = distribute.Standings(l.Store, l.snap, n.Name, l.now)
	for _, c := range n.Copies {
		switch c.State {
		case distribute.Missing, distribute.Behind, distribute.Edited, distribute.Foreign:
			n.problemf("Secret %s is %s", c.Secret, c.State)
		case distribute.Withheld:
			n.problemf("Secret %s is %s: %s", c.Secret, c.State, c.Problem)
		}
	}
	ca := decision.Settings.CACertificate
	if ca == nil || ca.Source != nil || !decision.Settings.Satellite.Secure {
		return
	}
	if secret := ca.Secret(); decision.Namespace.Lacks(secret) {
		n.problemf("%s: there is no Secret %s with the key %s, and the configuration has no source to copy one from", inject.CAMissing, secret.Name, secret.Key)
	}
}
