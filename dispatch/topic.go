package dispatch

import (
	"context"
	"iter"
	"sync"

	bindery "github.com/bindery-hub/bindery"
)

// A topic is the live end of one build's events. Its watchers share one window of recent events and one channel that is
// closed, then replaced, when there is more: a watcher has a number to go on from, nothing else.
type topic struct {
	mu       sync.Mutex
	wake     chan struct{}   // made by the first who waits
	recent   []bindery.Event // the newest, without a gap
	last     int64           // number of the newest stored event
	over     bool            // there will be no more
	watchers int
}

const (
	windowLeast = 512
	windowMost  = 1024
	pageSize    = 500 // events read from the store at once
)

func newTopic(last int64) *topic { return &topic{last: last} }

// publish shows stored events. Readers hold parts of recent: it is appended to or replaced, never written over.
func (tp *topic) publish(events []bindery.Event) {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	tp.recent = append(tp.recent, events...)
	if n := len(tp.recent); n > windowMost {
		tp.recent = append(make([]bindery.Event, 0, windowMost+pageSize), tp.recent[n-windowLeast:]...)
	}
	tp.last = max(tp.last, events[len(events)-1].Seq)
	tp.ring()
}

// reset forgets what may not be what is stored.
func (tp *topic) reset(last int64) {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	tp.recent, tp.last = nil, last
	tp.ring()
}

func (tp *topic) end() {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	tp.over = true
	tp.ring()
}

func (tp *topic) ring() {
	if tp.wake != nil {
		close(tp.wake)
		tp.wake = nil
	}
}

// read returns what follows number after. stored: those events are in the store only. over: nothing will follow.
func (tp *topic) read(after int64) (events []bindery.Event, wake <-chan struct{}, stored, over bool) {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	if tp.wake == nil {
		tp.wake = make(chan struct{})
	}
	if after >= tp.last {
		return nil, tp.wake, false, tp.over
	}
	if len(tp.recent) == 0 || tp.recent[0].Seq > after+1 {
		return nil, tp.wake, true, tp.over
	}
	events = tp.recent[after+1-tp.recent[0].Seq:]
	return events[:len(events):len(events)], tp.wake, false, tp.over
}

func (d *Dispatcher) topic(id string) *topic {
	d.notes.Lock()
	defer d.notes.Unlock()
	return d.topics[id]
}

// openTopic makes a topic for a build whose newest stored event is number last, or corrects the one that is there.
func (d *Dispatcher) openTopic(id string, last int64) {
	d.notes.Lock()
	tp := d.topics[id]
	if tp == nil {
		d.topics[id] = newTopic(last)
	}
	d.notes.Unlock()
	if tp != nil {
		tp.reset(last)
	}
}

func (d *Dispatcher) endTopic(id string) {
	d.notes.Lock()
	tp := d.topics[id]
	delete(d.topics, id)
	d.notes.Unlock()
	if tp != nil {
		tp.end()
	}
}

// endTopicsBut ends the topics of builds that are over.
func (d *Dispatcher) endTopicsBut(live map[string]*build) {
	d.notes.Lock()
	var over []string
	for id := range d.topics {
		if live[id] == nil {
			over = append(over, id)
		}
	}
	d.notes.Unlock()
	for _, id := range over {
		d.endTopic(id)
	}
}

// watch counts a watcher in, or out.
func (d *Dispatcher) watch(id string, tp *topic, n int) {
	tp.mu.Lock()
	tp.watchers += n
	n = tp.watchers
	tp.mu.Unlock()
	d.notes.Lock()
	d.watched[id] = n
	d.notes.Unlock()
}

// Watch counts one more who watches a build that lives, beside those who read its events, until leave is called.
func (d *Dispatcher) Watch(id string) (leave func()) {
	tp := d.topic(id)
	if tp == nil {
		return func() {}
	}
	d.watch(id, tp, 1)
	return func() { d.watch(id, tp, -1) }
}

// Events yields the events of a build that follow number after: those stored, then new ones as they come, until the
// last. It ends early, with an error, when ctx ends or there is no such build.
func (d *Dispatcher) Events(ctx context.Context, id string, after int64) iter.Seq2[bindery.Event, error] {
	return func(yield func(bindery.Event, error) bool) {
		if _, err := d.Build(ctx, id); err != nil {
			yield(bindery.Event{}, err)
			return
		}
		after = max(after, 0)
		tp := d.topic(id)
		if tp != nil {
			d.watch(id, tp, 1)
			defer d.watch(id, tp, -1)
		}
		for {
			events, wake, err := d.next(ctx, id, tp, after)
			if err != nil {
				yield(bindery.Event{}, err)
				return
			}
			for _, e := range events {
				if !yield(e, nil) || e.Last() {
					return
				}
				after = e.Seq
			}
			if len(events) > 0 {
				continue
			}
			if wake == nil {
				return
			}
			select {
			case <-wake:
			case <-ctx.Done():
				yield(bindery.Event{}, ctx.Err())
				return
			case <-d.stopped:
				yield(bindery.Event{}, errStopping())
				return
			}
		}
	}
}

// next returns the events that follow number after, or the channel to wait on for them; neither when all were read.
func (d *Dispatcher) next(ctx context.Context, id string, tp *topic, after int64) ([]bindery.Event, <-chan struct{}, error) {
	if tp != nil {
		events, wake, stored, over := tp.read(after)
		if len(events) > 0 || !stored && !over {
			return events, wake, nil
		}
		if !over {
			events, err := d.cfg.Store.Events(ctx, id, after, pageSize)
			return events, wake, err
		}
	}
	events, err := d.cfg.Store.Events(ctx, id, after, pageSize)
	return events, nil, err
}
