package condatest_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/bindery-hub/bindery/internal/condatest"
)

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	if d := os.Getenv("OUT"); d != "" {
		dir = d
	}
	all, err := condatest.Sample(t.Context(), "3.10", "3.11")
	if err != nil {
		t.Fatal(err)
	}
	if err := condatest.Write(t.Context(), dir, all...); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"noarch/repodata.json", "linux-64/repodata.json", "noarch/greet-1.0-py_0.conda", "linux-64/oldgreet-0.9-0.tar.bz2"} {
		if _, err := os.Stat(filepath.Join(dir, f)); err != nil {
			t.Error(err)
		}
	}
}
