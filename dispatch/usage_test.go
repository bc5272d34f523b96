package dispatch_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/dispatch"
)

func askOf(owner, repo string) bindery.Ask {
	a := ask(repo)
	a.Source.URL, a.Requester = "https://example.org/"+owner+"/"+repo, owner
	return a
}

// TestUsageOutlives has one owner use the only slot for an hour. After a restart the other one goes first, however late
// it came, and what its builds cost is known.
func TestUsageOutlives(t *testing.T) {
	for _, kill := range []string{"while it runs", "when it has ended"} {
		t.Run(kill, func(t *testing.T) {
			bubble(t, func(c *dispatch.Config) { c.Policy.Stall = -1 }, func(t *testing.T, h *hub) {
				h.w.set(func() { h.w.slots = 1 })
				time.Sleep(6 * time.Second)
				long := h.submit(t, askOf("busy", "long"))
				time.Sleep(time.Hour)
				if kill == "when it has ended" {
					h.w.emit(long.ID, 1, built("long"))
					synctest.Wait()
				}
				blocker := h.submit(t, askOf("third", "x"))
				synctest.Wait()
				h.stop()
				h = run(t, h.st, h.w, h.l, nil)
				defer h.stop()
				time.Sleep(6 * time.Second)
				if kill == "while it runs" {
					h.w.emit(long.ID, 1, built("long"))
					synctest.Wait()
				}
				busy := h.submit(t, askOf("busy", "next"))
				idle := h.submit(t, askOf("idle", "first"))
				h.w.emit(blocker.ID, 1, built("x"))
				synctest.Wait()
				if got := h.build(t, idle.ID); got.State != bindery.BuildRunning {
					t.Errorf("who has used nothing: %s; who has used an hour: %s", got.State, h.build(t, busy.ID).State)
				}
				a := askOf("busy", "long")
				a.Source.Ref, a.Source.Commit = "", commit2
				again := h.submit(t, a)
				q, err := h.Queue(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, b := range q.Waiting {
					if b.ID == again.ID && b.Expected < 25*time.Minute {
						t.Errorf("the next build of the long one is expected to take %v", b.Expected)
					}
				}
			})
		})
	}
}

// TestUsageSinceOutlives restarts a hub on which usage was written down a moment ago: what has been spent since then
// counts, and what runs is charged once. The slot is free for the one of two who has used less.
func TestUsageSinceOutlives(t *testing.T) {
	for _, tt := range []struct {
		name        string
		busy, other time.Duration // that their builds take
		runs        bool          // busy's build runs when the hub is restarted
		first       string
	}{
		{"it ended since", time.Hour, 10 * time.Minute, false, "other"},
		{"it runs, and ends soon", 30 * time.Second, 4 * time.Minute, true, "busy"},
		{"it runs, and for long", time.Hour, 4 * time.Minute, true, "other"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			change := func(c *dispatch.Config) { c.Policy.Stall = -1 }
			bubble(t, change, func(t *testing.T, h *hub) {
				h.w.set(func() { h.w.slots = 3 })
				time.Sleep(6 * time.Second)
				end := func(b bindery.Build, repo string) {
					h.w.emit(b.ID, 1, built(repo))
					synctest.Wait()
				}
				again := func() {
					synctest.Wait()
					h.stop()
					h = run(t, h.st, h.w, h.l, change)
					time.Sleep(6 * time.Second)
				}
				defer func() { h.stop() }()
				other := h.submit(t, askOf("other", "first"))
				time.Sleep(tt.other)
				end(other, "first")
				busy := h.submit(t, askOf("busy", "second"))
				time.Sleep(tt.busy - 12*time.Second)
				h.submit(t, askOf("third", "x")) // so usage is written down
				blocker := h.submit(t, askOf("fourth", "y"))
				time.Sleep(6 * time.Second)
				if tt.runs {
					again()
					end(busy, "second")
				} else {
					end(busy, "second")
					again()
				}
				h.submit(t, askOf("fifth", "z"))
				ids := map[string]string{"busy": h.submit(t, askOf("busy", "next")).ID, "other": h.submit(t, askOf("other", "next")).ID}
				end(blocker, "y")
				for who, id := range ids {
					if got := h.build(t, id); (got.State == bindery.BuildRunning) != (who == tt.first) {
						t.Errorf("%s: %s; %s has used less", who, got.State, tt.first)
					}
				}
			})
		})
	}
}

