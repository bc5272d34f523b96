package dispatch

import (
	"maps"
	"sync"
	"time"
)

// The loops that compare what there is with the records.
const (
	watchWorkers  = "workers"  // what they say of themselves
	watchSessions = "sessions" // which containers there are
)

// watches remember when each loop last got an answer: one that has stopped is seen by its age.
type watches struct {
	mu   sync.Mutex
	last map[string]time.Time
}

func (w *watches) looked(watch string, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last[watch] = now
}

// Watches says when what there is was last compared with the records, by what was looked at. Until the first time, that
// is when the hub began.
func (d *Dispatcher) Watches() map[string]time.Time {
	d.watches.mu.Lock()
	defer d.watches.mu.Unlock()
	return maps.Clone(d.watches.last)
}
