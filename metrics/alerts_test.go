package metrics_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/metrics"
	"github.com/bindery-hub/bindery/sched"
	"github.com/bindery-hub/bindery/sim"
)

// A room is a hub as a Recorder sees it, made up: what it looks at, and what it is told as time goes on.
type room struct {
	t          *testing.T
	rec        *metrics.Recorder
	now        time.Time
	rnd        *rand.Rand
	queue      bindery.Queue
	workers    []bindery.WorkerView
	load       bindery.Load
	seen       map[string]time.Time
	left       int // of GitHub's budget
	generation bindery.GenerationState
	gone       bool // the hub cannot be scraped
	stopped    map[string]bool
	canary     time.Time
	only       bool // people come for one repository
}

func newRoom(t *testing.T, seed uint64) *room {
	t.Helper()
	rm := &room{
		t: t, now: time.Date(2026, 11, 16, 0, 0, 0, 0, time.UTC), rnd: rand.New(rand.NewPCG(seed, 7)), left: 5000, generation: bindery.GenerationRolling,
		seen: map[string]time.Time{}, stopped: map[string]bool{},
	}
	rec, err := metrics.New(metrics.Config{
		Queue:   func(context.Context) (bindery.Queue, error) { return rm.queue, nil },
		Workers: func(context.Context) ([]bindery.WorkerView, error) { return rm.workers, nil },
		Generations: func(context.Context) ([]bindery.RolloutStatus, error) {
			return []bindery.RolloutStatus{{Generation: bindery.Generation{Name: "g2", State: rm.generation}}, {Generation: bindery.Generation{Name: "g1", State: bindery.GenerationCurrent}}}, nil
		},
		Load: func() bindery.Load { return rm.load }, Watches: func() map[string]time.Time { return rm.seen },
		Budget: func() (int, bool) { return rm.left, true }, Now: func() time.Time { return rm.now }, Generation: "g1", Canary: 5 * time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	rm.rec = rec
	return rm
}

// quiet lets an ordinary time pass: people come by day, a few builds run and seldom wait, a question fails here and there.
func (rm *room) quiet(step time.Duration) {
	rm.now = rm.now.Add(step)
	for _, watch := range []string{"workers", "sessions", "health"} {
		if !rm.stopped[watch] {
			rm.seen[watch] = rm.now.Add(-time.Duration(rm.rnd.IntN(int(30 * time.Second))))
		}
	}
	hour := float64(rm.now.Hour())
	busy := 0.3 + 0.7*max(0, 1-((hour-14)/9)*((hour-14)/9)) // 14 o'clock is the peak
	rm.queue = bindery.Queue{At: rm.now, Slots: 4, Sessions: int(60*busy) + rm.rnd.IntN(10)}
	for i := range rm.rnd.IntN(1 + int(5*busy)) {
		b := bindery.QueuedBuild{
			Build:    bindery.Build{ID: fmt.Sprint("b-", i), Class: bindery.Attended},
			Watchers: 1 + rm.rnd.IntN(4), Age: time.Duration(rm.rnd.IntN(200)) * time.Second, Expected: 120 * time.Second,
		}
		if i < rm.queue.Slots {
			rm.queue.Running, rm.queue.Taken = append(rm.queue.Running, b), i+1
		} else {
			rm.queue.Waiting = append(rm.queue.Waiting, b)
		}
	}
	rm.queue.Shares = []bindery.Share{{Scope: "owner", Share: 0.25, Waiting: len(rm.queue.Waiting)}, {Scope: "requester", Share: 0.25, Waiting: len(rm.queue.Waiting)}}
	rm.work(rm.queue.Running)
	rm.left = 5000 - 40*rm.now.Minute()
	perMinute := step.Minutes()
	for range rm.some(6 * busy * perMinute) {
		rm.visit(bindery.Attended, rm.rnd.Float64())
	}
	for range rm.some(perMinute) {
		rm.visit(bindery.Unattended, rm.rnd.Float64())
	}
	rm.load.Streams = rm.rnd.IntN(20)
	rm.load.Opened += int64(rm.some(7 * perMinute))
	rm.load.Resumed += int64(rm.some(0.5 * perMinute))
	if rm.now.Sub(rm.canary) >= 5*time.Minute && !rm.stopped["canary"] {
		rm.canary = rm.now
		rep := bindery.CanaryReport{Time: rm.now}
		if rm.rnd.IntN(200) == 0 {
			rep.Failed, rep.Err = bindery.CanaryLaunch, bindery.Errorf(bindery.ErrTimeout, bindery.Transient, "", "no")
		}
		rm.rec.Canary(rep)
	}
}

// some is a whole number that is x on average.
func (rm *room) some(x float64) int {
	n := int(x)
	if rm.rnd.Float64() < x-float64(n) {
		n++
	}
	return n
}

// work has the worker run the builds, and its disk go up and down.
func (rm *room) work(running []bindery.QueuedBuild) {
	w := bindery.WorkerView{WorkerStatus: bindery.WorkerStatus{Name: "w1", Slots: 4, DiskFree: int64(60+rm.rnd.IntN(4)) << 30}, Up: true, State: bindery.WorkerReady}
	for _, b := range running {
		w.Builds = append(w.Builds, bindery.BuildAttempt{ID: b.ID})
	}
	rm.workers = []bindery.WorkerView{w}
}

// visit is a launch; luck says how it goes.
func (rm *room) visit(class bindery.Class, luck float64) {
	src := bindery.Source{Provider: bindery.ProviderGitHub, URL: fmt.Sprint("https://github.com/o/r", rm.rnd.IntN(80))}
	if rm.only {
		src.URL = "https://github.com/o/r0"
	}
	rep := bindery.LaunchReport{Time: rm.now, Status: bindery.LaunchSucceeded, Class: class, Build: "b", Source: src, Cached: luck < 0.9, Started: 2 * time.Second}
	switch {
	case luck < 0.02:
		rep.Status, rep.Err, rep.Started = bindery.LaunchFailed, bindery.Errorf(bindery.ErrStep, bindery.User, "", "no"), 0
	case luck < 0.023:
		rep.Status, rep.Err = bindery.LaunchFailed, bindery.Errorf(bindery.ErrTimeout, bindery.Transient, "", "no")
	}
	rm.rec.Launched(rep)
	var err error
	if luck > 0.997 {
		err = errors.New("no")
	}
	rm.rec.Resolved(src, err, false)
	if luck > 0.9 {
		attempt := 1
		if luck > 0.995 {
			attempt = 2
		}
		rm.rec.Built(bindery.Build{State: bindery.BuildSucceeded, Class: class, Attempt: attempt, Source: src, Created: rm.now.Add(-2 * time.Minute), Started: rm.now.Add(-2 * time.Minute), Ended: rm.now})
	}
}

// waiting puts builds behind those that run; all slots are taken then.
func (rm *room) waiting(n int, class bindery.Class, expected time.Duration) {
	for len(rm.queue.Running) < rm.queue.Slots {
		rm.queue.Running = append(rm.queue.Running, bindery.QueuedBuild{Build: bindery.Build{ID: "b-x", Class: class}, Watchers: 1, Expected: expected})
	}
	rm.queue.Taken = rm.queue.Slots
	for range n {
		rm.queue.Waiting = append(rm.queue.Waiting, bindery.QueuedBuild{Build: bindery.Build{ID: "b-y", Class: class}, Watchers: 1, Expected: expected})
	}
	rm.work(rm.queue.Running)
}

// A scenario is an incident as a hub sees it from its beginning on, and the alert that must fire.
type scenario struct {
	incident, alert string
	since           func(rm *room, after time.Duration) // after: since it began
}

var scenarios = []scenario{
	{"S1 cache wipe", "BinderyBuildsPileUp", func(rm *room, after time.Duration) {
		rm.waiting(20+int(after.Seconds())/6, bindery.Attended, 10*time.Minute)
	}},
	{"S1 one hot repository", "BinderyOneOwner", func(rm *room, _ time.Duration) {
		rm.waiting(6, bindery.Attended, 4*time.Minute)
		rm.queue.Shares = []bindery.Share{{Scope: "owner", Name: "gh/jupyterlab", Share: 1}}
	}},
	{"S2 hot building repo", "BinderyHotBuild", func(rm *room, after time.Duration) {
		rm.waiting(0, bindery.Attended, time.Hour)
		rm.queue.Running[0].Watchers = 150 + int(after.Seconds())*2
	}},
	{"S3 two tutorials at once", "BinderySessionsWait", func(rm *room, after time.Duration) {
		rm.queue.Lobby = make([]bindery.WaitingSession, int(after.Seconds()))
	}},
	{"S3 where launches do not wait", "BinderySessionsWait", func(rm *room, _ time.Duration) {
		for range 5 {
			rm.rec.Launched(bindery.LaunchReport{Time: rm.now, Status: bindery.LaunchHubFull, Class: bindery.Attended, Build: "b"})
		}
	}},
	{"S4 workshop of unique images", "BinderyWorkshop", func(rm *room, after time.Duration) {
		rm.waiting(15+int(after.Seconds())/4, bindery.Attended, time.Minute)
		rm.queue.Shares = []bindery.Share{{Scope: "requester", Share: 0.5, Waiting: 15 + int(after.Seconds())/4}}
	}},
	{"S5 bots", "BinderyBots", func(rm *room, _ time.Duration) {
		for range 30 {
			rm.visit(bindery.Unattended, 0.5)
		}
	}},
	{"S5 bots that build", "BinderyBots", func(rm *room, after time.Duration) {
		rm.waiting(40+int(after.Seconds()), bindery.Unattended, time.Minute)
	}},
	{"S6 GitHub budget gone", "BinderyProviderRefuses", func(rm *room, _ time.Duration) { rm.left = 40 }},
	{"S6 GitHub refuses", "BinderyProviderRefuses", func(rm *room, _ time.Duration) {
		for range 5 {
			rm.rec.Resolved(bindery.Source{Provider: bindery.ProviderGitHub}, errors.New("429"), true)
		}
	}},
	{"S7 stuck builds", "BinderyBuildStuck", func(rm *room, after time.Duration) {
		rm.waiting(0, bindery.Attended, 2*time.Minute)
		rm.queue.Running[0].Age = 10*time.Minute + after
	}},
	{"S8 event stream lost", "BinderyWatchOld", func(rm *room, _ time.Duration) { rm.stopped["sessions"] = true }},
	{"S8 builds that no worker runs", "BinderyBuildsNotRunning", func(rm *room, _ time.Duration) {
		rm.waiting(3, bindery.Attended, time.Minute)
		rm.workers[0].Builds = rm.workers[0].Builds[:1]
	}},
	{"S9 reconnect storm", "BinderyReconnectStorm", func(rm *room, _ time.Duration) { rm.load.Resumed += 300 }},
	{"S10 disk full", "BinderyDiskFills", func(rm *room, after time.Duration) {
		rm.workers[0].DiskFree = 20<<30 - int64(after.Minutes()*2.5*(1<<30))
	}},
	{"S10 no space", "BinderyWorkerOut", func(rm *room, _ time.Duration) { rm.workers[0].State = bindery.WorkerFull }},
	{"S11 stale health", "BinderyUnhealthy", func(rm *room, _ time.Duration) { rm.stopped["health"] = true }},
	{"S12 false quota", "BinderyLaunchesFail", func(rm *room, _ time.Duration) {
		for range 3 {
			rm.rec.Launched(bindery.LaunchReport{
				Time: rm.now, Status: bindery.LaunchFailed, Class: bindery.Attended, Build: "b", Started: time.Second,
				Err: bindery.Errorf(bindery.ErrNotReady, bindery.Ours, "", "no container can be made"),
			})
		}
	}},
	{"a roll-out that pauses itself", "BinderyRolloutPaused", func(rm *room, _ time.Duration) { rm.generation = bindery.GenerationPaused }},
	{"no worker", "BinderyNoWorker", func(rm *room, _ time.Duration) { rm.workers[0].State, rm.workers[0].Up = bindery.WorkerAway, false }},
	{"no hub", "BinderyDown", func(rm *room, _ time.Duration) { rm.gone = true }},
}

// slow are alerts about what takes longer than two minutes to be seen at all: how long, and what begins then.
var slow = map[string]struct {
	within time.Duration
	since  func(rm *room)
}{
	"BinderyCanaryFails": {16 * time.Minute, func(rm *room) { // three runs in a row
		rm.stopped["canary"] = true
		rm.rec.Canary(bindery.CanaryReport{Time: rm.now, Failed: bindery.CanaryLaunch, Err: bindery.Errorf(bindery.ErrTimeout, bindery.Transient, "", "no")})
	}},
	"BinderyRetries": {15 * time.Minute, func(rm *room) { // of an hour's builds
		rm.rec.Built(bindery.Build{State: bindery.BuildSucceeded, Class: bindery.Attended, Attempt: 2, Created: rm.now, Started: rm.now, Ended: rm.now})
	}},
	"BinderyFewRepositories": {80 * time.Minute, func(rm *room) { // in an hour, compared with a week ago: TestQuietWeek
		rm.only = true
	}},
}

// A tape is what a Prometheus would have scraped: the samples of each series.
type tape struct {
	wanted  *regexp.Regexp
	samples map[string][]string
	n       int
}

var sampleRE = regexp.MustCompile(`(?m)^([a-z_]+)((?:\{[^}]*\})?) (\S+)$`)

func (tp *tape) scrape(rm *room) {
	if !rm.gone {
		w := httptest.NewRecorder()
		rm.rec.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		for _, m := range sampleRE.FindAllStringSubmatch(w.Body.String(), -1) {
			if !tp.wanted.MatchString(m[1]) {
				continue
			}
			name := m[1] + m[2]
			for len(tp.samples[name]) < tp.n {
				tp.samples[name] = append(tp.samples[name], "_")
			}
			tp.samples[name] = append(tp.samples[name], strings.TrimPrefix(m[3], "+"))
		}
	}
	for name, all := range tp.samples {
		if rm.gone && len(all) == tp.n && tp.n > 0 { // as Prometheus notes it of a scrape that failed
			tp.samples[name] = append(all, "stale")
		}
	}
	tp.n++
}

func (tp *tape) write(out *bytes.Buffer) {
	for name, all := range tp.samples {
		fmt.Fprintf(out, "  - series: '%s'\n    values: '%s'\n", name, strings.Join(all, " "))
	}
}

// ruleNames are the series that the rules ask for.
func ruleNames() *regexp.Regexp {
	all := regexp.MustCompile(`bindery_[a-z_]+`).FindAllString(string(metrics.Alerts()), -1)
	slices.Sort(all)
	return regexp.MustCompile("^(" + strings.Join(slices.Compact(all), "|") + ")$")
}

// promtool runs Debian's, as scripts/setup test brings it.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "../bin/promtool", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("promtool (scripts/setup test installs it): %v\n%s", err, out[:min(len(out), 8000)])
	}
}

