package snapshot

import (
	"context"
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

// Store holds the current snapshot.
type Store struct {
	current atomic.Pointer[published]

	// mu serialises the writers, which change what follows and then publish a snapshot of it.
	mu         sync.Mutex
	namespaces map[string]inject.Namespace
	// secrets has an entry for each Secret name of the configuration: the namespaces that have such a Secret, nil until
	// the watch has told them all.
	secrets map[string]map[string]bool
	mesh    meshParts
}

// published is a snapshot and the news that there is a later one.
type published struct {
	snapshot   *inject.Snapshot
	superseded chan struct{}
}

// NewStore makes a store around what does not change while the process runs. It knows no namespaces yet.
func NewStore(config *settings.Settings, ownNamespace, version string) *Store {
	s := &Store{
		namespaces: map[string]inject.Namespace{},
		mesh:       meshParts{planes: map[string]map[string]controlPlane{}, tags: map[string]tag{}},
	}
	s.secrets = secretsOf(config, nil)
	s.current.Store(&published{
		snapshot: &inject.Snapshot{
			Settings:     config,
			OwnNamespace: ownNamespace,
			Version:      version,
			Namespaces:   map[string]inject.Namespace{},
		},
		superseded: make(chan struct{}),
	})
	return s
}

// Current returns the snapshot in force. Nobody may change it.
func (s *Store) Current() *inject.Snapshot { return s.current.Load().snapshot }

// Now returns the snapshot in force, and a channel that is closed when there is a later one.
func (s *Store) Now() (*inject.Snapshot, <-chan struct{}) {
	now := s.current.Load()
	return now.snapshot, now.superseded
}

// WaitFor returns the first snapshot that has the namespace, or the current one when the context ends before that.
func (s *Store) WaitFor(ctx context.Context, namespace string) *inject.Snapshot {
	for {
		now := s.current.Load()
		if _, seen := now.snapshot.Namespaces[namespace]; seen {
			return now.snapshot
		}
		select {
		case <-now.superseded:
		case <-ctx.Done():
			return s.Current()
		}
	}
}

// UseSettings puts another configuration in force. Of the Secrets that it names for the first time nothing is known.
func (s *Store) UseSettings(config *settings.Settings) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets = secretsOf(config, s.secrets)
	next := *s.Current()
	next.Settings = config
	next.Namespaces = s.everyNamespace()
	s.mesh.keep(config.Istio().Namespaces)
	next.Mesh = s.mesh.build(config.Istio().Namespaces)
	s.publish(&next)
}

// secretsOf has an entry for each name of the configuration, with what is known of it already.
func secretsOf(config *settings.Settings, known map[string]map[string]bool) map[string]map[string]bool {
	secrets := map[string]map[string]bool{}
	for _, name := range config.SecretNames() {
		secrets[name] = known[name]
	}
	return secrets
}

// ReplaceNamespaces takes the whole list of labelled namespaces.
func (s *Store) ReplaceNamespaces(list []*metav1.PartialObjectMetadata) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.namespaces = make(map[string]inject.Namespace, len(list))
	for _, object := range list {
		s.namespaces[object.Name] = reduce(object)
	}
	s.publishNamespaces(s.everyNamespace())
}

// SetNamespace takes a namespace that is labelled, or that has changed.
func (s *Store) SetNamespace(object *metav1.PartialObjectMetadata) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.namespaces[object.Name] = reduce(object)
	s.publishNamespace(object.Name)
}

// RemoveNamespace takes a namespace that is gone, or no longer labelled.
func (s *Store) RemoveNamespace(object *metav1.PartialObjectMetadata) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.namespaces, object.Name)
	s.publishNamespace(object.Name)
}

// ReplaceSecrets takes the whole list of the Secrets of one name.
func (s *Store) ReplaceSecrets(name string, list []*metav1.PartialObjectMetadata) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, wanted := s.secrets[name]; !wanted {
		return
	}
	in := make(map[string]bool, len(list))
	for _, object := range list {
		in[object.Namespace] = true
	}
	s.secrets[name] = in
	s.publishNamespaces(s.everyNamespace())
}

// SetSecret takes the news that one namespace has a Secret, or no longer has it.
func (s *Store) SetSecret(name, namespace string, present bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	in := s.secrets[name]
	if in == nil || in[namespace] == present {
		return
	}
	if present {
		in[namespace] = true
	} else {
		delete(in, namespace)
	}
	if _, labelled := s.namespaces[namespace]; labelled {
		s.publishNamespace(namespace)
	}
}

// reduce keeps what some rule reads of a namespace.
func reduce(object *metav1.PartialObjectMetadata) inject.Namespace {
	const ours = "lightstep.com/"
	reduced := inject.Namespace{
		IstioInjection: object.Labels[istio.NamespaceInjectionLabel],
		IstioRevision:  object.Labels[istio.RevisionLabel],
		IstioDataplane: object.Labels[istio.DataplaneModeLabel],
	}
	for key, value := range object.Annotations {
		if !strings.HasPrefix(key, ours) {
			continue
		}
		if reduced.Annotations == nil {
			reduced.Annotations = map[string]string{}
		}
		reduced.Annotations[key] = value
	}
	return reduced
}

// everyNamespace builds all namespaces anew.
func (s *Store) everyNamespace() map[string]inject.Namespace {
	built := make(map[string]inject.Namespace, len(s.namespaces))
	for name := range s.namespaces {
		built[name] = s.build(name)
	}
	return built
}

// build joins a namespace with what is known of its Secrets.
func (s *Store) build(name string) inject.Namespace {
	namespace := s.namespaces[name]
	for secret, in := range s.secrets {
		if in == nil || in[name] {
			continue
		}
		if namespace.Missing == nil {
			namespace.Missing = map[string]bool{}
		}
		namespace.Missing[secret] = true
	}
	return namespace
}

// publishNamespace publishes a snapshot that differs in one namespace.
func (s *Store) publishNamespace(name string) {
	next := maps.Clone(s.Current().Namespaces)
	if _, labelled := s.namespaces[name]; labelled {
		next[name] = s.build(name)
	} else {
		delete(next, name)
	}
	s.publishNamespaces(next)
}

func (s *Store) publishNamespaces(namespaces map[string]inject.Namespace) {
	next := *s.Current()
	next.Namespaces = namespaces
	s.publish(&next)
}

// publish swaps the snapshot and wakes who waits for a later one.
func (s *Store) publish(next *inject.Snapshot) {
	previous := s.current.Swap(&published{snapshot: next, superseded: make(chan struct{})})
	close(previous.superseded)
}
