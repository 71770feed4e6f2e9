package main

import (
	"archive/tar"
	"context"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"flag"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/github/go-spdx/v2/spdxexp"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdxlib"
)

const (
	root = "../.."
	tag  = "v1.9.8"
)

var everyPlatform = flag.Bool("everywhere", false, "also of the platforms that have no image, which takes minutes the first time")

// environment is a release of a tag, opened.
type environment struct {
	made *made
	// helm is a program, dist the folder with the release.
	helm, dist string
	// images are those of the archive, roots their files, by architecture.
	images map[string]v1.Image
	roots  map[string]string
}

// TestRelease makes a release of a tag, twice, in different places, and opens what there is then.
func TestRelease(t *testing.T) {
	e := &environment{helm: buildHelm(t), images: map[string]v1.Image{}, roots: map[string]string{}}
	source := tagged(t)
	e.dist, e.made = e.release(t, source)
	e.open(t)
	t.Run("Reproducible", func(t *testing.T) { e.reproducible(t, source) })
	t.Run("Files", e.files)
	t.Run("Images", e.eachImage)
	t.Run("Annotations", e.annotations)
	t.Run("Chart", e.chart)
	t.Run("Starts", e.starts)
	t.Run("SBOM", e.sbom)
	t.Run("Pushed", e.pushed)
	t.Run("PushedChart", e.pushedChart)
}

// buildHelm compiles it as the end-to-end tests do, who share what is compiled.
func buildHelm(t *testing.T) string {
	t.Helper()
	const helm = ".cache/bin/helm"
	_, err := outputOf(exec.CommandContext(t.Context(), "make", "-C", root, helm))
	check(t, err)
	path, err := filepath.Abs(filepath.Join(root, helm))
	check(t, err)
	return path
}

// tagged is a repository whose last commit is the working tree, and has a tag.
func tagged(t *testing.T) string {
	t.Helper()
	source := filepath.Join(t.TempDir(), "source")
	check(t, checkOut(t.Context(), root, source))
	for _, args := range [][]string{
		{"add", "--all"},
		{"-c", "user.name=test", "-c", "user.email=test@example.com", "commit", "--quiet", "--allow-empty", "--message", "The working tree"},
		{"tag", tag},
	} {
		_, err := git(t.Context(), source, args...)
		check(t, err)
	}
	return source
}

func (e *environment) release(t *testing.T, source string) (dist string, m *made) {
	t.Helper()
	o := options{root: source, out: filepath.Join(t.TempDir(), "dist"), platforms: linux(), helm: e.helm}
	if *everyPlatform {
		o.platforms = everywhere()
	}
	m, err := release(t.Context(), &o)
	check(t, err)
	return o.out, m
}

// open reads the image's archive, as an engine would.
func (e *environment) open(t *testing.T) {
	t.Helper()
	archive, err := os.Open(filepath.Join(e.dist, "lightstep-injector_image.tar"))
	check(t, err)
	defer archive.Close()
	folder := t.TempDir()
	unpack(t, archive, folder)
	all, err := layout.ImageIndexFromPath(folder)
	check(t, err)
	check(t, validate.Index(all))
	manifest, err := all.IndexManifest()
	check(t, err)
	if len(manifest.Manifests) != 1 || manifest.Manifests[0].Annotations[refName] != tag {
		t.Fatalf("the archive has %+v", manifest.Manifests)
	}
	if got, want := read(t, e.dist, "lightstep-injector_image.digest"), manifest.Manifests[0].Digest.String()+"\n"; got != want {
		t.Errorf("the file with the digest has %q, the archive %q", got, want)
	}
	index, err := all.ImageIndex(manifest.Manifests[0].Digest)
	check(t, err)
	manifest, err = index.IndexManifest()
	check(t, err)
	for _, entry := range manifest.Manifests {
		architecture := entry.Platform.Architecture
		e.images[architecture], err = index.Image(entry.Digest)
		check(t, err)
		e.roots[architecture] = t.TempDir()
		files := mutate.Extract(e.images[architecture])
		unpack(t, files, e.roots[architecture])
		check(t, files.Close())
	}
}

