package sched

import (
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestLag asserts the bound that docs/queue.md derives, after every step of any history: of two owners, or of two
// requesters, who both have builds waiting, the one that started a build since is ahead by at most (D+1) of the largest
// cost, by its weight.
func TestLag(t *testing.T) {
	for d, name := range map[side]string{byOwner: "owners", byRequester: "requesters"} {
		t.Run(name, func(t *testing.T) {
			compared := 0
			rapid.Check(t, func(t *rapid.T) { compared += lag(t, d) })
			if t.Logf("%d times two were compared", compared); compared < 200 {
				t.Error("that is too seldom")
			}
		})
	}
}

// lag plays one history of the flows of one side, each of which has up to three of the other side for itself.
func lag(t *rapid.T, d side) (compared int) {
	s := New(Config{RepoShare: 1, OwnerShare: 1, RequesterShare: 1, LongShare: 1, Attempts: 1, MaxAge: -1, Stall: -1})
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	k := s.buckets[0]
	names := []string{"a", "b", "c", "d"}
	weights := map[string]float64{}
	for _, o := range names {
		weights[o] = float64(rapid.IntRange(1, 4).Draw(t, "weight"))
		s.Step(now, SetRule{Rule{Kind: Weight, Scope: d.scope(), Name: o, Value: weights[o]}})
		for i := range 3 {
			s.Step(now, SetRule{Rule{Kind: Weight, Scope: (1 - d).scope(), Name: fmt.Sprint(o, i+1), Value: weights[o]}})
		}
	}
	for i := range rapid.IntRange(1, 3).Draw(t, "workers") {
		s.Step(now, WorkerUp{Worker: fmt.Sprint("w", i), Slots: rapid.IntRange(1, 3).Draw(t, "slots")})
	}
	others := rapid.IntRange(1, 3).Draw(t, "others")
	largest, n := 0.0, 0
	ahead := map[[2]string]bool{} // the first started a build while both waited, and both have waited since
	for range rapid.IntRange(20, 150).Draw(t, "steps") {
		now = now.Add(time.Duration(rapid.IntRange(0, 200).Draw(t, "seconds")) * time.Second)
		running := s.busy()
		var in Input = Tick{}
		if len(running) > 0 && rapid.Bool().Draw(t, "finish") {
			b := running[rapid.IntRange(0, len(running)-1).Draw(t, "which")]
			largest = max(largest, now.Sub(b.run.started).Seconds())
			in = Finished{Build: b.ID, Attempt: b.Attempt, Outcome: rapid.SampledFrom([]Outcome{Succeeded, UserFault}).Draw(t, "outcome")}
		} else {
			n++
			o := rapid.SampledFrom(names).Draw(t, "name")
			repo := fmt.Sprint(o, rapid.IntRange(0, 2).Draw(t, "repo"))
			other := fmt.Sprint(o, rapid.IntRange(1, others).Draw(t, "other"))
			key := fmt.Sprint(n)
			if d == byOwner && rapid.IntRange(0, 3).Draw(t, "join") == 0 {
				key = fmt.Sprint(n - 1) // it joins the one before, if that is not over
			}
			x := Submit{Build: fmt.Sprint(n), Key: key, Repo: repo, Owner: o, Requester: other}
			if d == byRequester {
				x.Owner, x.Requester = other, o
			}
			in = x
		}
		for _, x := range s.Step(now, in) {
			if x, ok := x.(Start); ok {
				b := s.builds[x.Build]
				largest = max(largest, b.run.charge)
				f := [2]string{b.Owner, b.Requester}[d]
				for _, g := range names {
					ahead[[2]string{f, g}] = g != f
				}
			}
		}
		if got, want := k.base(), slowBase(k, s.busy()); math.Abs(got-want) > 1e-6 {
			t.Fatalf("newcomers begin at %v, want %v", got, want)
		}
		for pair, on := range ahead {
			f, g := k.flows[d][pair[0]], k.flows[d][pair[1]]
			if !on || g == nil || !k.leads(d, f) || !k.leads(d, g) {
				ahead[pair] = false
				continue
			}
			compared++
			bound := largest/weights[f.name] + float64(s.slots)*largest*max(1/weights[f.name], 1/weights[g.name])
			if lag := f.tag - g.tag; lag > bound+1e-6 {
				t.Fatalf("%s is %.1f ahead of %s, more than %.1f", f.name, lag, g.name, bound)
			}
		}
	}
	return compared
}

// busy lists what runs.
func (s *Scheduler) busy() (all []*build) {
	for _, w := range s.workers {
		all = append(all, w.running...)
	}
	return all
}

// slowBase is bucket.base from what runs.
func slowBase(k *bucket, running []*build) float64 {
	least := k.virtual
	paid := map[*flow]float64{}
	for _, b := range running {
		paid[k.flows[byOwner][b.Owner]] += b.run.paid[0]
		for i, name := range append([]string{b.Requester}, b.askers...)[:len(b.run.paid)-1] {
			paid[k.flows[byRequester][name]] += b.run.paid[1+i]
		}
	}
	for f, x := range paid {
		least = min(least, f.tag-x)
	}
	return least
}

// leads reports whether a flow has builds waiting, and its tag is the higher one of all of them.
func (k *bucket) leads(d side, f *flow) (yes bool) {
	for _, pairs := range k.pairs {
		for _, q := range pairs {
			if q.flow[d] != f {
				continue
			}
			if q.flow[1-d].tag > f.tag {
				return false
			}
			yes = true
		}
	}
	return yes
}
