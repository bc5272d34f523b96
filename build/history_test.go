package build_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bindery "github.com/bindery-hub/bindery"
)

// A history is a repository that its authors work on. It has the shape of real ones: most commits write, some touch
// what the environment comes from, and some of those take back what an earlier one did, or change a comment only.
type history struct {
	t            *testing.T
	dir          string
	rand         *rand.Rand
	requirements []string
	apt          []string
}

func newHistory(t *testing.T, seed uint64) *history {
	h := &history{t: t, dir: t.TempDir(), rand: rand.New(rand.NewPCG(seed, 1)), requirements: []string{"numpy", "pandas"}, apt: []string{"git"}}
	h.spec()
	for i := range 5 {
		h.write(fmt.Sprintf("notebook-%d.ipynb", i), "{}")
	}
	h.write("postBuild", "#!/bin/bash\n")
	return h
}

func (h *history) write(name, text string) {
	h.t.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, name), []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

func (h *history) spec() {
	h.write("requirements.txt", strings.Join(h.requirements, "\n")+"\n")
	h.write("apt.txt", strings.Join(h.apt, "\n")+"\n")
}

// environment changes what the environment comes from.
func (h *history) environment(n int) {
	switch at := h.rand.IntN(len(h.requirements)); h.rand.IntN(5) {
	case 0:
		h.requirements = append(h.requirements, fmt.Sprintf("package-%d", n))
	case 1:
		name, _, _ := strings.Cut(h.requirements[at], "==")
		h.requirements[at] = fmt.Sprintf("%s==1.%d", name, n)
	case 2:
		h.apt = append(h.apt, fmt.Sprintf("tool%d", n))
	case 3:
		h.apt = append(h.apt, fmt.Sprintf("# a remark, the %dth", n)) // means nothing
	case 4:
		if len(h.requirements) > 2 { // away with the last one
			h.requirements = h.requirements[:len(h.requirements)-1]
		}
	}
	h.spec()
}

// work changes anything else.
func (h *history) work(n int) {
	switch h.rand.IntN(8) {
	case 0:
		h.write("README.md", fmt.Sprintf("# Edition %d\n", n))
	case 1:
		h.write("postBuild", fmt.Sprintf("#!/bin/bash\necho %d\n", n))
	case 2:
		h.write(fmt.Sprintf("data-%d.csv", n), "1,2\n")
	default:
		h.write(fmt.Sprintf("notebook-%d.ipynb", h.rand.IntN(5)), fmt.Sprintf(`{"edition": %d}`, n))
	}
}

// Of 200 commits a fifth touch the environment: at most a quarter of the builds, the first included, make one. All
// others add content to one that is there.
func TestHistory(t *testing.T) {
	const commits = 200
	for seed := range uint64(5) {
		h := newHistory(t, seed)
		e := &engine{}
		b, _ := newBuilder(t, sources{}, e)
		for n := range commits {
			switch {
			case n == 0:
			case n%5 == 1: // exactly a fifth
				h.environment(n)
			default:
				h.work(n)
			}
			src := bindery.Source{Provider: bindery.ProviderLocal, URL: h.dir}
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