// TestSlowLaneOutlives restarts the hub while a build runs in the slow lane, and when it is in quarantine.
func TestSlowLaneOutlives(t *testing.T) {
	limits := func(c *dispatch.Config) {
		c.Policy.MaxAge, c.Policy.SlowAge, c.Policy.Stall = time.Hour, 2*time.Hour, -1
	}
	bubble(t, limits, func(t *testing.T, h *hub) {
		again := func() {
			synctest.Wait()
			h.stop()
			h = run(t, h.st, h.w, h.l, limits)
			time.Sleep(6 * time.Second)
		}
		defer func() { h.stop() }()
		b := h.submit(t, ask("r"))
		time.Sleep(61 * time.Minute)
		again()
		if got := h.build(t, b.ID); !got.Slow || got.Attempt != 1 || got.State != bindery.BuildRunning {
			t.Fatalf("after its first hour: %+v", got)
		}
		time.Sleep(30 * time.Minute) // longer than the first limit
		again()
		if got := h.build(t, b.ID); !got.Slow || got.Attempt != 1 || got.State != bindery.BuildRunning {
			t.Fatalf("in the slow lane: %+v", got)
		}
		time.Sleep(time.Hour)
		again()
		if got := h.build(t, b.ID); got.State != bindery.BuildFailed || !got.Quarantined {
			t.Fatalf("after both: %+v", got)
		}
		time.Sleep(24 * time.Hour)
		if got := h.submit(t, ask("r")); got.ID != b.ID {
			t.Errorf("out of quarantine: %+v", got)
		}
		// A forced retry counts, over restarts too.
		for i := range 5 {
			a := ask("r")
			a.Retry = true
			got := h.submit(t, a)
			if forced := got.ID != b.ID; forced != (i < 3) {
				t.Errorf("retry %d: %+v", i, got)
			}
			synctest.Wait()
			h.w.emit(got.ID, 1, failed(bindery.User))
			again()
			if got.ID != b.ID {
				b = h.build(t, got.ID)
			}
		}
	})
}

// TestDeposed has another hub take over the store: the first one ends, and has changed nothing since.
func TestDeposed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		db := openStore(t, dir)
		if _, err := db.Lead(t.Context(), "first"); err != nil {
			t.Fatal(err)
		}
		w := newWorker()
		d, err := dispatch.New(dispatch.Config{Store: db, Worker: w, Launcher: newLauncher(w), Generation: "g1"})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- d.Run(t.Context()) }()
		if _, err := d.Submit(t.Context(), ask("a")); err != nil {
			t.Fatal(err)
		}
		other := openStore(t, dir)
		if _, err := other.Lead(t.Context(), "second"); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Submit(t.Context(), ask("b")); err == nil {
			t.Error("who was deposed took a build")
		}
		if err := <-ended; !errors.Is(err, bindery.ErrLocked) {
			t.Errorf("Run: %v", err)
		}
		live, err := other.Live(t.Context(), time.Now())
		if err != nil || len(live.Builds) != 1 {
			t.Errorf("builds: %+v, %v", live.Builds, err)
		}
		if err := errors.Join(db.Close(), other.Close()); err != nil {
			t.Error(err)
		}
	})
}

// TestDiskIsMeasured builds one commit whose image turns out small. Of the next ones as many run at once as the disk
// has room for, by what that one took.
func TestDiskIsMeasured(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *hub) {
		h.w.set(func() { h.w.slots, h.w.free = 4, 20<<30 })
		time.Sleep(6 * time.Second)
		ask := func(n int) bindery.Build {
			a := askOf("o", "r")
			a.Source.Ref, a.Source.Commit = "", fmt.Sprintf("%040d", n)
			b := h.submit(t, a)
			synctest.Wait()
			return b
		}
		first := ask(0)
		end := built("r")
		end.Result.Size = 2 << 30
		h.w.emit(first.ID, 1, end)
		synctest.Wait()
		if got := h.build(t, first.ID).Disk; got != 4<<30 {
			t.Errorf("it took %d bytes", got)
		}
		ids := []string{ask(1).ID, ask(2).ID, ask(3).ID, ask(4).ID}
		for _, id := range ids {
			if got := h.build(t, id); got.State != bindery.BuildRunning {
				t.Errorf("%s is %s", id, got.State)
			}
		}
	})
}
