package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"iter"
	"net/http/httptest"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/web"
)

// An office is a queue, its rules and its history, as a hub's dispatcher and store would have them.
type office struct {
	queue bindery.Queue
	looks func() bindery.Queue // nil: the queue stays as it is
	rules []bindery.Rule
	did   []string

	sessions []bindery.Session
}

func (o *office) Queue(context.Context) (bindery.Queue, error) {
	if o.looks != nil {
		return o.looks(), nil
	}
	return o.queue, nil
}
func (o *office) CancelBuild(_ context.Context, id, who, reason string) error {
	o.did = append(o.did, "cancel "+id+" by "+who+": "+reason)
	return nil
}
func (o *office) RetryBuild(ctx context.Context, id, who, reason string) (bindery.Build, error) {
	o.did = append(o.did, "retry "+id+" by "+who+": "+reason)
	b, err := o.Build(ctx, id)
	b.State = bindery.BuildQueued
	return b, err
}
func (o *office) Rules(context.Context) ([]bindery.Rule, error) { return slices.Clone(o.rules), nil }
func (o *office) SetRule(_ context.Context, r bindery.Rule) error {
	o.rules = append(o.rules, r)
	return nil
}
func (o *office) LiftRule(_ context.Context, r bindery.Rule, who, reason string) error {
	o.rules = slices.DeleteFunc(o.rules, func(x bindery.Rule) bool { return reflect.DeepEqual(x, r) })
	o.did = append(o.did, "lift "+r.Name+" by "+who+": "+reason)
	return nil
}
func (o *office) Past(context.Context, int) ([]bindery.Build, error) { return nil, nil }
func (o *office) Audit(context.Context, bindery.AuditQuery) ([]bindery.Audit, error) {
	return []bindery.Audit{{Time: time.Unix(1e9, 0), Who: "local:ann", Did: "set ban", What: "repository x", Reason: "it\x1b[2J floods"}}, nil
}
func (o *office) Resolve(_ context.Context, src bindery.Source) (bindery.Source, error) {
	return src, nil
}
func (o *office) Submit(context.Context, bindery.Ask) (bindery.Build, error) {
	return bindery.Build{}, nil
}
func (o *office) Build(_ context.Context, id string) (bindery.Build, error) {
	for _, b := range slices.Concat(o.queue.Running, o.queue.Waiting) {
		if b.ID == id {
			return b.Build, nil
		}
	}
	if id == "b-old" {
		return bindery.Build{ID: id, State: bindery.BuildFailed, Err: bindery.Errorf(bindery.ErrStep, bindery.User, "Fix it.", "It failed:\none\n\ttwo")}, nil
	}
	return bindery.Build{}, bindery.Errorf(bindery.ErrNotFound, bindery.User, "Check its id.", "There is no build %s", id)
}

// An archive is the office as a store: Events of a store is another method than Events of a dispatcher.
type archive struct{ *office }

func (archive) Events(context.Context, string, int64, int) ([]bindery.Event, error) {
	return []bindery.Event{{Seq: 1, Message: "Step 1\n"}, {Seq: 2, Message: "Step 2\n"}}, nil
}

func (o *office) Events(context.Context, string, int64) iter.Seq2[bindery.Event, error] {
	began := time.Unix(1e9, 0).UTC()
	return func(yield func(bindery.Event, error) bool) {
		_ = yield(bindery.Event{Seq: 1, Phase: bindery.PhaseBuilding, Step: &bindery.Step{ID: "s", Name: "Install \x1b[2Jnumpy", Started: began, Ended: began.Add(2 * time.Second)}}, nil) &&
			yield(bindery.Event{Seq: 2, Phase: bindery.PhaseFailed, Err: bindery.Errorf(bindery.ErrStep, bindery.User, "Fix it.", "It failed")}, nil)
	}
}
func (o *office) Watch(string) func() { return func() {} }
func (o *office) Standings(context.Context, string) iter.Seq2[bindery.Standing, error] {
	return func(func(bindery.Standing, error) bool) {}
}
func (o *office) Launch(context.Context, bindery.Build, bindery.Ask) (bindery.Session, error) {
	return bindery.Session{}, nil
}
func (o *office) Session(_ context.Context, id string) (bindery.Session, error) {
	return bindery.Session{ID: id}, nil
}
func (o *office) Sessions(context.Context) ([]bindery.Session, error) { return o.sessions, nil }
func (o *office) StopSession(context.Context, string, string) error   { return nil }
func (o *office) OustSession(_ context.Context, id, who, reason string) error {
	o.did = append(o.did, "stop "+id+" by "+who+": "+reason)
	return nil
}

