package sched_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/sched"
)

// A move is one input at one time.
type move struct {
	after time.Duration
	in    sched.Input
}

// TestProperties drives a scheduler with anything that can happen, restarts it from what a store would hold now and
// then, and checks after every step what must always be true.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			w.step(w.draw(t))
			if rapid.IntRange(0, 20).Draw(t, "restart") == 0 {
				w.s.Restore(w.now, w.m.state())
				w.m.forget()
				w.step(move{in: sched.Tick{}})
			}
			if err := w.check(); err != "" {
				t.Fatalf("%s\n%s", err, strings.Join(w.log, "\n"))
			}
		}
		w.drain()
		if err := w.check(); err != "" {
			t.Fatalf("%s\n%s", err, strings.Join(w.log, "\n"))
		}
		if n := len(w.m.state().Builds); n > 0 {
			t.Fatalf("%d builds never ended\n%s", n, strings.Join(w.log, "\n"))
		}
	})
}

// TestSameBytes plays the same moves twice and wants the same bytes.
func TestSameBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		var moves []move
		for range 60 {
			mv := w.draw(t)
			moves = append(moves, mv)
			w.step(mv)
		}
		again := newWorld()
		for _, mv := range moves {
			again.step(mv)
		}
		if !slices.Equal(w.log, again.log) {
			t.Fatalf("first:\n%s\nsecond:\n%s", strings.Join(w.log, "\n"), strings.Join(again.log, "\n"))
		}
	})
}

type world struct {
	s     *sched.Scheduler
	m     *mirror
	now   time.Time
	n     int
	slots map[string]int // of the workers that are up
	log   []string
	asked map[string]bool // submissions that have no answer

	checks int
}

const places = 3

func newWorld() *world {
	return &world{
		s: sched.New(sched.Config{Sessions: places, Lost: 2}), m: newMirror(), now: start,
		slots: map[string]int{}, asked: map[string]bool{},
	}
}

