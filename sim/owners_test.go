package sim

import (
	"slices"
	"testing"
	"time"
)

// TestFirstBuilds asks who it is that waits for long on days of many builds, generated with all images gone. Under fair
// shares it is who has used more than others already and wants more: nobody's first build waits longer than with first
// come first served, in ninety-nine cases of a hundred, and nobody who has one build only goes longer without a slot.
func TestFirstBuilds(t *testing.T) {
	for seed := range uint64(5) {
		seed++
		w := Generate(Demand{Seed: seed})
		of := map[string]ownersWaits{}
		for _, policy := range []string{FIFO, Fair} {
			cfg, err := Config{
				Workload: w, Policies: []string{policy}, Seed: seed, Wipe: w.From, Scratch: 1, Mute: true,
				Costs: map[string]time.Duration{heads[1]: 12 * time.Hour},
			}.withDefaults()
			if err != nil {
				t.Fatal(err)
			}
			r, err := simulate(t.Context(), cfg, policy)
			if err != nil {
				t.Fatal(err)
			}
			x := waitsOfOwners(r)
			of[policy] = x
			t.Logf("seed %d, %s: slowdown p99 of owners' first builds %.1f, of their others %.1f; without a slot: owners of one build %v, of several %v",
				seed, policy, x.first.P99, x.others.P99, x.one.Round(time.Minute), x.several.Round(time.Minute))
		}
		fair, fifo := of[Fair], of[FIFO]
		if fair.first.N < 100 || fair.others.N < 300 || fair.first.P99 > fifo.first.P99 || fair.one > fifo.one {
			t.Errorf("seed %d: %+v, first come first served %+v", seed, fair, fifo)
		}
	}
}

// ownersWaits are those of the first builds that owners asked for, and of all others, and the longest times that an owner of
// one build, and one of several, had something waiting and nothing running.
type ownersWaits struct {
	first, others Spread
	one, several  time.Duration
}

func waitsOfOwners(r *room) (x ownersWaits) {
	builds := map[int][]*spec{} // by owner
	for i := range r.specs {
		if s := &r.specs[i]; s.needed {
			s.need(r.now)
			builds[s.flow[0]] = append(builds[s.flow[0]], s)
		}
	}
	var first, others []float64
	for id, own := range builds {
		longest := &x.several
		if len(own) == 1 {
			longest = &x.one
		}
		o := &r.meter.flows[0].all[id]
		if *longest = max(*longest, o.longest); o.pending > 0 && o.running == 0 {
			*longest = max(*longest, r.now-o.starved)
		}
		slices.SortFunc(own, func(a, b *spec) int { return int(a.first - b.first) })
		for n, s := range own {
			slowdown := max(1, float64(s.needs)/float64(s.cost))
			switch {
			case s.special:
			case n == 0:
				first = append(first, slowdown)
			default:
				others = append(others, slowdown)
			}
		}
	}
	x.first, x.others = spreadOf(first), spreadOf(others)
	return x
}
