package metrics_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/metrics"
)

// bounds are how many values each label may have, whatever visitors do. Workers are the operator's to count.
var bounds = map[string]int{
	"status": 8, "fault": 4, "class": 4, "token": 2, "cached": 2, "quick": 2, "attempts": 5, "retries": 2, "state": 7, "step": 5, "level": 2, "scope": 2,
	"kind": 6, "quarantined": 2, "phase": 7, "watch": 3, "outcome": 4, "provider": 12, "generation": 21, "version": 1, "repo": 1001, "worker": 2, "le": 14,
	"quantile": 5,
}

// A listed metric is one line of the catalogue.
type listedMetric struct {
	name, kind, help string
	labels           map[string]map[string]bool // to values
}

// catalogue reads what a Recorder exports.
func catalogue(text string) map[string]*listedMetric {
	all := map[string]*listedMetric{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "# HELP "); ok {
			name, help, _ := strings.Cut(rest, " ")
			all[name] = &listedMetric{name: name, help: help, labels: map[string]map[string]bool{}}
			continue
		}
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, kind, _ := strings.Cut(rest, " ")
			all[name].kind = kind
			continue
		}
		m := sampleRE.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		owner := all[m[1]]
		for _, end := range []string{"_bucket", "_sum", "_count"} {
			if base := all[strings.TrimSuffix(m[1], end)]; owner == nil && base != nil {
				owner = base
			}
		}
		for _, l := range regexp.MustCompile(`([a-z_]+)="([^"]*)"`).FindAllStringSubmatch(m[2], -1) {
			if owner.labels[l[1]] == nil {
				owner.labels[l[1]] = map[string]bool{}
			}
			owner.labels[l[1]][l[2]] = true
		}
	}
	return all
}

// full is a Recorder that has been told something of every kind.
func full(t *testing.T) *metrics.Recorder {
	r := recorder(t, func(c *metrics.Config) {
		c.Watches = func() map[string]time.Time { return map[string]time.Time{"workers": at, "sessions": at, "health": at} }
	})
	r.Built(bindery.Build{State: bindery.BuildSucceeded, Class: bindery.Attended, Attempt: 1, Created: at, Started: at, Ended: at})
	r.Launched(report(bindery.LaunchSucceeded))
	r.Launched(report(bindery.LaunchHubFull))
	everything(r)
	return r
}

// TestCatalogue holds name, type, labels and help of every series.
func TestCatalogue(t *testing.T) {
	all := catalogue(scrape(t, full(t)))
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		m := all[name]
		if m.help == "" || strings.HasPrefix(name, "binder") && !strings.HasSuffix(m.help, ".") {
			t.Errorf("the help of %s is no sentence: %q", name, m.help)
		}
		labels := slices.Sorted(maps.Keys(m.labels))
		labels = slices.DeleteFunc(labels, func(l string) bool { return l == "le" || l == "quantile" })
		lines = append(lines, fmt.Sprintf("%s %s {%s}\n  %s", name, m.kind, strings.Join(labels, ","), m.help))
	}
	golden(t, "catalogue.txt", strings.Join(lines, "\n")+"\n")
}

func golden(t *testing.T, name, text string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), text); d != "" {
		t.Errorf("UPDATE=1 rewrites %s (-want +got):\n%s", file, d)
	}
}

// TestLabelsAreBounded has thousands of everything that visitors, repositories and upgrades choose.
func TestLabelsAreBounded(t *testing.T) {
	r := full(t)
	kinds := []string{bindery.ProviderGitHub, bindery.ProviderGist, bindery.ProviderGitLab, bindery.ProviderGit, bindery.ProviderZenodo, bindery.ProviderFigshare,
		bindery.ProviderHydroshare, bindery.ProviderDataverse, bindery.ProviderCKAN, bindery.ProviderSWH}
	for i := range 3000 {
		src := bindery.Source{Provider: kinds[i%len(kinds)], URL: fmt.Sprint("https://example.org/o/", i)}
		r.Built(bindery.Build{State: bindery.BuildSucceeded, Class: bindery.Attended, Attempt: i, Source: src, Created: at, Started: at, Ended: at.Add(time.Duration(i) * time.Second)})
		r.Launched(report(bindery.LaunchSucceeded, func(rep *bindery.LaunchReport) { rep.Repo, rep.Generation = src.URL, fmt.Sprint(i) }))
		r.Resolved(src, errors.New("no"), i%2 == 0)
	}
	for name, m := range catalogue(scrape(t, r)) {
		for label, values := range m.labels {
			most, ok := bounds[label]
			if !ok {
				t.Errorf("%s: nothing says how many values the label %s has", name, label)
			}
			if len(values) > most {
				t.Errorf("%s has %d values of %s, of at most %d", name, len(values), label, most)
			}
		}
	}
}

