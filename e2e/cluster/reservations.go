package cluster

import (
	"os"
	"path/filepath"
)

// envtest reserves each port that it picks by a file in the user's cache folder, and removes none. Once the port is in
// use the file has no use any more.
type reservations map[string]bool

func reservationsFolder() (string, error) {
	cache, err := os.UserCacheDir()
	return filepath.Join(cache, "kubebuilder-envtest"), err
}

// currentReservations lists those that there are.
func currentReservations() reservations {
	found := reservations{}
	folder, err := reservationsFolder()
	if err != nil {
		return found // then envtest had to do without the folder, too
	}
	files, err := filepath.Glob(filepath.Join(folder, "port-*"))
	if err != nil {
		return found // the pattern is fine
	}
	for _, file := range files {
		found[file] = true
	}
	return found
}

// removeNew removes those that were not there before, and the folder if that empties it.
func (before reservations) removeNew() {
	for file := range currentReservations() {
		if !before[file] {
			_ = os.Remove(file) // gone already is fine, and a file that stays does no harm
		}
	}
	if folder, err := reservationsFolder(); err == nil {
		_ = os.Remove(folder) // stays if it is not empty
	}
}
