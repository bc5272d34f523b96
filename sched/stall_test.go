package sched_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/bindery-hub/bindery/sched"
)

// TestStalls has a thousand builds that move slowly, some for hours, with pauses of up to a second less than Stall, a
// thousand that hang at some time, and a thousand that are cancelled, on fifty slots for which others always wait. Those
// that hang are stopped when they have not moved for Stall, nothing else is, and at the end of each the next one starts.
func TestStalls(t *testing.T) {
	const stall, each, slots = 10 * time.Minute, 1000, 50
	rnd := rand.New(rand.NewPCG(1, 2))
	s := sched.New(sched.Config{Stall: stall, Attempts: 1, MaxAge: -1, LongShare: 1})
	type attempt struct {
		kind  int // it moves, hangs, is cancelled
		moves int // so often, before that
		next  time.Time
		last  time.Time // it moved
		told  bool      // it is being stopped
	}
	const (
		moving = iota
		hanging
		cancelled
		kinds
	)
	kind := map[string]int{}
	running := map[string]*attempt{}
	pause := func() time.Duration {
		if rnd.IntN(4) == 0 {
			return stall - time.Second
		}
		return time.Second + time.Duration(rnd.Int64N(int64(stall-2*time.Second)))
	}
	now, ended, stopped := start, [kinds]int{}, [kinds]int{}
	step := func(in sched.Input) (started int) {
		for _, d := range s.Step(now, in) {
			switch d := d.(type) {
			case sched.Start:
				started++
				running[d.Build] = &attempt{kind: kind[d.Build], moves: rnd.IntN(40), last: now, next: now.Add(pause())}
			case sched.Abort:
				a := running[d.Build]
				a.told, a.next = true, now.Add(time.Second)
				stopped[a.kind]++
				if still := now.Sub(a.last); a.kind == hanging && still != stall {
					t.Errorf("%s is stopped after %v without progress", d.Build, still)
				}
			}
		}
		return started
	}
	step(sched.WorkerUp{Worker: "v", Slots: slots / 2})
	step(sched.WorkerUp{Worker: "w", Slots: slots / 2})
	for i, k := range rnd.Perm(kinds * each) {
		id := fmt.Sprint("b", i)
		kind[id] = k % kinds
		step(sched.Submit{Build: id, Key: id, Repo: id, Owner: fmt.Sprint("o", i%100), Requester: fmt.Sprint("q", i%200)})
	}
	for left := kinds * each; left > 0; {
		id := slices.MinFunc(sortedKeys(running), func(a, b string) int { return running[a].next.Compare(running[b].next) })
		a := running[id]
		if wake := s.NextWake(); !wake.IsZero() && wake.Before(a.next) {
			now = wake
			step(sched.Tick{})
			continue
		}
		now = a.next
		switch {
		case a.told, a.moves == 0 && a.kind == moving:
			left--
			ended[a.kind]++
			delete(running, id)
			waits := left > len(running)
			if started := step(sched.Finished{Build: id, Attempt: 1, Outcome: sched.Succeeded}); waits && started != 1 {
				t.Fatalf("%s has ended, others wait, and %d start", id, started)
			}
		case a.moves > 0:
			a.moves, a.last, a.next = a.moves-1, now, now.Add(pause())
			step(sched.Progress{Build: id, Attempt: 1})
		case a.kind == cancelled:
			if step(sched.Cancel{Build: id}); !a.told {
				t.Fatalf("%s is cancelled, and its worker is not told", id)
			}
		default:
			a.next = now.Add(1000 * time.Hour) // it hangs
		}
	}
	t.Logf("%v: stopped %d of %d that moved, %d of %d that hung", now.Sub(start), stopped[moving], ended[moving], stopped[hanging], ended[hanging])
	if stopped != [kinds]int{moving: 0, hanging: each, cancelled: each} || ended != [kinds]int{each, each, each} {
		t.Errorf("stopped %v, ended %v", stopped, ended)
	}
}

func sortedKeys[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }
