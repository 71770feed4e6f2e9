package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// assembly is the second stage of a Dockerfile for one platform.
type assembly struct {
	compiler string
	// stage is the folder with what the first one has made.
	stage     string
	created   time.Time
	given     map[string]string
	variables variables

	config v1.Config
	layers []mutate.Addendum
}

// imageFor follows the second stage for a platform.
func imageFor(source, stage string, platform *v1.Platform, b *build) (v1.Image, error) {
	d, err := readDockerfile(source)
	if err != nil {
		return nil, err
	}
	a := &assembly{
		compiler: d.compiler, stage: stage, created: b.created,
		given:  map[string]string{"VERSION": b.version, "REVISION": b.revision, "CREATED": b.created.Format(time.RFC3339)},
		config: v1.Config{Labels: map[string]string{}, WorkingDir: "/"},
	}
	for _, command := range d.image {
		if err := a.follow(command); err != nil {
			return nil, fmt.Errorf("follow the Dockerfile for %s: %w", platform, err)
		}
	}
	return a.image(platform)
}

func (a *assembly) follow(command instructions.Command) error {
	if err := a.variables.expand(command); err != nil {
		return err
	}
	switch command := command.(type) {
	case *instructions.ArgCommand:
		return a.variables.declare(command, a.given)
	case *instructions.LabelCommand:
		for _, pair := range command.Labels {
			a.config.Labels[pair.Key] = pair.Value
		}
		return nil
	case *instructions.CopyCommand:
		return a.copy(command)
	case *instructions.UserCommand:
		a.config.User = command.User
		return nil
	case *instructions.EntrypointCommand:
		if command.PrependShell {
			return refused(command, "there is no shell")
		}
		a.config.Entrypoint = command.CmdLine
		return nil
	default:
		return refused(command, "this stage has ARG, LABEL, COPY, USER and ENTRYPOINT")
	}
}

// copy makes a layer of one file that the first stage has made. It is root's, as with an engine.
func (a *assembly) copy(command *instructions.CopyCommand) error {
	if command.From != a.compiler || command.Chmod != "0755" || command.Chown != "" || len(command.SourcePaths) != 1 || strings.HasSuffix(command.DestPath, "/") {
		return refused(command, "it is COPY --from="+a.compiler+" --chmod=0755 FILE TARGET")
	}
	content, err := os.ReadFile(filepath.Join(a.stage, command.SourcePaths[0]))
	if err != nil {
		return err
	}
	archive, err := oneFile(strings.TrimPrefix(command.DestPath, "/"), content, a.created)
	if err != nil {
		return err
	}
	layer, err := tarball.LayerFromOpener(
		func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil },
		tarball.WithCompressionLevel(gzip.BestCompression), tarball.WithMediaType(types.OCILayer),
	)
	if err != nil {
		return err
	}
	a.layers = append(a.layers, mutate.Addendum{
		Layer: layer, MediaType: types.OCILayer, History: v1.History{Created: v1.Time{Time: a.created}, CreatedBy: command.String()},
	})
	return nil
}

// oneFile is an archive of one program.
func oneFile(name string, content []byte, at time.Time) ([]byte, error) {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content)), ModTime: at}); err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	return archive.Bytes(), w.Close()
}

func (a *assembly) image(platform *v1.Platform) (v1.Image, error) {
	image, err := mutate.ConfigFile(mutate.MediaType(empty.Image, types.OCIManifestSchema1), &v1.ConfigFile{
		OS: platform.OS, Architecture: platform.Architecture, Created: v1.Time{Time: a.created}, Config: a.config,
		RootFS: v1.RootFS{Type: "layers"},
	})
	if err != nil {
		return nil, err
	}
	return mutate.Append(mutate.ConfigMediaType(image, types.OCIConfigJSON), a.layers...)
}

// indexOf is one image for all platforms.
func indexOf(images []mutate.IndexAddendum, annotations map[string]string) v1.ImageIndex {
	index := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), images...)
	return mutate.Annotations(index, annotations).(v1.ImageIndex)
}
