package sched_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/google/go-cmp/cmp"

	"github.com/bindery-hub/bindery/internal/scenario"
	"github.com/bindery-hub/bindery/sched"
)

type fataler interface{ Fatal(args ...any) }

// written is a scheduler as a trace holds it.
func written(t fataler, s *sched.Scheduler) string { return line(t, s.Whole()) }

func line(t fataler, w *sched.Whole) string {
	text, err := sched.Traced{Whole: w}.Line()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// read makes a scheduler of what a trace holds.
func read(t fataler, text string) *sched.Scheduler {
	var x sched.Traced
	if err := json.Unmarshal([]byte(text), &x); err != nil {
		t.Fatal(err)
	}
	s, err := x.Whole.Scheduler()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestWhole writes a scheduler down at random points of anything that can happen, and reads it into another one: from
// there on both decide the same and show the same, and nothing that the first knows is different in the second. Nor
// does a third one decide anything else, which is never written down.
func TestWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, silent := newWorld(), newWorld()
		// Delays and limits are such that much happens within a few minutes.
		cfg := sched.Config{
			Sessions: places, Lost: 2, Backoff: time.Minute, Stall: 30 * time.Minute, MaxAge: 8 * time.Minute, SlowAge: 40 * time.Minute, LongAfter: 5 * time.Minute,
			Grace: 20 * time.Second, Linger: time.Minute, Popular: 2,
		}
		w.s, silent.s = sched.New(cfg), sched.New(cfg)
		var twin *sched.Scheduler
		fail := func(format string, args ...any) {
			t.Fatalf("%s\n%s", fmt.Sprintf(format, args...), strings.Join(w.log, "\n"))
		}
		for range rapid.IntRange(1, 150).Draw(t, "steps") {
			mv := w.wider(t)
			from := len(w.log)
			w.step(mv)
			silent.step(mv)
			restart := rarely(t, 5)
			if twin != nil {
				if out := texts(twin.Step(w.now, mv.in)); !slices.Equal(out, w.log[from+1:]) {
					fail("after it was read, it decides\n%s", strings.Join(out, "\n"))
				}
				if one, other := w.told(w.s), w.told(twin); !reflect.DeepEqual(one, other) {
					fail("after it was read, it tells something else (-first +second):\n%s", cmp.Diff(one, other))
				}
			}
			if restart {
				st := w.m.state()
				st.Flows, st.FlowsAt = w.s.Usage(w.now), w.now
				if len(st.Sessions) > 0 && rapid.Bool().Draw(t, "gone") {
					st.Sessions = st.Sessions[1:] // its place is free for who waits
				}
				for _, s := range []*sched.Scheduler{w.s, silent.s, twin} {
					if s != nil {
						s.Restore(w.now, st)
					}
				}
				w.m.forget()
				silent.m.forget()
			}
			look := rarely(t, 6)
			if look && twin != nil {
				if diff := cmp.Diff(w.s.View(w.now, 100), twin.View(w.now, 100)); diff != "" {
					fail("after it was read, it shows something else (-first +second):\n%s", diff)
				}
			}
			if look || rarely(t, 3) {
				now := written(t, w.s)
				if twin != nil && now != written(t, twin) {
					fail("after it was read, it came to\n%s\nnot to\n%s", written(t, twin), now)
				}
				twin = read(t, now)
				if u := sched.Unlike(w.s, twin, map[string]bool{}); u != "" {
					fail("it is read as something else: %s", u)
				}
			}
		}
		if !slices.Equal(w.log, silent.log) {
			fail("it decides otherwise when it is never written down:\n%s", strings.Join(silent.log, "\n"))
		}
		one, other := w.s.Whole(), silent.s.Whole()
		one.Asked, other.Asked = nil, nil
		if a, b := line(t, one), line(t, other); a != b {
			fail("when it is never asked nor written down, it comes to\n%s\nnot to\n%s", b, a)
		}
	})
}

// rarely is true once in two to the power of n times: rapid prefers small numbers, but not heads to tails.
func rarely(t *rapid.T, n int) bool {
	all := true
	for range n {
		all = rapid.Bool().Draw(t, "rarely") && all
	}
	return all
}

// texts are decisions as a world logs them.
func texts(out []sched.Decision) (all []string) {
	for _, d := range out {
		all = append(all, "  "+d.String())
	}
	return all
}

// told is what a scheduler tells without looking ahead.
func (w *world) told(s *sched.Scheduler) (out []any) {
	out = append(out, s.Usage(w.now), s.NextWake(), s.Rules())
	for _, id := range w.m.admitted {
		st, ok := s.SessionStanding(w.now, id)
		out = append(out, st, ok)
	}
	return out
}