// unpack writes an archive's files into a folder.
func unpack(t *testing.T, archive io.Reader, folder string) {
	t.Helper()
	for r := tar.NewReader(archive); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		check(t, err)
		if header.Typeflag != tar.TypeReg || header.Uid != 0 || header.Gid != 0 {
			t.Errorf("%s is of the type %c, of %d:%d", header.Name, header.Typeflag, header.Uid, header.Gid)
		}
		content, err := io.ReadAll(r)
		check(t, err)
		file := filepath.Join(folder, header.Name)
		check(t, os.MkdirAll(filepath.Dir(file), 0o755))
		check(t, os.WriteFile(file, content, header.FileInfo().Mode()))
	}
}

// reproducible: another clone, in another place, gives the same bytes.
func (e *environment) reproducible(t *testing.T, source string) {
	clone := filepath.Join(t.TempDir(), "another", "clone")
	_, err := git(t.Context(), ".", "clone", "--quiet", source, clone)
	check(t, err)
	again, _ := e.release(t, clone)
	if diff := cmp.Diff(read(t, e.dist, "sha256sums.txt"), read(t, again, "sha256sums.txt")); diff != "" {
		t.Errorf("made twice (-first +second):\n%s", diff)
	}
}

// files: there is what docs/release.md says, and sha256sum finds it whole.
func (e *environment) files(t *testing.T) {
	want := []string{"lightstep-injector-1.9.8.tgz", "lightstep-injector_image.digest", "lightstep-injector_image.tar", "sha256sums.txt"}
	platforms := linux()
	if *everyPlatform {
		platforms = everywhere()
	}
	for i := range platforms {
		want = append(want, fileName(&platforms[i]), fileName(&platforms[i])+".spdx.json")
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, namesIn(t, e.dist)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	lines := strings.Split(strings.TrimSpace(read(t, e.dist, "sha256sums.txt")), "\n")
	if len(lines) != len(want)-1 {
		t.Errorf("%d checksums of %d files", len(lines), len(want)-1)
	}
	for _, line := range lines {
		sum, file, _ := strings.Cut(line, "  ")
		if got, err := checksum(filepath.Join(e.dist, file)); err != nil || got != sum {
			t.Errorf("%s: %s, %v", line, got, err)
		}
	}
}

func (e *environment) eachImage(t *testing.T) {
	if len(e.images) != 2 {
		t.Fatalf("images for %v", e.images)
	}
	for architecture, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		t.Run(architecture, func(t *testing.T) { e.oneImage(t, architecture, machine) })
	}
}

// oneImage: the program and nothing else, for the right machine, run by a user that has no name, small.
func (e *environment) oneImage(t *testing.T, architecture string, machine elf.Machine) {
	image := e.images[architecture]
	config, err := image.ConfigFile()
	check(t, err)
	want := v1.Config{
		User: "65532:65532", Entrypoint: []string{"/lightstep-injector"}, WorkingDir: "/",
		Labels: map[string]string{
			"org.opencontainers.image.title":       "lightstep-injector",
			"org.opencontainers.image.description": "Label a namespace, and every pod created in it is set up to report its spans over TLS to your own CA",
			"org.opencontainers.image.source":      "https://github.com/lightstep-injector/lightstep-injector",
			"org.opencontainers.image.licenses":    "Apache-2.0",
			"org.opencontainers.image.version":     tag,
			"org.opencontainers.image.revision":    e.made.revision,
			"org.opencontainers.image.created":     config.Created.Format("2006-01-02T15:04:05Z"),
		},
	}
	if diff := cmp.Diff(want, config.Config); diff != "" || config.OS != "linux" || config.Architecture != architecture {
		t.Errorf("%s/%s (-want +got):\n%s", config.OS, config.Architecture, diff)
	}
	if got := namesIn(t, e.roots[architecture]); !slices.Equal(got, []string{"lightstep-injector"}) {
		t.Errorf("it has the files %v", got)
	}
	file := filepath.Join(e.roots[architecture], "lightstep-injector")
	program, err := elf.Open(file)
	check(t, err)
	defer program.Close()
	if libraries, err := program.ImportedLibraries(); program.Machine != machine || err != nil || len(libraries) > 0 {
		t.Errorf("for %s, with the libraries %v, %v", program.Machine, libraries, err)
	}
	info, err := os.Stat(file)
	check(t, err)
	if info.Mode() != 0o755 {
		t.Errorf("the program's mode is %s", info.Mode())
	}
	e.small(t, image)
	if sum, err := checksum(file); err != nil || !strings.Contains(read(t, e.dist, "sha256sums.txt"), sum+"  lightstep-injector_linux_"+architecture+"\n") {
		t.Errorf("it is not the program that is released beside it: %s, %v", sum, err)
	}
}

