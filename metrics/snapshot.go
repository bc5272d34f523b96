package metrics

import (
	"context"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	bindery "github.com/bindery-hub/bindery"
)

// lookFor bounds how long a scrape waits for the queue and the worker.
const lookFor = 5 * time.Second

// A gauge is a number that is looked up when somebody asks. One whose name ends in _total only grows.
type gauge struct {
	name, help string
	labels     []string
}

func (g gauge) kind() prometheus.ValueType {
	if strings.HasSuffix(g.name, "_total") {
		return prometheus.CounterValue
	}
	return prometheus.GaugeValue
}

// The gauges. The first three are BinderHub's. What needs no label has none.
var gauges = [...]gauge{
	{"binderhub_inprogress_builds", "Builds that run.", nil},
	{"binderhub_inprogress_launches", "Sessions that are being started.", nil},
	{"binderhub_github_rate_limit_remaining", "Requests that GitHub's API still takes in this hour; 0 until it was asked.", nil},
	{"bindery_info", "Version and generation, as labels.", []string{"version", "generation"}},
	{"bindery_slots", "Slots of the workers that are up.", nil},
	{"bindery_slots_taken", "Slots in which builds run.", nil},
	{"bindery_queue_builds", "Builds that wait or run, by class.", []string{"state", "class"}},
	{"bindery_queue_oldest_seconds", "Age of the build that has waited longest.", nil},
	{"bindery_queue_attended_oldest_seconds", "The same of those that a person waits for.", nil},
	{"bindery_queue_watchers", "Requests that wait for builds.", nil},
	{"bindery_queue_watchers_most", "Requests that wait for the one build with the most of them.", nil},
	{"bindery_queue_share_most", "Share of the slots that the busiest owner or requester has.", []string{"scope"}},
	{"bindery_queue_work_seconds", "Slot-seconds that what waits and runs is expected to take still.", nil},
	{"bindery_queue_waiting_most", "Builds that wait for the one owner or requester with the most of them.", []string{"scope"}},
	{"bindery_queue_overdue", "Builds that have run for ten minutes and four times as long as expected.", nil},
	{"bindery_queue_failures", "Failures that answer for their keys, quarantined ones apart.", []string{"quarantined"}},
	{"bindery_queue_rules", "Rules of operators that stand.", []string{"kind"}},
	{"bindery_sessions", "Sessions that have a place.", nil},
	{"bindery_sessions_waiting", "Sessions that wait for one.", nil},
	{"bindery_streams", "Event streams that are open.", nil},
	{"bindery_repositories_last_hour", "Repositories that were launched in the last hour, each counted once.", nil},
	{"bindery_streams_opened_total", "Event streams that were opened.", nil},
	{"bindery_streams_resumed_total", "Of these, those that went on where another one had broken off.", nil},
	{"bindery_watch_age_seconds", "Seconds since a loop that watches over something last had a look.", []string{"watch"}},
	{"bindery_provider_budget", "Requests that a provider says it still takes; there once it was asked.", []string{"provider"}},
	{"bindery_generations", "Generations of the builder, by state.", []string{"state"}},
	{"bindery_generation_images", "Images that a generation made and that are there.", []string{"generation"}},
	{"bindery_rollout_images", "Images of the roll-out that is under way, by how far they are; held ones stay on their old image.", []string{"step"}},
	{"bindery_rollout_covered", "Share of launches that go to images which the roll-out has replaced.", nil},
	{"bindery_canary_age_seconds", "Seconds since the canary was last built and launched; before the first time, since the hub began.", nil},
	{"bindery_canary_every_seconds", "Seconds between two runs of the canary.", nil},
	{"bindery_canary_seconds", "Seconds that each phase of the canary's last run took.", []string{"phase"}},
	{"bindery_worker_up", "Whether a worker answers.", []string{"worker"}},
	{"bindery_worker_state", "1 for the state that a worker is in.", []string{"worker", "state"}},
	{"bindery_worker_slots", "Slots of a worker.", []string{"worker"}},
	{"bindery_worker_builds", "Builds that a worker says it runs.", []string{"worker"}},
	{"bindery_worker_disk_free_bytes", "Bytes free on a worker's disk.", []string{"worker"}},
	{"bindery_worker_disk_full_seconds", "Seconds until a worker's disk is full, if it goes on as in the last quarter of an hour; +Inf: it does not fill.", []string{"worker"}},
	{"bindery_worker_cache_bytes", "Bytes of a worker's build cache.", []string{"worker"}},
	{"bindery_worker_images_dropped_total", "Images that a worker removed because its disk was short of room.", []string{"worker"}},
	{"bindery_worker_checks_failed", "Checks of a worker that fail.", []string{"worker", "level"}},
}

// A snapshot is the collector of the gauges, for one scrape: the library has no context for it.
type snapshot struct {
	r     *Recorder
	scope func() (context.Context, context.CancelFunc)
}

func (g gauge) desc() *prometheus.Desc { return prometheus.NewDesc(g.name, g.help, g.labels, nil) }

// Describe lists the gauges.
func (s snapshot) Describe(out chan<- *prometheus.Desc) {
	for _, g := range gauges {
		out <- g.desc()
	}
}

