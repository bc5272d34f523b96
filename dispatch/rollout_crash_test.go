package dispatch_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/dispatch"
)

// TestRolloutCrash lets every transaction of a roll-out and its rollback go wrong in every way: whether images are being
// built, tried, held or taken back at that moment, no visitor waits for a build, nothing is built twice, and it ends as it
// would have.
func TestRolloutCrash(t *testing.T) { everyWay(t, 20, rolloutAt) }

// A library is a flaky store that lists images.
type library struct {
	*flaky
	dispatch.Librarian
}

func rolloutAt(t *testing.T, mode string, at int) bool {
	repos := []string{"a", "b", "broken1", "c"}
	db := openStore(t, t.TempDir())
	w := newWorker()
	w.byRecipe()
	build := w.run
	w.run = func(req bindery.BuildRequest, emit func(bindery.Event)) {
		time.Sleep(time.Second)
		build(req, emit)
	}
	l := newLauncher(w)
	h := run(t, db, w, l, byRecipe(recipe("")))
	for _, repo := range repos {
		h.story(t, h.submit(t, ask(repo)).ID)
	}
	h.stop()

	c := &crew{t: t, store: &flaky{Store: db, mode: mode, at: at}, next: byRecipe(recipe("RUN true"))}
	c.store.kill = c.restart
	c.h = run(t, library{c.store, db}, w, l, c.next)
	over, next := make(chan struct{}), recipe("RUN true").Generation()
	var visitors sync.WaitGroup
	visitors.Go(func() {
		for i := 0; ; i++ {
			c.served(repos[i%len(repos)])
			select {
			case <-over:
				return
			case <-time.After(2 * time.Second):
			}
		}
	})
	c.insists("start", func(h *hub) error {
		return h.StartRollout(t.Context(), "", bindery.RolloutOptions{}, "ann", "a new base")
	})
	if g := c.comesTo(next, bindery.GenerationCurrent); len(g.Held) != 1 || g.Held[0].Reason != "a step failed" {
		t.Errorf("held: %+v", g.Held)
	}
	for _, repo := range repos {
		want := "bindery/" + repo + "-" + next
		if repo == "broken1" {
			want = "bindery/broken1-g1"
		}
		if got := c.served(repo); got != want {
			t.Errorf("%s is served from %s, want %s", repo, got, want)
		}
	}
	c.insists("rollback", func(h *hub) error { return h.Rollback(t.Context(), next, "ann", "it is slow") })
	c.comesTo(next, bindery.GenerationWithdrawn)
	close(over)
	visitors.Wait()
	for _, repo := range repos {
		if got := c.served(repo); got != "bindery/"+repo+"-g1" {
			t.Errorf("after the rollback %s is served from %s", repo, got)
		}
	}
	time.Sleep(2 * time.Minute) // restarts, sweeps
	c.restart()
	time.Sleep(time.Minute)
	h = c.hub()
	checkRollout(t, h, w)
	h.stop()
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	return c.store.n >= at
}

// checkRollout wants that each of the four images was built once by each generation, and everything done and told once.
func checkRollout(t *testing.T, h *hub, w *worker) {
	t.Helper()
	w.mu.Lock()
	if len(w.starts) != 8 || len(w.attempts) != 0 {
		t.Errorf("%d attempts, of which %d are still kept by the worker; want 8", len(w.starts), len(w.attempts))
	}
	for key, n := range w.starts {
		if n != 1 {
			t.Errorf("attempt %s started %d times", key, n)
		}
	}
	w.mu.Unlock()
	if h.l.count() != 0 {
		t.Errorf("%d containers are left", h.l.count())
	}
	audit, err := h.Audit(t.Context(), bindery.AuditQuery{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	var did []string
	for _, a := range audit {
		if strings.HasPrefix(a.What, "generation") {
			did = append(did, a.Did)
		}
	}
	if got := strings.Join(did, ", "); got != "go back to, roll back, complete roll-out, retire, advance roll-out, start roll-out" {
		t.Errorf("the audit log has %q", got)
	}
}

// insists does something to the generations until a hub has done it, whose answer may have been lost.
func (c *crew) insists(what string, do func(*hub) error) {
	var err error
	for range 100 {
		if err = do(c.hub()); err == nil || errors.Is(err, bindery.ErrConflict) {
			return
		}
		time.Sleep(500 * time.Millisecond)
	}
	c.t.Errorf("%s: %v", what, err)
}

// comesTo waits until a generation is in a state.
func (c *crew) comesTo(name string, state bindery.GenerationState) (g bindery.RolloutStatus) {
	var err error
	for range 600 {
		if g, err = c.hub().Generation(c.t.Context(), name); err == nil && g.State == state {
			return g
		}
		time.Sleep(time.Second)
	}
	c.t.Errorf("%s does not become %s: %+v, %v", name, state, g, err)
	return g
}

// served launches a repository as a visitor does who does not give up, and returns the image that he got. At no moment
// there is none.
func (c *crew) served(repo string) string {
	var err error
	a := ask(repo)
	a.Request = c.t.Name() + time.Now().String() // who asks again gets the session that he was not told of
	for range 100 {
		h := c.hub()
		var b bindery.Build
		var s bindery.Session
		if b, err = h.Submit(c.t.Context(), a); err == nil {
			if b.State != bindery.BuildSucceeded {
				c.t.Errorf("%s waits for a build: %+v", repo, b)
				return ""
			}
			if s, err = h.Launch(c.t.Context(), b, a); err == nil {
				c.insists("stop", func(h *hub) error {
					err := h.StopSession(c.t.Context(), s.ID, "it was seen")
					if errors.Is(err, bindery.ErrNotFound) {
						err = nil
					}
					return err
				})
				return s.Image
			}
		}
		time.Sleep(500 * time.Millisecond)
	}
	c.t.Errorf("no session of %s: %v", repo, err)
	return ""
}
