package distribute

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
)

// Standing is how it stands with a Secret of a namespace, for whoever asks.
type Standing struct {
	Secret string `json:"secret"`
	State  State  `json:"state"`
	// Hash is that of the copy's content, SourceHash that of the source's; empty where there is none, or it is not known.
	Hash       string `json:"hash,omitempty"`
	SourceHash string `json:"sourceHash,omitempty"`
	// Problem is why the source is withheld.
	Problem string `json:"problem,omitempty"`
}

// Standings tells of each Secret that the namespace is due to have from the injector, and of each copy that is there.
func Standings(world World, snap *inject.Snapshot, namespace string, now time.Time) []Standing {
	var list []Standing
	for _, name := range snap.Settings.SecretNames() {
		a := assess(world, snap, types.NamespacedName{Namespace: namespace, Name: name}, now)
		if a.state == None || a.state == Unknown && !slices.Contains(snap.Settings.CopiedNames(), name) {
			continue
		}
		s := Standing{Secret: name, State: a.state}
		if a.found != nil {
			s.Hash = a.found.content(a.copy.Key)
		}
		if a.source != nil {
			s.SourceHash = a.source.Hash
		}
		if a.problem != nil {
			s.Problem = a.problem.Says
		}
		list = append(list, s)
	}
	return list
}

// content is the hash of what a key has, or, where the metadata alone is read, of what it had when it was applied.
func (f *Found) content(key string) string {
	for _, k := range f.Keys {
		if k.Name == key {
			return k.Hash
		}
	}
	return f.Hash
}
