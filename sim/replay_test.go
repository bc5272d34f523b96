package sim_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bindery-hub/bindery/sched"
	"github.com/bindery-hub/bindery/sim"
)

// traced is what a busy hub would trace, a file for each 50 inputs.
func traced(t *testing.T) (files []string) {
	t.Helper()
	cfg := sched.Config{Sessions: 5}
	s, now, rng := sched.New(cfg), time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC), rand.New(rand.NewPCG(1, 2))
	write := func(x sched.Traced) {
		line, err := x.Line()
		if err != nil {
			t.Fatal(err)
		}
		files[len(files)-1] += string(line)
	}
	var running []sched.Start
	step := func(in sched.Input) {
		now = now.Add(time.Duration(rng.ExpFloat64() * float64(20*time.Second)))
		out := s.Step(now, in)
		for _, d := range out {
			if d, ok := d.(sched.Start); ok {
				running = append(running, d)
			}
		}
		x, err := sched.TraceStep(now, in, out)
		if err != nil {
			t.Fatal(err)
		}
		write(x)
	}
	files = append(files, "")
	s.Restore(now, sched.State{})
	write(sched.Traced{At: now, Config: &cfg, State: &sched.State{}})
	step(sched.WorkerUp{Worker: "w", Slots: 4, Disk: 100 << 30})
	for i := range 299 {
		if i%50 == 49 {
			files = append(files, "")
			write(sched.Traced{At: now, Whole: s.Whole()})
		}
		id := fmt.Sprint("b", i)
		switch n := rng.IntN(4); {
		case n == 0 && len(running) > 0:
			step(sched.Finished{Build: running[0].Build, Attempt: running[0].Attempt, Outcome: sched.Succeeded, Disk: 1 << 30})
			running = running[1:]
		case n == 1:
			step(sched.AskSession{Session: id, Repo: "r", Wait: true})
		default:
			step(sched.Submit{Build: id, Key: id, Repo: fmt.Sprint("r", rng.IntN(20)), Owner: fmt.Sprint("o", rng.IntN(5)), Requester: fmt.Sprint("q", rng.IntN(9))})
		}
		s.Standing(now, id) // questions are no inputs: what they change is in no file but the next whole state
	}
	return files
}

// TestReplay replays the files of one run as they may be found: all of them, without the oldest, without one in between,
// torn by a kill.
func TestReplay(t *testing.T) {
	files := traced(t)
	cut := func(file string, n int) string { return file[:len(file)-n] }
	// A virtual time that is a bit more, as another sum of the same would be.
	nudged := strings.Replace(files[2], `"Virtual":`, `"Virtual":1`, 1)
	spoiled := strings.Replace(files[2], `"out":["queue b`, `"out":["queue x`, 1)
	type sums struct {
		inputs, different, wholes, gaps, unlike int
		truncated                               bool
	}
	for name, tt := range map[string]struct {
		files []string
		want  sums
	}{
		"all":                         {files, sums{inputs: 300, wholes: 5}},
		"in one file":                 {[]string{strings.Join(files, "")}, sums{inputs: 300, wholes: 5}},
		"from the second on":          {files[1:], sums{inputs: 250, wholes: 5}},
		"the last":                    {files[5:], sums{inputs: 50, wholes: 1}},
		"one is missing":              {[]string{files[1], files[3]}, sums{inputs: 100, wholes: 2, gaps: 1}},
		"a line is missing":           {[]string{cut(files[1], len(files[1])-strings.LastIndex(cut(files[1], 1), "\n")-1), files[2]}, sums{inputs: 99, wholes: 2, gaps: 1}},
		"a line is torn":              {[]string{files[1], cut(files[2], 5)}, sums{inputs: 99, wholes: 2, truncated: true}},
		"a whole state is torn":       {[]string{files[1], files[2][:1000]}, sums{inputs: 50, wholes: 1, truncated: true}},
		"and the hub is back":         {[]string{files[1], files[2][:1000], files[0], files[1]}, sums{inputs: 150, wholes: 2, truncated: true}},
		"it had come to another":      {[]string{files[1], nudged}, sums{inputs: 100, wholes: 2, unlike: 1}},
		"something else is decided":   {[]string{files[1], spoiled, files[3]}, sums{inputs: 150, different: 1, wholes: 3}},
		"nothing but what begins one": {[]string{files[4][:strings.Index(files[4], "\n")+1]}, sums{wholes: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			var got sums
			var play sim.Replayer
			for _, f := range tt.files {
				r, err := play.Replay(strings.NewReader(f), nil)
				if err != nil {
					t.Fatal(err)
				}
				if len(r.First) != r.Different+r.Unlike {
					t.Errorf("of %d and %d differences it shows %v", r.Different, r.Unlike, r.First)
				}
				got = sums{got.inputs + r.Inputs, got.different + r.Different, got.wholes + r.Wholes, got.gaps + r.Gaps, got.unlike + r.Unlike, got.truncated || r.Truncated}
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(sums{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestReplayOfNoTrace says what is wrong with a file that no hub wrote.
func TestReplayOfNoTrace(t *testing.T) {
	whole := traced(t)[1]
	for name, tt := range map[string]struct{ text, want string }{
		"no beginning":      {"{}\n{\"in\":\"Tick\"}\n", "begins neither with"},
		"no JSON":           {"hello\n", "line 1 is not of a trace"},
		"an unknown input":  {whole + `{"in":"Sing"}` + "\n", `"Sing" is not an input`},
		"not a whole state": {strings.Replace(whole, `"b":[[`, `"b":[[999,`, 1), "the state is not whole: no build of order 999"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := new(sim.Replayer).Replay(strings.NewReader(tt.text), nil); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}
