package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/sched"
)

// policyOf is what the queue goes by with such a section.
func policyOf(t *testing.T, queue string) sched.Config {
	t.Helper()
	var c config
	if err := parseConfig("x.yaml", []byte("queue: {"+queue+"}\nsessions: {max: 7, waiting: -1}\n"), &c); err != nil {
		t.Fatal(err)
	}
	p, err := c.policy()
	if err != nil || p.Sessions != 7 || p.Places != -1 {
		t.Errorf("sessions: %+v, %v", p, err)
	}
	p.Sessions, p.Places = 0, 0
	return p
}

// TestQueueNumbers has each key turn the number of its name and no other, and turn it off where the document says that it
// can be: sched's TestOff shows what comes of that.
func TestQueueNumbers(t *testing.T) {
	for line, want := range map[string]sched.Config{
		"":                            {},
		"attempts: 7":                 {Attempts: 7},
		"lost: 1":                     {Lost: 1},
		"lost: 0":                     {Lost: -1},
		"backoff: 90s":                {Backoff: 90 * time.Second},
		"backoff: 0s":                 {Backoff: -1},
		"remember: 1m":                {Remember: time.Minute},
		"remember: 0s":                {Remember: -1},
		"longest: 1h":                 {Longest: time.Hour},
		"retries: 9":                  {Retries: 9},
		"retries: 0":                  {Retries: -1},
		"half_life: 2h":               {HalfLife: 2 * time.Hour},
		"repo_share: 0.1":             {RepoShare: 0.1},
		"owner_share: 1":              {OwnerShare: 1},
		"requester_share: 0.2":        {RequesterShare: 0.2},
		"unattended_share: 0.3":       {UnattendedShare: 0.3},
		"unattended: 0.02":            {Unattended: 0.02},
		"idle: 2":                     {Idle: 2},
		"idle: 0":                     {Idle: -1},
		"long_after: 1h":              {LongAfter: time.Hour},
		"long_after: -1s":             {LongAfter: -1},
		"long_share: 0.75":            {LongShare: 0.75},
		"quick: 1":                    {Quick: 1},
		"stall: 45m":                  {Stall: 45 * time.Minute},
		"stall: -1s":                  {Stall: -1},
		"max_age: 6h":                 {MaxAge: 6 * time.Hour},
		"max_age: -1h":                {MaxAge: -1},
		"slow_age: 48h":               {SlowAge: 48 * time.Hour},
		"slow_age: -1s":               {SlowAge: -1},
		"isolate: 24h":                {Isolate: 24 * time.Hour},
		"isolate: 0s":                 {Isolate: -1},
		"guess: 2m":                   {Guess: 2 * time.Minute},
		"disk: 1.5G":                  {Disk: 3 << 29},
		"disk: 0":                     {Disk: -1},
		"grace: 5m":                   {Grace: 5 * time.Minute},
		"grace: -1s":                  {Grace: -1},
		"linger: 1h":                  {Linger: time.Hour},
		"linger: -1s":                 {Linger: -1},
		"popular: 2":                  {Popular: 2},
		"owner_sessions: 20":          {OwnerSessions: 20},
		"requester_sessions: 3":       {RequesterSessions: 3},
		"max_age: 48h, slow_age: -1s": {MaxAge: 48 * time.Hour, SlowAge: -1},
	} {
		if diff := cmp.Diff(want, policyOf(t, line)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", line, diff)
		}
	}
}

