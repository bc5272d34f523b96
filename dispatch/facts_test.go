package dispatch_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/dispatch"
)

// TestDiskFull has a worker run out of disk: it gets no more work until there is room, and the build is not blamed.
func TestDiskFull(t *testing.T) {
	for _, how := range []string{"room is made", "nobody sees the room"} {
		t.Run(how, func(t *testing.T) {
			bubble(t, func(c *dispatch.Config) { c.Worker.(*worker).free = 50 << 30 }, func(t *testing.T, h *hub) {
				synctest.Wait()
				b := h.submit(t, ask("r"))
				synctest.Wait()
				h.w.set(func() { h.w.free = 0 })
				h.w.emit(b.ID, 1, bindery.Event{Phase: bindery.PhaseFailed, Err: bindery.Errorf(bindery.ErrNoSpace, bindery.Ours, "", "the disk is full")})
				time.Sleep(time.Minute)
				got := h.build(t, b.ID)
				if got.State != bindery.BuildQueued || got.Charged != 0 {
					t.Errorf("on a full disk: %+v", got)
				}
				other := h.submit(t, ask("other"))
				time.Sleep(time.Minute)
				if st, err := h.Standing(t.Context(), other.ID); err != nil || st.Position == 0 || !strings.Contains(st.Reason, "No worker") {
					t.Errorf("another build: %+v, %v", st, err)
				}
				if how == "room is made" {
					h.w.set(func() { h.w.free = 40 << 30 })
					time.Sleep(10 * time.Second)
				} else {
					time.Sleep(6 * time.Minute)
				}
				got = h.build(t, b.ID)
				if got.State != bindery.BuildRunning || got.Attempt != 2 {
					t.Errorf("with room again: %+v", got)
				}
				if story := strings.Join(texts(h.partly(t, b.ID)), ""); !strings.Contains(story, "disk is full") {
					t.Errorf("story: %q", story)
				}
			})
		})
	}
}

// TestDiskReserved starts no more builds than there is disk for, but always one.
func TestDiskReserved(t *testing.T) {
	for free, want := range map[int64]int{50 << 30: 2, 12 << 30: 1, 1 << 20: 1} {
		bubble(t, func(c *dispatch.Config) { c.Worker.(*worker).free = free }, func(t *testing.T, h *hub) {
			synctest.Wait()
			for _, r := range []string{"a", "b", "c"} {
				h.submit(t, ask(r))
			}
			synctest.Wait()
			q, err := h.Queue(t.Context())
			if err != nil || len(q.Running) != want {
				t.Errorf("%d bytes free: %d run, want %d; %v", free, len(q.Running), want, err)
			}
		})
	}
}

// TestRowOutlivesARestart fails a build twice, hours and a restart apart, where the queue remembers for so long: it is the
// second in a row.
func TestRowOutlivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openStore(t, t.TempDir())
		w := newWorker()
		w.run = func(_ bindery.BuildRequest, emit func(bindery.Event)) { emit(failed(bindery.User)) }
		for row := 1; row <= 2; row++ {
			h := run(t, db, w, newLauncher(w), func(c *dispatch.Config) { c.Policy.Longest = 6 * time.Hour })
			b := h.submit(t, ask("r"))
			h.story(t, b.ID)
			if got := h.build(t, b.ID); got.Row != row {
				t.Errorf("failure %d: %+v", row, got)
			}
			h.stop()
			time.Sleep(3 * time.Hour)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestSilent stops a build of which nothing is heard, and lets one live of which a step only computes.
func TestSilent(t *testing.T) {
	for _, computes := range []bool{true, false} {
		bubble(t, nil, func(t *testing.T, h *hub) {
			synctest.Wait()
			b := h.submit(t, ask("r"))
			for range 90 {
				time.Sleep(time.Minute)
				if computes { // it says so from time to time
					h.w.emit(b.ID, 1, bindery.Event{Phase: bindery.PhaseBuilding, Step: &bindery.Step{ID: "1", Name: "Run postBuild"}})
				}
			}
			got := h.build(t, b.ID)
			if alive := got.State == bindery.BuildRunning && got.Attempt == 1; alive != computes {
				t.Errorf("computes %v: %+v", computes, got)
			}
		})
	}
}

// TestKinds passes on what sort of plan a build had.
func TestKinds(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *hub) {
		synctest.Wait()
		b := h.submit(t, ask("r"))
		synctest.Wait()
		e := built("bindery/r")
		e.Result.Kind = "conda"
		h.w.emit(b.ID, 1, e)
		synctest.Wait()
		if got := h.build(t, b.ID); got.Kind != "conda" {
			t.Errorf("kind: %+v", got)
		}
	})
}

