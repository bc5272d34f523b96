package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/dispatch"
	"github.com/bindery-hub/bindery/store"
)

// byRecipe has the worker build whatever it is asked for, by the generation that it is asked for, into an image of that
// name. Repositories that are called "broken..." break in every generation but the first.
func (w *worker) byRecipe() {
	w.run = func(req bindery.BuildRequest, emit func(bindery.Event)) {
		r := bindery.Recipe{Rules: "g1"}
		if req.Recipe != nil {
			r = *req.Recipe
		}
		repo := req.Source.URL[strings.LastIndex(req.Source.URL, "/")+1:]
		if strings.HasPrefix(repo, "broken") && r.Appendix != "" {
			emit(failed(bindery.User))
			return
		}
		if strings.HasPrefix(repo, "slow") && r.Appendix != "" {
			for range 6 { // an hour, in a bubble, of which it tells
				emit(bindery.Event{Phase: bindery.PhaseBuilding, Message: "still at it\n"})
				time.Sleep(10 * time.Minute)
			}
		}
		e := built("bindery/" + repo + "-" + r.Generation())
		e.Result.Generation = r.Generation()
		emit(e)
	}
}

func recipe(appendix string) bindery.Recipe { return bindery.Recipe{Rules: "g1", Appendix: appendix} }

func byRecipe(r bindery.Recipe, change ...func(*dispatch.Config)) func(*dispatch.Config) {
	return func(c *dispatch.Config) {
		c.Generation, c.Recipe = "", r
		for _, f := range change {
			f(c)
		}
	}
}

// serves launches a repository as a visitor would, and returns the image that it got. A launch that builds is an error.
func (h *hub) serves(t testing.TB, repo string) string {
	t.Helper()
	b := h.submit(t, ask(repo))
	if b.State != bindery.BuildSucceeded {
		t.Fatalf("%s waits for a build", repo)
	}
	s, err := h.Launch(t.Context(), b, ask(repo))
	if err != nil {
		t.Fatalf("launch %s: %v", repo, err)
	}
	if err := h.StopSession(t.Context(), s.ID, "the test has seen it"); err != nil {
		t.Fatal(err)
	}
	return s.Image
}

func (h *hub) generation(t testing.TB, name string) bindery.RolloutStatus {
	t.Helper()
	g, err := h.Generation(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// reaches waits until a generation is in a state.
func (h *hub) reaches(t testing.TB, name string, state bindery.GenerationState) bindery.RolloutStatus {
	t.Helper()
	var g bindery.RolloutStatus
	for end := time.Now().Add(3 * time.Hour); time.Now().Before(end); time.Sleep(time.Second) { // in a bubble
		if g = h.generation(t, name); g.State == state {
			return g
		}
	}
	t.Fatalf("%s is %s, want %s: %+v", name, g.State, state, g)
	return g
}

// twoHubs makes images of repositories by one hub, and runs test on the next one, which has another appendix.
func twoHubs(t *testing.T, repos []string, test func(t *testing.T, h *hub, again func(bindery.Recipe) *hub)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		db := openStore(t, t.TempDir())
		w := newWorker()
		w.slots = 4
		w.byRecipe()
		l := newLauncher(w)
		h := run(t, db, w, l, byRecipe(recipe("")))
		defer func() {
			h.stop()
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		}()
		for i, repo := range repos {
			b := h.submit(t, ask(repo))
			h.story(t, b.ID)
			for range len(repos) - i {
				h.serves(t, repo)
			}
		}
		h.stop()
		again := func(r bindery.Recipe) *hub {
			h.stop()
			h = run(t, db, w, l, byRecipe(r))
			return h
		}
		test(t, again(recipe("RUN true")), again)
	})
}

// TestNewGenerationWipesNothing: a hub that is restarted with another base or appendix serves what is there, and builds
// what never was there by the generation that is proven.
func TestNewGenerationWipesNothing(t *testing.T) {
	twoHubs(t, []string{"a", "b"}, func(t *testing.T, h *hub, again func(bindery.Recipe) *hub) {
		next := recipe("RUN true").Generation()
		for _, repo := range []string{"a", "b"} {
			if got, want := h.serves(t, repo), "bindery/"+repo+"-g1"; got != want {
				t.Errorf("%s is served from %s, want %s", repo, got, want)
			}
		}
		if g := h.generation(t, next); g.State != bindery.GenerationNew || g.Serving {
			t.Errorf("the next generation is %+v", g)
		}
		c := h.submit(t, ask("c"))
		h.story(t, c.ID)
		if got := h.build(t, c.ID); got.Generation != "g1" || got.Result.Generation != "g1" {
			t.Errorf("what was never built was built by %q, %q", got.Generation, got.Result.Generation)
		}
		// Other rules: this program cannot build by the old ones, but serves what they made.
		h = again(bindery.Recipe{Rules: "g9"})
		if got := h.serves(t, "a"); got != "bindery/a-g1" {
			t.Errorf("a is served from %s", got)
		}
		if g := h.generation(t, "g9"); g.State != bindery.GenerationNew || !g.Serving {
			t.Errorf("the only one that can build is %+v", g)
		}
	})
}

