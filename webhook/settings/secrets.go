package settings

import (
	"cmp"
	"maps"
	"slices"
)

// Secret is a Secret's name, the key of it that is used, and whether that is an access token or a satellite CA.
type Secret struct {
	Name, Key string
	Token     bool
}

// Copy is a Secret that a namespace is due to have from the injector.
type Copy struct {
	Secret
	// Source is the Secret in the injector's own namespace that is copied, in which the key has the same name.
	Source string
}

// Secret is the Secret of the satellite CA.
func (c *CACertificate) Secret() Secret { return Secret{c.SecretName, c.Key, false} }

// Secret is the Secret of the access token.
func (t *AccessToken) Secret() Secret { return Secret{t.SecretName, t.Key, true} }

// named are the Secrets that a configuration names, each once, sorted.
type named struct {
	secrets, sources         []Secret
	secretNames, copiedNames []string
}

func namedBy(profiles map[string]*compiledProfile) named {
	var n named
	for _, profile := range profiles {
		for _, secret := range profile.secrets() {
			n.secrets, n.secretNames = append(n.secrets, secret), append(n.secretNames, secret.Name)
		}
		for _, c := range profile.copies() {
			n.sources, n.copiedNames = append(n.sources, Secret{c.Source, c.Key, c.Token}), append(n.copiedNames, c.Name)
		}
	}
	byName := func(a, b Secret) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Key, b.Key)) }
	slices.SortFunc(n.secrets, byName)
	slices.SortFunc(n.sources, byName)
	slices.Sort(n.secretNames)
	slices.Sort(n.copiedNames)
	return named{slices.Compact(n.secrets), slices.Compact(n.sources), slices.Compact(n.secretNames), slices.Compact(n.copiedNames)}
}

// Secrets lists the Secrets that pods may be given, sorted. Nobody may change the list, nor those of the next three.
func (s *Settings) Secrets() []Secret { return s.named.secrets }

// SecretNames names them, each once.
func (s *Settings) SecretNames() []string { return s.named.secretNames }

// Sources lists the Secrets of the injector's own namespace that are copied, sorted.
func (s *Settings) Sources() []Secret { return s.named.sources }

// CopiedNames names the Secrets that are written to labelled namespaces, each once, sorted.
func (s *Settings) CopiedNames() []string { return s.named.copiedNames }

// Copies returns the Secrets that a labelled namespace is due to have from the injector, by its profile. A token is due only
// where the configuration allows it. The error is ErrProfileUnknown or ErrProfileNotAllowed, wrapped with the names.
func (s *Settings) Copies(namespace string, annotations map[string]string) ([]Copy, error) {
	resolved, _, err := s.Resolve(namespace, annotations, nil)
	if err != nil {
		return nil, err
	}
	var due []Copy
	for _, c := range s.profiles[resolved.Profile].copies() {
		if !c.Token || resolved.TokenAllowed(namespace) {
			due = append(due, c)
		}
	}
	return due, nil
}

// Use is a field that names a Secret.
type Use struct {
	// Field is where, such as profiles.default.caCertificate.secretName.
	Field, Name string
	// Source says that the Secret is one of the injector's own namespace, Copied that it is written to labelled ones.
	Source, Copied bool
}

// Uses lists the fields that name Secrets, in the order of the profiles' names.
func (s *Settings) Uses() []Use {
	var uses []Use
	for _, name := range slices.Sorted(maps.Keys(s.profiles)) {
		profile, field := s.profiles[name], "profiles."+name
		if ca := profile.CACertificate; ca != nil {
			uses = append(uses, usesOf(field+".caCertificate", ca.SecretName, ca.Source)...)
		}
		uses = append(uses, usesOf(field+".accessToken", profile.AccessToken.SecretName, profile.AccessToken.Source)...)
	}
	return uses
}

func usesOf(field, secretName string, source *Source) []Use {
	uses := []Use{{Field: field + ".secretName", Name: secretName, Copied: source != nil}}
	if source != nil {
		uses = append(uses, Use{Field: field + ".source.name", Name: source.Name, Source: true})
	}
	return uses
}

func (p *compiledProfile) secrets() []Secret {
	list := []Secret{p.AccessToken.Secret()}
	if p.CACertificate != nil {
		list = append(list, p.CACertificate.Secret())
	}
	return list
}

func (p *compiledProfile) copies() []Copy {
	var list []Copy
	if ca := p.CACertificate; ca != nil && ca.Source != nil {
		list = append(list, Copy{ca.Secret(), ca.Source.Name})
	}
	if token := p.AccessToken; token.Source != nil {
		list = append(list, Copy{token.Secret(), token.Source.Name})
	}
	return list
}
