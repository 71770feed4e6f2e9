package distribute

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

// State is how it stands with one Secret of one namespace.
type State string

// The states, each with what is done about it.
const (
	// Unknown: not all that matters is known, or the namespace's profile is not; nothing is done.
	Unknown State = "unknown"
	// None: it is not due; if somebody has one there, it is theirs.
	None State = "none"
	// Current: the copy is there, as the source is.
	Current State = "current"
	// Missing: the copy is due and not there; it is made.
	Missing State = "missing"
	// Behind: the copy is of another content than the source; it is applied.
	Behind State = "behind"
	// Edited: somebody has written to the copy; it is mended.
	Edited State = "edited"
	// Foreign: a Secret of that name is due, and somebody else's is there; it is left alone.
	Foreign State = "foreign"
	// Withheld: the source is not fit to be handed out; what is there stays.
	Withheld State = "withheld"
	// Leaving: the copy is no longer due; it goes once no running pod of the namespace may have it mounted.
	Leaving State = "leaving"
	// Revoked: the copy is a token's, which the configuration no longer allows here; it goes at once.
	Revoked State = "revoked"
)

// World is what the controller sees: the cluster, as webhook/snapshot keeps it.
type World interface {
	// Now returns the snapshot in force, and a channel that is closed when there is a later one.
	Now() (*inject.Snapshot, <-chan struct{})
	// Secret returns what is known of a Secret of a configured name; known is false until all of that name are.
	Secret(namespace, name string) (found *Found, known bool)
	// Source returns a source; nil while nothing is known of it.
	Source(of settings.Secret) *Source
	// Copies calls what it is given for every Secret of the configured names that is ours.
	Copies(each func(types.NamespacedName))
	// Listen has a function called with the name of each namespace in which something has changed, and with the empty one
	// where anything may have. It must not block. What it returns ends that.
	Listen(func(namespace string)) (stop func())
}

// assessment is a state, and what it was told by.
type assessment struct {
	state  State
	copy   settings.Copy
	found  *Found
	source *Source
	// problem is why a source is withheld.
	problem *Problem
}

// assess tells how it stands with a Secret.
func assess(world World, snap *inject.Snapshot, key types.NamespacedName, now time.Time) assessment {
	found, known := world.Secret(key.Namespace, key.Name)
	due, ok := dueIn(snap, key.Namespace)
	if !known || !ok {
		return assessment{state: Unknown}
	}
	a := assessment{found: found}
	at := slices.IndexFunc(due, func(c settings.Copy) bool { return c.Name == key.Name })
	if at < 0 {
		a.state = undue(snap, key, found)
		return a
	}
	a.copy = due[at]
	a.source = world.Source(settings.Secret{Name: a.copy.Source, Key: a.copy.Key, Token: a.copy.Token})
	if a.source == nil {
		return assessment{state: Unknown}
	}
	a.problem = a.source.Problem(now)
	a.state = a.compare()
	return a
}

// compare tells how a Secret that is due differs from its source.
func (a *assessment) compare() State {
	switch {
	case a.found != nil && !a.found.Ours:
		return Foreign
	case a.problem != nil:
		return Withheld
	case a.found == nil:
		return Missing
	case a.found.Edited:
		return Edited
	case a.found.Hash != a.source.Hash, a.found.Applied != a.copy.Key:
		return Behind
	case a.found.Keys != nil && !slices.Equal(a.found.Keys, []Key{{a.copy.Key, a.source.Hash}}):
		return Edited
	}
	return Current
}

// undue tells how it stands with a Secret that its namespace is not due to have.
func undue(snap *inject.Snapshot, key types.NamespacedName, found *Found) State {
	switch {
	case found == nil || !found.Ours || found.Deleting:
		return None
	case labelled(snap, key.Namespace) && slices.ContainsFunc(snap.Settings.Secrets(), func(s settings.Secret) bool { return s.Token && s.Name == key.Name }):
		return Revoked
	}
	return Leaving
}

// dueIn lists the Secrets that a namespace is due to have; false where that is not known.
func dueIn(snap *inject.Snapshot, name string) ([]settings.Copy, bool) {
	if !labelled(snap, name) {
		return nil, true
	}
	namespace, _ := snap.Namespaces.Get(name)
	if namespace.Terminating {
		return nil, false
	}
	due, err := snap.Settings.Copies(name, namespace.Annotations)
	return due, err == nil
}

// labelled tells whether a namespace is one that the injector serves.
func labelled(snap *inject.Snapshot, name string) bool {
	_, ok := snap.Namespaces.Get(name)
	return ok && name != snap.OwnNamespace && !snap.Settings.Exempt(name)
}
