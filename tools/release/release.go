package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// program is what the Dockerfile's first stage makes.
const program = "lightstep-injector"

// options say what to make, of what, and where to.
type options struct {
	root, out string
	platforms []v1.Platform
	// helm is a program; without one there is no chart.
	helm string
	// uncommitted accepts changes that are in no commit.
	uncommitted bool
}

// linux are the platforms of the image.
func linux() []v1.Platform {
	return []v1.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}}
}

// everywhere are the platforms that kubectl's users have.
func everywhere() []v1.Platform {
	return append(linux(), v1.Platform{OS: "darwin", Architecture: "amd64"}, v1.Platform{OS: "darwin", Architecture: "arm64"}, v1.Platform{OS: "windows", Architecture: "amd64"})
}

// made is what there is in the end.
type made struct {
	out               string
	version, revision string
	index             v1.ImageIndex
}

// release makes all of it.
func release(ctx context.Context, o *options) (*made, error) {
	temporary, err := os.MkdirTemp("", "release")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(temporary) }()
	source := filepath.Join(temporary, "source")
	if err := checkOut(ctx, o.root, source); err != nil {
		return nil, err
	}
	if err := o.allow(ctx, source); err != nil {
		return nil, err
	}
	if err := errors.Join(os.RemoveAll(o.out), os.MkdirAll(o.out, 0o755)); err != nil {
		return nil, err
	}
	m := &made{out: o.out}
	images, noted, err := o.programs(ctx, source, temporary)
	if err != nil {
		return nil, err
	}
	m.version, m.revision = noted.version, noted.revision
	m.index, err = o.image(images, noted)
	if err != nil {
		return nil, err
	}
	digest, err := m.index.Digest()
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(o.out, program+"_image.digest"), []byte(digest.String()+"\n"), 0o644); err != nil {
		return nil, err
	}
	if o.helm != "" {
		if err := o.chart(ctx, source, noted, digest); err != nil {
			return nil, err
		}
	}
	return m, writeChecksums(o.out)
}

// allow refuses what is in no commit.
func (o *options) allow(ctx context.Context, source string) error {
	changes, err := git(ctx, source, "status", "--porcelain")
	if err != nil || changes == "" || o.uncommitted {
		return err
	}
	return fmt.Errorf("there are changes that are in no commit, so nobody could make the same again: commit them:\n%s", changes)
}

// programs makes the program for each platform, its SBOM, and on Linux its image.
func (o *options) programs(ctx context.Context, source, temporary string) (images []mutate.IndexAddendum, noted *build, err error) {
	licences, err := newLicences()
	if err != nil {
		return nil, nil, err
	}
	for i := range o.platforms {
		platform := &o.platforms[i]
		stage := filepath.Join(temporary, platform.OS, platform.Architecture)
		if err := compileFor(ctx, source, stage, platform); err != nil {
			return nil, nil, err
		}
		compiled, file := filepath.Join(stage, "out", program), filepath.Join(o.out, fileName(platform))
		if noted, err = readBuild(compiled); err != nil {
			return nil, nil, err
		}
		if err := copyFile(compiled, file, noted.created); err != nil {
			return nil, nil, err
		}
		if err := licences.writeSBOM(ctx, source, file); err != nil {
			return nil, nil, err
		}
		if platform.OS != "linux" {
			continue
		}
		image, err := imageFor(source, stage, platform, noted)
		if err != nil {
			return nil, nil, err
		}
		images = append(images, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: platform}})
	}
	return images, noted, nil
}

// fileName is what the program for a platform is called among others.
func fileName(platform *v1.Platform) string {
	file := program + "_" + platform.OS + "_" + platform.Architecture
	if platform.OS == "windows" {
		file += ".exe"
	}
	return file
}

// image makes one image of those for each platform. It has the labels of any of them as annotations, which is where registries look.
func (o *options) image(images []mutate.IndexAddendum, noted *build) (v1.ImageIndex, error) {
	first := images[0].Add.(v1.Image)
	config, err := first.ConfigFile()
	if err != nil {
		return nil, err
	}
	index := indexOf(images, config.Config.Labels)
	return index, writeArchive(filepath.Join(o.out, program+"_image.tar"), index, noted.version, noted.created)
}

// writeChecksums writes those of all files, as sha256sum reads them.
func writeChecksums(folder string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	var sums strings.Builder
	for _, entry := range entries {
		sum, err := checksum(filepath.Join(folder, entry.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%s  %s\n", sum, entry.Name())
	}
	return os.WriteFile(filepath.Join(folder, "sha256sums.txt"), []byte(sums.String()), 0o644)
}

// push pushes the image, under its version.
func push(ctx context.Context, repository string, m *made) error {
	tag, err := name.NewTag(repository + ":" + m.version)
	if err != nil {
		return err
	}
	if err := remote.WriteIndex(tag, m.index, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
		return fmt.Errorf("push to %s: %w", tag, err)
	}
	return nil
}
