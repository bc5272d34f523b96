package buildkit_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/buildkit"
	"github.com/bindery-hub/bindery/plan"
)

// besidePip times pip in the image: what repo2docker does (nothing cached, nothing kept), then with the cache of a first
// time. Like Bindery it installs what is not there already; it compiles modules, which a postBuild's pip leaves to Bindery.
const besidePip = `set -e
unset PIP_COMPILE
for n in 1 2; do
	sync
	begin=$(date +%s%N)
	python -m pip install --quiet --disable-pip-version-check --cache-dir /tmp/cache --prefix /tmp/p$n -r requirements-of-pip.txt
	echo "pip took $(($(date +%s%N) - begin)) ns"
	rm -rf /tmp/p$n
done
rm -rf /tmp/cache
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
	timed(b, e, requirementsJob(b, "ready", "six\n")) // the base and the servers are there, as for every build but a machine's first
	cold = timed(b, e, requirementsJob(b, name, requirements))
	warm = timed(b, e, requirementsJob(b, name, requirements+"# again\n"))
	j := job("pip", repo(b, "requirements-of-pip.txt", requirements, "postBuild", besidePip))
	j.Plan.PostBuild = "postBuild"
	s := &story{t: b}
	if _, err := e.Solve(b.Context(), j, s.emit); err != nil {
		b.Fatalf("%v\n%s", err, s.text())
	}
	for _, m := range regexp.MustCompile(`pip took (\d+) ns`).FindAllStringSubmatch(s.text(), -1) {
		ns, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			b.Fatal(err)
		}
		pip = append(pip, ns/1e9)
	}
	if len(pip) != 2 {
		b.Fatalf("pip was timed %d times\n%s", len(pip), s.text())
	}
	return cold, warm, pip
}

// timed solves a job, and returns the seconds that its installing took.
func timed(b *testing.B, e *buildkit.Engine, j plan.Job) float64 {
	b.Helper()
	unix.Sync() // what was written before is not in the way
	var seconds float64
	_, err := e.Solve(b.Context(), j, func(ev bindery.Event) {
		if st := ev.Step; st != nil && strings.Contains(st.Name, "requirements.txt") && !st.Ended.IsZero() {
			seconds += st.Ended.Sub(st.Started).Seconds()
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	return seconds
}
