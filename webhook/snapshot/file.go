package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

// settleFile is how long after a first change a file is read: an editor's write comes in several steps.
const settleFile = 50 * time.Millisecond

// File is the configuration file.
type File struct {
	// Path is where it is. Its folder is watched, since a mounted ConfigMap changes by a symbolic link beside the file.
	Path string
	// Parse makes settings of its content, or says why not.
	Parse func([]byte) (*settings.Settings, error)

	content []byte
}

// Load reads the file.
func (f *File) Load() (*settings.Settings, error) {
	content, err := os.ReadFile(f.Path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	f.content = content
	return f.parse()
}

func (f *File) parse() (*settings.Settings, error) {
	parsed, err := f.Parse(f.content)
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", f.Path, err)
	}
	return parsed, nil
}

// Follow tells what becomes of the file until the context ends: each new content that is valid goes to use, and whatever
// else happens to it to refuse.
func (f *File) Follow(ctx context.Context, use func(*settings.Settings), refuse func(error)) (err error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch configuration: %w", err)
	}
	defer func() { err = errors.Join(err, watcher.Close()) }()
	if err := watcher.Add(filepath.Dir(f.Path)); err != nil {
		return fmt.Errorf("watch configuration %s: %w", f.Path, err)
	}
	settled := time.After(0) // what changed since Load is seen at once
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-watcher.Events:
			if settled == nil { // a busy neighbour in the folder must not put it off for ever
				settled = time.After(settleFile)
			}
		case err := <-watcher.Errors:
			refuse(fmt.Errorf("watch configuration %s: %w", f.Path, err))
		case <-settled:
			settled = nil
			f.reload(use, refuse)
		}
	}
}

// reload passes on what the file holds, if that is news.
func (f *File) reload(use func(*settings.Settings), refuse func(error)) {
	content, err := os.ReadFile(f.Path)
	if err != nil {
		f.content = nil
		refuse(fmt.Errorf("read configuration: %w", err))
		return
	}
	if f.content != nil && bytes.Equal(content, f.content) {
		return
	}
	f.content = content
	parsed, err := f.parse()
	if err != nil {
		refuse(err)
		return
	}
	use(parsed)
}
