package e2e

import (
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
	"github.com/bindery-hub/bindery/source/sourcetest"
)

// TestQuickBuilds builds three commits. The second one changes a file that no environment reads: it is built beside the
// slots, out of what is there. The third one changes the environment: it is tried the same way, and waits for a slot.
func TestQuickBuilds(t *testing.T) {
	h := theHub(t)
	srv := sourcetest.Start(t)
	repo := srv.Repo("ann/quick")
	client := h.client(t)
	build := func(files map[string]string) bindery.Build {
		t.Helper()
		commit := repo.Commit("main", files)
		src := bindery.Source{Provider: bindery.ProviderGit, URL: srv.URL + "/ann/quick", Ref: commit}
		var b bindery.Build
		eventually(t, 3*time.Minute, "the build has ended", func() bool {
			var err error
			if b, err = client.Submit(t.Context(), api.NewBuild{Source: src}); err != nil {
				t.Fatal(err)
			}
			return b.State.Ended()
		})
		if b.State != bindery.BuildSucceeded {
			t.Fatalf("built: %+v\n%s", b, h.tail())
		}
		return b
	}
	first := build(requirements(map[string]string{"index.ipynb": "one"}))
	second := build(requirements(map[string]string{"index.ipynb": "two"}))
	if first.Quick || !second.Quick || second.Attempt != 1 || second.Result.EnvKey != first.Result.EnvKey || second.Result.ImageKey == first.Result.ImageKey {
		t.Errorf("another notebook: %+v after %+v", second, first)
	}
	t.Logf("in %v after %v", second.Ended.Sub(second.Started), first.Ended.Sub(first.Started))
	third := build(map[string]string{"requirements.txt": "idna==3.10\n", "index.ipynb": "two"})
	if third.Quick || third.Attempt != 2 || third.Charged != 0 || third.Result.EnvKey == first.Result.EnvKey {
		t.Errorf("another environment: %+v", third)
	}
}
