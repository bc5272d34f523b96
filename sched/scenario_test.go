package sched_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/sched"
)

var update = flag.Bool("update", false, "rewrite the answers in testdata; read the diff as you would read code")

// TestScenarios plays testdata/*.txt: blocks of commands, a line of ----, the answer.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(text))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(text), got); diff != "" && !*update {
				t.Errorf("answers differ (-file +now):\n%s", diff)
			}
		})
	}
}

func play(t *testing.T, text string) string {
	t.Helper()
	p := &player{s: sched.New(sched.Config{}), m: newMirror(), now: start}
	var out strings.Builder
	for i, block := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 {
			out.WriteString("\n")
		}
		commands, _, ok := strings.Cut(block+"\n", "----\n")
		out.WriteString(commands)
		if !ok {
			continue // a comment
		}
		out.WriteString("----\n")
		answers := 0
		for _, line := range strings.Split(strings.TrimSpace(commands), "\n") {
			if strings.HasPrefix(line, "#") {
				continue
			}
			for _, a := range p.do(t, line) {
				answers++
				fmt.Fprintln(&out, a)
			}
		}
		if answers == 0 {
			fmt.Fprintln(&out, "ok")
		}
		for _, w := range p.m.wrong {
			t.Errorf("after %q: %s", commands, w)
		}
	}
	return out.String()
}

type player struct {
	s   *sched.Scheduler
	m   *mirror
	now time.Time
}

// do carries out one command: words, then options as name=value.
func (p *player) do(t *testing.T, line string) []string {
	t.Helper()
	words := strings.Fields(line)
	if strings.HasPrefix(words[0], "+") {
		p.now = p.now.Add(dur(t, words[0][1:]))
		words = words[1:]
		if len(words) == 0 {
			words = []string{"tick"}
		}
	}
	opt := map[string]string{}
	var args []string
	for _, w := range words[1:] {
		if k, v, ok := strings.Cut(w, "="); ok {
			opt[k] = v
			continue
		}
		args = append(args, w)
	}
	switch words[0] {
	case "standing":
		return p.standing()
	case "wake":
		return []string{fmt.Sprintf("wake %s", p.s.NextWake().Format("15:04:05.999"))}
	case "restore":
		p.s.Restore(p.now, p.m.state())
		return nil
	}
	in := input(t, words[0], args, opt, p.now)
	ds := p.s.Step(p.now, in)
	p.m.take(p.now, in, ds)
	var out []string
	for _, d := range ds {
		out = append(out, d.String())
	}
	return out
}

func (p *player) standing() (out []string) {
	for _, b := range p.m.state().Builds {
		if st, ok := p.s.Standing(p.now, b.ID); ok {
			out = append(out, fmt.Sprintf("%s: %d, %s", b.ID, st.Position, st.Reason))
		}
	}
	return out
}

func input(t *testing.T, verb string, args []string, opt map[string]string, now time.Time) sched.Input {
	t.Helper()
	switch verb {
	case "config":
		return sched.Configure{Config: sched.Config{
			Attempts: num(t, opt["attempts"]), Lost: num(t, opt["lost"]), Sessions: num(t, opt["sessions"]),
			Backoff: dur(t, opt["backoff"]), Remember: dur(t, opt["remember"]), Longest: dur(t, opt["longest"]),
		}}
	case "up":
		return sched.WorkerUp{Worker: args[0], Slots: num(t, opt["slots"])}
	case "down":
		return sched.WorkerDown{Worker: args[0]}
	case "lost":
		return sched.WorkerLost{Worker: args[0]}
	case "submit", "retry":
		key := opt["key"]
		if key == "" {
			key = args[0]
		}
		return sched.Submit{Build: args[0], Key: key, Class: bindery.Attended, Retry: verb == "retry"}
	case "cancel":
		return sched.Cancel{Build: args[0]}
	case "finish":
		return sched.Finished{Build: args[0], Attempt: num(t, args[1]), Outcome: sched.Outcome(args[2])}
	case "watch":
		return sched.Watch{Build: args[0], Watchers: num(t, args[1])}
	case "ask":
		return sched.AskSession{Session: args[0], Idle: dur(t, opt["idle"]), Age: dur(t, opt["age"])}
	case "ready":
		return sched.SessionReady{Session: args[0]}
	case "active":
		return sched.SessionActive{Session: args[0], At: now}
	case "stopping":
		return sched.SessionStopping{Session: args[0]}
	case "ended":
		return sched.SessionEnded{Session: args[0]}
	case "tick":
		return sched.Tick{}
	}
	t.Fatalf("no command %q", verb)
	return nil
}

func num(t *testing.T, s string) int {
	t.Helper()
	if s == "" {
		return 0
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func dur(t *testing.T, s string) time.Duration {
	t.Helper()
	if s == "" {
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
