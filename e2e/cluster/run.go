package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// Run is a folder under .cache/run for the files of one run: data, logs, certificates. Its process holds a lock on it,
// which the kernel releases however the process ends; a folder without one is left over, and the next run removes it.
type Run struct {
	Dir string
	// Seen, where it is set, is shown what a part of the run answers to a test and leaves in no file: what sort of thing it
	// is, and the text. Several goroutines may call it.
	Seen func(what string, text []byte)

	lock *os.File
}

// Show shows Seen something.
func (r *Run) Show(what string, text []byte) {
	if r.Seen != nil {
		r.Seen(what, text)
	}
}

// NewRun makes a run's folder and removes those of runs that have gone. root is the repository's root.
func NewRun(root string) (*Run, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("make the folder for runs: %w", err)
	}
	parent := filepath.Join(root, ".cache", "run")
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder for runs: %w", err)
	}
	// One at a time: a folder that another run has just made does not have its lock yet.
	gate, err := lockFile(filepath.Join(parent, ".lock"), syscall.LOCK_EX)
	if err != nil {
		return nil, fmt.Errorf("lock the folder for runs: %w", err)
	}
	defer func() { _ = gate.Close() }()
	if err := sweep(parent); err != nil {
		return nil, fmt.Errorf("remove the folders of earlier runs: %w", err)
	}
	dir, err := os.MkdirTemp(parent, fmt.Sprintf("%d-", os.Getpid()))
	if err != nil {
		return nil, fmt.Errorf("make the run's folder: %w", err)
	}
	lock, err := lockFile(filepath.Join(dir, "lock"), syscall.LOCK_EX)
	if err != nil {
		return nil, fmt.Errorf("lock the run's folder: %w", err)
	}
	return &Run{Dir: dir, lock: lock}, nil
}

// Remove removes the folder.
func (r *Run) Remove() error {
	return errors.Join(os.RemoveAll(r.Dir), r.lock.Close())
}

// Log is the file for the log of the component so named.
func (r *Run) Log(component string) string { return filepath.Join(r.Dir, component+".log") }

// sweep removes every folder whose lock nobody holds.
func sweep(parent string) error {
	locks, err := filepath.Glob(filepath.Join(parent, "*", "lock"))
	if err != nil {
		return err
	}
	for _, path := range locks {
		lock, err := lockFile(path, syscall.LOCK_EX|syscall.LOCK_NB)
		if err != nil {
			continue // in use
		}
		if err := errors.Join(os.RemoveAll(filepath.Dir(path)), lock.Close()); err != nil {
			return err
		}
	}
	return nil
}

func lockFile(path string, how int) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), how); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}
