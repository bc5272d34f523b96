package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/dispatch"
	"github.com/bindery-hub/bindery/store"
)

// A flaky store goes wrong at its n-th transaction, in one of these ways.
type flaky struct {
	dispatch.Store
	mode string
	at   int

	mu   sync.Mutex
	n    int
	dead bool
	kill func() // the process ends here
}

const (
	failBefore = "fails"                     // nothing was written
	failAfter  = "fails although it wrote"   // the answer was lost
	killBefore = "the hub is killed before"  // and started again
	killAfter  = "the hub is killed after"   // and started again
	stopAfter  = "the hub is stopped at the" // and started again
)

var errDisk = errors.New("disk I/O error")

func (f *flaky) Commit(ctx context.Context, c bindery.Changes) error {
	f.mu.Lock()
	f.n++
	now, dead := f.n == f.at, f.dead
	if now && (f.mode == killBefore || f.mode == killAfter) {
		f.dead = true
	}
	f.mu.Unlock()
	if dead || now && (f.mode == failBefore || f.mode == killBefore) {
		f.ring(now)
		return errDisk
	}
	if err := f.Store.Commit(ctx, c); err != nil {
		return err
	}
	if now {
		f.ring(true)
		if f.mode != stopAfter {
			return errDisk
		}
	}
	return nil
}

func (f *flaky) ring(now bool) {
	if now && f.mode != failBefore && f.mode != failAfter {
		go f.kill()
	}
}

func (f *flaky) Live(ctx context.Context, since time.Time) (bindery.Live, error) {
	if f.isDead() {
		return bindery.Live{}, errDisk
	}
	return f.Store.Live(ctx, since)
}

func (f *flaky) isDead() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dead
}

// A crew is visitors who do not give up, and hubs that come and go.
type crew struct {
	t     *testing.T
	mu    sync.Mutex
	h     *hub
	store *flaky
	next  func(*dispatch.Config) // what the hubs that follow are set to
}

func (c *crew) hub() *hub {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.h
}

// restart ends the hub, like a kill when its store is dead already, and starts another on what is left.
func (c *crew) restart() {
	old := c.hub()
	old.stop()
	time.Sleep(time.Second)
	fresh := run(c.t, c.store.Store, old.w, old.l, c.next)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.h = fresh
}

// visit asks for a build and reads its story until the end, over as many hubs as it takes.
func (c *crew) visit(repo string) (b bindery.Build, story []bindery.Event) {
	for range 100 {
		h := c.hub()
		var err error
		if b.ID == "" {
			b, err = h.Submit(c.t.Context(), ask(repo))
		}
		if err == nil {
			for e, eventErr := range h.Events(c.t.Context(), b.ID, int64(len(story))) {
				if err = eventErr; err != nil {
					break
				}
				if story = append(story, e); e.Seq != int64(len(story)) {
					c.t.Errorf("%s: event %d has number %d", repo, len(story), e.Seq)
				}
			}
		}
		if err == nil {
			if b, err = h.Build(c.t.Context(), b.ID); err == nil {
				return b, story
			}
		}
		time.Sleep(500 * time.Millisecond)
	}
	c.t.Errorf("%s: no end of %+v", repo, b)
	return b, story
}

func (c *crew) launch(b bindery.Build) bindery.Session {
	for range 100 {
		s, err := c.hub().Launch(c.t.Context(), b, bindery.Ask{Request: "tab"})
		if err == nil {
			return s
		}
		time.Sleep(500 * time.Millisecond)
	}
	c.t.Error("no session")
	return bindery.Session{}
}

// TestCrash goes through every transaction of a day's work and lets it go wrong in every way: nothing acknowledged is
// lost, nothing is done twice, nothing is left over.
func TestCrash(t *testing.T) { everyWay(t, 10, crashAt) }

// everyWay has a test's first transaction go wrong in every way, then its second one, until it reports that there are no
// more. least: so many there are.
func everyWay(t *testing.T, least int, crashAt func(t *testing.T, mode string, at int) bool) {
	for _, mode := range []string{failBefore, failAfter, killBefore, killAfter, stopAfter} {
		t.Run(mode, func(t *testing.T) {
			for at := 1; ; at += stride {
				reached := false
				t.Run(fmt.Sprint("transaction ", at), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { reached = crashAt(t, mode, at) })
				})
				if !reached || t.Failed() {
					if at < least {
						t.Errorf("there were only %d transactions", at)
					}
					return
				}
			}
		})
	}
}

