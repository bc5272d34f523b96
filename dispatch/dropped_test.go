package dispatch_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/dispatch"
)

// TestDropped: what a worker removes for want of room is in the audit log and among the events once, however often the
// worker tells of it.
func TestDropped(t *testing.T) {
	var told []bindery.GenerationEvent
	events := func(c *dispatch.Config) {
		c.Generations = func(e bindery.GenerationEvent) {
			if e.Event == bindery.ImageDropped {
				told = append(told, e)
			}
		}
	}
	bubble(t, events, func(t *testing.T, h *hub) {
		noted := func(want ...string) {
			t.Helper()
			time.Sleep(2 * time.Minute)
			synctest.Wait()
			log, err := h.Audit(t.Context(), bindery.AuditQuery{What: "drop image", Limit: 10})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, l := range log {
				got = append(got, l.Who+": "+l.What)
				if !strings.Contains(l.Reason, "3 GiB free, less than 5 GiB") {
					t.Errorf("the reason is %q", l.Reason)
				}
			}
			if d := cmp.Diff(want, got); d != "" || len(told) != len(want) {
				t.Fatalf("%d events; -want +got:\n%s", len(told), d)
			}
			if e := told[len(told)-1]; e.Worker != "w" || e.Source.URL == "" || e.Reason == "" {
				t.Errorf("%+v", e)
			}
		}
		b := h.make(t, "r")
		h.w.set(func() { h.w.deaf = true })
		h.w.drop(b.Result.Image)
		const first = "worker w: bindery/r of git:https://example.org/o/r"
		noted(first)
		if e := told[0]; e.Generation != b.Result.Generation {
			t.Errorf("%+v, want generation %q", e, b.Result.Generation)
		}
		h.w.drop("bindery/unknown")
		const second = "worker w: bindery/unknown of git:https://example.org/o/r"
		noted(second, first)
		h.w.set(func() { h.w.deaf = false })
		noted(second, first)
		if list, err := h.w.Dropped(t.Context()); err != nil || len(list) != 0 {
			t.Errorf("the worker still tells of %+v, %v", list, err)
		}
		h.w.drop("bindery/later") // its notes begin anew, as after a machine's death
		noted("worker w: bindery/later of git:https://example.org/o/r", second, first)
	})
}