func ruleTest(t *testing.T, interval, groups string) {
	t.Helper()
	dir := t.TempDir()
	text := "rule_files: [alerts.yml]\nevaluation_interval: " + interval + "\ntests:\n" + groups
	for name, text := range map[string][]byte{"alerts.yml": metrics.Alerts(), "tests.yml": []byte(text)} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	promtool(t, "test", "rules", filepath.Join(dir, "tests.yml"))
}

func alertNames() []string {
	var all []string
	for _, m := range regexp.MustCompile(`(?m)^  - alert: (\w+)$`).FindAllSubmatch(metrics.Alerts(), -1) {
		all = append(all, string(m[1]))
	}
	return all
}

// TestAlertsFire has each incident begin after ten quiet minutes: no alert before, its own within two minutes.
func TestAlertsFire(t *testing.T) {
	const step, quiet = 15 * time.Second, 10 * time.Minute
	var groups bytes.Buffer
	fired := map[string]bool{}
	for i, sc := range scenarios {
		fired[sc.alert] = true
		rm := newRoom(t, uint64(i))
		tp := &tape{wanted: ruleNames(), samples: map[string][]string{}}
		for at := time.Duration(0); at <= quiet+2*time.Minute; at += step {
			rm.quiet(step)
			if at >= quiet {
				sc.since(rm, at-quiet)
			}
			tp.scrape(rm)
		}
		fmt.Fprintf(&groups, "- name: %s\n  interval: 15s\n  input_series:\n", sc.incident)
		tp.write(&groups)
		fmt.Fprintf(&groups, "  promql_expr_test:\n  - expr: 'count by (alertname) (ALERTS{alertstate=\"firing\"})'\n    eval_time: 9m45s\n    exp_samples: []\n")
		fmt.Fprintf(&groups, "  - expr: 'count by (alertname) (ALERTS{alertstate=\"firing\",alertname=\"%s\"})'\n    eval_time: 12m\n    exp_samples:\n    - labels: '{alertname=\"%s\"}'\n      value: 1\n", sc.alert, sc.alert)
	}
	for n := 1; n <= 12; n++ {
		if !slices.ContainsFunc(scenarios, func(sc scenario) bool { return strings.HasPrefix(sc.incident, fmt.Sprintf("S%d ", n)) }) {
			t.Errorf("no alert for S%d", n)
		}
	}
	for _, name := range alertNames() {
		if !fired[name] && slow[name].since == nil {
			t.Errorf("nothing shows that %s fires", name)
		}
	}
	ruleTest(t, "15s", groups.String())
}

