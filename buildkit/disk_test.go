package buildkit

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	bindery "github.com/bindery-hub/bindery"
)

// TestShareOut gives each layer to the image that stands on it alone, to all images, to sessions or to the build cache.
func TestShareOut(t *testing.T) {
	layer := func(parent string, size int64) *heldLayer {
		return &heldLayer{parent: parent, size: size, images: map[string]bool{}}
	}
	layers := map[string]*heldLayer{
		"base": layer("", 1000), "env": layer("base", 200), "a": layer("env", 30), "b": layer("env", 4), "c": layer("base", 500),
		"step": layer("env", 60), "s1": layer("a", 7), "lost": layer("gone", 8),
	}
	layers["s1"].session = true
	got := shareOut(layers, map[string]string{"a": "a", "b": "b", "c": "c", "same as c": "c", "removed": "not there"})
	want := bindery.DiskUse{
		Images: 34, Shared: 1700, Sessions: 7, Cache: 68,
		Own: map[string]int64{"a": 30, "b": 4, "c": 0, "same as c": 0, "removed": 0},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	var sum int64
	for _, l := range layers {
		sum += l.size
	}
	if parts := got.Images + got.Shared + got.Sessions + got.Cache; parts != sum {
		t.Errorf("the parts add up to %d, the layers to %d", parts, sum)
	}
}

// TestOnDisk counts what files take, each once however many names it has, and leaves out what is counted elsewhere.
func TestOnDisk(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, size int) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	measure := func() int64 {
		t.Helper()
		n, err := onDisk(t.Context(), dir, filepath.Join(dir, "held"), filepath.Join(dir, "x", "mounted"))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	write("x/kept", 1)
	before := measure()
	write("x/more", 1<<20)
	after := measure()
	if after-before < 1<<20 || after-before > 1<<20+1<<16 {
		t.Errorf("a file of 1 MiB takes %d bytes", after-before)
	}
	if err := os.Link(filepath.Join(dir, "x/more"), filepath.Join(dir, "x/again")); err != nil {
		t.Fatal(err)
	}
	write("held/layer", 1<<20)
	write("x/mounted/layer", 1<<20)
	if n := measure(); n != after {
		t.Errorf("with another name of it, and what is counted elsewhere: %d, want %d", n, after)
	}
	if n, err := onDisk(t.Context(), filepath.Join(dir, "none")); n != 0 || err != nil {
		t.Errorf("what is not there: %d, %v", n, err)
	}
}
