package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// Librarian is a Store that lists images and launches.
type Librarian interface {
	Images(ctx context.Context, since time.Time) ([]bindery.ImageRecord, error)
	Launched(ctx context.Context, since time.Time, f func(build string, at time.Time, failed bool)) error
}

// Generation returns a generation as it may be stored in a state.
func Generation(name string, place int64, state bindery.GenerationState) bindery.Generation {
	g := bindery.Generation{
		Name: name, Place: place, State: state, Created: At, Changed: At.Add(time.Second),
		Recipe: bindery.Recipe{Rules: name, Base: "debian:trixie", Appendix: "RUN true", Suites: []string{"trixie"}},
	}
	if state.RollsOut() {
		g.Rollout = &bindery.Rollout{From: "g0", Options: bindery.RolloutOptions{Pace: 12}, By: "ann", Reason: "a test", Started: At, Judged: At, Total: 30, Canary: 3}
	}
	return g
}

// generations goes every way that the states may go.
func generations(t *testing.T, s Store) {
	read := func() bindery.Live {
		t.Helper()
		l, err := s.Live(t.Context(), At)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	var want []bindery.Generation
	for i, state := range bindery.GenerationStates() {
		for _, to := range bindery.GenerationMoves(state) {
			name, place := fmt.Sprintf("%s-%s", state, to), int64(10*i+len(want))
			commit(t, s, bindery.Changes{Generations: []bindery.Generation{Generation(name, place, state)}})
			commit(t, s, bindery.Changes{Generations: []bindery.Generation{Generation(name, place, to)}})
			// Out of the way: one rolls out at a time, one is current.
			g := Generation(name, place, bindery.GenerationOld)
			commit(t, s, bindery.Changes{Generations: []bindery.Generation{g}})
			want = append(want, g)
		}
	}
	same(t, "generations", read().Generations, want)
	current, rolling := Generation("c", 1000, bindery.GenerationCurrent), Generation("r", 1001, bindery.GenerationRolling)
	commit(t, s, bindery.Changes{Generations: []bindery.Generation{current, rolling}})
	unplanned := Generation("u", 1002, bindery.GenerationPaused)
	unplanned.Rollout = nil
	for _, bad := range []bindery.Generation{
		Generation("c2", 1003, bindery.GenerationCurrent), Generation("r2", 1004, bindery.GenerationCanary),
		Generation("x", 1005, "asleep"), unplanned,
	} {
		if err := s.Commit(t.Context(), bindery.Changes{Generations: []bindery.Generation{bad}}); err == nil {
			t.Errorf("stored %+v", bad)
		}
	}
	// The one takes over from the other in one transaction, in whichever order they are named.
	current.State, rolling.State = bindery.GenerationOld, bindery.GenerationCurrent
	commit(t, s, bindery.Changes{Generations: []bindery.Generation{rolling, current}})
	current.State, rolling.State = bindery.GenerationCurrent, bindery.GenerationWithdrawn
	commit(t, s, bindery.Changes{Generations: []bindery.Generation{current, rolling}})

	held := bindery.Held{Key: "k", Generation: "r", Source: Build("a", "k").Source, Build: "a", Stage: "build", Reason: "postBuild failed", Fault: bindery.User, At: At}
	commit(t, s, bindery.Changes{Held: []bindery.Held{held}})
	held.Stage, held.Reason, held.At = "start", "it did not answer", At.Add(time.Hour)
	commit(t, s, bindery.Changes{Held: []bindery.Held{held}})
	same(t, "held", read().Held, []bindery.Held{held})
	commit(t, s, bindery.Changes{Unheld: []string{"k", "nothing"}})
	if l := read(); len(l.Held) != 0 {
		t.Errorf("held no more, and listed: %v", l.Held)
	}
}

// images lists what answers for keys, how it is used, and who launched it.
func images(t *testing.T, s Store) {
	lib, ok := s.(Librarian)
	if !ok {
		t.Fatalf("%T lists no images", s)
	}
	result := func(image, generation string) bindery.BuildResult {
		return bindery.BuildResult{Image: image, Generation: generation}
	}
	other := InState(Build("c", "k3"), bindery.BuildSucceeded)
	other.Source.Commit = "9123456789012345678901234567890123456789"
	other.Generation = "g2"
	commit(t, s, bindery.Changes{
		Builds: []bindery.Build{InState(Build("a", "k1"), bindery.BuildSucceeded), InState(Build("b", "k2"), bindery.BuildSucceeded), other},
		Known: []bindery.Known{
			{Key: "k1", Build: "a", Result: result("bindery/1", "g1")}, {Key: "k2", Build: "b", Result: result("bindery/2", "g2")},
			{Key: "k3", Build: "c", Result: result("bindery/2", "g2")},
		},
	})
	list := func() map[string]bindery.ImageRecord {
		t.Helper()
		all, err := lib.Images(t.Context(), At)
		if err != nil || len(all) != 3 {
			t.Fatalf("%d images, %v", len(all), err)
		}
		out := map[string]bindery.ImageRecord{}
		for _, r := range all {
			out[r.Key] = r
		}
		return out
	}
	if r := list()["k3"]; !r.Proven.IsZero() || !r.Used.IsZero() || r.Generation != "g2" || r.Source != other.Source || r.Image != "bindery/2" || r.Build != "c" || r.Created.IsZero() {
		t.Errorf("a new image: %+v", r)
	}
	// Of two keys with one image, what is proven of one is proven of the other. Trying it is no use of it.
	commit(t, s, bindery.Changes{Started: []bindery.Started{{Image: "bindery/2", At: At}}})
	commit(t, s, bindery.Changes{Started: []bindery.Started{{Image: "bindery/1", At: At, Visitor: true}, {Image: "bindery/2", At: At.Add(time.Hour), Visitor: true}, {Image: "bindery/2", At: At.Add(time.Minute), Visitor: true}}})
	all := list()
	for key, used := range map[string]time.Time{"k1": At, "k2": At.Add(time.Hour), "k3": At.Add(time.Hour)} {
		if r := all[key]; !r.Proven.Equal(At) || !r.Used.Equal(used) {
			t.Errorf("%s is proven at %s, used at %s; want %s, %s", key, r.Proven, r.Used, At, used)
		}
	}
	if k, err := s.Known(t.Context(), "k2"); err != nil || !k.Proven.Equal(At) {
		t.Errorf("known: %v, %v", k, err)
	}
	// Another image of the key has to be proven itself; the same one stays so.
	commit(t, s, bindery.Changes{Known: []bindery.Known{{Key: "k2", Build: "b", Result: result("bindery/9", "g2")}, {Key: "k3", Build: "c", Result: result("bindery/2", "g2")}}})
	if all = list(); !all["k2"].Proven.IsZero() || all["k3"].Proven.IsZero() {
		t.Errorf("proven: %+v, %+v", all["k2"], all["k3"])
	}
	launches(t, s, lib, list)
}

// launches goes on with the three images of images.
func launches(t *testing.T, s Store, lib Librarian, list func() map[string]bindery.ImageRecord) {
	t.Helper()
	// Launches are of commits, whichever generation's image they take, and those that failed are told apart. The canary's
	// are none.
	ready, dead, left, before, canary := Session("s1", bindery.SessionReady), Session("s2", bindery.SessionEnded), Session("s3", bindery.SessionEnded), Session("s4", bindery.SessionEnded), Session("s5", bindery.SessionEnded)
	ready.Build = "b"
	dead.Ready, dead.Reason = time.Time{}, "It was not started: no answer"
	left.Ready, left.Reason = time.Time{}, "Its visitor left before it was ready"
	before.Created = At.Add(-time.Second)
	canary.Requester, canary.Ready = bindery.CanaryRequester, time.Time{}
	commit(t, s, bindery.Changes{Sessions: []bindery.Session{ready, dead, left, before, canary}})
	if all := list(); all["k1"].Launches != 3 || all["k2"].Launches != 3 || all["k3"].Launches != 0 {
		t.Errorf("launches: %d, %d, %d; want 3, 3, 0", all["k1"].Launches, all["k2"].Launches, all["k3"].Launches)
	}
	failed, n := 0, 0
	err := lib.Launched(t.Context(), At, func(build string, at time.Time, bad bool) {
		n++
		if bad {
			failed++
		}
		if !at.Equal(At) || build != "a" && build != "b" {
			t.Errorf("launched %s at %s", build, at)
		}
	})
	if err != nil || n != 3 || failed != 1 {
		t.Errorf("%d launches, %d failed, %v; want 3, 1", n, failed, err)
	}
}