// TestSlowAlertsFire has those fire that need longer, and not much earlier than that.
func TestSlowAlertsFire(t *testing.T) {
	const quiet = 70 * time.Minute
	var groups bytes.Buffer
	for _, name := range []string{"BinderyCanaryFails", "BinderyRetries"} {
		rm := newRoom(t, 3)
		tp := &tape{wanted: ruleNames(), samples: map[string][]string{}}
		within := slow[name].within
		for at := time.Duration(0); at <= quiet+within; at += time.Minute {
			rm.quiet(time.Minute)
			if at >= quiet {
				slow[name].since(rm)
			}
			tp.scrape(rm)
		}
		fmt.Fprintf(&groups, "- name: %s\n  interval: 1m\n  input_series:\n", name)
		tp.write(&groups)
		fmt.Fprintf(&groups, "  promql_expr_test:\n  - expr: 'count by (alertname) (ALERTS{alertstate=\"firing\"})'\n    eval_time: %s\n    exp_samples: []\n", quiet+within/2)
		fires(&groups, name, quiet+within)
	}
	ruleTest(t, "1m", groups.String())
}

// fires wants that an alert fires at a time, and no other one.
func fires(groups *bytes.Buffer, name string, at time.Duration) {
	fmt.Fprintf(groups, "  - expr: 'count by (alertname) (ALERTS{alertstate=\"firing\"})'\n    eval_time: %s\n    exp_samples:\n    - labels: '{alertname=\"%s\"}'\n      value: 1\n", at, name)
}

