package buildkit_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/buildkit"
	"github.com/bindery-hub/bindery/plan"
)

// besidePip installs by pip in the image, as repo2docker does: with nothing cached, then to fill a cache, then from it. Like
// Bindery it installs what is not there already, and each time is a step's, its container included.
const besidePip = `RUN sync
RUN python -m pip install --quiet --disable-pip-version-check --no-cache-dir --prefix /tmp/cold -r requirements-of-pip.txt
RUN --mount=type=cache,target=/tmp/cache,uid=1000 python -m pip install --quiet --cache-dir /tmp/cache --prefix /tmp/fill -r requirements-of-pip.txt
RUN sync
RUN --mount=type=cache,target=/tmp/cache,uid=1000 python -m pip install --quiet --disable-pip-version-check --cache-dir /tmp/cache --prefix /tmp/warm -r requirements-of-pip.txt
`

// BenchmarkBesidePip prints, for three environments, what Bindery takes to install them, with no package cached and with
// all, and what pip takes for the same in the same base. make bench-builds prints the table.
func BenchmarkBesidePip(b *testing.B) {
	packages := asPyPI(b)
	for _, env := range []struct{ name, requirements string }{
		{"small", "click\nflask\nrich\ntoolz\ntqdm\n"},
		{"scientific", "numpy\nscipy\npandas\nmatplotlib\nscikit-learn\n"},
		{"large", "numpy\nscipy\npandas\nmatplotlib\nscikit-learn\nstatsmodels\nxarray\ndask[complete]\nbokeh\nplotly\nseaborn\nsympy\nscikit-image\nnetworkx\n" +
			"altair\npolars\npyarrow\nsqlalchemy\n"},
	} {
		b.Run(env.name, func(b *testing.B) {
			for b.Loop() {
				compare(b, packages, env.name, env.requirements)
			}
		})
	}
}

// compare prints the medians of three times.
func compare(b *testing.B, packages, name, requirements string) {
	var cold, warm, pipCold, pipWarm []float64
	for range 3 {
		c, w, p := measure(b, packages, name, requirements)
		cold, warm, pipCold, pipWarm = append(cold, c), append(warm, w), append(pipCold, p[0]), append(pipWarm, p[1])
	}
	median := func(x []float64) float64 { return slices.Sorted(slices.Values(x))[len(x)/2] }
	c, pc, w, pw := median(cold), median(pipCold), median(warm), median(pipWarm)
	fmt.Fprintf(os.Stdout, "\n| %s | %.2f s | %.2f s | %.1f x | %.2f s | %.2f s | %.1f x |\n", name, c, pc, pc/c, w, pw, pw/w)
}

func measure(b *testing.B, packages, name, requirements string) (cold, warm float64, pip []float64) {
	c := config(b, tempDir(b))
	c.Volatile = true
	c.Trust.Env = append(c.Trust.Env, "UV_DEFAULT_INDEX="+packages, "PIP_INDEX_URL="+packages)
	e, stop := start(b, c)
	defer stop()
	const ours = "requirements.txt"
	timed(b, e, requirementsJob(b, "ready", "six\n"), ours) // the base and the servers are there, as for every build but a machine's first
	cold = timed(b, e, requirementsJob(b, name, requirements), ours)[0]
	warm = timed(b, e, requirementsJob(b, name, requirements+"# again\n"), ours)[0]
	j := job("pip", repo(b, "requirements-of-pip.txt", requirements))
	j.Appendix = besidePip
	return cold, warm, timed(b, e, j, "--prefix /tmp/cold", "--prefix /tmp/warm")
}

// timed solves a job, and returns the seconds that the steps of each name took: a name is a part of theirs.
func timed(b *testing.B, e *buildkit.Engine, j plan.Job, names ...string) []float64 {
	b.Helper()
	unix.Sync() // what was written before is not in the way
	seconds := make([]float64, len(names))
	_, err := e.Solve(b.Context(), j, func(ev bindery.Event) {
		for i, name := range names {
			if st := ev.Step; st != nil && strings.Contains(st.Name, name) && !st.Ended.IsZero() {
				seconds[i] += st.Ended.Sub(st.Started).Seconds()
			}
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	if slices.Contains(seconds, 0) {
		b.Fatalf("the steps %q of %s took %v seconds", names, j.Name, seconds)
	}
	return seconds
}