// TestQueueNumbersAreChecked names the file, the line, the key, what is wrong with it, and what to write.
func TestQueueNumbersAreChecked(t *testing.T) {
	for line, want := range map[string]string{
		"attempts: 0":           "queue.attempts: 0 is out of range: give 1 to 1000000",
		"lost: -1":              "queue.lost: -1 is out of range: give 0 to 1000000",
		"backoff: -1s":          "queue.backoff: -1s is out of range: give 0s to 8760h",
		"backoff: 5":            "cannot unmarshal !!int `5` where it takes a duration such as 90s, 10m or 6h",
		"backoff: 11m":          "queue.backoff: 11m is more than queue.longest (10m), which bounds it: raise both",
		"remember: 1h":          "queue.remember: 1h is more than queue.longest (10m), which bounds it: raise both",
		"longest: 0s":           "queue.longest: 0s is out of range: give 1s to 8760h",
		"retries: few":          "cannot unmarshal !!str `few` into int",
		"half_life: 0s":         "queue.half_life: 0s is out of range: give 1m to 8760h",
		"half_life: -1s":        "queue.half_life: -1s is out of range",
		"repo_share: 0":         "queue.repo_share: 0 is out of range: give 0.0001 to 1",
		"owner_share: 50":       "queue.owner_share: 50 is out of range: give 0.0001 to 1",
		"requester_share: .nan": "queue.requester_share: NaN is out of range",
		"unattended: -0.5":      "queue.unattended: -0.5 is out of range",
		"idle: -2":              "queue.idle: -2 is out of range: give 0 to 1000000",
		"long_after: 0s":        "queue.long_after: 0s is neither a time nor never: give 1s to 8760h, or -1s for never",
		"quick: 0":              "queue.quick: 0 is out of range: give 1 to 1000000",
		"stall: 5ms":            "queue.stall: 5ms is out of range: give 1s to 8760h",
		"max_age: 48h":          "queue.max_age: 48h is more than queue.slow_age (24h), so that the slow lane would stop what it is for: raise both",
		"slow_age: 10000h":      "queue.slow_age: 10000h is out of range: give 1s to 8760h",
		"isolate: -1s":          "queue.isolate: -1s is out of range: give 0s to 8760h",
		"guess: -1s":            "queue.guess: -1s is out of range: give 1s to 8760h",
		"disk: 9999T":           "queue.disk: 9999T is out of range: give 0 to 1024T",
		"grace: 0s":             "queue.grace: 0s is neither a time nor never",
		"popular: 0":            "queue.popular: 0 is out of range",
		"owner_sessions: 0":     "queue.owner_sessions: 0 is out of range",
	} {
		t.Run(line, func(t *testing.T) {
			err := parseConfig("x.yaml", []byte("slots: 2\nqueue:\n  linger: 5m\n  "+line+"\n"), new(config))
			e := bindery.AsError(err)
			if err == nil || e.Kind != bindery.ErrInvalid || e.Remedy == "" || !strings.HasPrefix(e.Msg, "x.yaml: line 4: "+want) {
				t.Errorf("%v; want %q", err, want)
			}
		})
	}
	// Two at once are both named.
	err := parseConfig("x.yaml", []byte("queue:\n  guess: 0s\n  quick: 0\n"), new(config))
	if err == nil || !strings.Contains(err.Error(), "line 2: queue.guess: ") || !strings.Contains(err.Error(), "line 3: queue.quick: ") {
		t.Error(err)
	}
}

var numberRow = regexp.MustCompile("(?m)^\\| `queue\\.([a-z_]+)` \\| ([^|]+) \\|")

// TestQueueDefaultsAreDocumented reads the defaults of docs/queue.md as a configuration: they are the queue's.
func TestQueueDefaultsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/queue.md")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, m := range numberRow.FindAllStringSubmatch(string(text), -1) {
		if value := strings.Trim(m[2], "` "); value != "none" {
			lines = append(lines, m[1]+": "+value)
		}
	}
	if diff := cmp.Diff(sched.Config{}.WithDefaults(), policyOf(t, strings.Join(lines, ", ")).WithDefaults()); len(lines) < 20 || diff != "" {
		t.Errorf("%d numbers (-queue +document):\n%s", len(lines), diff)
	}
}

// TestSimTakesTheNumbers has the simulator go by the file that the hub would be started with, but for what a flag says.
func TestSimTakesTheNumbers(t *testing.T) {
	var file config
	if err := parseConfig("x.yaml", []byte("queue: {repo_share: 0.1, max_age: 2h}\nsessions: {waiting: 5}\n"), &file); err != nil {
		t.Fatal(err)
	}
	for flag, want := range map[string]time.Duration{"": 2 * time.Hour, "90m": 90 * time.Minute} {
		c := simRunCmd{From: "2019-03-17", For: "1h", MaxAge: flag}
		cfg, err := c.config(file)
		if diff := cmp.Diff(sched.Config{RepoShare: 0.1, MaxAge: want, Places: 5}, cfg.Sched); err != nil || diff != "" {
			t.Errorf("--max-age %q: %v (-want +got):\n%s", flag, err, diff)
		}
	}
}
