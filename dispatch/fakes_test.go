package dispatch_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// A worker that builds nothing, but keeps the protocol: attempts start once, their events are kept until acknowledged.
type worker struct {
	mu       sync.Mutex
	wake     chan struct{}
	name     string
	slots    int
	free     int64 // bytes of its disk
	down     bool
	attempts map[string]*attempt // by id/attempt
	starts   map[string]int      // by key of an attempt: how often it really started
	images   map[string]bool
	dropped  []bindery.Dropped // since it was told that the others are known
	deaf     bool              // it does not take that in
	resolves int
	commit   string
	refuse   error // of Resolve
	// run is what a build does once it has started; emit may be called until its last event. nil: the test emits.
	run func(req bindery.BuildRequest, emit func(bindery.Event))
}

type attempt struct {
	req    bindery.BuildRequest
	events []bindery.Event
	acked  int64
	done   bool
}

func newWorker() *worker {
	return &worker{name: "w", slots: 2, wake: make(chan struct{}), attempts: map[string]*attempt{}, starts: map[string]int{}, images: map[string]bool{}, commit: commit1}
}

const (
	commit1 = "1111111111111111111111111111111111111111"
	commit2 = "2222222222222222222222222222222222222222"
)

func name(id string, n int) string { return fmt.Sprintf("%s/%d", id, n) }

func (w *worker) away() error {
	if w.down {
		return bindery.Errorf(bindery.ErrUnreachable, bindery.Transient, "", "the worker is away")
	}
	return nil
}

func (w *worker) ring() {
	close(w.wake)
	w.wake = make(chan struct{})
}

func (w *worker) Start(_ context.Context, req bindery.BuildRequest) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.away(); err != nil {
		return err
	}
	key := name(req.ID, req.Attempt)
	if w.attempts[key] != nil {
		return nil
	}
	w.attempts[key] = &attempt{req: req}
	w.starts[key]++
	if w.run != nil {
		run := w.run
		go run(req, func(e bindery.Event) { w.emit(req.ID, req.Attempt, e) })
	}
	w.ring()
	return nil
}

func (w *worker) emit(id string, n int, events ...bindery.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.attempts[name(id, n)]
	if a == nil || a.done {
		return // it was lost or stopped
	}
	for _, e := range events {
		e.Seq, e.Time = int64(len(a.events)+1), time.Now()
		if e.Result != nil {
			w.images[e.Result.Image] = true
		}
		a.events = append(a.events, e)
		a.done = e.Last()
	}
	w.ring()
}

func (w *worker) Events(ctx context.Context, id string, n int, after int64) iter.Seq2[bindery.Event, error] {
	return func(yield func(bindery.Event, error) bool) {
		for {
			w.mu.Lock()
			err := w.away()
			a, wake := w.attempts[name(id, n)], w.wake
			var events []bindery.Event
			if a != nil {
				events = slices.Clone(a.events[min(after, int64(len(a.events))):])
			}
			w.mu.Unlock()
			if err == nil && a == nil {
				err = bindery.Errorf(bindery.ErrNotFound, bindery.Ours, "", "no such attempt")
			}
			if err != nil {
				yield(bindery.Event{}, err)
				return
			}
			for _, e := range events {
				after = e.Seq
				if !yield(e, nil) || e.Last() {
					return
				}
			}
			select {
			case <-wake:
			case <-ctx.Done():
				yield(bindery.Event{}, ctx.Err())
				return
			}
		}
	}
}

func (w *worker) Ack(_ context.Context, id string, n int, seq int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a := w.attempts[name(id, n)]; a != nil {
		if a.acked = seq; a.done && seq >= int64(len(a.events)) {
			delete(w.attempts, name(id, n))
		}
	}
	return w.away()
}

func (w *worker) Cancel(_ context.Context, id string, n int) error {
	w.mu.Lock()
	a := w.attempts[name(id, n)]
	err := w.away()
	w.mu.Unlock()
	if err != nil || a == nil {
		return err
	}
	w.emit(id, n, bindery.Event{Phase: bindery.PhaseFailed, Err: bindery.Errorf(bindery.ErrCancelled, bindery.User, "", "cancelled")})
	return nil
}

func (w *worker) Resolve(_ context.Context, src bindery.Source) (bindery.Source, error) {
	time.Sleep(time.Millisecond) // in a bubble, or short
	w.mu.Lock()
	defer w.mu.Unlock()
	w.resolves++
	src.Commit = w.commit
	return src, cmp.Or(w.refuse, w.away())
}

func (w *worker) Status(context.Context) (bindery.WorkerStatus, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	st := bindery.WorkerStatus{Name: w.name, Slots: w.slots, DiskFree: w.free}
	for _, a := range w.attempts {
		st.Builds = append(st.Builds, bindery.BuildAttempt{ID: a.req.ID, Attempt: a.req.Attempt, Done: a.done, LastSeq: int64(len(a.events))})
	}
	return st, w.away()
}

// Images and the two below make it keep images.
func (w *worker) Images(context.Context) (out []bindery.Image, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name := range w.images {
		out = append(out, bindery.Image{Name: name})
	}
	return out, w.away()
}

func (w *worker) RemoveImage(_ context.Context, name string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.images, name)
	return w.away()
}

