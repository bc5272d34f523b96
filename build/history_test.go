package build_test

import (
	"testing"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/internal/corpus"
)

// Of 200 commits a fifth touch the environment: at most a quarter of the builds, the first included, make one. All
// others add content to one that is there.
func TestHistory(t *testing.T) {
	const commits = 200
	for seed := range uint64(5) {
		dir := t.TempDir()
		h := corpus.NewHistory(dir, seed)
		e := &engine{}
		b, _ := newBuilder(t, sources{}, e)
		for range commits {
			if err := h.Commit(); err != nil {
				t.Fatal(err)
			}
			src := bindery.Source{Provider: bindery.ProviderLocal, URL: dir}
			if _, err := b.Build(t.Context(), bindery.BuildRequest{ID: "b", Attempt: 1, Source: src}, func(bindery.Event) {}); err != nil {
				t.Fatal(err)
			}
		}
		environments := map[string]bool{}
		for _, j := range e.jobs {
			environments[j.EnvKey] = true
		}
		if len(environments) > commits/4 || len(environments) < commits/20 {
			t.Errorf("seed %d: %d environments for %d commits", seed, len(environments), commits)
		}
		if len(e.jobs) < commits*8/10 {
			t.Errorf("seed %d: only %d images for %d commits", seed, len(e.jobs), commits)
		}
		t.Logf("seed %d: %d commits, %d images, %d environments", seed, commits, len(e.jobs), len(environments))
	}
}
