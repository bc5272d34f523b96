package sched_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bindery-hub/bindery/sched"
)

// TestOff plays the same twice for each number that can be turned off: as it is by default, where the limit shows, and
// turned off, where it does not.
func TestOff(t *testing.T) {
	for name, tt := range map[string]struct {
		with        string // other numbers, so that this one is what shows
		script      string
		bound, free string // what only the default says, what is said only without it
	}{
		"lost=-1":      {"", "up w slots=1; submit a; lost w", "requeue a (lost)", "fail a"},
		"backoff=-1s":  {"", "up w slots=1; submit a; finish a 1 transient", "not before 00:00:05", "start a attempt 2"},
		"remember=-1s": {"", "up w slots=1; submit a; finish a 1 user; submit b key=a", "b is answered by failed a", "queue b"},
		"retries=-1":   {"", "up w slots=1; submit a; finish a 1 user; retry b key=a", "queue b", "b is answered by failed a"},
		"idle=-1":      {"", "up w slots=1; submit a class=background", "", "start a"},
		"longafter=-1s": {"", "up w slots=2; learn r 2h; learn q 2h; submit a repo=r; submit b repo=q",
			"", "start b"},
		"longafter=-1s, by age": {"stall=-1s maxage=-1s", "up w slots=1; submit a; +1m wake", "wake 00:20:00", "wake 00:00:00"},
		"halflife=-1s": {"stall=-1s", "up w slots=1; submit a owner=ben; +90m finish a 1 ok; +2h submit b owner=ann; +1h finish b 1 ok; submit x owner=cid; " +
			"submit d owner=ben; submit c owner=ann; +5m finish x 1 ok", "start d", "start c"},
		"halflife=-1s, while it waits": {"stall=-1s maxage=-1s", "up w slots=1; submit a owner=ann; submit b owner=ann; submit c owner=ben; +5h finish a 1 ok; wake",
			"wake 05:03:45", "wake 05:20:00"},
		"stall=-1s":   {"", "up w slots=1; submit a; +20m", "abort a", ""},
		"maxage=-1s":  {"stall=-1s", "up w slots=2; submit a; +3h", "goes on in the slow lane", ""},
		"slowage=-1s": {"stall=-1s", "up w slots=2; submit a; +3h; +48h", "abort a", ""},
		"isolate=-1s": {"stall=-1s maxage=1h slowage=2h", "up w slots=2; submit a; +1h; +1h; finish a 1 cancelled; submit b key=a", "b is answered by failed a", "queue b"},
		"disk=-1":     {"", "up w slots=2 disk=9; submit a; submit b", "", "start b"},
		"grace=-1s":   {"", "submit a; watch a 1; watch a 0; +1m", "drop a", ""},
		"linger=-1s":  {"stall=-1s guess=24h", "up w slots=1; submit a; submit b; watch a 1; watch a 0; +1m; +20m", "abort a", ""},
		"sessions=-1": {"", "ask a", "admit a", "refuse a"},
		"places=-1":   {"sessions=1", "ask a; ask b wait=yes", "hold b", "refuse b"},
	} {
		t.Run(name, func(t *testing.T) {
			off, _, _ := strings.Cut(name, ",")
			play := func(config string) string {
				p := &player{s: sched.New(sched.Config{}), m: newMirror(), now: start}
				var out []string
				for line := range strings.SplitSeq("config "+config+"; "+tt.script, "; ") {
					out = append(out, p.do(t, line)...)
				}
				return strings.Join(out, "\n") + "\n"
			}
			bound, free := play(tt.with), play(tt.with+" "+off)
			if !strings.Contains(bound, tt.bound) || tt.free != "" && strings.Contains(bound, tt.free) {
				t.Errorf("by default:\n%s", bound)
			}
			if !strings.Contains(free, tt.free) || tt.bound != "" && strings.Contains(free, tt.bound) {
				t.Errorf("turned off:\n%s", free)
			}
		})
	}
}

// TestNothingIsForgotten looks at an hour of slot time a day later: without a half-life it is neither less nor more.
func TestNothingIsForgotten(t *testing.T) {
	p := &player{s: sched.New(sched.Config{HalfLife: -1, Stall: -1}), m: newMirror(), now: start}
	for _, line := range []string{"up w slots=1", "submit a owner=ann", "+1h finish a 1 ok", "+24h"} {
		p.do(t, line)
	}
	for _, f := range p.s.Usage(p.now) {
		if f.Ahead != time.Hour.Seconds() {
			t.Errorf("%+v", f)
		}
	}
}

// TestNeverOff gives what cannot be turned off a number below zero: the default counts. Doing that twice changes nothing.
func TestNeverOff(t *testing.T) {
	want := sched.Config{}.WithDefaults()
	got := sched.Config{
		Attempts: -1, Longest: -1, RepoShare: -1, OwnerShare: -1, RequesterShare: -1, UnattendedShare: -1, Unattended: -1,
		LongShare: -1, Quick: -1, Guess: -1, Popular: -1,
	}.WithDefaults()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	got.Grace = -1
	if diff := cmp.Diff(got, got.WithDefaults()); diff != "" {
		t.Errorf("twice (-once +twice):\n%s", diff)
	}
}
