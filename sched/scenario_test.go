package sched_test

import (
	"cmp"
	"flag"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/internal/scenario"
	"github.com/bindery-hub/bindery/sched"
)

var update = flag.Bool("update", false, "rewrite the answers in testdata; read the diff as you would read code")

func TestScenarios(t *testing.T) {
	scenario.Play(t, *update, func(t *testing.T) func(string) []string {
		p := &player{s: sched.New(sched.Config{}), m: newMirror(), now: start}
		return func(line string) []string {
			out := p.do(t, line)
			for _, w := range p.m.wrong {
				t.Errorf("after %q: %s", line, w)
			}
			p.m.wrong = nil
			return out
		}
	})
}

type player struct {
	s   *sched.Scheduler
	m   *mirror
	now time.Time

	flows []sched.Flow // as written down
	at    time.Time    // when
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
	case "failures":
		return p.failures()
	case "wake":
		return []string{fmt.Sprintf("wake %s", p.s.NextWake().Format("15:04:05.999"))}
	case "write-usage":
		p.flows, p.at = p.s.Usage(p.now), p.now
		return p.usage()
	case "restore":
		st := p.m.state()
		st.Flows, st.FlowsAt, st.Spent = p.flows, p.at, p.m.spentSince(p.at)
		p.s.Restore(p.now, st)
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

// standing says where each build stands, and each session that waits for a place.
func (p *player) standing() (out []string) {
	say := func(id string, st bindery.Standing) {
		text := fmt.Sprintf("%s: %d, %s", id, st.Position, st.Reason)
		if !st.From.IsZero() {
			text += fmt.Sprintf("; in %s to %s, likely %s", st.From.Sub(p.now), st.To.Sub(p.now), st.Likely.Sub(p.now))
		}
		out = append(out, text)
	}
	for _, b := range p.m.state().Builds {
		if st, ok := p.s.Standing(p.now, b.ID); ok {
			say(b.ID, st)
		}
	}
	for _, x := range p.m.state().Sessions {
		if st, ok := p.s.SessionStanding(p.now, x.ID); ok && st.Position > 0 {
			say(x.ID, st)
		}
	}
	return out
}

// usage says who is ahead, as it was written down.
func (p *player) usage() (out []string) {
	for _, f := range p.flows {
		out = append(out, fmt.Sprintf("%s %s is ahead by %v seconds", f.Scope, f.Name, f.Ahead))
	}
	return out
}

// failures says for how long those that are remembered answer.
func (p *player) failures() (out []string) {
	for _, f := range p.m.state().Failures {
		text := fmt.Sprintf("%s: %d in a row, answers for %s", f.Key, f.Row, f.Until.Sub(p.now))
		if f.Quarantined {
			text += ", in quarantine"
		}
		out = append(out, text)
	}
	return out
}

func input(t *testing.T, verb string, args []string, opt map[string]string, now time.Time) sched.Input {
	t.Helper()
	switch verb {
	case "config":
		return sched.Configure{Config: config(t, opt)}
	case "up":
		return sched.WorkerUp{Worker: args[0], Slots: num(t, opt["slots"]), Disk: int64(num(t, opt["disk"])) << 30}
	case "down":
		return sched.WorkerDown{Worker: args[0]}
	case "lost":
		return sched.WorkerLost{Worker: args[0]}
	case "submit", "retry":
		key := or(opt["key"], args[0])
		repo := or(opt["repo"], key)
		owner := or(opt["owner"], repo)
		return sched.Submit{
			Build: args[0], Key: key, Repo: repo, Ref: opt["ref"], Owner: owner, Requester: or(opt["by"], owner), Kind: opt["kind"],
			Class: bindery.Class(or(opt["class"], "attended")), Quick: opt["quick"] != "", Retry: verb == "retry",
			Spec: opt["spec"], Address: opt["from"],
		}
	case "progress":
		return sched.Progress{Build: args[0], Attempt: num(t, args[1])}
	case "learn":
		return sched.Learn{Repo: args[0], Kind: opt["kind"], Cost: dur(t, args[1]), Disk: int64(num(t, opt["disk"])) << 30}
	case "ban", "hold", "hold-launches", "hold-until-built", "weight", "quota":
		r := sched.Rule{Kind: sched.RuleKind(verb), Scope: sched.Scope(args[0]), Name: args[1], Reason: opt["reason"]}
		r.Value, _ = strconv.ParseFloat(opt["value"], 64)
		if d := dur(t, opt["in"]); d > 0 {
			r.From = now.Add(d)
		}
		if d := dur(t, opt["for"]); d > 0 {
			r.Until = now.Add(dur(t, opt["in"]) + d)
		}
		return sched.SetRule{Rule: r}
	case "lift":
		return sched.LiftRule{Kind: sched.RuleKind(args[0]), Scope: sched.Scope(args[1]), Name: args[2]}
	case "forgive":
		return sched.Forgive{Key: args[0]}
	case "cancel":
		return sched.Cancel{Build: args[0]}
	case "finish":
		return sched.Finished{Build: args[0], Attempt: num(t, args[1]), Outcome: sched.Outcome(args[2])}
	case "watch":
		return sched.Watch{Build: args[0], Watchers: num(t, args[1])}
	case "ask":
		return sched.AskSession{Session: args[0], Repo: opt["repo"], Owner: opt["owner"], Requester: opt["by"], Wait: opt["wait"] != "", Spec: opt["spec"], Address: opt["from"], RepoQuota: num(t, opt["repoquota"]), Idle: dur(t, opt["idle"]), Age: dur(t, opt["age"])}
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

// config reads name=value for the fields of the policy's numbers.
func config(t *testing.T, opt map[string]string) (c sched.Config) {
	t.Helper()
	v := reflect.ValueOf(&c).Elem()
	for name, text := range opt {
		i := slices.IndexFunc(reflect.VisibleFields(v.Type()), func(f reflect.StructField) bool { return strings.EqualFold(f.Name, name) })
		if i < 0 {
			t.Fatalf("no number %q", name)
		}
		switch f := v.Field(i); f.Kind() {
		case reflect.Float64:
			x, err := strconv.ParseFloat(text, 64)
			if err != nil {
				t.Fatal(err)
			}
			f.SetFloat(x)
		default:
			if f.Type() == reflect.TypeFor[time.Duration]() {
				f.SetInt(int64(dur(t, text)))
				continue
			}
			f.SetInt(int64(num(t, text)))
		}
	}
	return c
}

func or(a, b string) string { return cmp.Or(a, b) }

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
