package install

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/text"

	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/issuer"
	"github.com/lightstep-injector/lightstep-injector/e2e/report"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// section is what a document says under a heading: files, by the name that their first line has in a comment, commands in
// fences (`sh`), and commands in the midst of a line.
type section struct {
	heading         string
	files           map[string]string
	fenced, inlined []string
}

// read reads a document of docs.
func read(t *testing.T, document string) []*section {
	t.Helper()
	source, err := os.ReadFile(filepath.Join(root, "docs", document))
	stage.Check(t, err)
	now := &section{files: map[string]string{}}
	sections := []*section{now}
	stage.Check(t, ast.Walk(goldmark.DefaultParser().Parse(text.NewReader(source)), func(node ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := node.(type) {
		case *ast.Heading:
			now = &section{heading: string(n.Lines().Value(source)), files: map[string]string{}}
			sections = append(sections, now)
		case *ast.FencedCodeBlock:
			now.fence(string(n.Language(source)), string(n.Lines().Value(source)))
		case *ast.Text:
			_, span := n.Parent().(*ast.CodeSpan)
			if code := string(n.Value(source)); span && command().MatchString(code) {
				now.inlined = append(now.inlined, code)
			}
		}
		return ast.WalkContinue, nil
	}))
	return sections
}

// command is how a command begins.
func command() *regexp.Regexp { return regexp.MustCompile(`^(kubectl|helm|lightstep-injector) .*\S`) }

func (s *section) fence(language, content string) {
	switch language {
	case "sh":
		s.fenced = append(s.fenced, content)
	case "yaml":
		if name, _, named := strings.Cut(strings.TrimPrefix(content, "# "), "\n"); named && strings.HasSuffix(name, ".yaml") {
			s.files[name] = content
		}
	}
}

// reader is somebody who does what the documents say, in a folder of their own.
type reader struct {
	*environment
	dir string
	// cleanUp has something done when all has been read.
	cleanUp func(func())
}

// fails are the commands that are to fail, by their exit codes: they tell of something that the documents have just brought about.
func fails() map[string]int {
	return map[string]int{"lightstep-injector status --config new.yaml": 1}
}

// placeholders stand for what a reader has.
func placeholders() *strings.Replacer {
	return strings.NewReplacer("NAMESPACE", "read", "POD", "probe", "FILE", "new.yaml")
}

// run runs a fence's commands, one after the other.
func (r *reader) run(t *testing.T, fence string) {
	t.Helper()
	for line := range strings.SplitSeq(strings.TrimSpace(strings.ReplaceAll(fence, "\\\n", " ")), "\n") {
		line, _, _ = strings.Cut(line, " #")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "sh", "-c", placeholders().Replace(line))
		cmd.Dir = r.dir
		cmd.Env = append(os.Environ(), "PATH="+filepath.Join(r.dir, "bin")+":"+os.Getenv("PATH"), "KUBECONFIG="+r.Cluster.Kubeconfig,
			"CONTROLPLANE_PARENT=", // the shell is in between
			"HELM_CACHE_HOME="+r.dir, "HELM_CONFIG_HOME="+r.dir, "HELM_DATA_HOME="+r.dir)
		output, _ := cmd.CombinedOutput()
		if want := fails()[strings.TrimSpace(line)]; cmd.ProcessState.ExitCode() != want {
			t.Errorf("$ %s\nexit %d, wanted %d: %s", line, cmd.ProcessState.ExitCode(), want, output)
		}
	}
}

// TestDocuments: every command in install.md and in operations.md is run, in the order that they are there. Each section of
// install.md that takes more than the one before has left is named here, with what it takes.
func TestDocuments(t *testing.T) {
	e := setUp(t)
	r := &reader{e, t.TempDir(), t.Cleanup}
	r.prepare(t)
	before := map[string]func(*testing.T){
		"By cert-manager":        r.certManager,
		"A certificate of yours": r.certificate,
		"With kustomize":         func(t *testing.T) { stage.Check(t, e.helm.Uninstall(t.Context(), e.Cluster, "--wait")) },
		"Uninstall":              r.operations,
	}
	for _, s := range read(t, "install.md") {
		t.Run(strings.ReplaceAll(s.heading, " ", "-"), func(t *testing.T) {
			if prepare := before[s.heading]; prepare != nil {
				prepare(t)
			}
			r.section(t, s)
		})
	}
}