// TestRollout is an upgrade as it should go: canary, the rest by popularity, what breaks stays on its old image.
func TestRollout(t *testing.T) {
	repos := []string{}
	for i := range 12 {
		repos = append(repos, fmt.Sprint("r", 10+i))
	}
	repos[3], repos[7] = "broken1", "slow1"
	twoHubs(t, repos, func(t *testing.T, h *hub, again func(bindery.Recipe) *hub) {
		next := recipe("RUN true").Generation()
		h.generation(t, next)
		synctest.Wait() // the worker has answered
		p, err := h.PlanRollout(t.Context(), "", bindery.RolloutOptions{}, 0)
		if err != nil || p.Images != 12 || p.Rolled != 12 || p.Slots != 4 || p.Launches == 0 {
			t.Errorf("the plan: %+v, %v", p, err)
		}
		if err := h.StartRollout(t.Context(), "", bindery.RolloutOptions{Canary: 0.25}, "ann", "a new base"); err != nil {
			t.Fatal(err)
		}
		if err := h.StartRollout(t.Context(), "", bindery.RolloutOptions{}, "ann", ""); !errors.Is(err, bindery.ErrConflict) {
			t.Errorf("started twice: %v", err)
		}
		g := h.reaches(t, next, bindery.GenerationCurrent)
		if len(g.Held) != 1 || g.Held[0].Stage != "build" || !strings.HasSuffix(g.Held[0].Source.URL, "broken1") || g.Held[0].Reason != "a step failed" {
			t.Errorf("held: %+v", g.Held)
		}
		for _, repo := range repos {
			want := "bindery/" + repo + "-" + next
			if repo == "broken1" {
				want = "bindery/broken1-g1"
			}
			if got := h.serves(t, repo); got != want {
				t.Errorf("%s is served from %s, want %s", repo, got, want)
			}
		}
		if h.l.count() != 0 {
			t.Errorf("%d containers are left of first sessions", h.l.count())
		}
		if g := h.generation(t, "g1"); g.State != bindery.GenerationOld {
			t.Errorf("the one before is %s", g.State)
		}
		lib, err := h.Library(t.Context(), 100)
		if err != nil || len(lib.Images) != 23 {
			t.Fatalf("%d images, %v", len(lib.Images), err)
		}
		why := ""
		for _, r := range lib.Images {
			if strings.HasSuffix(r.Source.URL, "broken1") {
				why = r.Why
			}
		}
		if !strings.Contains(why, "a step failed") {
			t.Errorf("the image that stays does not say why: %q", why)
		}
		// What was never built is built by the new one now, and a restart changes nothing.
		h = again(recipe("RUN true"))
		b := h.submit(t, ask("fresh"))
		h.story(t, b.ID)
		if got := h.build(t, b.ID); got.Generation != next {
			t.Errorf("built by %q", got.Generation)
		}
		if err := h.Rollback(t.Context(), "", "ann", "it is slow"); err != nil {
			t.Fatal(err)
		}
		for _, repo := range repos {
			if got := h.serves(t, repo); got != "bindery/"+repo+"-g1" {
				t.Errorf("after the rollback %s is served from %s", repo, got)
			}
		}
		if got := h.serves(t, "fresh"); got != "bindery/fresh-"+next {
			t.Errorf("what no other generation has is served from %s", got)
		}
		if err := h.Rollback(t.Context(), "", "ann", ""); !errors.Is(err, bindery.ErrConflict) {
			t.Errorf("there is none before g1: %v", err)
		}
		audit, err := h.Audit(t.Context(), bindery.AuditQuery{Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		var did []string
		for _, a := range audit {
			if strings.HasPrefix(a.What, "generation") {
				did = append(did, a.Who+" "+a.Did)
			}
		}
		slices.Reverse(did)
		want := []string{"ann start roll-out", "hub advance roll-out", "hub retire", "hub complete roll-out", "ann roll back", "ann go back to"}
		if !slices.Equal(did, want) {
			t.Errorf("the audit log has %q, want %q", did, want)
		}
	})
}

// TestRolloutPausesItself: where too much breaks nothing more is begun, and nobody is told that anything is wrong.
func TestRolloutPausesItself(t *testing.T) {
	repos := []string{"a", "broken1", "broken2", "b", "c", "d", "e", "f", "g"}
	twoHubs(t, repos, func(t *testing.T, h *hub, again func(bindery.Recipe) *hub) {
		next := recipe("RUN true").Generation()
		if err := h.StartRollout(t.Context(), "", bindery.RolloutOptions{AtOnce: 1}, "ann", ""); err != nil {
			t.Fatal(err)
		}
		g := h.reaches(t, next, bindery.GenerationPaused)
		if g.Waiting == 0 || len(g.Held) != 2 || !strings.Contains(g.Rollout.Paused, "2 of ") {
			t.Errorf("paused: %+v", g)
		}
		for _, repo := range repos {
			h.serves(t, repo)
		}
		h = again(recipe("RUN true"))
		if g := h.generation(t, ""); g.State != bindery.GenerationPaused || g.Waiting == 0 || len(g.Held) != 2 {
			t.Errorf("after a restart: %+v", g)
		}
		if err := h.PauseRollout(t.Context(), "", "ann", ""); !errors.Is(err, bindery.ErrConflict) {
			t.Errorf("paused twice: %v", err)
		}
		if err := h.ResumeRollout(t.Context(), "nobody", "ann", ""); !errors.Is(err, bindery.ErrNotFound) {
			t.Errorf("an unknown one: %v", err)
		}
		if err := h.ResumeRollout(t.Context(), "", "ann", "two are known"); err != nil {
			t.Fatal(err)
		}
		if err := h.ResumeRollout(t.Context(), "", "ann", ""); !errors.Is(err, bindery.ErrConflict) {
			t.Errorf("resumed twice: %v", err)
		}
		h.reaches(t, next, bindery.GenerationCurrent)
	})
}

// TestOldRate is what the failures of a roll-out are compared with: the builds and launches of the generation that it takes
// over from, of what that has images of. The canary's launches are nobody's, and count for nothing else either.
func TestOldRate(t *testing.T) {
	twoHubs(t, []string{"a"}, func(t *testing.T, h *hub, again func(bindery.Recipe) *hub) {
		next := recipe("RUN true").Generation()
		fails := func(why error) {
			h.l.mu.Lock()
			h.l.startErr = why
			h.l.mu.Unlock()
		}
		fails(bindery.Errorf(bindery.ErrSessionDied, bindery.User, "", "exit code 3"))
		if _, err := h.Launch(t.Context(), h.submit(t, ask("a")), ask("a")); err == nil {
			t.Fatal("it started")
		}
		fails(nil)
		time.Sleep(time.Minute)
		before := h.library(t)[0]
		canary := ask("a")
		canary.Requester = bindery.CanaryRequester
		for range 18 {
			s, err := h.Launch(t.Context(), h.submit(t, canary), canary)
			if err != nil {
				t.Fatal(err)
			}
			if err := h.StopSession(t.Context(), s.ID, "The canary has sung"); err != nil {
				t.Fatal(err)
			}
		}
		if r := h.library(t)[0]; r.Launches != 2 || !r.Used.Equal(before.Used) {
			t.Errorf("%d launches, used at %s; want 2, %s", r.Launches, r.Used, before.Used)
		}
		if p, err := h.PlanRollout(t.Context(), "", bindery.RolloutOptions{}, 0); err != nil || p.Launches != 2 {
			t.Errorf("the plan goes by %d launches, %v; want 2", p.Launches, err)
		}
		rates := func(name string, want float64) {
			t.Helper()
			if err := h.StartRollout(t.Context(), "", bindery.RolloutOptions{}, "ann", ""); err != nil {
				t.Fatal(err)
			}
			if g := h.reaches(t, name, bindery.GenerationCurrent); math.Abs(g.Rollout.OldRate-want) > 1e-9 {
				t.Errorf("before %s %g failed, want %g", name, g.Rollout.OldRate, want)
			}
		}
		rates(next, 0.5)

		// What failed is of the generation before: it is not this one's. Nor are builds of what it never could build.
		h.serves(t, "a")
		b := h.submit(t, ask("broken1"))
		h.story(t, b.ID)
		third := recipe("RUN echo 3")
		h = again(third)
		rates(third.Generation(), 0)

		// One of its two builds of this commit fails.
		time.Sleep(time.Hour) // nothing is promised any more
		run := h.w.run
		h.w.set(func() {
			h.w.run = func(_ bindery.BuildRequest, emit func(bindery.Event)) { emit(failed(bindery.User)) }
		})
		if _, err := h.Invalidate(t.Context(), "*", true, false, "ann", "a hole"); err != nil {
			t.Fatal(err)
		}
		b = h.submit(t, ask("a"))
		h.story(t, b.ID)
		h.w.set(func() { h.w.run = run })
		b, err := h.RetryBuild(t.Context(), b.ID, "ann", "it was the network")
		if err != nil {
			t.Fatal(err)
		}
		h.story(t, b.ID)
		last := recipe("RUN echo 4")
		h = again(last)
		rates(last.Generation(), 1.0/3)
	})
}

func (h *hub) library(t *testing.T) []bindery.ImageRecord {
	t.Helper()
	lib, err := h.Library(t.Context(), 100)
	if err != nil || len(lib.Images) == 0 {
		t.Fatalf("%d images, %v", len(lib.Images), err)
	}
	return lib.Images
}

// TestRollbackStopsBuilds: what a roll-out builds, and what it has waiting, ends with it and makes no image.
func TestRollbackStopsBuilds(t *testing.T) {
	twoHubs(t, []string{"slow1", "slow2", "slow3", "slow4", "slow5"}, func(t *testing.T, h *hub, _ func(bindery.Recipe) *hub) {
		next := recipe("RUN true").Generation()
		if err := h.StartRollout(t.Context(), "", bindery.RolloutOptions{Canary: 1}, "ann", ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		q, err := h.Queue(t.Context())
		if err != nil || len(q.Running) < 2 || len(q.Waiting) == 0 {
			t.Fatalf("%d builds run, %d wait, %v", len(q.Running), len(q.Waiting), err)
		}
		if err := h.Rollback(t.Context(), "", "ann", "it is slow"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if q, err = h.Queue(t.Context()); err != nil || len(q.Running)+len(q.Waiting) != 0 {
			t.Errorf("a minute after the rollback %d builds run, %d wait, %v", len(q.Running), len(q.Waiting), err)
		}
		time.Sleep(3 * time.Hour)
		if g := h.generation(t, next); g.Images != 0 || len(g.Held) != 0 || g.State != bindery.GenerationWithdrawn {
			t.Errorf("after the rollback: %+v", g)
		}
	})
}

// TestRolloutSkips leaves alone what nobody has launched for long, says so before and after, and it serves.
func TestRolloutSkips(t *testing.T) {
	twoHubs(t, []string{"a"}, func(t *testing.T, h *hub, _ func(bindery.Recipe) *hub) {
		next := recipe("RUN true").Generation()
		for _, repo := range []string{"never", "late"} { // images that nobody launches, of two hours ago and of now
			h.story(t, h.submit(t, ask(repo)).ID)
			if repo == "never" {
				time.Sleep(2 * time.Hour)
			}
		}
		opt := bindery.RolloutOptions{Since: time.Hour}
		if p, err := h.PlanRollout(t.Context(), "", opt, 0); err != nil || p.Images != 3 || p.Rolled != 2 || p.Skipped != 1 {
			t.Errorf("the plan: %+v, %v", p, err)
		}
		if err := h.StartRollout(t.Context(), "", opt, "ann", ""); err != nil {
			t.Fatal(err)
		}
		if g := h.reaches(t, next, bindery.GenerationCurrent); g.Rollout.Total != 2 || g.Rollout.Skipped != 1 || g.Images != 2 {
			t.Errorf("%+v of %+v", g.Rollout, g)
		}
		for repo, want := range map[string]string{"a": next, "late": next, "never": "g1"} {
			if got := h.served(t, repo); got != want {
				t.Errorf("%s is served by %s, want %s", repo, got, want)
			}
		}
	})
}

// TestRolloutTriesWhatItBuilt: an image that does not start takes no other's place.
func TestRolloutTriesWhatItBuilt(t *testing.T) {
	twoHubs(t, []string{"a", "b", "c", "d"}, func(t *testing.T, h *hub, _ func(bindery.Recipe) *hub) {
		next := recipe("RUN true").Generation()
		h.l.mu.Lock()
		h.l.startErr = bindery.Errorf(bindery.ErrSessionDied, bindery.User, "", "exit code 3")
		h.l.mu.Unlock()
		if err := h.StartRollout(t.Context(), "", bindery.RolloutOptions{}, "ann", ""); err != nil {
			t.Fatal(err)
		}
		g := h.reaches(t, next, bindery.GenerationPaused)
		h.l.mu.Lock()
		h.l.startErr = nil
		h.l.mu.Unlock()
		if len(g.Held) < 2 || g.Held[0].Stage != "start" || !strings.Contains(g.Held[0].Reason, "exit code 3") {
			t.Errorf("held: %+v", g.Held)
		}
		for _, repo := range []string{"a", "b", "c", "d"} {
			if got := h.serves(t, repo); got != "bindery/"+repo+"-g1" {
				t.Errorf("%s is served from %s", repo, got)
			}
		}
		if err := h.Rollback(t.Context(), next, "ann", ""); err != nil {
			t.Fatal(err)
		}
		if g := h.generation(t, next); g.State != bindery.GenerationWithdrawn {
			t.Errorf("rolled back: %s", g.State)
		}
		if err := h.StartRollout(t.Context(), "", bindery.RolloutOptions{}, "ann", "it is mended"); err != nil {
			t.Fatal(err)
		}
		h.reaches(t, next, bindery.GenerationCurrent)
	})
}

// TestAnOldWorkerIsHonest: what a worker of other rules makes is known as what it is.
func TestAnOldWorkerIsHonest(t *testing.T) {
	twoHubs(t, []string{"a"}, func(t *testing.T, h *hub, again func(bindery.Recipe) *hub) {
		h.w.set(func() {
			h.w.run = func(req bindery.BuildRequest, emit func(bindery.Event)) { emit(built("bindery/x-g1")) } // by g1
		})
		h.generation(t, "g1") // it has begun
		h = again(bindery.Recipe{Rules: "g9"})
		b := h.submit(t, ask("x"))
		h.story(t, b.ID)
		if got := h.serves(t, "x"); got != "bindery/x-g1" {
			t.Errorf("x is served from %s", got)
		}
		lib, err := h.Library(t.Context(), 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range lib.Images {
			if r.Generation != "g1" || r.Key != bindery.BuildKey(r.Source, "g1") {
				t.Errorf("%+v is not known as what it is", r)
			}
		}
	})
}

// TestAllImagesGone launches what every generation had an image of, when all of them went with their worker.
func TestAllImagesGone(t *testing.T) {
	twoHubs(t, []string{"a"}, func(t *testing.T, h *hub, _ func(bindery.Recipe) *hub) {
		next := recipe("RUN true").Generation()
		if err := h.StartRollout(t.Context(), "", bindery.RolloutOptions{}, "ann", ""); err != nil {
			t.Fatal(err)
		}
		h.reaches(t, next, bindery.GenerationCurrent)
		h.w.set(func() { clear(h.w.images) })
		if got := h.serves(t, "a"); got != "bindery/a-"+next {
			t.Errorf("it is served from %s", got)
		}
	})
}

func TestInvalidate(t *testing.T) {
	twoHubs(t, []string{"a", "b", "c", "d", "e", "broken1"}, func(t *testing.T, h *hub, _ func(bindery.Recipe) *hub) {
		const owner = "https://example.org/o/*"
		for _, bad := range []string{"", "gh/*", "generation:", "generation:x y", "192.0.2.0/24", "**", "generation:*"} {
			if _, err := h.Invalidate(t.Context(), bad, true, false, "ann", ""); !errors.Is(err, bindery.ErrInvalid) {
				t.Errorf("%q: %v", bad, err)
			}
		}
		for _, none := range []string{"generation:g7", "https://example.org/o/none"} {
			if _, err := h.Invalidate(t.Context(), none, true, false, "ann", ""); !errors.Is(err, bindery.ErrNotFound) {
				t.Errorf("%q: %v", none, err)
			}
		}
		time.Sleep(time.Hour) // no launch is promised any more
		cost, err := h.Invalidate(t.Context(), "*", true, true, "ann", "")
		if err != nil || cost.Done || cost.Images != 6 || cost.Launches != 21 || !strings.Contains(cost.Words, "21 launches") {
			t.Errorf("the cost: %+v, %v", cost, err)
		}
		if got := h.serves(t, "a"); got != "bindery/a-g1" {
			t.Errorf("asking for the cost has cost something: %s", got)
		}
		// Forced: what is in use, or promised, stays.
		b := h.submit(t, ask("b"))
		s, err := h.Launch(t.Context(), b, ask("b"))
		if err != nil {
			t.Fatal(err)
		}
		done, err := h.Invalidate(t.Context(), owner, true, false, "ann", "a hole in the base")
		if err != nil || done.Kept != 2 {
			t.Errorf("%+v, %v; want 2 kept", done, err)
		}
		if b := h.submit(t, ask("c")); b.State == bindery.BuildSucceeded {
			t.Errorf("what was dropped is still served: %+v", b)
		}
		if got := h.serves(t, "a"); got != "bindery/a-g1" {
			t.Errorf("what was promised is served from %s", got)
		}
		if err := h.StopSession(t.Context(), s.ID, "over"); err != nil {
			t.Fatal(err)
		}
	})
}

// TestInvalidateComesNext puts one image first, and tries again what was held.
func TestInvalidateComesNext(t *testing.T) {
	repos := []string{"a", "b", "c", "broken1", "d", "e", "f"}
	twoHubs(t, repos, func(t *testing.T, h *hub, _ func(bindery.Recipe) *hub) {
		next := recipe("RUN true").Generation()
		if err := h.StartRollout(t.Context(), "", bindery.RolloutOptions{Pace: 1}, "ann", ""); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Invalidate(t.Context(), "https://example.org/o/e", false, false, "ann", "it has a hole"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(61 * time.Minute)
		if got := h.serves(t, "e"); got != "bindery/e-"+next {
			t.Errorf("e is served from %s", got)
		}
		if err := h.PauseRollout(t.Context(), "", "ann", "enough"); err != nil {
			t.Fatal(err)
		}
	})
}

// TestRemovedIsNotRebuilt: what is removed during a roll-out before its turn has come needs no replacement, unless an
// older image of it is left.
func TestRemovedIsNotRebuilt(t *testing.T) {
	twoHubs(t, []string{"a", "b", "c", "d", "e"}, func(t *testing.T, h *hub, again func(bindery.Recipe) *hub) {
		next, last := recipe("RUN true").Generation(), recipe("RUN echo 3")
		if err := h.StartRollout(t.Context(), "", bindery.RolloutOptions{}, "ann", ""); err != nil {
			t.Fatal(err)
		}
		h.reaches(t, next, bindery.GenerationCurrent)
		h = again(last)
		time.Sleep(11 * time.Minute) // nothing is promised any more
		if err := h.StartRollout(t.Context(), "", bindery.RolloutOptions{Pace: 2}, "ann", ""); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"d-" + next, "e-g1", "e-" + next} {
			if err := h.RemoveImage(t.Context(), name, "ann", "nobody wants it"); err != nil {
				t.Fatal(err)
			}
		}
		if g := h.generation(t, last.Generation()); g.Rollout.Total != 4 {
			t.Errorf("%d images are to be replaced, want 4", g.Rollout.Total)
		}
		if g := h.reaches(t, last.Generation(), bindery.GenerationCurrent); g.Rollout.Total != 4 || g.Proven != 4 {
			t.Errorf("%d of %d images were replaced, want 4", g.Proven, g.Rollout.Total)
		}
		for _, r := range h.library(t) {
			if strings.HasSuffix(r.Source.URL, "/e") {
				t.Errorf("it is there again: %+v", r)
			}
		}
	})
}

// TestInvalidateAlone has chosen images replaced while no generation is rolled out: by one that is new, over a restart,
// and by the one that is current, where it could not make them before.
func TestInvalidateAlone(t *testing.T) {
	repos := []string{"a", "b", "c", "broken1"}
	twoHubs(t, repos, func(t *testing.T, h *hub, again func(bindery.Recipe) *hub) {
		next := recipe("RUN true").Generation()
		const b = "https://example.org/o/b"
		cost, err := h.Invalidate(t.Context(), b, false, true, "ann", "")
		if err != nil || cost.Done || cost.Images != 1 || cost.Build == 0 || !strings.Contains(cost.Words, "no visitor waits") || h.served(t, "b") != "g1" {
			t.Fatalf("the cost: %+v, %v", cost, err)
		}
		if _, err := h.Invalidate(t.Context(), b, false, false, "ann", "it has a hole"); err != nil {
			t.Fatal(err)
		}
		h = again(recipe("RUN true"))
		h.rebuilt(t, next)
		for repo, want := range map[string]string{"a": "g1", "b": next, "c": "g1"} {
			if got := h.served(t, repo); got != want {
				t.Errorf("%s is served by %s, want %s", repo, got, want)
			}
		}
		if g := h.generation(t, next); g.State != bindery.GenerationNew || g.Images != 1 || g.Proven != 1 {
			t.Errorf("the new generation: %+v", g)
		}
		if err := h.Rollback(t.Context(), next, "ann", "it is slow"); err != nil {
			t.Fatal(err)
		}
		if got := h.served(t, "b"); got != "g1" || h.generation(t, "g1").State != bindery.GenerationCurrent {
			t.Errorf("after the rollback b is served by %s", got)
		}

		if err := h.StartRollout(t.Context(), "", bindery.RolloutOptions{}, "ann", ""); err != nil {
			t.Fatal(err)
		}
		h.reaches(t, next, bindery.GenerationCurrent)
		if _, err := h.Invalidate(t.Context(), b, false, false, "ann", ""); !errors.Is(err, bindery.ErrConflict) {
			t.Errorf("the same again: %v", err)
		}
		h.w.set(func() {
			run := h.w.run
			h.w.run = func(req bindery.BuildRequest, emit func(bindery.Event)) { // it is mended
				r := *req.Recipe
				if strings.HasSuffix(req.Source.URL, "broken1") {
					e := built("bindery/broken1-" + r.Generation())
					e.Result.Generation = r.Generation()
					emit(e)
					return
				}
				run(req, emit)
			}
		})
		cost, err = h.Invalidate(t.Context(), "*", false, false, "ann", "it is mended")
		if err != nil || cost.Images != 1 || !cost.Done {
			t.Errorf("only broken1 is left: %+v, %v; %+v", cost, err, h.generation(t, next))
		}
		h.rebuilt(t, next)
		g := h.generation(t, next)
		if got := h.served(t, "broken1"); got != next || g.State != bindery.GenerationCurrent || len(g.Held) != 0 || g.Rollout.From != "g1" {
			t.Errorf("broken1 is served by %s: %+v", got, g)
		}
	})
}

// A slowStore takes its time with the first transaction by which an image is proven.
type slowStore struct {
	*store.DB
	once sync.Once
	held chan struct{} // closed when it has come
	gate chan struct{} // closed when it may be stored
}

func (s *slowStore) Commit(ctx context.Context, c bindery.Changes) error {
	if len(c.Started) > 0 {
		s.once.Do(func() {
			close(s.held)
			<-s.gate
		})
	}
	return s.DB.Commit(ctx, c)
}

// TestInvalidateWaits asks for all images to be replaced while the proof of the last replacement is being stored: nothing
// is left to do, and it is not begun once more.
func TestInvalidateWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openStore(t, t.TempDir())
		defer db.Close()
		w := newWorker()
		w.byRecipe()
		l := newLauncher(w)
		h := run(t, db, w, l, byRecipe(recipe("")))
		h.story(t, h.submit(t, ask("a")).ID)
		h.serves(t, "a")
		h.stop()

		st := &slowStore{DB: db, held: make(chan struct{}), gate: make(chan struct{})}
		h = run(t, st, w, l, byRecipe(recipe("RUN true")))
		defer h.stop()
		if err := h.StartRollout(t.Context(), "", bindery.RolloutOptions{}, "ann", ""); err != nil {
			t.Fatal(err)
		}
		<-st.held
		answer := make(chan error, 1)
		go func() {
			_, err := h.Invalidate(t.Context(), "*", false, true, "ann", "")
			answer <- err
		}()
		synctest.Wait()
		close(st.gate)
		if err := <-answer; !errors.Is(err, bindery.ErrConflict) {
			t.Errorf("%v; %+v", err, h.generation(t, recipe("RUN true").Generation()))
		}
	})
}

// served launches a repository as a visitor would, and returns the generation of the image that it got.
func (h *hub) served(t *testing.T, repo string) string {
	return strings.TrimPrefix(h.serves(t, repo), "bindery/"+repo+"-")
}

// rebuilt waits until the images that were chosen are replaced.
func (h *hub) rebuilt(t *testing.T, name string) {
	t.Helper()
	eventually(t, "the chosen images are replaced", func() bool { return !h.generation(t, name).Rebuilds() })
}

// TestPrune removes what was replaced long ago, and never what is in use.
func TestPrune(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openStore(t, t.TempDir())
		w := newWorker()
		w.byRecipe()
		l := newLauncher(w)
		h := run(t, db, w, l, byRecipe(recipe("")))
		for _, repo := range []string{"a", "b", "c"} {
			h.story(t, h.submit(t, ask(repo)).ID)
			h.serves(t, repo)
		}
		h.stop()
		h = run(t, db, w, l, byRecipe(recipe("RUN true"), func(c *dispatch.Config) { c.Retention, c.Prunes = bindery.Retention{Superseded: time.Minute}, true }))
		defer func() { h.stop(); _ = db.Close() }()
		b := h.submit(t, ask("a"))
		s, err := h.Launch(t.Context(), b, ask("a"))
		if err != nil {
			t.Fatal(err)
		}
		if err := h.RemoveImage(t.Context(), "a-g1", "ann", ""); !errors.Is(err, bindery.ErrConflict) {
			t.Errorf("an image in use: %v", err)
		}
		if err := h.StartRollout(t.Context(), "", bindery.RolloutOptions{}, "ann", ""); err != nil {
			t.Fatal(err)
		}
		h.reaches(t, recipe("RUN true").Generation(), bindery.GenerationCurrent)
		dry, err := h.Prune(t.Context(), bindery.Retention{}, true, "ann", "")
		if err != nil || len(dry.Removed) != 0 {
			t.Errorf("at once: %+v, %v", dry, err)
		}
		time.Sleep(5 * time.Minute)
		if dry, err = h.Prune(t.Context(), bindery.Retention{}, true, "ann", ""); err != nil || len(dry.Removed) != 2 || dry.Bytes != 20 || !dry.DryRun {
			t.Errorf("after five minutes: %+v, %v; want b and c", dry, err)
		}
		for _, rule := range []bindery.Retention{{Generations: 1}, {Superseded: time.Hour}} {
			if kept, err := h.Prune(t.Context(), rule, true, "ann", ""); err != nil || len(kept.Removed) != 0 {
				t.Errorf("%+v keeps those: %+v, %v", rule, kept, err)
			}
		}
		if _, err := h.Prune(t.Context(), bindery.Retention{Unused: -1}, true, "ann", ""); !errors.Is(err, bindery.ErrInvalid) {
			t.Errorf("nonsense: %v", err)
		}
		if err := h.StopSession(t.Context(), s.ID, "over"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour) // the hub prunes by itself
		lib, err := h.Library(t.Context(), 100)
		if err != nil || len(lib.Images) != 3 || lib.Disk.Total != 30 {
			t.Errorf("after two hours: %+v, %v", lib, err)
		}
		for _, repo := range []string{"a", "b", "c"} {
			h.serves(t, repo)
		}
		if err := h.RemoveImage(t.Context(), "nothing", "ann", ""); !errors.Is(err, bindery.ErrNotFound) {
			t.Errorf("no image: %v", err)
		}
	})
}