// small: at most 40 MB are pulled.
func (e *environment) small(t *testing.T, image v1.Image) {
	t.Helper()
	manifest, err := image.Manifest()
	check(t, err)
	size := manifest.Config.Size
	for _, layer := range manifest.Layers {
		size += layer.Size
	}
	t.Logf("%d bytes are pulled", size)
	if size > 40e6 {
		t.Error("which is too much")
	}
}

// annotations: a registry shows of the whole what the parts have as labels.
func (e *environment) annotations(t *testing.T) {
	manifest, err := e.made.index.IndexManifest()
	check(t, err)
	config, err := e.images["arm64"].ConfigFile()
	check(t, err)
	if diff := cmp.Diff(config.Config.Labels, manifest.Annotations); diff != "" {
		t.Errorf("(-labels +annotations):\n%s", diff)
	}
}

// sbom: an SPDX document names the modules that Go has noted in the program of the image, each with a licence that SPDX knows.
func (e *environment) sbom(t *testing.T) {
	for architecture, folder := range e.roots {
		file, err := os.Open(filepath.Join(e.dist, "lightstep-injector_linux_"+architecture+".spdx.json"))
		check(t, err)
		defer file.Close()
		document, err := spdxjson.Read(file)
		check(t, err)
		check(t, spdxlib.ValidateDocument(document))
		described, err := spdxlib.GetDescribedPackageIDs(document)
		check(t, err)
		info, err := buildinfo.ReadFile(filepath.Join(folder, "lightstep-injector"))
		check(t, err)
		want := map[string]string{info.Main.Path: tag, "stdlib": strings.TrimPrefix(info.GoVersion, "go")}
		for _, module := range info.Deps {
			want[module.Path] = module.Version
		}
		got, licences := map[string]string{}, map[string]string{}
		for _, p := range document.Packages {
			got[p.PackageName], licences[p.PackageName] = p.PackageVersion, p.PackageLicenseDeclared
			if valid, unknown := spdxexp.ValidateLicenses([]string{p.PackageLicenseDeclared}); !valid {
				t.Errorf("%s: a licence %v", p.PackageName, unknown)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" || len(document.Packages) != len(want) || len(want) < 50 {
			t.Errorf("%d packages (-modules +packages):\n%s", len(document.Packages), diff)
		}
		for module, licence := range map[string]string{info.Main.Path: "Apache-2.0", "stdlib": "BSD-3-Clause", "go.yaml.in/yaml/v3": "Apache-2.0 AND MIT", "go.uber.org/zap": "MIT"} {
			if licences[module] != licence {
				t.Errorf("%s has the licence %s", module, licences[module])
			}
		}
		main := document.Packages[0]
		if len(described) != 1 || described[0] != main.PackageSPDXIdentifier || len(document.Relationships) != len(want) ||
			!strings.Contains(read(t, e.dist, "sha256sums.txt"), main.PackageChecksums[0].Value+"  "+main.PackageFileName+"\n") {
			t.Errorf("it describes %v, %+v", described, main)
		}
	}
}

// pushed: a registry takes the image and gives it back, under its version, by any platform.
func (e *environment) pushed(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	repository := strings.TrimPrefix(server.URL, "http://") + "/lightstep-injector/lightstep-injector"
	check(t, push(t.Context(), repository, e.made))
	reference, err := name.ParseReference(repository + ":" + tag)
	check(t, err)
	pulled, err := remote.Index(reference)
	check(t, err)
	check(t, validate.Index(pulled))
	if got, want := digestOf(t, pulled), digestOf(t, e.made.index); got != want {
		t.Errorf("pulled %s, pushed %s", got, want)
	}
	for architecture, image := range e.images {
		pulled, err := remote.Image(reference, remote.WithPlatform(v1.Platform{OS: "linux", Architecture: architecture}))
		check(t, err)
		if got, want := digestOf(t, pulled), digestOf(t, image); got != want {
			t.Errorf("%s: pulled %s, the archive has %s", architecture, got, want)
		}
	}
}

// pushedChart: Helm pushes the chart as it was released, and installs it by its digest, as docs/release.md says. The chart is the
// one layer of what is pushed, which the release's workflow relies on.
func (e *environment) pushedChart(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	file := filepath.Join(e.dist, "lightstep-injector-1.9.8.tgz")
	charts := strings.TrimPrefix(server.URL, "http://") + "/lightstep-injector/charts"
	_, err := outputOf(exec.CommandContext(t.Context(), e.helm, "push", file, "oci://"+charts, "--plain-http"))
	check(t, err)
	reference, err := name.ParseReference(charts + "/lightstep-injector:1.9.8")
	check(t, err)
	image, err := remote.Image(reference)
	check(t, err)
	manifest, err := image.Manifest()
	check(t, err)
	if sum, err := checksum(file); err != nil || len(manifest.Layers) != 1 || manifest.Layers[0].Digest.Hex != sum {
		t.Errorf("the layers are %v, the chart is %s, %v", manifest.Layers, sum, err)
	}
	text, err := outputOf(exec.CommandContext(t.Context(), e.helm, "template", "lightstep-injector",
		"oci://"+charts+"/lightstep-injector@"+digestOf(t, image), "--plain-http"))
	check(t, err)
	if want := "ghcr.io/lightstep-injector/lightstep-injector@" + digestOf(t, e.made.index); !strings.Contains(text, want) {
		t.Errorf("installed by its digest, the chart has no %s", want)
	}
}

// TestUncommitted: a release is of a commit.
func TestUncommitted(t *testing.T) {
	source := tagged(t)
	check(t, os.WriteFile(filepath.Join(source, "new.txt"), nil, 0o600))
	o := options{root: source, out: filepath.Join(t.TempDir(), "dist"), platforms: linux()[:1]}
	if _, err := release(t.Context(), &o); err == nil || !strings.Contains(err.Error(), "commit them") {
		t.Errorf("it is not refused: %v", err)
	}
}

// TestRefused: what an engine would understand in another way is refused.
func TestRefused(t *testing.T) {
	source := filepath.Join(t.TempDir(), "source")
	check(t, checkOut(t.Context(), root, source))
	original := read(t, source, "Dockerfile")
	amd64 := &linux()[0]
	for _, test := range []struct{ old, new, says string }{
		{"FROM scratch", "FROM alpine", "known are"},
		{"golang:1.26.8", "rust:1", "known are"},
		{"@sha256:", "-", "needs a digest"},
		{"@sha256:", "@sha256:0", "needs a digest"},
		{"FROM scratch", "FROM scratch AS more\nFROM scratch", "3 stages"},
		{"COPY . .", "COPY cmd .", "it is COPY . ."},
		{`["/usr/local/go/bin/go"`, `["make"`, "it is RUN"},
		{`["/usr/local/go/bin/go"`, `go build #`, "it is RUN"},
		{"type=cache,target=/go", "type=secret,target=/go", "of the type cache"},
		{"ENV ", "VOLUME /x\nENV ", "this stage has"},
		{"GOARCH=$TARGETARCH", "GOARCH=$TARGETVARIANT", "not declared"},
		{"ARG TARGETOS", "ARG MORE", "no value is known"},
		{"--chmod=0755", "--chmod=4755", "it is COPY"},
		{"--from=compile", "--from=other", "it is COPY"},
		{`ENTRYPOINT ["/lightstep-injector"]`, "ENTRYPOINT /lightstep-injector", "no shell"},
		{"USER 65532", "HEALTHCHECK NONE\nUSER 65532", "this stage has"},
		{"ARG REVISION\n", "", "not declared"},
	} {
		changed := strings.Replace(original, test.old, test.new, 1)
		check(t, os.WriteFile(filepath.Join(source, "Dockerfile"), []byte(changed), 0o600))
		stage := t.TempDir()
		err := follow(t.Context(), source, stage, amd64)
		if changed == original || err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", test.new, err)
		}
	}
}

// follow follows both stages, the second first, around a file that stands for the program: what is refused is refused before anything
// is compiled.
func follow(ctx context.Context, source, stage string, platform *v1.Platform) error {
	err := errors.Join(os.Mkdir(filepath.Join(stage, "out"), 0o755), os.WriteFile(filepath.Join(stage, "out", program), nil, 0o600))
	if err != nil {
		return err
	}
	if _, err := imageFor(source, stage, platform, &build{version: tag, revision: "x"}); err != nil {
		return err
	}
	return compileFor(ctx, source, stage, platform)
}

func digestOf(t *testing.T, of interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	digest, err := of.Digest()
	check(t, err)
	return digest.String()
}

func namesIn(t *testing.T, folder string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	check(t, err)
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func read(t *testing.T, folder, file string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(folder, file))
	check(t, err)
	return string(content)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