// Collect looks at the queue and the worker once.
func (s snapshot) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := s.scope()
	defer cancel()
	set := func(name string, v float64, labels ...string) {
		for _, g := range gauges {
			if g.name == name {
				out <- prometheus.MustNewConstMetric(g.desc(), g.kind(), v, labels...)
			}
		}
	}
	cfg := s.r.cfg
	load := cfg.Load()
	set("binderhub_inprogress_launches", float64(load.Launching))
	set("bindery_streams", float64(load.Streams))
	set("bindery_streams_opened_total", float64(load.Opened))
	set("bindery_streams_resumed_total", float64(load.Resumed))
	set("bindery_info", 1, cfg.Version, cfg.Generation)
	set("bindery_repositories_last_hour", float64(s.r.lastHour()))
	for watch, at := range cfg.Watches() {
		set("bindery_watch_age_seconds", cfg.Now().Sub(at).Seconds(), watch)
	}
	s.ofCanary(set)
	if q, err := cfg.Queue(ctx); err == nil {
		ofQueue(q, set)
	} else {
		cfg.Log.WarnContext(ctx, "the queue cannot be looked at for the metrics", "err", err)
	}
	workers, err := cfg.Workers(ctx)
	if err != nil {
		cfg.Log.WarnContext(ctx, "the workers cannot be looked at for the metrics", "err", err)
	}
	s.ofWorkers(workers, set)
	if all, err := cfg.Generations(ctx); err == nil {
		s.ofGenerations(all, set)
	} else {
		cfg.Log.WarnContext(ctx, "the generations cannot be looked at for the metrics", "err", err)
	}
}

// ofGenerations sets the gauges of generations: they come the newest first.
func (s snapshot) ofGenerations(all []bindery.RolloutStatus, set func(name string, v float64, labels ...string)) {
	states, images := map[bindery.GenerationState]int{}, map[string]int{}
	var under bindery.RolloutStatus
	for _, g := range all {
		states[g.State]++
		images[s.r.generation(g.Name)] += g.Images
		if g.State.RollsOut() || g.State == bindery.GenerationPaused {
			under = g
		}
	}
	for _, state := range bindery.GenerationStates() {
		set("bindery_generations", float64(states[state]), string(state))
	}
	for name, n := range images {
		set("bindery_generation_images", float64(n), name)
	}
	for step, n := range map[string]int{"proven": under.Proven, "building": under.Building, "starting": under.Starting, "waiting": under.Waiting, "held": len(under.Held)} {
		set("bindery_rollout_images", float64(n), step)
	}
	set("bindery_rollout_covered", under.Covered)
}

func (s snapshot) ofCanary(set func(name string, v float64, labels ...string)) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	if s.r.cfg.Canary == 0 {
		return
	}
	set("bindery_canary_every_seconds", s.r.cfg.Canary.Seconds())
	set("bindery_canary_age_seconds", s.r.cfg.Now().Sub(s.r.sung).Seconds())
	for _, phase := range bindery.CanaryPhases() {
		if took, ok := s.r.canary.Took[phase]; ok {
			set("bindery_canary_seconds", took.Seconds(), phase)
		}
	}
}

// ofQueue sets the gauges of the queue. All values of a label are there at all times, so that a query finds zeros.
func ofQueue(q bindery.Queue, set func(name string, v float64, labels ...string)) {
	count := map[[2]string]int{}
	var oldest, attended time.Duration
	watchers, most, overdue := 0, 0, 0
	var work time.Duration
	look := func(list []bindery.QueuedBuild, state string) {
		for _, b := range list {
			count[[2]string{state, string(b.Class)}]++
			watchers += b.Watchers
			most = max(most, b.Watchers)
			if state == "running" {
				work += max(b.Expected-b.Age, 0)
				if b.Age > 10*time.Minute && b.Age > 4*b.Expected {
					overdue++
				}
				continue
			}
			work += b.Expected
			oldest = max(oldest, b.Age)
			if b.Class == bindery.Attended {
				attended = max(attended, b.Age)
			}
		}
	}
	look(q.Running, "running")
	look(q.Waiting, "waiting")
	for _, state := range []string{"running", "waiting"} {
		for _, class := range classes {
			set("bindery_queue_builds", float64(count[[2]string{state, string(class)}]), state, string(class))
		}
	}
	set("bindery_queue_builds", float64(q.More), "waiting", "unlisted")
	set("binderhub_inprogress_builds", float64(len(q.Running)))
	set("bindery_slots", float64(q.Slots))
	set("bindery_slots_taken", float64(q.Taken))
	set("bindery_queue_oldest_seconds", oldest.Seconds())
	set("bindery_queue_attended_oldest_seconds", attended.Seconds())
	set("bindery_queue_watchers", float64(watchers))
	set("bindery_queue_watchers_most", float64(most))
	set("bindery_queue_work_seconds", work.Seconds())
	set("bindery_queue_overdue", float64(overdue))
	set("bindery_sessions", float64(q.Sessions))
	set("bindery_sessions_waiting", float64(len(q.Lobby)))
	ofRules(q, set)
}

func ofRules(q bindery.Queue, set func(name string, v float64, labels ...string)) {
	share, waiting := map[string]float64{"owner": 0, "requester": 0}, map[string]int{"owner": 0, "requester": 0}
	for _, s := range q.Shares {
		share[s.Scope] = max(share[s.Scope], s.Share)
		waiting[s.Scope] = max(waiting[s.Scope], s.Waiting)
	}
	for scope, v := range share {
		set("bindery_queue_share_most", v, scope)
		set("bindery_queue_waiting_most", float64(waiting[scope]), scope)
	}
	failures := map[string]int{"false": 0, "true": 0}
	for _, f := range q.Failures {
		if f.Quarantined {
			failures["true"]++
		} else {
			failures["false"]++
		}
	}
	for label, n := range failures {
		set("bindery_queue_failures", float64(n), label)
	}
	rules := map[string]int{"ban": 0, "hold": 0, "hold-launches": 0, "hold-until-built": 0, "weight": 0, "quota": 0}
	for _, r := range q.Rules {
		rules[r.Kind]++
	}
	for kind, n := range rules {
		set("bindery_queue_rules", float64(n), kind)
	}
}