// TestStatements goes through every statement of a day's work, and every commit, and has the store fail there: the rest of
// the transaction is lost with it, and nothing else.
func TestStatements(t *testing.T) {
	for at := 1; ; at += stride {
		reached := 0
		t.Run(fmt.Sprint("statement ", at), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var n atomic.Int64
				db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "x.db"), Fault: func() error {
					if n.Add(1) == int64(at) {
						return errDisk
					}
					return nil
				}})
				if err != nil {
					t.Fatal(err)
				}
				crash(t, db, "", 0)
				reached = int(n.Load())
			})
		})
		if reached < at || t.Failed() {
			if at < 50 {
				t.Errorf("the day had only %d statements", at)
			}
			return
		}
	}
}

// crashAt reports whether there was a transaction with that number.
func crashAt(t *testing.T, mode string, at int) bool {
	return crash(t, openStore(t, t.TempDir()), mode, at) >= at
}

// crash has a day's work done on a store, and returns how many transactions it took.
func crash(t *testing.T, db *store.DB, mode string, at int) int {
	w := newWorker()
	w.run = script
	l := newLauncher(w)
	c := &crew{t: t, store: &flaky{Store: db, mode: mode, at: at}}
	c.store.kill = c.restart
	c.mu.Lock() // its first transaction may kill it before it is here
	c.h = run(t, c.store, w, l, nil)
	c.mu.Unlock()

	var wg sync.WaitGroup
	var good, shaky, bad, again bindery.Build
	var s bindery.Session
	wg.Go(func() {
		good, _ = c.visit("good")
		s = c.launch(good)
	})
	wg.Go(func() { again, _ = c.visit("good") })
	wg.Go(func() { shaky, _ = c.visit("shaky") })
	wg.Go(func() { bad, _ = c.visit("bad") })
	wg.Wait()
	time.Sleep(2 * time.Minute) // restarts, sweeps
	h := c.hub()

	if good.ID != again.ID || good.State != bindery.BuildSucceeded || shaky.State != bindery.BuildSucceeded || shaky.Charged != 1 ||
		bad.State != bindery.BuildFailed || bad.Err == nil || bad.Err.Fault != bindery.User {
		t.Errorf("good %+v\nagain %+v\nshaky %+v\nbad %+v", good, again, shaky, bad)
	}
	checkAttempts(t, w)
	for _, b := range []bindery.Build{good, shaky, bad} {
		for i, e := range h.story(t, b.ID) {
			if e.Last() && i+1 != len(h.story(t, b.ID)) {
				t.Errorf("%s ends in the middle", b.ID)
			}
		}
	}
	list, err := h.Sessions(t.Context())
	if err != nil || len(list) != 1 || list[0].ID != s.ID || list[0].State != bindery.SessionReady {
		t.Errorf("want session %s alone: %+v, %v", s.ID, list, err)
	}
	if addr, ok := h.Address(s.ID); !ok || addr != s.Address || l.count() != 1 {
		t.Errorf("session at %q, %v; %d containers", addr, ok, l.count())
	}
	h.stop()
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	return c.store.n
}

// TestStoreInTrouble has the store fail for an hour: who asks meanwhile is told so soon, and what comes after is served.
func TestStoreInTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openStore(t, t.TempDir())
		w := newWorker()
		st := &flaky{Store: db, mode: failBefore}
		h := run(t, st, w, newLauncher(w), nil)
		before := h.make(t, "before")
		trouble := func(on bool) {
			st.mu.Lock()
			defer st.mu.Unlock()
			st.dead = on
		}
		trouble(true)
		for range 60 {
			asked := time.Now()
			_, err := h.Submit(t.Context(), ask("meanwhile"))
			var e *bindery.Error
			if !errors.As(err, &e) || e.Fault != bindery.Transient || !strings.Contains(err.Error(), errDisk.Error()) {
				t.Fatalf("got %v", err)
			}
			if took := time.Since(asked); took > 5*time.Second {
				t.Fatalf("the answer took %s", took)
			}
			time.Sleep(time.Minute)
		}
		trouble(false)
		time.Sleep(5 * time.Second)
		if got := h.submit(t, ask("before")); got.ID != before.ID {
			t.Errorf("got %+v, want what was built before", got)
		}
		h.make(t, "meanwhile")
		h.stop()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
}

