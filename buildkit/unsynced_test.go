package buildkit_test

import (
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/mount"
)

// TestNothingWaitsForTheDisk looks at how the roots of steps and of sessions are mounted, and that a session's can be mounted
// again.
func TestNothingWaitsForTheDisk(t *testing.T) {
	e := shared(t)
	j := job("unsynced", repo(t, "postBuild", "#!/bin/sh\ngrep ' / overlay .*volatile' /proc/mounts\n"))
	j.Plan.PostBuild = "postBuild"
	made := solve(t, e, j)
	for range 2 {
		root, err := e.Prepare(t.Context(), "unsynced", made.Image.Name)
		if err != nil {
			t.Fatal(err)
		}
		dir := tempDir(t)
		for _, m := range root.Mounts {
			if err := (&mount.Mount{Type: m.Type, Source: m.Source, Options: m.Options}).Mount(dir); err != nil {
				t.Fatal(err)
			}
		}
		info, err := mount.Lookup(dir)
		if err != nil || !strings.Contains(info.VFSOptions, "volatile") {
			t.Errorf("the session's root is mounted with %q, %v", info.VFSOptions, err)
		}
		if err := mount.UnmountAll(dir, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Release(t.Context(), "unsynced"); err != nil {
		t.Error(err)
	}
}
