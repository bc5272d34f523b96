package buildkit_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/plan"
)

func quietSolve(b *testing.B, j plan.Job) plan.Made {
	b.Helper()
	made, err := shared(b).Solve(b.Context(), j, func(bindery.Event) {})
	if err != nil {
		b.Fatal(err)
	}
	return made
}

func requirementsJob(b *testing.B, name, requirements string) plan.Job {
	j := job(name, repo(b, "requirements.txt", requirements, "index.ipynb", "{}", "data.csv", "1,2\n"))
	j.Plan.Reads = []string{"requirements.txt"}
	j.Plan.Env = []plan.Install{{Tool: "pip", Files: []string{"requirements.txt"}}}
	return j
}

func BenchmarkNothingChanged(b *testing.B) {
	j := requirementsJob(b, "bench-noop", "six\n")
	quietSolve(b, j)
	for b.Loop() {
		quietSolve(b, j)
	}
}

func BenchmarkOneFileChanged(b *testing.B) {
	j := requirementsJob(b, "bench-file", "six\n")
	quietSolve(b, j)
	n := 0
	for b.Loop() {
		n++
		if err := os.WriteFile(filepath.Join(j.Dir, "index.ipynb"), fmt.Appendf(nil, "{%d}", n), 0o644); err != nil {
			b.Fatal(err)
		}
		quietSolve(b, j)
	}
}

// BenchmarkRequirementsChanged has its packages in the cache and installs them anew.
func BenchmarkRequirementsChanged(b *testing.B) {
	quietSolve(b, requirementsJob(b, "bench-warm", "numpy\npandas\nmatplotlib\n"))
	n := 0
	for b.Loop() {
		n++
		quietSolve(b, requirementsJob(b, "bench-warm", fmt.Sprintf("numpy\npandas\nmatplotlib\n# %d\n", n)))
	}
}
