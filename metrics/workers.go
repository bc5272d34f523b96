package metrics

import (
	"math"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// ofWorkers sets the gauges of workers.
func (s snapshot) ofWorkers(all []bindery.WorkerView, set func(name string, v float64, labels ...string)) {
	left, known := s.r.cfg.Budget()
	for _, w := range all {
		if !known && w.GitHubLeft > 0 {
			left, known = w.GitHubLeft, true
		}
		s.ofWorker(w, set)
	}
	set("binderhub_github_rate_limit_remaining", float64(left))
	if known {
		set("bindery_provider_budget", float64(left), NameOf(bindery.ProviderGitHub))
	}
}

func (s snapshot) ofWorker(w bindery.WorkerView, set func(name string, v float64, labels ...string)) {
	up, builds := 0.0, 0
	if w.Up {
		up = 1
		for _, b := range w.Builds {
			if !b.Done {
				builds++
			}
		}
	}
	set("bindery_worker_up", up, w.Name)
	for _, state := range bindery.WorkerStates() {
		is := 0.0
		if w.State == state {
			is = 1
		}
		set("bindery_worker_state", is, w.Name, string(state))
	}
	failed := map[string]int{"required": 0, "advised": 0}
	for _, c := range w.Checks {
		if _, known := failed[c.Level]; known && !c.OK {
			failed[c.Level]++
		}
	}
	for level, n := range failed {
		set("bindery_worker_checks_failed", float64(n), w.Name, level)
	}
	s.r.mu.Lock()
	dropped := s.r.dropped[w.Name]
	s.r.mu.Unlock()
	set("bindery_worker_images_dropped_total", float64(dropped), w.Name)
	set("bindery_worker_slots", float64(w.Slots), w.Name)
	set("bindery_worker_builds", float64(builds), w.Name)
	if !w.Up { // what it said of its disk is old
		return
	}
	set("bindery_worker_disk_free_bytes", float64(w.DiskFree), w.Name)
	set("bindery_worker_disk_full_seconds", s.r.diskFull(w), w.Name)
	set("bindery_worker_cache_bytes", float64(w.CacheSize), w.Name)
}

// A disk is what was seen of one in the last minutes.
type disk struct{ seen []diskSeen }

type diskSeen struct {
	at   time.Time
	free float64
}

// Of a disk so much is remembered, so exactly. Workers that have not been seen for so long are forgotten.
const (
	diskFor   = 15 * time.Minute
	diskEvery = 15 * time.Second
)

// diskFull is in how many seconds a worker's disk is full if it goes on as in the last quarter of an hour.
func (r *Recorder) diskFull(w bindery.WorkerView) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.cfg.Now()
	for name, d := range r.disks {
		if name != w.Name && now.Sub(d.seen[len(d.seen)-1].at) > diskFor {
			delete(r.disks, name)
		}
	}
	d := r.disks[w.Name]
	if d == nil {
		d = &disk{}
		r.disks[w.Name] = d
	}
	if n := len(d.seen); n == 0 || now.Sub(d.seen[n-1].at) >= diskEvery {
		d.seen = append(d.seen, diskSeen{now, float64(w.DiskFree)})
	}
	for len(d.seen) > 1 && now.Sub(d.seen[0].at) > diskFor {
		d.seen = d.seen[1:]
	}
	return d.full(float64(w.DiskFree))
}

// full fits a line through what was seen. Less than five looks are no trend.
func (d *disk) full(free float64) float64 {
	n := float64(len(d.seen))
	if n < 5 {
		return math.Inf(1)
	}
	var st, sf, stt, stf float64
	for _, x := range d.seen {
		t := x.at.Sub(d.seen[0].at).Seconds()
		st, sf, stt, stf = st+t, sf+x.free, stt+t*t, stf+t*x.free
	}
	slope := (n*stf - st*sf) / (n*stt - st*st) // bytes in a second
	if !(slope < 0) {
		return math.Inf(1)
	}
	return -free / slope
}