// stays has every command that removes images try to remove one that is in use, and wants the reason why it is not.
func (h *hub) stays(t *testing.T, image, why string) {
	t.Helper()
	there := func(after string) {
		t.Helper()
		h.w.mu.Lock()
		defer h.w.mu.Unlock()
		if !h.w.images[image] {
			t.Errorf("%s is gone after %s", image, after)
		}
	}
	if err := h.RemoveImage(t.Context(), image, "ann", ""); !errors.Is(err, bindery.ErrConflict) || !strings.Contains(err.Error(), why) {
		t.Errorf("%s: %v, want that %s", image, err, why)
	}
	there("rm")
	if dry, err := h.Prune(t.Context(), bindery.Retention{Unused: 1, Superseded: 1}, true, "ann", ""); err != nil || !slices.ContainsFunc(dry.Removed, func(r bindery.ImageRecord) bool { return r.Image == image }) {
		t.Errorf("the rule is to keep nothing: %+v, %v", dry.Removed, err)
	}
	done, err := h.Prune(t.Context(), bindery.Retention{Unused: 1, Superseded: 1}, false, "ann", "")
	if err != nil || slices.ContainsFunc(done.Removed, func(r bindery.ImageRecord) bool { return r.Image == image }) {
		t.Errorf("pruned: %+v, %v", done.Removed, err)
	}
	there("prune")
	if done, err := h.Invalidate(t.Context(), "*", true, false, "ann", ""); err != nil || done.Kept == 0 {
		t.Errorf("invalidated: %+v, %v", done, err)
	}
	there("invalidate --force")
}