// wider draws a move as draw does, with more in it.
func (w *world) wider(t *rapid.T) move {
	mv := w.draw(t)
	mv.after *= time.Duration(rapid.SampledFrom([]int{1, 1, 1, 5, 100}).Draw(t, "pace"))
	some := func(all ...string) string { return rapid.SampledFrom(all).Draw(t, "some") }
	live := w.m.state()
	running := slices.DeleteFunc(slices.Clone(live.Builds), func(b sched.Build) bool { return !b.Running })
	switch in := mv.in.(type) {
	case sched.Submit:
		in.Kind, in.Spec, in.Address = some("", "conda", "pip"), some("", "gh/"+in.Repo+"/main"), some("", "192.0.2.7", "198.51.100.7")
		in.Ref = some(in.Ref, "next")
		mv.in = in
	case sched.Finished:
		in.Kind, in.Disk = some("", "conda"), int64(rapid.IntRange(0, 3).Draw(t, "disk"))<<30
		in.Outcome = sched.Outcome(some(string(in.Outcome), "ok", "not-quick"))
		if len(running) > 0 && rapid.Bool().Draw(t, "running") {
			b := rapid.SampledFrom(running).Draw(t, "ended")
			in.Build, in.Attempt = b.ID, b.Attempt
		}
		mv.in = in
	case sched.Watch:
		if len(live.Builds) > 0 {
			in.Build = rapid.SampledFrom(live.Builds).Draw(t, "watched").ID
			in.Watchers = rapid.SampledFrom([]int{0, 0, 1, 3}).Draw(t, "watchers")
		}
		mv.in = in
	case sched.WorkerUp:
		in.Disk = int64(rapid.SampledFrom([]int{0, 5, 20}).Draw(t, "space")) << 30
		mv.in = in
	case sched.Learn:
		in.Kind, in.Disk = some("", "conda", "pip"), int64(rapid.IntRange(0, 9).Draw(t, "disk"))<<30
		mv.in = in
	case sched.AskSession:
		in.Owner, in.Requester, in.RepoQuota = some("o0", "o1"), some("q1", "q2"), rapid.IntRange(0, 2).Draw(t, "quota")
		in.Spec, in.Address = some("", "gh/"+in.Repo+"/main"), some("", "192.0.2.7")
		mv.in = in
	case sched.SessionStopping:
		if len(live.Sessions) > 0 {
			id := rapid.SampledFrom(live.Sessions).Draw(t, "live").ID
			mv.in = rapid.SampledFrom([]sched.Input{sched.SessionEnded{Session: id}, sched.SessionEnded{Session: id}, sched.SessionStopping{Session: id}}).Draw(t, "stopping")
		}
	case sched.WorkerDown, sched.Forgive:
		mv.in = rapid.SampledFrom([]sched.Input{
			in,
			sched.SetRule{Rule: sched.Rule{Kind: sched.Pause, Scope: sched.OnSpec, Name: "^(gh/)?r[0-2]", Until: w.now.Add(10 * time.Minute)}},
			sched.SetRule{Rule: sched.Rule{Kind: sched.Pause, Scope: sched.OnSpec, Name: "^(gh/)?r[2-5]", Until: w.now.Add(20 * time.Minute)}},
			sched.LiftRule{Kind: sched.Pause, Scope: sched.OnSpec, Name: "^(gh/)?r[2-5]"},
			sched.SetRule{Rule: sched.Rule{Kind: sched.UntilBuilt, Scope: sched.OnOwner, Name: "o1", Until: w.now.Add(10 * time.Minute)}},
			sched.LiftRule{Kind: sched.UntilBuilt, Scope: sched.OnOwner, Name: "o1"},
			sched.Configure{Config: sched.Config{Sessions: places, Lost: 2, MaxAge: 20 * time.Minute, SlowAge: 40 * time.Minute, Stall: time.Hour, LongAfter: 5 * time.Minute}},
			sched.Configure{Config: sched.Config{Sessions: 1, Lost: 1, Stall: -1, HalfLife: time.Hour, Linger: time.Minute, OwnerSessions: 1}},
			sched.SetRule{Rule: sched.Rule{Kind: sched.Quota, Scope: sched.OnSpec, Name: "^gh/r[0-2]", Value: 1, From: w.now.Add(time.Minute)}},
			sched.SetRule{Rule: sched.Rule{Kind: sched.Pause, Scope: sched.OnNetwork, Name: "192.0.2.0/24", Until: w.now.Add(5 * time.Minute), Reason: "a flood"}},
			sched.SetRule{Rule: sched.Rule{Kind: sched.Weight, Scope: sched.OnRequester, Name: "q1", Value: 1.3, Until: w.now.Add(time.Hour)}},
			sched.SetRule{Rule: sched.Rule{Kind: sched.Stay, Scope: sched.OnRepo, Name: "r1", Until: w.now.Add(time.Hour)}},
		}).Draw(t, "rule")
	}
	return mv
}

