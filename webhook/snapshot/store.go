package snapshot

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/certs/distribute"
	"github.com/lightstep-injector/lightstep-injector/internal/clusterstate"
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
	// fresh has the namespaces that were first seen to be labelled a short while ago.
	fresh map[string]*freshness
	// secrets has an entry for each Secret name of the configuration: what is kept of the Secrets of that name, by
	// namespace, nil until the watch has told them all.
	secrets map[string]map[string]*distribute.Found
	// missing is what the last namespace that was built lacks.
	missing map[string]bool
	// sources are those of the configuration of which something is known.
	sources map[settings.Secret]*distribute.Source
	mesh    meshParts
	// listeners are called, after the snapshot is published, with the namespaces in which something has changed.
	listeners map[*func(string)]struct{}
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
		fresh:      map[string]*freshness{},
		sources:    map[settings.Secret]*distribute.Source{},
		listeners:  map[*func(string)]struct{}{},
		mesh:       meshParts{telemetries: newTelemetries(), planes: map[string]map[string]Plane{}, tags: map[string]tag{}},
	}
	s.secrets = secretsOf(config, nil)
	s.findRoots(config)
	s.current.Store(&published{
		snapshot: &inject.Snapshot{
			Settings:     config,
			OwnNamespace: ownNamespace,
			Version:      version,
			Mesh:         s.mesh.build(config.Istio().Namespaces), // without a namespace of Istio's nothing is watched, and there is no mesh
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

// Awaits tells whether a snapshot lacks the namespace, or a Secret there that is about to come.
func Awaits(snap *inject.Snapshot, name string) bool {
	namespace, seen := snap.Namespaces.Get(name)
	return !seen || namespace.Awaits
}

// WaitFor returns the first snapshot that awaits nothing of the namespace, or the current one when the context ends before
// that.
func (s *Store) WaitFor(ctx context.Context, namespace string) *inject.Snapshot {
	for {
		now := s.current.Load()
		if !Awaits(now.snapshot, namespace) {
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
	sources := config.Sources()
	maps.DeleteFunc(s.sources, func(of settings.Secret, _ *distribute.Source) bool { return !slices.Contains(sources, of) })
	next := *s.Current()
	next.Settings = config
	s.mesh.keep(config.Istio().Namespaces)
	s.findRoots(config)
	next.Mesh = s.mesh.build(config.Istio().Namespaces)
	next.Namespaces = s.everyNamespace(config)
	s.publish(&next)
	s.tell("")
}

// ReplaceNamespaces takes the whole list of labelled namespaces.
func (s *Store) ReplaceNamespaces(list []*metav1.PartialObjectMetadata) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.namespaces
	s.namespaces = make(map[string]inject.Namespace, len(list))
	for _, object := range list {
		s.label(object, before)
	}
	for name := range before {
		s.leave(name)
	}
	for name := range s.fresh {
		if _, still := s.namespaces[name]; !still {
			s.age(name)
		}
	}
	s.publishNamespaces(s.everyNamespace(s.Current().Settings))
	s.tell("")
}

// SetNamespace takes a namespace that is labelled, or that has changed.
func (s *Store) SetNamespace(object *metav1.PartialObjectMetadata) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.label(object, s.namespaces)
	s.publishNamespace(object.Name)
	s.tell(object.Name)
}

// label notes a labelled namespace; one that was none before is fresh for a while.
func (s *Store) label(object *metav1.PartialObjectMetadata, before map[string]inject.Namespace) {
	name := object.Name
	if _, known := before[name]; !known && s.fresh[name] == nil {
		since := new(freshness)
		since.end = time.AfterFunc(freshFor, func() { s.grow(name, since) })
		s.fresh[name] = since
	}
	if _, known := before[name]; !known && !s.mesh.roots[name] {
		s.mesh.enters(name)
	}
	s.namespaces[name] = reduce(object)
}

// freshness is a namespace's being fresh, and what ends it.
type freshness struct{ end *time.Timer }

// grow ends a namespace's being fresh, unless it has been labelled anew since.
func (s *Store) grow(name string, since *freshness) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fresh[name] != since {
		return
	}
	s.age(name)
	if namespace, _ := s.Current().Namespaces.Get(name); namespace.Awaits {
		s.publishNamespace(name)
	}
}

// age forgets that a namespace is fresh.
func (s *Store) age(name string) {
	if since := s.fresh[name]; since != nil {
		since.end.Stop()
		delete(s.fresh, name)
	}
}

// RemoveNamespace takes a namespace that is gone, or no longer labelled.
func (s *Store) RemoveNamespace(object *metav1.PartialObjectMetadata) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.namespaces, object.Name)
	s.leave(object.Name)
	s.age(object.Name)
	s.publishNamespace(object.Name)
	s.tell(object.Name)
}

// reduce keeps what some rule reads of a namespace.
func reduce(object *metav1.PartialObjectMetadata) inject.Namespace {
	return inject.Namespace{
		Annotations:    clusterstate.Named(object.Annotations, settings.ProfileAnnotation, settings.SamplingAnnotation, settings.CustomTagsAnnotation),
		IstioInjection: object.Labels[istio.NamespaceInjectionLabel],
		IstioRevision:  object.Labels[istio.RevisionLabel],
		IstioDataplane: object.Labels[istio.DataplaneModeLabel],
		Terminating:    object.DeletionTimestamp != nil,
	}
}

// everyNamespace builds all namespaces anew, under a configuration.
func (s *Store) everyNamespace(config *settings.Settings) inject.Namespaces {
	var built inject.Namespaces
	for name := range s.namespaces {
		built = built.With(name, s.build(name, config))
	}
	return built
}

// publishNamespace publishes a snapshot that differs in one namespace, if it does.
func (s *Store) publishNamespace(name string) {
	now := s.Current()
	before, was := now.Namespaces.Get(name)
	_, is := s.namespaces[name]
	var built inject.Namespace
	if is {
		built = s.build(name, now.Settings)
	}
	if is == was && reflect.DeepEqual(before, built) {
		return
	}
	if is {
		s.publishNamespaces(now.Namespaces.With(name, built))
	} else {
		s.publishNamespaces(now.Namespaces.Without(name))
	}
}

func (s *Store) publishNamespaces(namespaces inject.Namespaces) {
	next := *s.Current()
	next.Namespaces = namespaces
	s.publish(&next)
}

// publish swaps the snapshot and wakes who waits for a later one.
func (s *Store) publish(next *inject.Snapshot) {
	previous := s.current.Swap(&published{snapshot: next, superseded: make(chan struct{})})
	close(previous.superseded)
}
