package e2e

import (
	"maps"
	"testing"

	"github.com/bindery-hub/bindery/source/sourcetest"
)

// made returns the URL of a fresh repository with these files on main.
func made(t testing.TB, files map[string]string) string {
	t.Helper()
	repo := sourcetest.Start(t).Repo("ann/made")
	repo.Commit("main", files)
	return repo.URL
}

// requirements is the smallest repository with an environment of its own.
func requirements(more map[string]string) map[string]string {
	files := map[string]string{"requirements.txt": "six==1.16.0\n", "README.md": "# Sample\n"}
	maps.Copy(files, more)
	return files
}