func (w *world) draw(t *rapid.T) move {
	after := time.Duration(rapid.IntRange(0, 40).Draw(t, "seconds")) * time.Second
	kind := rapid.IntRange(0, 16).Draw(t, "kind")
	any := func(ids []string) string {
		return rapid.SampledFrom(append(ids, "nobody")).Draw(t, "id")
	}
	worker := fmt.Sprintf("w%d", rapid.IntRange(1, 3).Draw(t, "worker"))
	switch kind {
	case 0, 1, 2, 3:
		w.n++
		key := rapid.IntRange(0, 11).Draw(t, "key")
		return move{after, sched.Submit{
			Build: fmt.Sprintf("b%d", w.n), Key: fmt.Sprintf("k%d", key), Repo: fmt.Sprintf("r%d", key/2), Owner: fmt.Sprintf("o%d", key/4),
			Requester: fmt.Sprintf("q%d", rapid.IntRange(1, 4).Draw(t, "requester")), Ref: rapid.SampledFrom([]string{"", "", "main"}).Draw(t, "ref"),
			Class: rapid.SampledFrom([]bindery.Class{bindery.Attended, bindery.Attended, bindery.Unattended, bindery.Background}).Draw(t, "class"),
			Quick: rapid.IntRange(0, 9).Draw(t, "quick") == 0, Retry: rapid.Bool().Draw(t, "retry"),
		}}
	case 4:
		return move{after, sched.WorkerUp{Worker: worker, Slots: rapid.IntRange(0, 3).Draw(t, "slots")}}
	case 5:
		return move{after, sched.WorkerDown{Worker: worker}}
	case 6:
		return move{after, sched.WorkerLost{Worker: worker}}
	case 7:
		return move{after, sched.Cancel{Build: any(w.m.order)}}
	case 8:
		w.n++
		return move{after, sched.AskSession{
			Session: fmt.Sprintf("s%d", w.n), Repo: fmt.Sprintf("r%d", rapid.IntRange(0, 5).Draw(t, "repo")), Idle: time.Minute, Age: 3 * time.Minute,
			Wait: rapid.Bool().Draw(t, "wait"),
		}}
	case 9:
		return move{after, rapid.SampledFrom([]sched.Input{
			sched.SessionReady{Session: any(w.m.admitted)}, sched.SessionEnded{Session: any(w.m.admitted)},
			sched.SessionActive{Session: any(w.m.admitted), At: w.now}, sched.SessionStopping{Session: "nobody"},
		}).Draw(t, "session")}
	case 12:
		return move{after, sched.Watch{Build: any(w.m.order), Watchers: rapid.IntRange(0, 6).Draw(t, "watchers")}}
	case 13:
		return move{after * 100, sched.Learn{Repo: fmt.Sprintf("r%d", rapid.IntRange(0, 5).Draw(t, "repo")), Cost: after * 60, Disk: 1}}
	case 14:
		return move{after, rapid.SampledFrom([]sched.Input{
			sched.SetRule{Rule: sched.Rule{Kind: sched.Pause, Scope: sched.OnRepo, Name: "r1", Until: w.now.Add(10 * time.Minute)}},
			sched.LiftRule{Kind: sched.Pause, Scope: sched.OnRepo, Name: "r1"},
			sched.SetRule{Rule: sched.Rule{Kind: sched.Pause, Scope: sched.OnSpec, Name: "^r[23]/main", Until: w.now.Add(5 * time.Minute)}},
			sched.SetRule{Rule: sched.Rule{Kind: sched.Pause, Scope: sched.OnSpec, Name: "^r4/", From: w.now.Add(time.Minute), Until: w.now.Add(5 * time.Minute)}},
			sched.SetRule{Rule: sched.Rule{Kind: sched.UntilBuilt, Scope: sched.OnRepo, Name: "r5", Until: w.now.Add(30 * time.Minute)}},
			sched.SetRule{Rule: sched.Rule{Kind: sched.UntilBuilt, Scope: sched.OnSpec, Name: "^r0/", Until: w.now.Add(30 * time.Minute)}},
			sched.LiftRule{Kind: sched.UntilBuilt, Scope: sched.OnSpec, Name: "^r0/"},
			sched.SetRule{Rule: sched.Rule{Kind: sched.Weight, Scope: sched.OnOwner, Name: "o1", Value: 3}},
			sched.SetRule{Rule: sched.Rule{Kind: sched.Ban, Scope: sched.OnRepo, Name: "r3", Until: w.now.Add(3 * time.Minute)}},
			sched.SetRule{Rule: sched.Rule{Kind: sched.Quota, Scope: sched.OnRepo, Name: "r4", Value: 1}},
		}).Draw(t, "rule")}
	case 15:
		id := any(w.m.order)
		in := sched.Progress{Build: id, Attempt: 1}
		if r := w.m.builds[id]; r != nil {
			in.Attempt = r.Attempt
		}
		return move{after, in}
	case 16:
		return move{after, sched.Forgive{Key: fmt.Sprintf("k%d", rapid.IntRange(0, 11).Draw(t, "key"))}}
	}
	id := any(w.m.order)
	attempt := 1
	if r := w.m.builds[id]; r != nil {
		attempt = r.Attempt - rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(t, "old")
	}
	return move{after, sched.Finished{Build: id, Attempt: attempt, Outcome: rapid.SampledFrom([]sched.Outcome{
		sched.Succeeded, sched.UserFault, sched.MayPass, sched.OurFault, sched.WorkerGone, sched.NoSpace, sched.WasCancelled,
	}).Draw(t, "outcome")}}
}

