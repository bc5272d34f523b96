package dispatch_test

import (
	"bytes"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/dispatch"
	"github.com/bindery-hub/bindery/sched"
	"github.com/bindery-hub/bindery/sim"
)

// TestTrace traces a day with everything in it, over two hubs and a transaction that fails, in files of 10 lines each: done
// once more, every decision is the same to the byte, and so is all that the scheduler knew when a file began. It does not
// matter which file is the first.
func TestTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openStore(t, t.TempDir())
		w := newWorker()
		w.free = 100 << 30
		w.run = script
		l := newLauncher(w)
		st := &flaky{Store: db, mode: failAfter, at: 12}
		var files []*bytes.Buffer
		runs, lines := 0, 0
		trace := func(x sched.Traced) bool {
			if x.Config != nil || x.Whole != nil {
				files, lines = append(files, &bytes.Buffer{}), 0
			}
			line, err := x.Line()
			if err != nil {
				t.Error(err)
			}
			files[len(files)-1].Write(line)
			lines++
			return lines >= 10
		}
		hubOf := func() *hub {
			return run(t, st, w, l, func(c *dispatch.Config) {
				c.Trace = trace
				c.Policy.Sessions, c.Wait = 1, true
			})
		}
		h := hubOf()
		for runs < 2 {
			var wg sync.WaitGroup
			for _, repo := range []string{"good", "shaky", "bad", "more", "other"} {
				wg.Go(func() {
					b, err := h.Submit(t.Context(), ask(repo))
					if err != nil {
						return // its transaction is the one that fails
					}
					for range h.Events(t.Context(), b.ID, 0) {
						continue
					}
					if b, err = h.Build(t.Context(), b.ID); err == nil && b.Result != nil {
						s, err := h.Launch(t.Context(), b, bindery.Ask{})
						time.Sleep(time.Minute)
						if err == nil {
							_ = h.StopSession(t.Context(), s.ID, "enough")
						}
					}
				})
			}
			time.Sleep(time.Second)
			_ = h.SetRule(t.Context(), bindery.Rule{Kind: "weight", Scope: "owner", Name: "git/example.org/o", Value: 2, Who: "ann"})
			wg.Wait()
			time.Sleep(time.Hour)
			h.stop()
			if runs++; runs < 2 {
				h = hubOf()
			}
		}
		synctest.Wait()
		for first := range files {
			var all sim.Replayed
			var play sim.Replayer
			for _, f := range files[first:] {
				got, err := play.Replay(bytes.NewReader(f.Bytes()), nil)
				if err != nil || got.Different > 0 || got.Unlike > 0 || got.Gaps > 0 || got.Truncated || got.Starts+got.Wholes != 1 {
					t.Errorf("replayed from file %d on: %+v, %v", first, got, err)
				}
				all.Starts += got.Starts
				all.Wholes += got.Wholes
				all.Restores += got.Restores
				all.Decisions += got.Decisions
			}
			if first == 0 && (all.Starts != 2 || all.Wholes < 12 || all.Restores < 3 || all.Decisions < 30) {
				t.Errorf("replayed: %+v", all)
			}
		}
		// A line that says something else is found.
		for i, f := range files {
			spoiled := bytes.Replace(f.Bytes(), []byte("done b-"), []byte("done x-"), 1)
			if got, err := new(sim.Replayer).Replay(bytes.NewReader(spoiled), nil); err != nil || (got.Different == 1) == bytes.Equal(spoiled, f.Bytes()) {
				t.Errorf("file %d, spoiled: %+v, %v", i, got, err)
			}
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
}
