package rollout_test

import (
	"flag"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/internal/scenario"
	"github.com/bindery-hub/bindery/rollout"
)

var update = flag.Bool("update", false, "rewrite the answers in testdata; read the diff as you would read code")

var begin = time.Date(2026, 3, 4, 5, 0, 0, 0, time.UTC)

func TestScenarios(t *testing.T) {
	scenario.Play(t, *update, func(t *testing.T) func(string) []string {
		p := &player{now: begin}
		return func(line string) []string { return p.do(t, line) }
	})
}

type player struct {
	r   *rollout.Rollout
	now time.Time
}

// do carries out one command, such as `+10m tick 4` or `made b`.
func (p *player) do(t *testing.T, line string) (out []string) {
	t.Helper()
	words := strings.Fields(line)
	if later, ok := strings.CutPrefix(words[0], "+"); ok {
		d, err := time.ParseDuration(later)
		if err != nil {
			t.Fatal(err)
		}
		p.now, words = p.now.Add(d), words[1:]
	}
	var in rollout.Input
	switch words[0] {
	case "roll":
		p.roll(t, words[1:])
		return nil
	case "count":
		stage, _ := p.r.Stage()
		text := string(stage)
		for _, s := range []rollout.Status{rollout.Waiting, rollout.Building, rollout.Built, rollout.Starting, rollout.Proven, rollout.Held} {
			if n := p.r.Count(s); n > 0 {
				text += fmt.Sprintf(" %s=%d", s, n)
			}
		}
		return []string{fmt.Sprintf("%s covered=%.2f", text, p.r.Covered())}
	case "wake":
		return []string{"wake " + p.r.NextWake().Format(time.TimeOnly)}
	case "tick":
		n, err := strconv.Atoi(words[1])
		if err != nil {
			t.Fatal(err)
		}
		in = rollout.Tick{Slots: n}
	case "made":
		in = rollout.Made{Key: words[1]}
	case "started":
		in = rollout.Started{Key: words[1]}
	case "failed":
		in = rollout.Failed{Key: words[1]}
	case "lost":
		in = rollout.Lost{Key: words[1]}
	case "add":
		in = rollout.Add{Item: rollout.Item{Key: words[1]}}
	case "drop":
		in = rollout.Drop{Key: words[1]}
	case "pause":
		in = rollout.Pause{}
	case "resume":
		in = rollout.Resume{}
	default:
		t.Fatalf("there is no command %q", line)
	}
	for _, d := range p.r.Step(p.now, in) {
		out = append(out, d.String())
	}
	return out
}

// roll begins one: options as name=value, items as KEY:LAUNCHES[:STATUS].
func (p *player) roll(t *testing.T, words []string) {
	t.Helper()
	s := rollout.State{Stage: bindery.GenerationCanary, Judged: p.now}
	for _, w := range words {
		if name, value, ok := strings.Cut(w, "="); ok {
			x, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			switch name {
			case "canary":
				s.Canary = int(x)
			case "pace":
				s.Options.Pace = int(x)
			case "atonce":
				s.Options.AtOnce = int(x)
			case "threshold":
				s.Options.Threshold = x
			case "old":
				s.OldRate = x
			}
			continue
		}
		parts := strings.Split(w, ":")
		n, err := strconv.Atoi(parts[1])
		if err != nil {
			t.Fatal(err)
		}
		it := rollout.Item{Key: parts[0], Launches: n}
		if len(parts) > 2 {
			it.Status, it.At = rollout.Status(parts[2]), p.now
		}
		s.Items = append(s.Items, it)
	}
	p.r = rollout.New(s)
}

// TestProperties plays roll-outs in which anything happens at any time.
func TestProperties(t *testing.T) { rapid.Check(t, anyRollout) }