func (w *world) step(mv move) {
	w.now = w.now.Add(mv.after)
	switch in := mv.in.(type) {
	case sched.WorkerUp:
		w.slots[in.Worker] = in.Slots
	case sched.WorkerDown:
		delete(w.slots, in.Worker)
	case sched.WorkerLost:
		delete(w.slots, in.Worker)
	case sched.Submit:
		w.asked[in.Build] = true
	}
	before := w.running()
	out := w.s.Step(w.now, mv.in)
	w.m.take(w.now, mv.in, out)
	w.log = append(w.log, fmt.Sprintf("%s %T%+v", w.now.Format("15:04:05"), mv.in, mv.in))
	for _, d := range out {
		w.log = append(w.log, "  "+d.String())
		switch d := d.(type) {
		case sched.Queue:
			delete(w.asked, d.Build)
		case sched.Join:
			delete(w.asked, d.Build)
		case sched.Recall:
			delete(w.asked, d.Build)
		case sched.Reject:
			delete(w.asked, d.Build)
		case sched.Drain:
			delete(w.slots, d.Worker)
		case sched.Start:
			if d.Quick {
				continue
			}
			before[d.Worker]++
			if before[d.Worker] > w.slots[d.Worker] && mv.in != (sched.WorkerLost{Worker: d.Worker}) {
				if after := w.running(); after[d.Worker] > w.slots[d.Worker] {
					w.m.complain("%s: it has %d slots", d, w.slots[d.Worker])
				}
			}
		}
	}
}

func (w *world) running() map[string]int {
	n := map[string]int{}
	for _, r := range w.m.builds {
		if r.Running && !r.Quick {
			n[r.Worker]++
		}
	}
	return n
}

// check returns what is wrong.
func (w *world) check() string {
	w.checks++
	if len(w.m.wrong) > 0 {
		return w.m.wrong[0]
	}
	if len(w.asked) > 0 {
		return fmt.Sprintf("a submission has no answer: %v", w.asked)
	}
	in := 0
	for _, x := range w.m.sessions {
		if !x.Waiting {
			in++
		}
	}
	if in > places {
		return fmt.Sprintf("%d sessions in %d places", in, places)
	}
	keys := map[string]bool{}
	rank := map[bindery.Class]bool{bindery.Attended: true} // classes that always take an idle slot
	var ready []string
	for _, b := range w.m.state().Builds {
		if keys[b.Key] {
			return "two builds of one key: " + b.Key
		}
		keys[b.Key] = true
		if !b.Running && !b.Until.After(w.now) && rank[b.Class] && !b.Slow && !b.Quick && !w.held(b) && !w.s.Estimate(b.Repo, "").Known {
			ready = append(ready, b.ID)
		}
		if w.checks%25 != 0 { // each asks for a forecast, which takes as long as hundreds of steps
			continue
		}
		st, ok := w.s.Standing(w.now, b.ID)
		if !ok || (st.Position == 0) != b.Running || (st.Reason == "") != b.Running {
			return fmt.Sprintf("%s stands at %+v, %v", b.ID, st, ok)
		}
	}
	n := w.running()
	for name, slots := range w.slots {
		for _, id := range ready {
			if n[name] < slots && !slices.Contains(w.m.builds[id].avoid, name) {
				return fmt.Sprintf("%s is ready and %s is idle", id, name)
			}
		}
	}
	if wake := w.s.NextWake(); !wake.IsZero() && !wake.After(w.now) {
		return "the next wake has passed: " + wake.String()
	}
	return ""
}

func (w *world) held(b sched.Build) bool {
	return slices.ContainsFunc(w.s.Rules(), func(r sched.Rule) bool {
		if r.Kind != sched.Pause && r.Kind != sched.UntilBuilt || r.From.After(w.now) {
			return false
		}
		m, err := bindery.NewMatcher(string(r.Scope), r.Name)
		return r.Name == b.Repo || r.Scope == sched.OnSpec && err == nil && m.Matches(bindery.SpecText(b.Repo, b.Ref))
	})
}

// drain lets everything end well.
func (w *world) drain() {
	for _, name := range []string{"w1", "w2"} {
		w.step(move{in: sched.WorkerUp{Worker: name, Slots: 3}})
	}
	for range 1000 {
		live := w.m.state().Builds
		if len(live) == 0 {
			return
		}
		i := slices.IndexFunc(live, func(b sched.Build) bool { return b.Running })
		if i < 0 {
			w.step(move{w.s.NextWake().Sub(w.now), sched.Tick{}})
			continue
		}
		w.step(move{time.Second, sched.Finished{Build: live[i].ID, Attempt: live[i].Attempt, Outcome: sched.Succeeded}})
	}
}