func busyOffice(at time.Time) *office {
	commit := strings.Repeat("0123456789", 4)
	build := func(id, repo string, state bindery.BuildState, age time.Duration) bindery.Build {
		return bindery.Build{ID: id, Source: bindery.Source{Provider: "git", URL: "https://github.com/" + repo, Ref: "main", Commit: commit},
			Class: bindery.Attended, State: state, Created: at.Add(-age)}
	}
	running := build("b-1", "jupyterlab/jupyterlab-demo", bindery.BuildRunning, 700*time.Second)
	running.Attempt, running.Worker, running.Started = 1, "w1", at.Add(-600*time.Second)
	return &office{queue: bindery.Queue{
		At: at, Slots: 1, Taken: 1, Sessions: 7,
		Running: []bindery.QueuedBuild{{Build: running, Watchers: 136, Age: 600 * time.Second, Expected: 720 * time.Second}},
		Waiting: []bindery.QueuedBuild{{
			Build: build("b-2", "ann/course", bindery.BuildQueued, 40*time.Second), Asker: "192.0.2.0/24", Watchers: 2, Age: 40 * time.Second, Expected: 90 * time.Second,
			Standing: bindery.Standing{Position: 1, Reason: "Every slot is taken (1); this build is next", From: at.Add(60 * time.Second), Likely: at.Add(120 * time.Second), To: at.Add(300 * time.Second)},
		}},
		More:     3,
		Shares:   []bindery.Share{{Scope: "owner", Name: "gh/jupyterlab", Class: bindery.Attended, Running: 1, Share: 1, Weight: 1}},
		Failures: []bindery.RecentFailure{{Build: "b-old", Source: running.Source, Row: 2, Until: at.Add(time.Minute), Err: bindery.Errorf(bindery.ErrStep, bindery.User, "", "\"Build and install requirements.txt\" \x1b[31mfailed with exit code 1:\nCollecting\nrequirements.txt, line 1: numpyy: the index has no such package.")}},
		Rules:    []bindery.Rule{{Kind: "hold", Scope: "owner", Name: "gh/x", Reason: "a course", Who: "local:ann"}},
	}}
}

