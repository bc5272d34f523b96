package sched

import (
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestLag asserts the bound that docs/queue.md derives, after every step of any history: of two owners who both have
// builds waiting, the one that started a build since is ahead by at most (D+1) of the largest cost, by its weight.
func TestLag(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		slots := rapid.IntRange(1, 6).Draw(t, "slots")
		s := New(Config{RepoShare: 1, OwnerShare: 1, RequesterShare: 1, LongShare: 1, Attempts: 1, MaxAge: -1, Stall: -1})
		now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
		k := s.buckets[0]
		owners := []string{"a", "b", "c", "d"}
		weights := map[string]float64{}
		for _, o := range owners {
			weights[o] = float64(rapid.IntRange(1, 4).Draw(t, "weight"))
			for _, on := range []Scope{OnOwner, OnRequester} {
				s.Step(now, SetRule{Rule{Kind: Weight, Scope: on, Name: o, Value: weights[o]}})
			}
		}
		s.Step(now, WorkerUp{Worker: "w", Slots: slots})
		largest, n := 0.0, 0
		ahead := map[[2]string]bool{} // the first started a build while both waited, and both have waited since
		for range rapid.IntRange(20, 150).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 200).Draw(t, "seconds")) * time.Second)
			w := s.workers[0]
			var in Input = Tick{}
			if len(w.running) > 0 && rapid.Bool().Draw(t, "finish") {
				b := w.running[rapid.IntRange(0, len(w.running)-1).Draw(t, "which")]
				largest = max(largest, now.Sub(b.run.started).Seconds())
				in = Finished{Build: b.ID, Attempt: b.Attempt, Outcome: rapid.SampledFrom([]Outcome{Succeeded, UserFault}).Draw(t, "outcome")}
			} else {
				n++
				o := rapid.SampledFrom(owners).Draw(t, "owner")
				repo := fmt.Sprint(o, rapid.IntRange(0, 2).Draw(t, "repo"))
				key := n
				if rapid.IntRange(0, 3).Draw(t, "join") == 0 {
					key-- // it joins the one before, if that is not over
				}
				in = Submit{Build: fmt.Sprint(n), Key: fmt.Sprint(key), Repo: repo, Owner: o, Requester: o}
			}
			for _, d := range s.Step(now, in) {
				if d, ok := d.(Start); ok {
					b := s.builds[d.Build]
					largest = max(largest, b.run.charge)
					for _, g := range owners {
						ahead[[2]string{b.Owner, g}] = g != b.Owner
					}
				}
			}
			if got, want := k.base(), slowBase(k, w); math.Abs(got-want) > 1e-6 {
				t.Fatalf("newcomers begin at %v, want %v", got, want)
			}
			for pair, on := range ahead {
				f, g := k.flows[byOwner][pair[0]], k.flows[byOwner][pair[1]]
				if !on || g == nil || f.waits() == 0 || g.waits() == 0 {
					ahead[pair] = false
					continue
				}
				bound := largest/weights[f.name] + float64(slots)*largest*max(1/weights[f.name], 1/weights[g.name])
				if lag := f.tag - g.tag; lag > bound+1e-6 {
					t.Fatalf("%s is %.1f ahead of %s, more than %.1f", f.name, lag, g.name, bound)
				}
			}
		}
	})
}

// slowBase is bucket.base from what runs.
func slowBase(k *bucket, w *worker) float64 {
	least := k.virtual
	paid := map[*flow]float64{}
	for _, b := range w.running {
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

func (f *flow) waits() (n int) {
	for _, p := range f.post {
		if p != nil {
			n += len(p.lanes)
		}
	}
	return n
}
