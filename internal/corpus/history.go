package corpus

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// A History is a repository that its authors work on. It has the shape of real ones: most commits write, a fifth touch
// what the environment comes from, and some of those take back what an earlier one did, or change a comment only.
type History struct {
	dir          string
	rand         *rand.Rand
	commits      int
	requirements []string
	apt          []string
	err          error // the first
}

// What its environment is made of: small packages without dependencies, in versions that the public index has.
var (
	historysRequirements = []string{"six", "toolz", "click", "idna", "certifi", "attrs", "packaging", "tabulate", "wcwidth", "zipp", "colorama", "docopt-ng"}
	historysVersions     = map[string][]string{
		"six": {"1.15.0", "1.16.0", "1.17.0"}, "toolz": {"0.11.2", "0.12.1", "1.0.0"}, "click": {"8.0.4", "8.1.7", "8.1.8"}, "idna": {"3.4", "3.7", "3.10"},
		"attrs": {"23.1.0", "23.2.0", "24.2.0"}, "packaging": {"23.1", "23.2", "24.1"}, "tabulate": {"0.8.10", "0.9.0"}, "zipp": {"3.17.0", "3.18.1", "3.20.2"},
	}
	historysPackages = []string{"tree", "jq", "less", "time", "bc", "dos2unix", "moreutils", "pv"}
)

// NewHistory begins a history in dir, an empty directory.
func NewHistory(dir string, seed uint64) *History {
	return &History{dir: dir, rand: rand.New(rand.NewPCG(seed, 1)), requirements: []string{"six", "toolz"}, apt: []string{"tree"}}
}

// Commit makes the next change: the first writes the whole repository, of all others every fifth touches the environment.
func (h *History) Commit() error {
	n := h.commits
	h.commits++
	switch {
	case n == 0:
		h.specs()
		for i := range 5 {
			h.write(fmt.Sprintf("notebook-%d.ipynb", i), "{}")
		}
		h.write("postBuild", "#!/bin/bash\n")
	case n%5 == 1:
		h.environment(n)
	default:
		h.work(n)
	}
	return h.err
}

func (h *History) write(name, text string) {
	if h.err == nil {
		h.err = os.WriteFile(filepath.Join(h.dir, name), []byte(text), 0o644)
	}
}

func (h *History) specs() {
	h.write("requirements.txt", strings.Join(h.requirements, "\n")+"\n")
	h.write("apt.txt", strings.Join(h.apt, "\n")+"\n")
}

// environment changes what the environment comes from.
func (h *History) environment(n int) {
	switch at := h.rand.IntN(len(h.requirements)); h.rand.IntN(5) {
	case 0:
		h.requirements = added(h.requirements, historysRequirements[h.rand.IntN(len(historysRequirements))])
	case 1:
		name, _, _ := strings.Cut(h.requirements[at], "==")
		if versions := historysVersions[name]; versions != nil {
			h.requirements[at] = name + "==" + versions[h.rand.IntN(len(versions))]
		}
	case 2:
		h.apt = added(h.apt, historysPackages[h.rand.IntN(len(historysPackages))])
	case 3:
		h.apt = append(h.apt, fmt.Sprintf("# a remark, the %dth", n)) // means nothing
	case 4:
		if len(h.requirements) > 2 { // away with the last one
			h.requirements = h.requirements[:len(h.requirements)-1]
		}
	}
	h.specs()
}

// added returns list with name, unless it has it, in whatever version.
func added(list []string, name string) []string {
	for _, have := range list {
		if have, _, _ = strings.Cut(have, "=="); have == name {
			return list
		}
	}
	return append(list, name)
}

// work changes anything else.
func (h *History) work(n int) {
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
