package dispatch_test

import (
	"bytes"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/dispatch"
	"github.com/bindery-hub/bindery/sim"
)

// TestTrace traces a day with everything in it, over two hubs and a transaction that fails: done once more, every decision
// is the same to the byte.
func TestTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openStore(t, t.TempDir())
		w := newWorker()
		w.free = 100 << 30
		w.run = script
		l := newLauncher(w)
		st := &flaky{Store: db, mode: failAfter, at: 12}
		var whole bytes.Buffer
		runs := 0
		hubOf := func() *hub {
			return run(t, st, w, l, func(c *dispatch.Config) {
				c.Trace = func(line []byte) { whole.Write(line) }
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
		trace := whole.Bytes()
		got, err := sim.Replay(bytes.NewReader(trace), nil)
		if err != nil || got.Different > 0 || got.Starts != 2 || got.Restores < 3 || got.Decisions < 30 || got.Truncated {
			t.Errorf("replayed: %+v, %v", got, err)
		}
		// A line that says something else is found, and a torn end is no error.
		spoiled := bytes.Replace(trace, []byte("done b-"), []byte("done x-"), 1)
		if got, err := sim.Replay(bytes.NewReader(spoiled[:len(spoiled)-10]), nil); err != nil || got.Different != 1 || !got.Truncated {
			t.Errorf("spoiled: %+v, %v", got, err)
		}
		if _, err := sim.Replay(bytes.NewReader([]byte("{}\n{\"in\":\"Tick\"}\n")), nil); err == nil {
			t.Error("a trace without a beginning replays")
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
}
