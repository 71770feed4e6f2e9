package snapshot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// soon bounds what a test waits for; nothing takes this long unless it is broken.
const soon = 10 * time.Second

// follower is a File followed, and what became of it.
type follower struct {
	used    chan *settings.Settings
	refused chan error
}

func follow(t *testing.T, file *File) follower {
	t.Helper()
	f := follower{used: make(chan *settings.Settings, 10), refused: make(chan error, 10)}
	ctx, done := t.Context(), make(chan error, 1)
	go func() {
		done <- file.Follow(ctx, func(s *settings.Settings) { f.used <- s }, func(err error) { f.refused <- err })
	}()
	t.Cleanup(func() { // the context has ended
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return f
}

func (f follower) expectUse(t *testing.T, want *settings.Settings) {
	t.Helper()
	select {
	case got := <-f.used:
		if got.Hash() != want.Hash() {
			t.Errorf("configuration %s is in force, want %s", got.Hash(), want.Hash())
		}
	case err := <-f.refused:
		t.Fatalf("refused: %s", err)
	case <-time.After(soon):
		t.Fatal("the new configuration is not in force")
	}
}

func (f follower) expectRefusal(t *testing.T, want string) {
	t.Helper()
	select {
	case <-f.used:
		t.Fatal("the configuration is in force")
	case err := <-f.refused:
		if !strings.Contains(err.Error(), want) {
			t.Errorf("refused with %q, want %q in it", err, want)
		}
	case <-time.After(soon):
		t.Fatal("the configuration is not refused")
	}
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFileIsFollowed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	write(t, path, configurationFile("one"))
	file := &File{Path: path, Parse: settings.Parse}
	first, err := file.Load()
	if err != nil || first.Hash() != configuration(t, "one").Hash() {
		t.Fatalf("load: %v", err)
	}
	write(t, path, configurationFile("two")) // between Load and Follow
	f := follow(t, file)
	f.expectUse(t, configuration(t, "two"))
	write(t, path, []byte("apiVersion: v9\n"))
	f.expectRefusal(t, path)
	write(t, path, configurationFile("three"))
	f.expectUse(t, configuration(t, "three"))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	f.expectRefusal(t, "read configuration")
	write(t, path, configurationFile("three"))
	f.expectUse(t, configuration(t, "three"))
}

// A mounted ConfigMap's file is a link to a link, and the latter is swapped: the file itself never sees an event.
func TestMountedConfigMapIsFollowed(t *testing.T) {
	dir := t.TempDir()
	version := func(name string) {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name, "config.yaml"), configurationFile(name))
		if err := os.Symlink(name, filepath.Join(dir, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version("one")
	if err := os.Symlink(filepath.Join("..data", "config.yaml"), filepath.Join(dir, "config.yaml")); err != nil {
		t.Fatal(err)
	}
	file := &File{Path: filepath.Join(dir, "config.yaml"), Parse: settings.Parse}
	if _, err := file.Load(); err != nil {
		t.Fatal(err)
	}
	f := follow(t, file)
	version("two")
	f.expectUse(t, configuration(t, "two"))
}

func TestLoadSaysWhichFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.yaml")
	if _, err := (&File{Path: path, Parse: settings.Parse}).Load(); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v does not name %s", err, path)
	}
}