// partly returns what has been told of a build that goes on.
func (h *hub) partly(t *testing.T, id string) []bindery.Event {
	t.Helper()
	events, err := h.st.Events(t.Context(), id, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

// TestQuick tries another commit of what is built beside the slots; when its environment has to be built it waits for a slot
// like any other.
func TestQuick(t *testing.T) {
	bubble(t, func(c *dispatch.Config) { c.Quick, c.Worker.(*worker).slots = true, 1 }, func(t *testing.T, h *hub) {
		synctest.Wait()
		first := h.submit(t, ask("r"))
		e := built("bindery/r")
		e.Result.Copies = true
		synctest.Wait()
		h.w.emit(first.ID, 1, e)
		synctest.Wait()
		blocker := h.submit(t, ask("blocker"))
		synctest.Wait()
		var same, changed bindery.Build
		for i, b := range []*bindery.Build{&same, &changed} {
			a := ask("r")
			a.Source.Commit = strings.Repeat([]string{"2", "3"}[i], 40)
			a.Source.Ref = ""
			*b = h.submit(t, a)
		}
		synctest.Wait()
		for _, b := range []bindery.Build{same, changed} {
			if got := h.build(t, b.ID); got.State != bindery.BuildRunning || !got.Quick || !h.w.attempts[name(b.ID, 1)].req.Quick {
				t.Errorf("beside the slots: %+v", got)
			}
		}
		h.w.emit(same.ID, 1, built("bindery/same"))
		h.w.emit(changed.ID, 1, bindery.Event{Phase: bindery.PhaseFailed, Err: bindery.Errorf(bindery.ErrNotReady, bindery.Transient, "", "Its environment has to be built")})
		synctest.Wait()
		if got := h.build(t, same.ID); got.State != bindery.BuildSucceeded {
			t.Errorf("only copied: %+v", got)
		}
		if got := h.build(t, changed.ID); got.State != bindery.BuildQueued || got.Quick || got.Charged != 0 {
			t.Errorf("waits for a slot: %+v", got)
		}
		h.w.emit(blocker.ID, 1, built("bindery/blocker"))
		synctest.Wait()
		if got := h.build(t, changed.ID); got.State != bindery.BuildRunning || got.Attempt != 2 || h.w.attempts[name(changed.ID, 2)].req.Quick {
			t.Errorf("in a slot: %+v", got)
		}
	})
}

// TestDirectories builds two directories of one branch: neither takes the other one's place.
func TestDirectories(t *testing.T) {
	bubble(t, func(c *dispatch.Config) { c.Worker.(*worker).slots = 1 }, func(t *testing.T, h *hub) {
		synctest.Wait()
		h.submit(t, ask("blocker"))
		var all []bindery.Build
		for _, dir := range []string{"", "a", "b"} {
			a := ask("r")
			a.Source.Subdir = dir
			all = append(all, h.submit(t, a))
		}
		h.w.set(func() { h.w.commit = commit2 })
		time.Sleep(2 * time.Minute) // until the branch is looked at again
		a := ask("r")
		a.Source.Subdir = "a"
		h.submit(t, a)
		for i, want := range []bindery.BuildState{bindery.BuildQueued, bindery.BuildCancelled, bindery.BuildQueued} {
			if got := h.build(t, all[i].ID); got.State != want {
				t.Errorf("directory %q: %s, want %s; %v", got.Source.Subdir, got.State, want, got.Err)
			}
		}
	})
}