// serveOffice returns the flags by which commands find it.
func serveOffice(t *testing.T, o *office) []string {
	t.Helper()
	s, err := web.New(web.Config{
		Builds: o, Sessions: o, Queue: o, History: archive{o}, Secret: []byte(strings.Repeat("k", 32)), SessionURL: "http://127.0.0.1:1",
		Tokens: []web.Token{{Hash: web.HashToken("t"), Name: "ops"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewServer(s.Public())
	t.Cleanup(ts.Close)
	return []string{"--hub", ts.URL, "--token", "t"}
}

func TestQueueCommand(t *testing.T) {
	at := time.Now().UTC().Truncate(time.Second)
	o := busyOffice(at)
	flags := serveOffice(t, o)
	status, out, complaints := try(t, append([]string{"queue"}, flags...)...)
	if status != exitOK {
		t.Fatal(complaints)
	}
	golden(t, "queue.txt", out)
	status, out, _ = try(t, append([]string{"queue", "--json"}, flags...)...)
	var got bindery.Queue
	if err := json.Unmarshal([]byte(out), &got); status != exitOK || err != nil || got.More != 3 || got.Waiting[0].Standing != o.queue.Waiting[0].Standing {
		t.Errorf("%d %v %s", status, err, out)
	}
}

// TestQueueWatch looks at a queue that changes with every second look: each change is printed once, until the command is
// interrupted.
func TestQueueWatch(t *testing.T) {
	o := busyOffice(time.Now().UTC().Truncate(time.Second))
	var looks atomic.Int32
	o.looks = func() bindery.Queue {
		q := o.queue
		q.More = int(looks.Add(1)-1) / 2
		return q
	}
	flags := serveOffice(t, o)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	out, in := io.Pipe()
	var complaints bytes.Buffer
	ended := make(chan int, 1)
	go func() {
		args := append([]string{"queue", "--watch", "--json"}, flags...)
		ended <- run(ctx, args, func(string) string { return "" }, strings.NewReader(""), in, &complaints)
		in.Close()
	}()
	lines := json.NewDecoder(out)
	for want := range 3 {
		var q bindery.Queue
		if err := lines.Decode(&q); err != nil || q.More != want || q.Running[0].Watchers != 136 {
			t.Fatalf("line %d: %+v, %v %s", want, q, err, &complaints)
		}
	}
	interrupt()
	if status := <-ended; status == exitOK || looks.Load() < 5 {
		t.Errorf("status %d after %d looks", status, looks.Load())
	}
}

func TestImagesTable(t *testing.T) {
	var out strings.Builder
	if err := printImages(&out, []bindery.ImageRecord{
		{Image: "bindery/1", Source: bindery.Source{Provider: "git", URL: "https://github.com/o/r", Commit: strings.Repeat("0123456789", 4)}},
		{Image: "bindery/2", Source: bindery.Source{Provider: bindery.ProviderLocal, URL: "/home/ann/course"}},
	}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{" gh/o/r@012345678901 ", " /home/ann/course "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no image of%sin\n%s", want, &out)
		}
	}
}

func TestStartsIn(t *testing.T) {
	now := time.Now()
	at := func(s int) time.Time { return now.Add(time.Duration(s) * time.Second) }
	for want, st := range map[string]bindery.Standing{
		"unknown": {}, "0.0s": {From: at(-9), To: at(-5)}, "within 40s": {From: at(-9), To: at(40)}, "12s to 40s": {From: at(12), To: at(40)},
	} {
		if got := startsIn(st, now); got != want {
			t.Errorf("startsIn says %q, want %q", got, want)
		}
	}
}

func TestBuildsCommands(t *testing.T) {
	o := busyOffice(time.Now().UTC().Truncate(time.Second))
	flags := serveOffice(t, o)
	for _, c := range []struct {
		args   string
		status int
		want   string // a pattern
	}{
		{"builds ls", 0, `(?s)BUILD.*b-2 +queued +gh/ann/course@012345678901 .*b-1 +running`},
		{"builds ls --json", 0, `"id": "b-1"`},
		{"builds show b-2", 0, `(?s)state +queued.*position +1\nwaits +Every slot is taken \(1\); this build is next\nstarts +`},
		{"builds show b-1", 0, `(?s)attempt +1 on w1.*watchers +136`},
		{"builds show b-1 --json", 0, `"attempt": 1`},
		{"builds show b-old", 0, `(?s)failed +It failed\n +one\n +two\nremedy +Fix it.\nfault +user`},
		{"builds show none", 1, `There is no build none`},
		{"builds cancel b-1 b-2 --reason stuck", 0, `b-1 is cancelled\nb-2 is cancelled`},
		{"builds retry b-old --reason mended", 0, `b-old is queued`},
		{"builds logs b-1", 0, `Step 1\nStep 2\n$`},
		{"builds timeline b-1", 0, `Install .*numpy +█+ +2\.0s\n$`},
		{"audit", 0, `2001-09-09T01:46:40Z +local:ann +set ban +repository x +it floods`},
		{"audit --json", 0, `"who": "local:ann"`},
	} {
		status, out, complaints := try(t, append(strings.Fields(c.args), flags...)...)
		if status != c.status || !regexp.MustCompile(c.want).MatchString(out+complaints) {
			t.Errorf("%s: %d\n%s%s", c.args, status, out, complaints)
		}
		if strings.Contains(out, "\x1b") {
			t.Errorf("%s prints control characters", c.args)
		}
	}
	want := []string{"cancel b-1 by token:ops: stuck", "cancel b-2 by token:ops: stuck", "retry b-old by token:ops: mended"}
	if d := cmp.Diff(want, o.did); d != "" {
		t.Error(d)
	}
}

// TestSessionsStop chooses sessions by what they are of and by how old they are.
func TestSessionsStop(t *testing.T) {
	o := busyOffice(time.Now())
	for id, repo := range map[string]string{"s1": "ann/a", "s2": "ann/b", "s3": "bob/c"} {
		age := time.Hour
		if id == "s2" {
			age = time.Minute
		}
		src := bindery.Source{Provider: bindery.ProviderGit, URL: "https://github.com/" + repo, Ref: "main"}
		o.sessions = append(o.sessions, bindery.Session{ID: id, Source: src, State: bindery.SessionReady, Created: time.Now().Add(-age)})
	}
	slices.SortFunc(o.sessions, func(a, b bindery.Session) int { return strings.Compare(a.ID, b.ID) })
	flags := serveOffice(t, o)
	for _, c := range []struct {
		args    string
		status  int
		printed string
		stopped []string
	}{
		{"--repo gh/ann/*", 0, "s1\ns2\n", []string{"s1", "s2"}},
		{"--repo https://github.com/bob/c", 0, "s3\n", []string{"s3"}},
		{"--repo ^gh/.*/main --older-than 30m", 0, "s1\ns3\n", []string{"s1", "s3"}},
		{"--older-than 30m", 0, "s1\ns3\n", []string{"s1", "s3"}},
		{"--older-than 30m --dry-run", 0, "s1\ns3\n", nil},
		{"--older-than 24h", 0, "", nil},
		{"s2 s3", 0, "", []string{"s2", "s3"}},
		{"", 2, "", nil},
		{"s1 --older-than 1m", 2, "", nil},
		{"s1 --dry-run", 2, "", nil},
		{"--older-than -1m", 2, "", nil},
		{"--repo 192.0.2.0/24", 2, "", nil},
		{"--repo *", 1, "", nil},
	} {
		o.did = nil
		status, out, complaints := try(t, slices.Concat([]string{"sessions", "stop", "--reason", "over"}, strings.Fields(c.args), flags)...)
		var want []string
		for _, id := range c.stopped {
			want = append(want, "stop "+id+" by token:ops: over")
		}
		if status != c.status || out != c.printed || !slices.Equal(o.did, want) {
			t.Errorf("%s: %d, %q, did %q\n%s", c.args, status, out, o.did, complaints)
		}
	}
}

func TestRuleCommands(t *testing.T) {
	o := busyOffice(time.Now())
	flags := serveOffice(t, o)
	soon := time.Now().Add(48 * time.Hour).Format("2006-01-02T15:04:05")
	for _, c := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"ban", "add", "gh/jupyterlab/jupyterlab-demo", "--reason", "floods the queue", "--message", "Back at noon.", "--for", "2h"}, 0, `^ban of the repository gh/jupyterlab/jupyterlab-demo, until 20`},
		{[]string{"hold", "add", "gh/x/*", "--reason", "look at it"}, 0, `^hold of the owner gh/x/\*, until it is lifted\n$`},
		{[]string{"quota", "add", "192.0.2.0/24", "5", "--reason", "r", "--json"}, 0, `"value": 5`},
		{[]string{"weight", "add", "gh/x/*", "2.5", "--reason", "r"}, 0, `^weight of the owner`},
		{[]string{"weight", "add", "gh/x/y", "2.5", "--reason", "r"}, 1, `Weigh its owner`},
		{[]string{"ban", "add", "gh/x/y"}, 2, `--reason`},
		{[]string{"hold", "add", "--until-built", "gh/x/y", "--reason", "12 h build"}, 0, `^hold-until-built of the repository gh/x/y, until it is built or lifted\nbuilds gh/x/y/HEAD\n$`},
		{[]string{"hold", "rm", "--until-built", "gh/x/y"}, 0, `^$`},
		{[]string{"hold", "add", "--until-built", "--launches", "gh/x/y", "--reason", "r"}, 2, `can't be used together`},
		{[]string{"quota", "add", "gh/org/*", "300", "--reason", "a course", "--from", "2100-12-01T09:00", "--for", "3h", "--prebuild", "gh/org/repo/main"}, 1, `within two years`},
		{[]string{"quota", "add", "gh/org/*", "300", "--reason", "a course", "--from", soon, "--for", "3h", "--prebuild", "gh/org/repo/main"}, 0, `from 20.* until 20.*\nbuilds gh/org/repo/main\n$`},
		{[]string{"quota", "add", "gh/org/*", "50", "--reason", "always"}, 0, `until it is lifted`},
		{[]string{"quota", "add", "gh/org/*", "50", "--reason", "r", "--until", soon, "--for", "1h"}, 2, `--for`},
		{[]string{"quota", "add", "gh/org/*", "50", "--reason", "r", "--from", "noon"}, 2, `noon`},
		{[]string{"quota", "ls"}, 0, `quota +gh/org/\* +300 +from `},
		{[]string{"quota", "rm", "gh/org/*"}, 1, `--from none, or --from ` + soon},
		{[]string{"quota", "rm", "gh/org/*", "--from", soon}, 0, `^$`},
		{[]string{"quota", "rm", "gh/org/*"}, 0, `^$`},
		{[]string{"ban", "add", "^gh/(jupyterlab|ann)/", "--reason", "r", "--dry-run"}, 0, `^the spec \^gh/\(jupyterlab\|ann\)/: now 1 running and 1 waiting builds`},
		{[]string{"ban", "add", "^gh/(", "--reason", "r"}, 1, `not a regular expression`},
		{[]string{"ban", "add", "^jupyterlab/jupyterlab-demo.*", "--reason", "r", "--dry-run"}, 1, `matches no spec(?s:.*)begin it with \^gh/`},
		{[]string{"ban", "add", "^jupyterlab/jupyterlab-demo.*", "--reason", "r"}, 1, `matches no spec(?s:.*)begin it with \^gh/`},
		{[]string{"ban", "add", "198.51.0.0/16", "--reason", "r"}, 0, `^ban of the network 198.51.0.0/16`},
		{[]string{"ban", "rm", "198.51.0.0/16"}, 0, `^$`},
		{[]string{"ban", "add", "*", "--reason", "r"}, 1, `is not a pattern`},
		{[]string{"ban", "ls"}, 0, `ban +gh/jupyterlab/jupyterlab-demo +in 1[12][09]m`},
		{[]string{"weight", "ls"}, 0, `weight +gh/x/\* +2.5 +when lifted +token:ops +r\n$`},
		{[]string{"quota", "ls", "--json"}, 0, `"pattern": "192.0.2.0/24"`},
		{[]string{"ban", "rm", "https://github.com/jupyterlab/jupyterlab-demo", "--reason", "it is noon"}, 0, `^$`},
		{[]string{"ban", "rm", "gh/jupyterlab/jupyterlab-demo"}, 1, `bindery ban ls`},
	} {
		status, out, complaints := try(t, append(c.args, flags...)...)
		if status != c.status || !regexp.MustCompile(c.want).MatchString(out+complaints) {
			t.Errorf("%q: %d\n%s%s", c.args, status, out, complaints)
		}
	}
	if len(o.rules) != 3 || len(o.did) != 5 {
		t.Errorf("rules %+v, did %v", o.rules, o.did)
	}
}

func TestOperatingWithoutAHub(t *testing.T) {
	for _, args := range [][]string{{"queue"}, {"builds", "ls"}, {"ban", "ls"}, {"audit"}} {
		status, _, complaints := try(t, append([]string{"--state-dir", t.TempDir()}, args...)...)
		if status != exitFailed || !strings.Contains(complaints, "bindery serve") {
			t.Errorf("%v: %d %s", args, status, complaints)
		}
	}
}
