package main

import (
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// internet is what stands for GitHub, where git is told to look, and a registry.
type internet struct{ github, registry string }

// TestOnline: -update writes what GitHub and the registry have, and -online finds what they have not.
func TestOnline(t *testing.T) {
	at := connect(t)
	at.push(t, "1.26.8", "1.26.8")
	copied := changed(t, "Dockerfile", "golang:1.26.8", at.registry+"/golang:1.26.8")
	if err := run(t.Context(), []string{"-root", copied}, io.Discard); err == nil {
		t.Error("another image than the table's is accepted")
	}
	must(t, run(t.Context(), []string{"-root", copied, "-update"}, io.Discard))
	must(t, run(t.Context(), []string{"-root", copied}, io.Discard))
	must(t, run(t.Context(), []string{"-root", copied, "-online"}, io.Discard))
	pins, err := readTable(copied)
	must(t, err)
	// The annotated tag's commit, not the tag's object.
	if want := at.git(t, "actions/checkout", "rev-parse", "HEAD"); pins["actions/checkout v6.0.2"] != want || len(pins) != 6 {
		t.Errorf("the table is %v, and the commit %s", pins, want)
	}
	for _, test := range []struct {
		name, problem string
		change        func()
	}{
		{"a tag was moved", "but GitHub has", func() {
			at.commit(t, "actions/upload-artifact")
			at.git(t, "actions/upload-artifact", "tag", "--force", "v7.0.0")
		}},
		{"a tag was removed", "has no tag v7.0.0", func() { at.git(t, "actions/upload-artifact", "tag", "--delete", "v7.0.0") }},
		{"a repository was removed", "ask https://github.com/actions/upload-artifact", func() {
			must(t, os.RemoveAll(filepath.Join(at.github, "actions", "upload-artifact")))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.change()
			at.finds(t, copied, test.problem)
		})
	}
}

// TestOnlineImage: a digest that the registry has, but of another version of Go, is found, and one that it has not.
func TestOnlineImage(t *testing.T) {
	at := connect(t)
	at.push(t, "1.26.8", "1.26.7")
	copied := changed(t, "Dockerfile", "golang:1.26.8", at.registry+"/golang:1.26.8")
	at.finds(t, copied, "MANIFEST_UNKNOWN")
	must(t, run(t.Context(), []string{"-root", copied, "-update"}, io.Discard))
	at.finds(t, copied, "does not have GOLANG_VERSION=1.26.8")
}

// finds expects -online to fail with a text.
func (at *internet) finds(t *testing.T, root, problem string) {
	t.Helper()
	var output strings.Builder
	if err := run(t.Context(), []string{"-root", root, "-online"}, &output); err == nil || !strings.Contains(output.String(), problem) {
		t.Errorf("%v, want %q:\n%s", err, problem, &output)
	}
}

// connect makes a repository for each action that is pinned, with its version as a tag, and an empty registry.
func connect(t *testing.T) *internet {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	at := &internet{github: t.TempDir(), registry: strings.TrimPrefix(server.URL, "http://")}
	for name, value := range map[string]string{
		"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "url.file://" + at.github + "/.insteadOf", "GIT_CONFIG_VALUE_0": "https://github.com/",
		"GIT_AUTHOR_NAME": "test", "GIT_AUTHOR_EMAIL": "test@example.com", "GIT_COMMITTER_NAME": "test", "GIT_COMMITTER_EMAIL": "test@example.com",
	} {
		t.Setenv(name, value)
	}
	pins, err := readTable(root)
	must(t, err)
	for key := range pins {
		action, version, _ := strings.Cut(key, " ")
		if !strings.Contains(action, "/") {
			continue
		}
		must(t, os.MkdirAll(filepath.Join(at.github, action), 0o755))
		at.git(t, action, "init", "--quiet")
		at.commit(t, action)
		if action == "actions/checkout" {
			at.git(t, action, "tag", "--annotate", "--message", version, version)
			continue
		}
		at.git(t, action, "tag", version)
	}
	return at
}

func (at *internet) commit(t *testing.T, action string) {
	t.Helper()
	at.git(t, action, "commit", "--quiet", "--allow-empty", "--message", "Another")
}

func (at *internet) git(t *testing.T, action string, args ...string) string {
	t.Helper()
	text, err := exec.CommandContext(t.Context(), "git", append([]string{"-C", filepath.Join(at.github, action)}, args...)...).Output()
	must(t, err)
	return strings.TrimSpace(string(text))
}

// push pushes an image of Go for both architectures.
func (at *internet) push(t *testing.T, tag, goVersion string) {
	t.Helper()
	var index v1.ImageIndex = empty.Index
	for _, architecture := range []string{"amd64", "arm64"} {
		image, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{
			OS: "linux", Architecture: architecture, Config: v1.Config{Env: []string{"GOLANG_VERSION=" + goVersion}},
		})
		must(t, err)
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: architecture}},
		})
	}
	reference, err := name.NewTag(at.registry + "/golang:" + tag)
	must(t, err)
	must(t, remote.WriteIndex(reference, index))
}