// TestWholeOfScenarios writes each scenario down after each of its lines. Together they set every field that a scheduler is
// made of: one that is added is to be in a Whole, or among those that it does without.
func TestWholeOfScenarios(t *testing.T) {
	seen := map[string]bool{}
	t.Run("all", func(t *testing.T) {
		scenario.Play(t, false, func(t *testing.T) func(string) []string {
			p := &player{s: sched.New(sched.Config{}), m: newMirror(), now: start}
			return func(line string) []string {
				out := p.do(t, line)
				twin := read(t, written(t, p.s))
				if u := sched.Unlike(p.s, twin, seen); u != "" {
					t.Errorf("after %q it is read as something else: %s", line, u)
				}
				p.s = twin // which goes on with it
				return out
			}
		})
	})
	for _, f := range sched.Fields() {
		if !seen[f] {
			t.Errorf("%s is never set: let a scenario have one", f)
		}
	}
}

// TestWholeOfSwept writes down a flow that is far ahead, is forgotten among many that come, and comes again as a new one.
func TestWholeOfSwept(t *testing.T) {
	p := &player{s: sched.New(sched.Config{}), m: newMirror(), now: start}
	do := func(lines ...string) {
		for _, line := range lines {
			p.do(t, line)
		}
	}
	do("config halflife=400h stall=-1s maxage=-1s", "up w slots=1", "submit a owner=ann", "submit b owner=ben", "submit c owner=cid", "submit d owner=dora")
	do("+2h finish a 1 ok", "+2h finish b 1 ok", "+2h finish c 1 ok", "submit e owner=eve")
	for i := range 1100 {
		do(fmt.Sprint("submit x", i, " owner=x", i))
	}
	do("submit again owner=ann")
	now := written(t, p.s)
	if u := sched.Unlike(p.s, read(t, now), map[string]bool{}); u != "" || !strings.Contains(now, `"Swept":{"n":"ann"`) {
		t.Errorf("it is read as something else: %q", u)
	}
}

// TestAsked asks where builds stand, under a hold that none of them is under, but whoever may come would be: only what is
// known by being asked is different from what who is never asked knows.
func TestAsked(t *testing.T) {
	var lines []string
	for _, asks := range []bool{true, false} {
		p := &player{s: sched.New(sched.Config{}), m: newMirror(), now: start}
		for _, do := range []string{"up w slots=1", "hold spec ^/", "submit a repo=git:a", "+1s submit b repo=git:b", "+1s submit c repo=git:c", "+1s submit d repo=git:d"} {
			p.do(t, do)
		}
		if asks && len(p.standing()) != 4 {
			t.Error("it does not say where four builds stand")
		}
		w := p.s.Whole()
		w.Asked = nil
		lines = append(lines, line(t, w))
	}
	if lines[0] != lines[1] {
		t.Errorf("asked:\n%snever asked:\n%s", lines[0], lines[1])
	}
}

// TestNotWhole reads what no scheduler wrote.
func TestNotWhole(t *testing.T) {
	p := &player{s: sched.New(sched.Config{}), m: newMirror(), now: start}
	for _, line := range []string{"up w slots=1", "submit a", "submit b", "ask s"} {
		p.do(t, line)
	}
	good := written(t, p.s)
	if p.do(t, "submit c repo=git:c owner=b requester=b"); !strings.Contains(written(t, p.s), `"b":[[2],[3]]`) {
		t.Errorf("builds of one owner and requester are no pair: %s", written(t, p.s))
	}
	twice := strings.Replace(written(t, p.s), `"b":[[2],[3]]`, `"b":[[2]]},{"b":[[3]]`, 1)
	for name, tt := range map[string]struct{ old, bad string }{
		"a pair that is there twice": {good, twice},
		"a build that is not there":  {`"b":[[2]]`, `"b":[[7]]`},
		"a build that waits twice":   {`"b":[[2]]`, `"b":[[2,2]]`},
		"a lane of nothing":          {`"b":[[2]]`, `"b":[[]]`},
		"a third side":               {`"b":[[2]]`, `"b":[[2]],"s":2`},
		"a flow that is not there":   {`"n":"b"`, `"n":"c"`},
		"who pays is nowhere":        {`"At":0`, `"At":2`},
		"two pay in one place":       {`"At":1`, `"At":0`},
	} {
		t.Run(name, func(t *testing.T) {
			bad := strings.Replace(good, tt.old, tt.bad, 1)
			var x sched.Traced
			if err := json.Unmarshal([]byte(bad), &x); err != nil {
				t.Fatal(err)
			}
			if s, err := x.Whole.Scheduler(); err == nil || bad == good {
				t.Errorf("it is read: %+v", s)
			}
		})
	}
}
