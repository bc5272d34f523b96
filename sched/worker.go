package sched

import (
	"cmp"
	"slices"
	"time"
)

type worker struct {
	name    string
	slots   int
	up      bool
	full    bool // its disk is, until it is up again
	space   int64
	disk    int64 // reserved for what runs
	running []*build
	quick   int // of them beside the slots
}

func (w *worker) busy() int { return len(w.running) - w.quick }

func (w *worker) add(b *build) {
	i, _ := slices.BinarySearchFunc(w.running, b, func(x, y *build) int { return cmp.Compare(x.order, y.order) })
	w.running = slices.Insert(w.running, i, b)
}

func (w *worker) remove(b *build) {
	w.running = slices.DeleteFunc(w.running, func(x *build) bool { return x == b })
}

// worker finds a worker by name, or makes one that is not up.
func (s *Scheduler) worker(name string) *worker {
	i, found := slices.BinarySearchFunc(s.workers, name, func(w *worker, name string) int { return cmp.Compare(w.name, name) })
	if !found {
		s.workers = slices.Insert(s.workers, i, &worker{name: name})
	}
	return s.workers[i]
}

// count counts slots again after workers changed.
func (s *Scheduler) count() {
	s.slots, s.taken = 0, 0
	for _, w := range s.workers {
		if w.up {
			s.slots += w.slots
			// What runs beyond the slots, because they were made fewer, takes none of another worker's.
			s.taken += min(w.busy(), w.slots)
		}
	}
}

func (in WorkerUp) apply(s *Scheduler, _ time.Time) {
	w := s.worker(in.Worker)
	w.up, w.full, w.slots, w.space = true, false, in.Slots, in.Disk
	s.count()
}

func (in WorkerDown) apply(s *Scheduler, _ time.Time) {
	s.worker(in.Worker).up = false
	s.count()
}

func (in WorkerLost) apply(s *Scheduler, now time.Time) {
	w := s.worker(in.Worker)
	lost := w.running
	w.up, w.running = false, nil
	for _, b := range lost {
		s.finish(b, WorkerGone, now)
	}
	s.count()
}

// choose finds the worker for a build: the one its repository's hash prefers, unless that one has more than its share
// of work already. Where there are enough workers, long builds keep to some of them, the others to the rest.
func (s *Scheduler) choose(b *build, z size) *worker {
	need := s.diskOf(b.Repo)
	if z == quick {
		need = 0
	}
	best, bestScore := (*worker)(nil), uint64(0)
	ready, apart := 0, 0
	for _, w := range s.workers {
		if w.up {
			ready++
		}
	}
	if ready >= 4 {
		apart = int(s.cfg.LongShare * float64(ready))
	}
	avoidable := s.avoidable(b)
	i := 0
	for _, w := range s.workers {
		if !w.up {
			continue
		}
		i++
		busy := w.busy()
		if w == s.leaving {
			busy--
		}
		if z != quick && busy >= w.slots || !w.fits(need) || avoidable && slices.Contains(b.avoid, w.name) {
			continue
		}
		score := rendezvous(b.Repo, w.name) >> 2
		if z != quick && s.light(w) {
			score |= 1 << 63
			if own := i <= apart; own == (z == long || z == slow) {
				score |= 1 << 62
			}
		}
		if best == nil || score > bestScore {
			best, bestScore = w, score
		}
	}
	return best
}

// avoidable reports whether a worker is up that this build need not avoid.
func (s *Scheduler) avoidable(b *build) bool {
	if len(b.avoid) == 0 {
		return false
	}
	for _, w := range s.workers {
		if w.up && w.slots > 0 && !slices.Contains(b.avoid, w.name) {
			return true
		}
	}
	return false
}

// fits reports whether there is disk for one more build. Nothing is known of the disk: there is.
func (w *worker) fits(need int64) bool {
	return !w.full && (w.space == 0 || w.space-w.disk >= need)
}

// light reports whether a worker that takes one more build has at most 1.25 times its share.
func (s *Scheduler) light(w *worker) bool {
	share := float64(s.taken+1) * float64(w.slots) / float64(max(s.slots, 1))
	return float64(w.busy()+1) <= ceil(1.25*share)
}

func ceil(x float64) float64 {
	if i := float64(int64(x)); i >= x {
		return i
	}
	return float64(int64(x) + 1)
}

// rendezvous scores a worker for a repository: who comes or goes moves only its own repositories.
func rendezvous(repo, worker string) uint64 {
	h := uint64(14695981039346656037)
	for _, text := range [...]string{repo, "\x00", worker} {
		for i := range len(text) {
			h = (h ^ uint64(text[i])) * 1099511628211
		}
	}
	return mixed(h)
}

// mixed spreads the bits of x over all bits.
func mixed(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
