package snapshot

import (
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lightstep-injector/lightstep-injector/certs/distribute"
	"github.com/lightstep-injector/lightstep-injector/webhook/inject"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

// freshFor is for how long after a namespace has been labelled its copies are waited for. Later, what has not come may never.
const freshFor = 30 * time.Second

// secretsOf has an entry for each name of the configuration, with what is known of it already.
func secretsOf(config *settings.Settings, known map[string]map[string]*distribute.Found) map[string]map[string]*distribute.Found {
	secrets := map[string]map[string]*distribute.Found{}
	for _, name := range config.SecretNames() {
		secrets[name] = known[name]
	}
	return secrets
}

// ReplaceSecrets takes the whole list of the Secrets of one name, by namespace.
func (s *Store) ReplaceSecrets(name string, all map[string]*distribute.Found) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, wanted := s.secrets[name]; !wanted {
		return
	}
	s.secrets[name] = all
	s.publishNamespaces(s.everyNamespace(s.Current().Settings))
	s.tell("")
}

// SetSecret takes the news of one Secret; nil where it is gone.
func (s *Store) SetSecret(name, namespace string, found *distribute.Found) {
	s.mu.Lock()
	defer s.mu.Unlock()
	in := s.secrets[name]
	if in == nil {
		return
	}
	if found != nil {
		in[namespace] = found
	} else {
		delete(in, namespace)
	}
	if _, labelled := s.namespaces[namespace]; labelled {
		s.publishNamespace(namespace)
	}
	s.tell(namespace)
}

// SetSource takes a Secret that is copied; nil where it is not there.
func (s *Store) SetSource(name string, object *corev1.Secret) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range s.Current().Settings.Sources() {
		if of.Name == name {
			s.sources[of] = distribute.ReadSource(of, object)
		}
	}
	s.publishNamespaces(s.everyNamespace(s.Current().Settings))
	s.tell("")
}

// build joins a namespace with what is known of its Secrets.
func (s *Store) build(name string, config *settings.Settings) inject.Namespace {
	namespace := s.namespaces[name]
	for _, secret := range config.Secrets() {
		in := s.secrets[secret.Name]
		if in == nil {
			continue
		}
		switch found := in[name]; {
		case found == nil:
			if namespace.Missing == nil {
				namespace.Missing = map[string]bool{}
			}
			namespace.Missing[secret.Name] = true
		case !found.Has(secret):
			if namespace.NoKey == nil {
				namespace.NoKey = map[settings.Secret]bool{}
			}
			namespace.NoKey[secret] = true
		}
	}
	s.share(&namespace)
	namespace.Awaits = s.awaits(name, &namespace, config)
	return namespace
}

// share has namespaces that lack the same Secrets have one map of them: they are many, and the maps do not change.
func (s *Store) share(namespace *inject.Namespace) {
	if maps.Equal(namespace.Missing, s.missing) {
		namespace.Missing = s.missing
	}
	s.missing = namespace.Missing
}

// awaits tells whether a Secret that is missing is the injector's to bring, from a source that is fit for it.
func (s *Store) awaits(name string, namespace *inject.Namespace, config *settings.Settings) bool {
	if s.fresh[name] == nil || len(namespace.Missing) == 0 || namespace.Terminating {
		return false
	}
	due, err := config.Copies(name, namespace.Annotations)
	if err != nil {
		return false
	}
	for _, c := range due {
		source := s.sources[settings.Secret{Name: c.Source, Key: c.Key, Token: c.Token}]
		if namespace.Missing[c.Name] && source != nil && source.Problem(time.Now()) == nil {
			return true
		}
	}
	return false
}

// Secret returns what is known of a Secret of a configured name; known is false until all of that name are.
func (s *Store) Secret(namespace, name string) (found *distribute.Found, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	in := s.secrets[name]
	return in[namespace], in != nil
}

// Source returns a source; nil while nothing is known of it.
func (s *Store) Source(of settings.Secret) *distribute.Source {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sources[of]
}

// Copies calls what it is given for every Secret of the configured names that is the injector's. It must not call the store.
func (s *Store) Copies(each func(types.NamespacedName)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, in := range s.secrets {
		for namespace, found := range in {
			if found.Ours {
				each(types.NamespacedName{Namespace: namespace, Name: name})
			}
		}
	}
}

// Listen has a function called with the name of each namespace in which something has changed, and with the empty one where
// anything may have. It must not block, nor call the store. What it returns ends that.
func (s *Store) Listen(news func(namespace string)) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners[&news] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.listeners, &news)
	}
}

// tell calls the listeners.
func (s *Store) tell(namespace string) {
	for news := range s.listeners {
		(*news)(namespace)
	}
}
