package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// checkOut copies the working tree of a repository, as git sees it, into a new folder, with the history: what COPY would bring into an
// image. Uncommitted changes and new files come along, and Go notes of the program that there were some. A worktree's history is
// elsewhere, where Go does not look, so it is cloned.
func checkOut(ctx context.Context, root, into string) error {
	if _, err := git(ctx, ".", "clone", "--quiet", "--no-checkout", root, into); err != nil {
		return err
	}
	if _, err := git(ctx, into, "reset", "--quiet"); err != nil {
		return err
	}
	seconds, err := git(ctx, into, "log", "-1", "--format=%ct")
	if err != nil {
		return err
	}
	at, err := strconv.ParseInt(strings.TrimSpace(seconds), 10, 64)
	if err != nil {
		return fmt.Errorf("read the commit's time: %w", err)
	}
	files, err := git(ctx, root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(files, "\x00"), "\x00") {
		if err := copyFile(filepath.Join(root, name), filepath.Join(into, name), time.Unix(at, 0)); err != nil {
			return err
		}
	}
	return nil
}

// copyFile copies one that may have been removed since it was committed.
func copyFile(from, to string, at time.Time) error {
	info, err := os.Lstat(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		target, err := os.Readlink(from)
		return errors.Join(err, os.Symlink(target, to))
	}
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(to, content, info.Mode().Perm()), os.Chtimes(to, at, at))
}

// git returns what git prints.
func git(ctx context.Context, folder string, args ...string) (string, error) {
	return outputOf(exec.CommandContext(ctx, "git", append([]string{"-C", folder}, args...)...))
}

// outputOf returns what a command prints, or an error with its complaints.
func outputOf(cmd *exec.Cmd) (string, error) {
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	text, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w:\n%s", strings.Join(cmd.Args, " "), err, &complaints)
	}
	return string(text), nil
}