// TestFilesAskForWhatIsThere compares rules and dashboards with what is exported, labels and their values too. One of the
// dashboards begins with the chart of the incident.
func TestFilesAskForWhatIsThere(t *testing.T) {
	all := catalogue(scrape(t, full(t)))
	check := func(where, expr string) {
		for _, m := range regexp.MustCompile(`((?:bindery|binderhub|process)_[a-z_]+)(\{[^}]*\})?`).FindAllStringSubmatch(expr, -1) {
			got := all[m[1]]
			for _, end := range []string{"_bucket", "_sum", "_count"} {
				if base := all[strings.TrimSuffix(m[1], end)]; got == nil && base != nil && base.kind == "histogram" {
					got = base
				}
			}
			if got == nil {
				t.Errorf("%s: there is no %s", where, m[1])
				continue
			}
			for _, l := range regexp.MustCompile(`([a-z_]+)(?:=~|!~|!=|=)"([^"]*)"`).FindAllStringSubmatch(m[2], -1) {
				for value := range strings.SplitSeq(l[2], "|") {
					if !got.labels[l[1]][value] {
						t.Errorf("%s: %s has no label %s that is %q", where, m[1], l[1], value)
					}
				}
			}
		}
	}
	for _, m := range regexp.MustCompile(`(?s)- alert: (\w+)\n(.*?)\n    annotations:`).FindAllStringSubmatch(string(metrics.Alerts()), -1) {
		check(m[1], m[2])
	}
	boards, err := fs.Glob(metrics.Dashboards(), "dashboards/*.json")
	if err != nil || len(boards) != 5 {
		t.Fatal(boards, err)
	}
	for _, file := range boards {
		text, err := fs.ReadFile(metrics.Dashboards(), file)
		if err != nil {
			t.Fatal(err)
		}
		exprs := checkBoard(t, path.Base(file), text)
		for _, expr := range exprs {
			check(path.Base(file), expr)
		}
		if path.Base(file) == "queue.json" {
			incidentChart(t, text, exprs)
		}
	}
}

// incidentChart wants "Build pods running" first, as on the day, with what was not on it: what is wanted, what is launched.
func incidentChart(t *testing.T, text []byte, exprs []string) {
	t.Helper()
	var b struct {
		Panels []struct {
			Title   string
			GridPos struct{ Y int }
			Targets []struct{ LegendFormat string }
		}
	}
	if err := json.Unmarshal(text, &b); err != nil {
		t.Fatal(err)
	}
	var legend []string
	for _, tg := range b.Panels[0].Targets {
		legend = append(legend, tg.LegendFormat)
	}
	got := append([]string{b.Panels[0].Title}, slices.Concat(legend, exprs[:len(legend)])...)
	want := []string{
		"Build pods running", "builds wanted, and launches", "builds wanted", "running", "launches in progress", "slots",
		"sum(bindery_queue_builds) + on() binderhub_inprogress_launches", "sum(bindery_queue_builds)", "sum(bindery_worker_builds)",
		"binderhub_inprogress_launches", "bindery_slots",
	}
	if d := cmp.Diff(want, got); d != "" || b.Panels[0].GridPos.Y != 0 {
		t.Errorf("the incident's chart (-want +got):\n%s", d)
	}
}

// checkBoard looks at what Grafana would stumble over, and returns what the panels ask for.
func checkBoard(t *testing.T, name string, text []byte) (exprs []string) {
	t.Helper()
	var b struct {
		UID, Title    string
		SchemaVersion int
		Templating    struct{ List []struct{ Name, Type string } }
		Panels        []struct {
			ID          int
			Type, Title string
			Datasource  struct{ UID string }
			GridPos     struct{ X, Y, W, H int }
			Targets     []struct{ RefID, Expr string }
		}
	}
	if err := json.Unmarshal(text, &b); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if b.UID != "bindery-"+strings.TrimSuffix(name, ".json") || b.Title == "" || b.SchemaVersion < 36 || len(b.Panels) == 0 || len(b.Templating.List) != 1 || b.Templating.List[0].Name != "source" {
		t.Errorf("%s: not a dashboard of ours: %+v", name, b)
	}
	ids, taken := map[int]bool{}, map[[2]int]string{}
	for _, p := range b.Panels {
		if ids[p.ID] || p.ID == 0 || p.Title == "" || (p.Type != "timeseries" && p.Type != "stat") || p.Datasource.UID != "${source}" || len(p.Targets) == 0 {
			t.Errorf("%s: panel %d %q is not well made", name, p.ID, p.Title)
		}
		ids[p.ID] = true
		g := p.GridPos
		if g.X < 0 || g.W < 1 || g.X+g.W > 24 || g.H < 1 {
			t.Errorf("%s: %q does not fit the grid", name, p.Title)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other, ok := taken[[2]int{x, y}]; ok && other != p.Title {
					t.Fatalf("%s: %q lies on %q", name, p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		refs := map[string]bool{}
		for _, tg := range p.Targets {
			if tg.Expr == "" || refs[tg.RefID] {
				t.Errorf("%s: %q has a target that is empty or there twice", name, p.Title)
			}
			refs[tg.RefID] = true
			exprs = append(exprs, tg.Expr)
		}
	}
	return exprs
}
