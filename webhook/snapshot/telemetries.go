package snapshot

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lightstep-injector/lightstep-injector/webhook/istio"
)

const (
	// gatherTelemetry is how long changes of Telemetries are gathered before a snapshot with them is published.
	gatherTelemetry = 100 * time.Millisecond
	// mostOfNamespace is the number of Telemetries of a namespace that are kept, unreadable ones included.
	mostOfNamespace = 200
	// mostRead is the number of those that are read, and mostBytes what they may cost together.
	mostRead  = 100
	mostBytes = 64 << 10
)

// telemetries are the Telemetry resources of the namespaces that matter: those of the control planes and the labelled ones.
// The others are dropped as they arrive. Where a namespace comes to matter after the stream has begun, its Telemetries are
// listed.
type telemetries struct {
	// byNamespace is nil until the watch has reported all.
	byNamespace map[string]*telemetrySet
	// built has what the snapshot has of them; those of the changed namespaces are to be built again.
	built   map[string][]istio.Telemetry
	changed map[string]bool
	// stream is what is known of the cluster-wide watch.
	stream streamState
	// late are the namespaces to be listed, each with the names of which the stream has reported since it came to matter.
	late map[string]map[string]bool
	// news is sent to where late or stream have changed.
	news chan struct{}
	// arrived counts, while the initial objects arrive, those of each namespace.
	arrived map[string]*budget
	// publishing is the timer that publishes changes; nil if there are none.
	publishing *time.Timer
}

// streamState is how far a watch has come.
type streamState int

const (
	// noStream: no watch has begun, or the cluster does not have the kind.
	noStream streamState = iota
	// initialStream: the objects that exist are arriving.
	initialStream
	// syncedStream: they have been taken.
	syncedStream
)

func newTelemetries() telemetries {
	return telemetries{changed: map[string]bool{}, late: map[string]map[string]bool{}, news: make(chan struct{}, 1), arrived: map[string]*budget{}}
}

// budget is what the Telemetries of one namespace have used up.
type budget struct{ count, read, bytes int }

// admit decides about one more: whether it is kept, and whether it is read.
func (b *budget) admit(t *reducedTelemetry) (keep bool) {
	if b.count >= mostOfNamespace {
		return false
	}
	b.count++
	if t.unreadable || b.read >= mostRead || b.bytes+t.size > mostBytes {
		*t = reducedTelemetry{Telemetry: istio.Telemetry{Name: t.Name}, unreadable: true}
		return true
	}
	b.read++
	b.bytes += t.size
	return true
}

// release returns what a Telemetry has used.
func (b *budget) release(t *reducedTelemetry) {
	b.count--
	if !t.unreadable {
		b.read--
		b.bytes -= t.size
	}
}

// telemetrySet are the Telemetries of one namespace, by name.
type telemetrySet struct {
	byName map[string]reducedTelemetry
	used   budget
}

func (s *telemetrySet) set(t reducedTelemetry) (unreadable bool) {
	s.remove(t.Name)
	if s.used.admit(&t) {
		s.byName[t.Name] = t
	}
	return t.unreadable
}

func (s *telemetrySet) remove(name string) {
	if t, ok := s.byName[name]; ok {
		s.used.release(&t)
		delete(s.byName, name)
	}
}

// readable lists the Telemetries in the order in which Istio applies them: by age, then by name.
func (s *telemetrySet) readable() []istio.Telemetry {
	sorted := slices.SortedFunc(maps.Values(s.byName), func(a, b reducedTelemetry) int {
		return cmp.Or(a.created.Compare(b.created), strings.Compare(a.Name, b.Name))
	})
	var list []istio.Telemetry
	for _, t := range sorted {
		if !t.unreadable {
			list = append(list, t.Telemetry)
		}
	}
	return list
}

// set takes one Telemetry.
func (t *telemetries) set(namespace string, one reducedTelemetry) (unreadable bool) {
	t.changed[namespace] = true
	set := t.byNamespace[namespace]
	if set == nil {
		set = &telemetrySet{byName: map[string]reducedTelemetry{}}
		t.byNamespace[namespace] = set
	}
	return set.set(one)
}

// touch notes that the stream has reported a Telemetry of a namespace that is to be listed.
func (t *telemetries) touch(namespace, name string) {
	if touched := t.late[namespace]; touched != nil {
		touched[name] = true
	}
}

// build returns them as a snapshot has them: a map that never changes, of which the unchanged lists are those of the last.
func (t *telemetries) build() map[string][]istio.Telemetry {
	if t.byNamespace == nil {
		return nil
	}
	if len(t.changed) == 0 && t.built != nil {
		return t.built
	}
	next := make(map[string][]istio.Telemetry, len(t.byNamespace))
	for namespace, set := range t.byNamespace {
		list, known := t.built[namespace]
		if t.changed[namespace] || !known {
			list = set.readable()
		}
		if len(list) > 0 {
			next[namespace] = list
		}
	}
	t.built = next
	clear(t.changed)
	return next
}

// matters reports whether a namespace's Telemetries are kept: whether it is labelled or a control plane's. A watch drops the
// others before it decodes them.
func (s *Store) matters(namespace string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.isScope(namespace)
}

func (s *Store) isScope(namespace string) bool {
	_, labelled := s.namespaces[namespace]
	return labelled || s.mesh.roots[namespace]
}

// admitTelemetry counts a Telemetry that arrives. While all of them do, the store does not have them yet: the bounds of its
// namespace hold here, too.
func (s *Store) admitTelemetry(namespace string, t *reducedTelemetry) (keep bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mesh.stream != initialStream {
		return true
	}
	used := s.mesh.arrived[namespace]
	if used == nil {
		used = &budget{}
		s.mesh.arrived[namespace] = used
	}
	return used.admit(t)
}

