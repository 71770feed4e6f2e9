package inject_test

import (
	"bytes"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const module = "github.com/lightstep-injector/lightstep-injector/"

// imported is a package of the core's dependencies, as `go list -json` tells it.
type imported struct {
	ImportPath string
	Imports    []string
	Standard   bool
}

// TestPureImports holds the pure core to its rule: no I/O, no clock, no logger, no metrics, no Kubernetes client. Of the
// standard library our own imports count, of everything else whatever is reached.
func TestPureImports(t *testing.T) {
	impure := []string{
		"context", "crypto/rand", "io/fs", "log", "log/slog", "math/rand", "math/rand/v2", "net", "net/http", "os",
		"os/exec", "sync", "sync/atomic", "time",
	}
	clients := []string{
		"k8s.io/client-go", "k8s.io/api/", "sigs.k8s.io/controller-runtime", "go.uber.org/zap", "github.com/prometheus/",
		module + "webhook/snapshot", module + "certs",
	}
	isClient := func(path string) bool {
		return slices.ContainsFunc(clients, func(prefix string) bool { return strings.HasPrefix(path, prefix) })
	}
	packages := dependencies(t, module+"webhook/inject", module+"webhook/istio", module+"webhook/settings")
	for _, p := range packages {
		if isClient(p.ImportPath) {
			t.Errorf("the core reaches %s", p.ImportPath)
		}
		if !strings.HasPrefix(p.ImportPath, module) {
			continue
		}
		for _, path := range p.Imports {
			if slices.Contains(impure, path) {
				t.Errorf("%s imports %s", p.ImportPath, path)
			}
		}
	}
}

func dependencies(t *testing.T, roots ...string) []imported {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list", "-deps", "-json=ImportPath,Imports,Standard"}, roots...)...).Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []imported
	for dec := jsontext.NewDecoder(bytes.NewReader(out)); dec.PeekKind() == '{'; {
		var p imported
		if err := json.UnmarshalDecode(dec, &p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 20 {
		t.Fatalf("go list names %d packages: something is wrong with this test", len(all))
	}
	return all
}