// TestWaitingLaunchKeepsItsImage: a launch that waits for its place longer than a promise lasts gets the image that it came for.
func TestWaitingLaunchKeepsItsImage(t *testing.T) {
	bubble(t, func(c *dispatch.Config) {
		c.Policy.Sessions, c.Wait = 1, true
		c.Limits.Idle, c.Limits.Age = 24*time.Hour, 24*time.Hour
	}, func(t *testing.T, h *hub) {
		has, wanted := h.launch(t, h.make(t, "a")), h.make(t, "b")
		var got bindery.Session
		var err error
		over := make(chan struct{})
		go func() {
			defer close(over)
			got, err = h.Launch(t.Context(), wanted, ask("b"))
		}()
		time.Sleep(time.Hour)
		h.stays(t, "bindery/b", "a launch waits for its place")
		if err := h.StopSession(t.Context(), has.ID, "enough"); err != nil {
			t.Fatal(err)
		}
		if <-over; err != nil || got.Image != "bindery/b" {
			t.Errorf("it got %+v, %v", got, err)
		}
	})
}

// TestTriedImageStays: the image whose first session a roll-out is starting is removed by nobody.
func TestTriedImageStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openStore(t, t.TempDir())
		w := newWorker()
		w.byRecipe()
		l := newLauncher(w)
		h := run(t, db, w, l, byRecipe(recipe("")))
		h.story(t, h.submit(t, ask("a")).ID)
		h.serves(t, "a")
		h.stop()
		answers := make(chan struct{})
		h = run(t, db, w, l, byRecipe(recipe("RUN true"), func(c *dispatch.Config) {
			c.Probe = func(ctx context.Context, _, _ string) error {
				select {
				case <-answers:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}))
		defer func() { h.stop(); _ = db.Close() }()
		next := recipe("RUN true").Generation()
		if err := h.StartRollout(t.Context(), "", bindery.RolloutOptions{}, "ann", ""); err != nil {
			t.Fatal(err)
		}
		eventually(t, "its first session is being started", func() bool { return h.generation(t, next).Starting == 1 })
		time.Sleep(time.Minute)
		h.stays(t, "bindery/a-"+next, "its first session is being started")
		close(answers)
		h.reaches(t, next, bindery.GenerationCurrent)
		if got := h.served(t, "a"); got != next {
			t.Errorf("a is served by %s", got)
		}
	})
}