// TestQuietWeek wants no alert, at no moment of eight days: on the last one, hours can be compared with those of a week ago.
// Then people come for one repository only, which is what such a comparison is for.
func TestQuietWeek(t *testing.T) {
	const quiet, last = 8 * 24 * time.Hour, "BinderyFewRepositories"
	rm := newRoom(t, 42)
	tp := &tape{wanted: ruleNames(), samples: map[string][]string{}}
	for at := time.Duration(0); at <= quiet+slow[last].within; at += time.Minute {
		if at > quiet {
			slow[last].since(rm)
		}
		rm.quiet(time.Minute)
		tp.scrape(rm)
	}
	var groups bytes.Buffer
	groups.WriteString("- interval: 1m\n  input_series:\n")
	tp.write(&groups)
	groups.WriteString("  promql_expr_test:\n  - expr: 'count by (alertname) (count_over_time(ALERTS{alertstate=\"firing\"}[192h]))'\n    eval_time: 192h\n    exp_samples: []\n")
	fires(&groups, last, quiet+slow[last].within)
	ruleTest(t, "1m", groups.String())
}

// TestIncidentAlerts scrapes a hub through the first two hours of the day that every image was gone, as the simulator
// replays it, and wants the alerts that docs/incident-2019-03-24.md names, no others: with the day's eight slots, where the
// builds that are asked for find one soon, and with two, where they pile up. BINDERY_TRACES names the directory of the
// recorded launches.
func TestIncidentAlerts(t *testing.T) {
	from := time.Date(2019, 3, 17, 8, 0, 0, 0, time.UTC)
	day := sim.Generate(sim.Demand{From: from, For: 2 * time.Hour, Seed: 1})
	if dir := os.Getenv("BINDERY_TRACES"); dir != "" {
		var err error
		if day, err = sim.ReadTrace(os.DirFS(dir), from, 2*time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	var groups bytes.Buffer
	for slots, alerts := range map[int][]string{8: {"BinderyBuildStuck"}, 2: {"BinderyBuildStuck", "BinderyBuildsPileUp"}} {
		rm := newRoom(t, 1)
		tp := &tape{wanted: ruleNames(), samples: map[string][]string{}}
		_, err := sim.Run(t.Context(), sim.Config{
			Workload: day, Policies: []string{sim.Fair}, Seed: 1, Slots: slots, Wipe: from, Mute: true,
			Costs: map[string]time.Duration{"gh/jupyterlab/jupyterlab-demo": 12 * time.Hour},
			Look: func(now time.Time, v sched.View) {
				rm.now = now
				rm.shows(v)
				tp.scrape(rm)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&groups, "- name: %d slots\n  interval: 1m\n  input_series:\n", slots)
		tp.write(&groups)
		groups.WriteString("  promql_expr_test:\n  - expr: 'count by (alertname) (count_over_time(ALERTS{alertstate=\"firing\"}[2h]))'\n    eval_time: 119m\n    exp_samples:\n")
		for _, name := range alerts {
			fmt.Fprintf(&groups, "    - labels: '{alertname=\"%s\"}'\n      value: 1\n", name)
		}
	}
	ruleTest(t, "1m", groups.String())
}

// shows makes the room what a queue is in a simulation.
func (rm *room) shows(v sched.View) {
	rm.queue = bindery.Queue{At: rm.now, Slots: v.Slots, Taken: v.Taken, Sessions: v.Sessions}
	see := func(x sched.Seen, since time.Time) bindery.QueuedBuild {
		return bindery.QueuedBuild{Build: bindery.Build{ID: x.ID, Class: x.Class}, Watchers: x.Watchers, Expected: x.Expected, Age: rm.now.Sub(since)}
	}
	for _, x := range v.Running {
		rm.queue.Running = append(rm.queue.Running, see(x, x.Started))
	}
	for _, x := range v.Waiting {
		rm.queue.Waiting = append(rm.queue.Waiting, see(x, x.Created))
	}
	for _, x := range v.Shares {
		rm.queue.Shares = append(rm.queue.Shares, bindery.Share{Scope: string(x.Scope), Waiting: x.Waiting, Share: float64(x.Running) / float64(v.Slots)})
	}
	rm.work(rm.queue.Running)
	for _, watch := range []string{"workers", "sessions", "health"} {
		rm.seen[watch] = rm.now
	}
	rm.rec.Canary(bindery.CanaryReport{Time: rm.now})
}