// section does what a section says.
func (r *reader) section(t *testing.T, s *section) {
	t.Helper()
	for name, content := range s.files {
		stage.Check(t, os.WriteFile(filepath.Join(r.dir, name), []byte(content), 0o600))
	}
	for _, fence := range s.fenced {
		r.run(t, fence)
	}
}

// follow does what one section says, again.
func (r *reader) follow(t *testing.T, document, heading string) {
	t.Helper()
	sections := read(t, document)
	r.section(t, sections[slices.IndexFunc(sections, func(s *section) bool { return s.heading == heading })])
}

// prepare gives the reader the programs, the repository's manifests, a namespace with a workload, and the files that are theirs to
// bring.
func (r *reader) prepare(t *testing.T) {
	t.Helper()
	bin := filepath.Join(r.dir, "bin")
	stage.Check(t, os.Mkdir(bin, 0o755))
	for name, program := range map[string]string{"kubectl": controlPlane(t), "helm": r.helm.Binary(), "lightstep-injector": r.Program} {
		stage.Check(t, os.Symlink(program, filepath.Join(bin, name)))
	}
	stage.Check(t, os.CopyFS(filepath.Join(r.dir, "manifests"), os.DirFS(filepath.Join(root, "manifests"))))
	ca, err := injector.NewCA("satellite CA")
	stage.Check(t, err)
	const deployment = `{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {selector: {matchLabels: {app: web}},
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: web, image: web}]}}}}`
	const config = "apiVersion: injector.lightstep.com/v1alpha1\nkind: InjectorConfiguration\nprofiles: {default: {sampling: 10, satellite: {address: other.example:443}}}\n"
	for name, content := range map[string]string{
		"cacert.pem": string(ca.PEM), "deployment.yaml": deployment,
		"config.yaml": config, "new.yaml": strings.Replace(config, "sampling: 10", "sampling: 20", 1),
	} {
		stage.Check(t, os.WriteFile(filepath.Join(r.dir, name), []byte(content), 0o600))
	}
	r.Namespace(t, "read", nil, nil)
	r.kubectl(t, "apply", "-n", "read", "-f", filepath.Join(r.dir, "deployment.yaml"))
}

// mentions are what begins as a command does, and is none: it names one, or leaves out what it is about. The last two take a
// kubelet, to forward a port.
func mentions() []string {
	return []string{
		"kubectl rollout restart", "kubectl describe", "kubectl logs --previous", "helm template", "helm upgrade", "helm test",
		"lightstep-injector inject", "lightstep-injector render istio",
		"kubectl port-forward service/lightstep-injector --namespace lightstep-system 8443:443",
		"lightstep-injector check --service-address localhost:8443",
	}
}

// operations installs it once more, and does what operations.md says, and what both documents say in the midst of a line. To turn it
// off, which is how operations.md begins, is the last of it.
func (r *reader) operations(t *testing.T) {
	r.follow(t, "install.md", "With Helm")
	r.kubectl(t, "run", "probe", "--image=none", "-n", "read")
	sections := read(t, "operations.md")
	for _, s := range slices.Concat(read(t, "install.md"), sections) {
		for _, code := range s.inlined {
			if !slices.Contains(mentions(), code) {
				r.run(t, code)
			}
		}
	}
	slices.Reverse(sections)
	for _, s := range sections {
		r.section(t, s)
	}
}

// certManager has the reader's cluster have it.
func (r *reader) certManager(t *testing.T) {
	manager, err := issuer.Build(t.Context(), root, func() {
		report.New(os.Stdout).Linef("cert-manager is built from source the first time: a minute or two.")
	})
	stage.Check(t, err)
	stage.Check(t, manager.Install(r.Cluster))
	stage.Check(t, manager.Start(r.Cluster, r.Run))
	r.cleanUp(func() { stage.LogOnFailure(t, manager.LogFile()); stage.Check(t, manager.Stop()) })
}

// certificate gives the reader one for the webhook, and its CA.
func (r *reader) certificate(t *testing.T) {
	ca, err := injector.NewCA("webhook CA")
	stage.Check(t, err)
	certFile, keyFile, err := ca.WriteServing(t.TempDir(), "lightstep-injector.lightstep-system.svc")
	stage.Check(t, err)
	stage.Check(t, os.Rename(certFile, filepath.Join(r.dir, "tls.crt")))
	stage.Check(t, os.Rename(keyFile, filepath.Join(r.dir, "tls.key")))
	stage.Check(t, os.WriteFile(filepath.Join(r.dir, "ca.pem"), ca.PEM, 0o600))
}