func anyRollout(t *rapid.T) {
	n := rapid.IntRange(0, 40).Draw(t, "items")
	s := rollout.State{Stage: bindery.GenerationCanary, Judged: begin, OldRate: rapid.Float64Range(0, 0.3).Draw(t, "old")}
	s.Options = bindery.RolloutOptions{
		AtOnce: rapid.IntRange(0, 5).Draw(t, "at once"), Pace: rapid.SampledFrom([]int{0, 6, 60}).Draw(t, "pace"),
		Canary: rapid.Float64Range(0, 1).Draw(t, "canary"),
	}
	for i := range n {
		s.Items = append(s.Items, rollout.Item{Key: fmt.Sprint("k", i), Launches: rapid.IntRange(0, 9).Draw(t, "launches")})
	}
	r, now, slots := rollout.New(s), begin, rapid.IntRange(1, 6).Draw(t, "slots")
	most := s.Options.AtOnce
	if most == 0 {
		most = slots
	}
	building, starting, done := map[string]bool{}, map[string]bool{}, map[string]bool{}
	var starts []time.Time
	complete := false
	take := func(ds []rollout.Decision) {
		for _, d := range ds {
			stage, _ := r.Stage()
			switch d := d.(type) {
			case rollout.Build:
				if building[d.Key] || starting[d.Key] || done[d.Key] || stage == bindery.GenerationPaused {
					t.Fatalf("%s is built twice, or while it is paused", d.Key)
				}
				building[d.Key] = true
				starts = append(starts, now)
				if stage == bindery.GenerationCanary && len(building)+len(starting)+len(done) > r.Canary() {
					t.Fatalf("more than the canary is built in its stage")
				}
			case rollout.Smoke:
				if starting[d.Key] {
					t.Fatalf("%s is started twice", d.Key)
				}
				starting[d.Key] = true
			case rollout.Complete:
				complete = true
			}
		}
		if len(building) > most {
			t.Fatalf("%d builds at once, want at most %d", len(building), most)
		}
	}
	any := func(m map[string]bool) string {
		for i := range n {
			if k := fmt.Sprint("k", i); m[k] {
				return k
			}
		}
		return ""
	}
	step := func(kind int) {
		now = now.Add(time.Duration(rapid.IntRange(0, 1200).Draw(t, "seconds")) * time.Second)
		var in rollout.Input = rollout.Tick{Slots: slots}
		switch k := any(building); {
		case kind == 1 && k != "":
			delete(building, k)
			in = rollout.Made{Key: k}
		case kind == 2 && k != "":
			delete(building, k)
			done[k] = true
			in = rollout.Failed{Key: k}
		case kind == 3 && k != "":
			delete(building, k)
			in = rollout.Lost{Key: k}
		case kind == 4 && any(starting) != "":
			k = any(starting)
			delete(starting, k)
			done[k] = true
			in = rollout.Started{Key: k}
		case kind == 5:
			in = rollout.Pause{}
		case kind == 6:
			in = rollout.Resume{}
		}
		take(r.Step(now, in))
	}
	for i := 0; i < 60 && !complete; i++ {
		step(rapid.IntRange(0, 6).Draw(t, "kind"))
	}
	// Whatever happened: resumed, with builds and sessions that succeed, it ends.
	for i := 0; i < 20*n+100 && !complete; i++ {
		take(r.Step(now, rollout.Resume{}))
		for _, kind := range []int{0, 1, 4} {
			if !complete {
				step(kind)
			}
		}
	}
	if !complete || r.Count(rollout.Proven)+r.Count(rollout.Held) != n {
		t.Fatalf("it does not end: %d proven, %d held of %d", r.Count(rollout.Proven), r.Count(rollout.Held), n)
	}
	if pace := s.Options.Pace; pace > 0 {
		for i := 1; i < len(starts); i++ {
			if starts[i].Sub(starts[i-1]) < time.Hour/time.Duration(pace) {
				t.Fatalf("builds start %s apart at a pace of %d an hour", starts[i].Sub(starts[i-1]), pace)
			}
		}
	}
}