// checkAttempts wants that nothing ran twice, and that the worker was told of every end.
func checkAttempts(t *testing.T, w *worker) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	ids := map[string]bool{}
	for key, n := range w.starts {
		id, _, _ := strings.Cut(key, "/")
		ids[id] = true
		if n != 1 {
			t.Errorf("attempt %s started %d times", key, n)
		}
	}
	if len(ids) != 3 || len(w.starts) != 4 {
		t.Errorf("3 builds in 4 attempts are wanted, there were %v", w.starts)
	}
	if len(w.attempts) != 0 {
		t.Errorf("%d attempts are still kept by the worker", len(w.attempts))
	}
}

// script is what the repositories of the day do.
func script(req bindery.BuildRequest, emit func(bindery.Event)) {
	for i := range 5 {
		emit(line(fmt.Sprint("line ", i)))
		time.Sleep(100 * time.Millisecond)
	}
	repo := req.Source.URL[strings.LastIndex(req.Source.URL, "/")+1:]
	switch {
	case repo == "bad":
		emit(failed(bindery.User))
	case repo == "shaky" && req.Attempt == 1:
		emit(failed(bindery.Transient))
	default:
		emit(built("bindery/" + repo))
	}
}

// TestRestart leaves sessions and a build behind in every state, and looks at what the next hub makes of them.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openStore(t, t.TempDir())
		w := newWorker()
		l := newLauncher(w)
		h := run(t, db, w, l, nil)
		b := h.make(t, "r")
		stays, dies, stuck := h.launch(t, b), h.launch(t, b), h.launch(t, b)
		running := h.submit(t, ask("other"))
		synctest.Wait()
		w.emit(running.ID, 1, line("one"))
		l.hang = true
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = h.Launch(t.Context(), b, bindery.Ask{}) })
		synctest.Wait()
		list, _ := h.Sessions(t.Context())
		pending := list[len(list)-1].ID
		l.mu.Lock()
		l.stopErr = errors.New("cannot stop")
		l.mu.Unlock()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if err := h.StopSession(ctx, stuck.ID, "enough"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("stopped: %v", err)
		}
		cancel()
		h.stop()

		w.emit(running.ID, 1, line("two"))
		l.end(dies.ID, bindery.Exit{Code: 5})
		l.mu.Lock()
		l.stopErr, l.hang = nil, false
		l.containers["s-unknown"] = &container{over: make(chan struct{}), run: bindery.Running{ID: "s-unknown"}}
		l.containers["r-somebodys"] = &container{over: make(chan struct{}), run: bindery.Running{ID: "r-somebodys"}}
		l.mu.Unlock()
		h = run(t, db, w, l, func(c *dispatch.Config) {
			c.Leases = func() ([]string, error) { return []string{stays.ID, "s-lease"}, nil }
		})
		time.Sleep(time.Minute)
		if got := h.session(t, stays.ID); got.State != bindery.SessionReady || got.Token != stays.Token {
			t.Errorf("stays: %+v", got)
		}
		if addr, ok := h.Address(stays.ID); !ok || addr != stays.Address {
			t.Errorf("stays at %q, %v", addr, ok)
		}
		for id, want := range map[string]string{
			dies.ID: "It ended while nobody looked", stuck.ID: "enough", pending: "The hub was restarted while it was starting",
		} {
			if got := h.session(t, id); got.State != bindery.SessionEnded || got.Reason != want {
				t.Errorf("want %q: %+v", want, got)
			}
		}
		if got := h.session(t, dies.ID); got.Exit == nil || got.Exit.Code != 5 {
			t.Errorf("the exit was not asked for: %+v", got.Exit)
		}
		w.emit(running.ID, 1, built("bindery/other"))
		got := strings.Join(texts(h.story(t, running.ID)), "")
		if want := "one\ntwo\nBuilt\n"; !strings.HasSuffix(got, want) || w.starts[name(running.ID, 1)] != 1 {
			t.Errorf("story %q, starts %v", got, w.starts)
		}
		wg.Wait()
		time.Sleep(time.Minute) // the container of the interrupted launch came late
		if l.count() != 2 || l.containers["r-somebodys"] == nil {
			t.Errorf("containers: %v", l.containers)
		}
		// The adopted session is watched.
		l.end(stays.ID, bindery.Exit{Code: 0})
		synctest.Wait()
		if got := h.session(t, stays.ID); got.State != bindery.SessionEnded {
			t.Errorf("the adopted session ended: %+v", got)
		}
		h.stop()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
}