// beginTelemetries notes that all Telemetries are about to arrive: of the namespaces that matter now, none is missing.
func (s *Store) beginTelemetries() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mesh.stream = initialStream
	clear(s.mesh.late)
	clear(s.mesh.arrived)
}

// lacksTelemetries notes that the cluster does not have the kind.
func (s *Store) lacksTelemetries() {
	s.replaceTelemetries(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mesh.stream = noStream
	clear(s.mesh.late)
}

// replaceTelemetries takes all Telemetries, and returns those that are unreadable. What is known of a namespace that is to be
// listed stays.
func (s *Store) replaceTelemetries(list []*telemetryObject) (unreadable []*telemetryObject) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.mesh.byNamespace
	s.mesh.byNamespace, s.mesh.built = map[string]*telemetrySet{}, nil
	for namespace := range s.mesh.late {
		if set := before[namespace]; set != nil {
			s.mesh.byNamespace[namespace] = set
		}
	}
	for _, object := range list {
		if !s.isScope(object.Namespace) {
			continue
		}
		s.mesh.touch(object.Namespace, object.Name)
		if s.mesh.set(object.Namespace, keptOf(object)) {
			unreadable = append(unreadable, object)
		}
	}
	s.mesh.stream = syncedStream
	clear(s.mesh.arrived)
	s.publishMesh()
	s.mesh.wake()
	return unreadable
}

// setTelemetry takes one that is new or has changed, and reports whether it is unreadable.
func (s *Store) setTelemetry(object *telemetryObject) (unreadable bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mesh.byNamespace == nil || !s.isScope(object.Namespace) {
		return false
	}
	s.mesh.touch(object.Namespace, object.Name)
	unreadable = s.mesh.set(object.Namespace, keptOf(object))
	s.publishSoon()
	return unreadable
}

// removeTelemetry takes one that no longer exists.
func (s *Store) removeTelemetry(object *telemetryObject) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mesh.touch(object.Namespace, object.Name)
	set := s.mesh.byNamespace[object.Namespace]
	if set == nil {
		return
	}
	set.remove(object.Name)
	s.mesh.changed[object.Namespace] = true
	s.publishSoon()
}

// addTelemetries takes the list of a namespace that came to matter late. What the stream has reported since is newer.
func (s *Store) addTelemetries(namespace string, list []*telemetryObject) (unreadable []*telemetryObject) {
	s.mu.Lock()
	defer s.mu.Unlock()
	touched, due := s.mesh.late[namespace]
	if !due || s.mesh.stream != syncedStream {
		return nil // it no longer matters, or all arrive again
	}
	delete(s.mesh.late, namespace)
	known := s.mesh.byNamespace[namespace]
	delete(s.mesh.byNamespace, namespace)
	if known != nil {
		for name := range touched {
			if t, ok := known.byName[name]; ok {
				s.mesh.set(namespace, t)
			}
		}
	}
	for _, object := range list {
		if !touched[object.Name] && s.mesh.set(namespace, keptOf(object)) {
			unreadable = append(unreadable, object)
		}
	}
	s.mesh.changed[namespace] = true
	s.publishSoon()
	return unreadable
}

// keptOf is what is kept of a Telemetry, also of one that could not be read at all.
func keptOf(object *telemetryObject) reducedTelemetry {
	if object.Unreadable {
		return reducedTelemetry{Telemetry: istio.Telemetry{Name: object.Name}, unreadable: true}
	}
	return object.Kept
}

// enters notes that a namespace has come to matter: the Telemetries of it that the stream has reported were dropped.
func (t *telemetries) enters(namespace string) {
	if t.stream == noStream {
		return
	}
	t.late[namespace] = map[string]bool{}
	t.wake()
}

// leave forgets the Telemetries of a namespace that does not matter any more.
func (s *Store) leave(namespace string) {
	if s.isScope(namespace) {
		return
	}
	delete(s.mesh.late, namespace)
	delete(s.mesh.arrived, namespace)
	if s.mesh.byNamespace[namespace] != nil {
		delete(s.mesh.byNamespace, namespace)
		s.mesh.changed[namespace] = true
		s.publishSoon()
	}
}

func (t *telemetries) wake() {
	select {
	case t.news <- struct{}{}:
	default:
	}
}

// lateNamespace waits for a namespace whose Telemetries are to be listed; false if the context ends before that.
func (s *Store) lateNamespace(ctx context.Context) (namespace string, ok bool) {
	for {
		s.mu.Lock()
		if s.mesh.stream == syncedStream {
			for namespace := range s.mesh.late {
				s.mu.Unlock()
				return namespace, true
			}
		}
		s.mu.Unlock()
		select {
		case <-s.mesh.news:
		case <-ctx.Done():
			return "", false
		}
	}
}

// publishSoon publishes what has changed of Telemetries, together with what changes until then.
func (s *Store) publishSoon() {
	if s.mesh.publishing == nil {
		s.mesh.publishing = time.AfterFunc(gatherTelemetry, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.mesh.publishing != nil {
				s.publishMesh()
			}
		})
	}
}

// Unreadable returns the number of objects, by kind, that exceed a bound, so that nothing of them is known but their names.
func (s *Store) Unreadable() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := map[string]int{telemetryKind: 0, secretKind: 0, configMapKind: 0}
	for _, set := range s.mesh.byNamespace {
		counts[telemetryKind] += set.used.count - set.used.read
	}
	for _, in := range s.secrets {
		for _, found := range in {
			if found.Unreadable {
				counts[secretKind]++
			}
		}
	}
	for _, planes := range s.mesh.planes {
		for _, plane := range planes {
			if plane.unreadable {
				counts[configMapKind]++
			}
		}
	}
	return counts
}