// drop removes an image for want of room.
func (w *worker) drop(image string) {
	w.set(func() {
		delete(w.images, image)
		n := int64(1)
		if len(w.dropped) > 0 {
			n += w.dropped[len(w.dropped)-1].Number
		}
		w.dropped = append(w.dropped, bindery.Dropped{Number: n, Time: time.Now(), Image: image, Source: ask("r").Source, Free: 3 << 30, Wanted: 5 << 30})
	})
}

func (w *worker) Dropped(context.Context) ([]bindery.Dropped, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.dropped), w.away()
}

func (w *worker) ForgetDropped(_ context.Context, last int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.deaf {
		return bindery.Errorf(bindery.ErrWorkerLost, bindery.Transient, "", "it was killed")
	}
	w.dropped = slices.DeleteFunc(w.dropped, func(d bindery.Dropped) bool { return d.Number <= last })
	return w.away()
}

// Disk has ten bytes for each.
func (w *worker) Disk(ctx context.Context) (bindery.DiskUse, error) {
	use := bindery.DiskUse{Own: map[string]int64{}}
	all, err := w.Images(ctx)
	for _, i := range all {
		use.Own[i.Name] = 10
		use.Images += 10
	}
	use.Total = use.Images
	return use, err
}

// restart is a kill -9 and a new start: what was not finished is lost.
func (w *worker) restart() {
	w.mu.Lock()
	var lost []*attempt
	for _, a := range w.attempts {
		if !a.done {
			lost = append(lost, a)
		}
	}
	w.mu.Unlock()
	for _, a := range lost {
		w.emit(a.req.ID, a.req.Attempt, bindery.Event{Phase: bindery.PhaseFailed, Err: bindery.Errorf(bindery.ErrWorkerLost, bindery.Transient, "", "lost")})
	}
}

func (w *worker) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	w.ring()
}

func line(text string) bindery.Event {
	return bindery.Event{Phase: bindery.PhaseBuilding, Message: text + "\n"}
}

func built(image string) bindery.Event {
	return bindery.Event{Phase: bindery.PhaseBuilt, Message: "Built\n", Result: &bindery.BuildResult{Image: image, Generation: "g1"}}
}

func failed(fault bindery.Fault) bindery.Event {
	return bindery.Event{Phase: bindery.PhaseFailed, Message: "It failed\n", Err: bindery.Errorf(bindery.ErrStep, fault, "Mend it.", "a step failed")}
}

// A launcher whose containers are map entries.
type launcher struct {
	mu         sync.Mutex
	w          *worker // whose images it starts
	containers map[string]*container
	starts     int
	log        string
	dies       *bindery.Exit // what happens to a container right after its start
	startErr   error
	hang       bool // start returns only when its context ends
	stopErr    error
}

type container struct {
	run  bindery.Running
	exit bindery.Exit
	over chan struct{}
}

func newLauncher(w *worker) *launcher { return &launcher{w: w, containers: map[string]*container{}} }

func (l *launcher) Start(ctx context.Context, spec bindery.Launch) (bindery.Running, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.startErr != nil {
		return bindery.Running{}, l.startErr
	}
	l.w.mu.Lock()
	there := l.w.images[spec.Image]
	l.w.mu.Unlock()
	if !there {
		return bindery.Running{}, bindery.Errorf(bindery.ErrNotFound, bindery.Ours, "", "there is no image %q", spec.Image)
	}
	if l.hang {
		l.mu.Unlock()
		<-ctx.Done()
		l.mu.Lock()
	}
	if c := l.containers[spec.ID]; c != nil {
		return c.run, nil
	}
	l.starts++
	c := &container{run: bindery.Running{ID: spec.ID, PID: 7, Address: fmt.Sprintf("10.0.0.%d:%d", l.starts, spec.Port), Started: time.Now()}, over: make(chan struct{})}
	l.containers[spec.ID] = c
	if l.dies != nil {
		c.exit = *l.dies
		close(c.over)
	}
	return c.run, nil
}

func (l *launcher) Wait(ctx context.Context, id string) (bindery.Exit, error) {
	l.mu.Lock()
	c := l.containers[id]
	l.mu.Unlock()
	if c == nil {
		return bindery.Exit{}, bindery.Errorf(bindery.ErrNotFound, bindery.Ours, "", "no container %q", id)
	}
	select {
	case <-c.over:
		return c.exit, nil
	case <-ctx.Done():
		return bindery.Exit{}, ctx.Err()
	}
}

// end ends a container from inside.
func (l *launcher) end(id string, exit bindery.Exit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.containers[id]; c != nil {
		c.exit = exit
		close(c.over)
	}
}

func (l *launcher) Stop(_ context.Context, id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopErr != nil {
		return l.stopErr
	}
	c := l.containers[id]
	if c == nil {
		return nil
	}
	delete(l.containers, id)
	select {
	case <-c.over:
	default:
		c.exit = bindery.Exit{Code: 143}
		close(c.over)
	}
	return nil
}

func (l *launcher) List(context.Context) ([]bindery.Running, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []bindery.Running
	for _, c := range l.containers {
		select {
		case <-c.over:
		default:
			out = append(out, c.run)
		}
	}
	return out, nil
}

func (l *launcher) Log(context.Context, string, bool) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(l.log)), nil
}

func (l *launcher) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.containers)
}
