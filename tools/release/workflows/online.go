package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// update writes the pins of the versions that the files name.
func (r *repository) update(ctx context.Context) error {
	pins := table{}
	for _, p := range r.pinned {
		current, err := p.current(ctx)
		if err != nil {
			return err
		}
		pins[p.key()] = current
	}
	if err := r.replacePins(pins); err != nil {
		return err
	}
	return pins.write(r.root)
}

// compareOnline compares the pins with GitHub and the registry. What cannot be asked is a problem.
func (r *repository) compareOnline(ctx context.Context) (problems []string) {
	for _, p := range r.pinned {
		if err := p.compare(ctx); err != nil {
			problems = append(problems, p.where()+": "+err.Error())
		}
	}
	return problems
}

// compare reports a pin that is not what its version says. An image's tag is moved with each new build, so an image is asked
// for by its digest.
func (p *pinned) compare(ctx context.Context) error {
	if p.image {
		return p.compareImage(ctx)
	}
	current, err := p.current(ctx)
	if err == nil && current != p.pin {
		err = fmt.Errorf("pinned to %s, but GitHub has %s", p.pin, current)
	}
	return err
}

// current is the pin for a version now.
func (p *pinned) current(ctx context.Context) (string, error) {
	if !p.image {
		return p.commit(ctx)
	}
	tag, err := name.NewTag(p.name + ":" + p.version)
	if err != nil {
		return "", err
	}
	index, err := remote.Index(tag, remote.WithContext(ctx)) // an index, not an image for one platform
	if err != nil {
		return "", fmt.Errorf("ask the registry for %s: %w", tag, err)
	}
	digest, err := index.Digest()
	return digest.String(), err
}

// commit is the commit of an action's tag. An annotated tag has an object of its own, and the commit follows it as TAG^{}.
func (p *pinned) commit(ctx context.Context) (string, error) {
	parts := strings.SplitN(p.name, "/", 3)
	if len(parts) < 2 || p.version == "" {
		return "", fmt.Errorf("%s: want owner/repository and a version in a comment", p.where())
	}
	repository, tag := "https://github.com/"+parts[0]+"/"+parts[1], "refs/tags/"+p.version
	var complaints bytes.Buffer
	git := exec.CommandContext(ctx, "git", "ls-remote", repository, tag, tag+"^{}")
	git.Stderr = &complaints
	text, err := git.Output()
	if err != nil {
		return "", fmt.Errorf("ask %s for %s: %w: %s", repository, p.version, err, bytes.TrimSpace(complaints.Bytes()))
	}
	found := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 2 {
			found[fields[1]] = fields[0]
		}
	}
	for _, reference := range []string{tag + "^{}", tag} {
		if commit := found[reference]; commit != "" {
			return commit, nil
		}
	}
	return "", fmt.Errorf("%s has no tag %s", repository, p.version)
}

// compareImage holds an image of Go to the version that its tag names: golang's images have it in their environment.
func (p *pinned) compareImage(ctx context.Context) error {
	digest, err := name.NewDigest(p.name + "@" + p.pin)
	if err != nil {
		return err
	}
	for _, architecture := range []string{"amd64", "arm64"} {
		image, err := remote.Image(digest, remote.WithContext(ctx), remote.WithPlatform(v1.Platform{OS: "linux", Architecture: architecture}))
		if err != nil {
			return fmt.Errorf("ask the registry for %s: %w", digest, err)
		}
		config, err := image.ConfigFile()
		if err != nil {
			return fmt.Errorf("ask the registry for %s: %w", digest, err)
		}
		if want := "GOLANG_VERSION=" + p.version; !slices.Contains(config.Config.Env, want) {
			return fmt.Errorf("%s for %s does not have %s", digest, architecture, want)
		}
	}
	return nil
}
