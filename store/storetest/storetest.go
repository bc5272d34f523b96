// Package storetest is what every store must do, as a suite of tests.
package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	bindery "github.com/bindery-hub/bindery"
)

// Store is what is tested.
type Store interface {
	Commit(ctx context.Context, c bindery.Changes) error
	Live(ctx context.Context, since time.Time) (bindery.Live, error)
	Build(ctx context.Context, id string) (bindery.Build, error)
	Events(ctx context.Context, build string, after int64, limit int) ([]bindery.Event, error)
	Known(ctx context.Context, key string) (bindery.Known, error)
	Session(ctx context.Context, id string) (bindery.Session, error)
}

// At is a time for rows; the suite counts from it.
var At = time.Date(2026, 3, 4, 5, 6, 7, 8000, time.UTC)

// Run tests the stores that open makes, each of them empty.
func Run(t *testing.T, open func(t *testing.T) Store) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Store)
	}{
		{"Builds", builds}, {"States", states}, {"OnePerKey", onePerKey}, {"Events", events}, {"EventsHaveNoGaps", gaps},
		{"Attempts", attempts}, {"Live", live}, {"Known", known}, {"Sessions", sessions}, {"AllOrNothing", allOrNothing},
		{"NotFound", missing}, {"Together", together}, {"Queue", queue}, {"Workers", workers},
		{"Generations", generations}, {"Images", images}, {"Audit", audit},
		{"Spans", spans},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

// Build returns a queued build.
func Build(id, key string) bindery.Build {
	return bindery.Build{
		ID: id, Key: key, Class: bindery.Attended, State: bindery.BuildQueued, Created: At, Requester: "192.0.2.0/24", Evidence: "a browser's fetch metadata",
		Source: bindery.Source{Provider: bindery.ProviderGit, URL: "https://example.org/o/r", Ref: "main", Commit: "0123456789012345678901234567890123456789"},
	}
}

// InState returns b as it may be stored in a state.
func InState(b bindery.Build, state bindery.BuildState) bindery.Build {
	b.State = state
	if state != bindery.BuildQueued {
		b.Attempt, b.Worker, b.Started = 1, "w", At.Add(time.Second)
	}
	if state.Ended() {
		b.Ended = At.Add(time.Minute)
	}
	if state == bindery.BuildSucceeded {
		b.Result = &bindery.BuildResult{Image: "bindery/x", Seconds: map[string]float64{"solve": 1.5}}
	}
	if state == bindery.BuildFailed {
		b.Err = bindery.Errorf(bindery.ErrStep, bindery.User, "Mend it.", "postBuild ended with exit code 1")
		b.Row, b.Charged, b.Until = 2, 1, At.Add(2*time.Minute)
	}
	return b
}

func commit(t *testing.T, s Store, c bindery.Changes) {
	t.Helper()
	if err := s.Commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func builds(t *testing.T, s Store) {
	for i, state := range bindery.BuildStates() {
		want := InState(Build(fmt.Sprint("b", i), fmt.Sprint("k", i)), state)
		commit(t, s, bindery.Changes{Builds: []bindery.Build{want}})
		got, err := s.Build(t.Context(), want.ID)
		if err != nil {
			t.Fatal(err)
		}
		same(t, string(state), got, want)
	}
}

// states puts a build through its moves, and tries rows that make no sense.
func states(t *testing.T, s Store) {
	for _, from := range bindery.BuildStates() {
		for _, to := range bindery.BuildMoves(from) {
			b := Build(fmt.Sprintf("%s-%s", from, to), fmt.Sprintf("%s-%s", from, to))
			commit(t, s, bindery.Changes{Builds: []bindery.Build{InState(b, from)}})
			commit(t, s, bindery.Changes{Builds: []bindery.Build{InState(b, to)}})
			got, err := s.Build(t.Context(), b.ID)
			if err != nil || got.State != to {
				t.Errorf("from %s to %s: %s, %v", from, to, got.State, err)
			}
		}
	}
	for name, spoil := range map[string]func(*bindery.Build){
		"unknown state":           func(b *bindery.Build) { b.State = "lost" },
		"unknown class":           func(b *bindery.Build) { b.Class = "vip" },
		"ended without a time":    func(b *bindery.Build) { b.State = bindery.BuildCancelled },
		"queued with an end":      func(b *bindery.Build) { b.Ended = At },
		"running without attempt": func(b *bindery.Build) { b.State, b.Worker = bindery.BuildRunning, "w" },
		"running nowhere":         func(b *bindery.Build) { b.State, b.Attempt = bindery.BuildRunning, 1 },
		"failed without an error": func(b *bindery.Build) { *b = InState(*b, bindery.BuildFailed); b.Err = nil },
		"succeeded with no image": func(b *bindery.Build) { *b = InState(*b, bindery.BuildSucceeded); b.Result = nil },
		"charged more than tried": func(b *bindery.Build) { b.Charged = 1 },
	} {
		b := Build("bad", "bad")
		spoil(&b)
		if err := s.Commit(t.Context(), bindery.Changes{Builds: []bindery.Build{b}}); err == nil {
			t.Errorf("%s was stored", name)
		}
	}
}

func onePerKey(t *testing.T, s Store) {
	commit(t, s, bindery.Changes{Builds: []bindery.Build{Build("a", "k")}})
	if err := s.Commit(t.Context(), bindery.Changes{Builds: []bindery.Build{Build("b", "k")}}); err == nil {
		t.Error("two builds of one key are queued")
	}
	commit(t, s, bindery.Changes{Builds: []bindery.Build{InState(Build("a", "k"), bindery.BuildCancelled), Build("b", "k")}})
}

func line(seq int64) bindery.Event {
	return bindery.Event{Seq: seq, Time: At.Add(time.Duration(seq) * time.Millisecond), Phase: bindery.PhaseBuilding, Message: fmt.Sprintf("line %d\n", seq)}
}

func lines(from, to int64) (out []bindery.Event) {
	for i := from; i <= to; i++ {
		out = append(out, line(i))
	}
	return out
}

func events(t *testing.T, s Store) {
	all := lines(1, 10)
	all[3].Step = &bindery.Step{ID: "sha256:1", Name: "apt-get install", Started: At, Total: 7}
	all[4].Plan = json.RawMessage(`{"pack":"python"}`)
	all[8].Message = "nul \x00, é, \"quotes\"\r\n"
	all[9] = bindery.Event{Seq: 10, Time: At, Phase: bindery.PhaseFailed, Err: bindery.Errorf(bindery.ErrStep, bindery.User, "r", "m")}
	commit(t, s, bindery.Changes{
		Builds: []bindery.Build{Build("a", "k"), Build("b", "l")},
		Tails:  []bindery.Tail{{Build: "a", Events: all[:4]}, {Build: "b", Events: lines(1, 2)}},
	})
	commit(t, s, bindery.Changes{Tails: []bindery.Tail{{Build: "a", Events: all[4:]}}})
	for _, c := range []struct {
		after int64
		limit int
		want  []bindery.Event
	}{{0, 100, all}, {4, 3, all[4:7]}, {9, 3, all[9:]}, {10, 3, nil}} {
		got, err := s.Events(t.Context(), "a", c.after, c.limit)
		if err != nil {
			t.Fatal(err)
		}
		same(t, fmt.Sprintf("events after %d", c.after), got, c.want)
	}
}

func gaps(t *testing.T, s Store) {
	commit(t, s, bindery.Changes{Builds: []bindery.Build{Build("a", "k")}, Tails: []bindery.Tail{{Build: "a", Events: lines(1, 3)}}})
	for name, tail := range map[string][]bindery.Event{
		"again": lines(1, 3), "a gap before": lines(5, 6), "a gap inside": {line(4), line(6)},
	} {
		if err := s.Commit(t.Context(), bindery.Changes{Tails: []bindery.Tail{{Build: "a", Events: tail}}}); err == nil {
			t.Errorf("stored with %s", name)
		}
	}
	if err := s.Commit(t.Context(), bindery.Changes{Tails: []bindery.Tail{{Build: "nobody", Events: lines(1, 1)}}}); err == nil {
		t.Error("stored events of no build")
	}
}

// attempts checks that what was read of a worker's events is kept per attempt.
func attempts(t *testing.T, s Store) {
	b := InState(Build("a", "k"), bindery.BuildRunning)
	commit(t, s, bindery.Changes{Builds: []bindery.Build{b}, Tails: []bindery.Tail{{Build: "a", Attempt: 1, Read: 30, Events: lines(1, 3)}}})
	read := func() (seq, read int64) {
		l, err := s.Live(t.Context(), At)
		if err != nil || len(l.Builds) != 1 {
			t.Fatal(l, err)
		}
		return l.Builds[0].Seq, l.Builds[0].Read
	}
	if seq, n := read(); seq != 3 || n != 30 {
		t.Errorf("seq %d, read %d; want 3, 30", seq, n)
	}
	b.Requester = "somebody else" // never changes
	commit(t, s, bindery.Changes{Builds: []bindery.Build{b}})
	if seq, n := read(); seq != 3 || n != 30 {
		t.Errorf("after an update: seq %d, read %d; want 3, 30", seq, n)
	}
	b.Attempt = 2
	commit(t, s, bindery.Changes{Builds: []bindery.Build{b}, Tails: []bindery.Tail{{Build: "a", Attempt: 1, Read: 31, Events: lines(4, 4)}}})
	if seq, n := read(); seq != 4 || n != 0 {
		t.Errorf("after a new attempt: seq %d, read %d; want 4, 0", seq, n)
	}
}

func live(t *testing.T, s Store) {
	var want bindery.Live
	// Ids that sort backwards: the order is that of submission.
	for i, state := range bindery.BuildStates() {
		b := InState(Build(fmt.Sprint("b", 9-i), fmt.Sprint("k", i)), state)
		commit(t, s, bindery.Changes{Builds: []bindery.Build{b}})
		if !state.Ended() {
			want.Builds = append(want.Builds, bindery.LiveBuild{Build: b})
		}
		if state == bindery.BuildFailed {
			want.Failed = append(want.Failed, b)
		}
	}
	old := InState(Build("old", "old"), bindery.BuildFailed)
	old.Until = At
	better := InState(Build("better", "better"), bindery.BuildFailed)
	commit(t, s, bindery.Changes{
		Builds: []bindery.Build{old, better, InState(Build("best", "better"), bindery.BuildSucceeded)},
		Known:  []bindery.Known{{Key: "better", Build: "best", Result: bindery.BuildResult{Image: "bindery/x"}}},
	})
	got, err := s.Live(t.Context(), At)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "live", got, want)
}

func known(t *testing.T, s Store) {
	k := bindery.Known{Key: "k", Build: "a", Result: bindery.BuildResult{Image: "bindery/1", Generation: "g", Steps: bindery.Steps{Run: 3}}}
	commit(t, s, bindery.Changes{Builds: []bindery.Build{InState(Build("a", "k"), bindery.BuildSucceeded)}, Known: []bindery.Known{k}})
	got, err := s.Known(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "known", got, k)
	k.Result.Image = "bindery/2"
	commit(t, s, bindery.Changes{Known: []bindery.Known{k}})
	if got, err = s.Known(t.Context(), "k"); err != nil || got.Result.Image != "bindery/2" {
		t.Errorf("got %v, %v", got, err)
	}
	commit(t, s, bindery.Changes{Forget: []string{"k", "never known"}})
	if _, err = s.Known(t.Context(), "k"); !errors.Is(err, bindery.ErrNotFound) {
		t.Errorf("forgotten: %v", err)
	}
}

// Session returns a session as it may be stored in a state.
func Session(id string, state bindery.SessionState) bindery.Session {
	s := bindery.Session{
		ID: id, Build: "a", Image: "bindery/x", State: state, Token: "secret", Created: At, Request: "r-" + id,
		Source: bindery.Source{Provider: bindery.ProviderGit, URL: "https://example.org/o/r"},
		Limits: bindery.Limits{Memory: 1 << 30, CPU: 0.5, Idle: time.Minute},
	}
	if state != bindery.SessionPending {
		s.Address, s.Ready, s.Active = "10.64.0.2:8888", At.Add(time.Second), At.Add(2*time.Second)
	}
	if state == bindery.SessionEnded {
		s.Ended, s.Reason, s.Exit = At.Add(time.Hour), "it ended", &bindery.Exit{Code: 137, OutOfMemory: true, Time: At.Add(time.Hour)}
	}
	return s
}

func sessions(t *testing.T, s Store) {
	var alive []bindery.Session
	for i, state := range bindery.SessionStates() {
		want := Session(fmt.Sprintf("s-%d", i), state)
		commit(t, s, bindery.Changes{Sessions: []bindery.Session{want}})
		got, err := s.Session(t.Context(), want.ID)
		if err != nil {
			t.Fatal(err)
		}
		same(t, string(state), got, want)
		if state != bindery.SessionEnded {
			alive = append(alive, want)
		}
		for _, to := range bindery.SessionMoves(state) {
			id := fmt.Sprintf("%s-%s", state, to)
			commit(t, s, bindery.Changes{Sessions: []bindery.Session{Session(id, state)}})
			commit(t, s, bindery.Changes{Sessions: []bindery.Session{Session(id, to)}})
			commit(t, s, bindery.Changes{Sessions: []bindery.Session{Session(id, bindery.SessionEnded)}})
		}
	}
	l, err := s.Live(t.Context(), At)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "live", l.Sessions, alive)
	unended, homeless, unknown := Session("bad", bindery.SessionEnded), Session("bad", bindery.SessionReady), Session("bad", "asleep")
	unended.Ended, homeless.Address = time.Time{}, ""
	for _, bad := range []bindery.Session{unended, homeless, unknown} {
		if err := s.Commit(t.Context(), bindery.Changes{Sessions: []bindery.Session{bad}}); err == nil {
			t.Errorf("stored %+v", bad)
		}
	}
}

func allOrNothing(t *testing.T, s Store) {
	err := s.Commit(t.Context(), bindery.Changes{
		Builds:   []bindery.Build{Build("a", "k")},
		Tails:    []bindery.Tail{{Build: "a", Events: lines(1, 3)}},
		Sessions: []bindery.Session{Session("s", bindery.SessionReady), Session("s2", "asleep")},
	})
	if err == nil {
		t.Fatal("a bad row was stored")
	}
	l, err := s.Live(t.Context(), At)
	if err != nil || len(l.Builds)+len(l.Sessions) != 0 {
		t.Errorf("half a transaction is there: %+v, %v", l, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Commit(ctx, bindery.Changes{Builds: []bindery.Build{Build("a", "k")}}); err == nil {
		t.Error("committed after its context had ended")
	}
	commit(t, s, bindery.Changes{
		Builds: []bindery.Build{Build("a", "k")},
		Audit:  []bindery.Audit{{Time: At, Who: "ann", Did: "cancel", What: "a", Reason: "a test"}},
	})
}

func missing(t *testing.T, s Store) {
	_, err1 := s.Build(t.Context(), "nobody")
	_, err2 := s.Session(t.Context(), "nobody' OR 1=1 --")
	_, err3 := s.Known(t.Context(), "nothing")
	for _, err := range []error{err1, err2, err3} {
		if !errors.Is(err, bindery.ErrNotFound) {
			t.Errorf("%v is not not-found", err)
		}
	}
	if ev, err := s.Events(t.Context(), "nobody", 0, 10); len(ev) > 0 || err != nil {
		t.Errorf("events of nobody: %v, %v", ev, err)
	}
}

// together commits from several goroutines while others read.
func together(t *testing.T, s Store) {
	const writers, each = 4, 25
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				id := fmt.Sprintf("b-%d-%d", w, i)
				if err := s.Commit(t.Context(), bindery.Changes{Builds: []bindery.Build{Build(id, id)}}); err != nil {
					t.Error(err)
				}
				if _, err := s.Build(t.Context(), id); err != nil {
					t.Errorf("committed, and not there: %v", err)
				}
			}
		})
	}
	wg.Wait()
	l, err := s.Live(t.Context(), At)
	if err != nil || len(l.Builds) != writers*each {
		t.Errorf("%d builds, %v; want %d", len(l.Builds), err, writers*each)
	}
}

// Leader is a Store that one at a time may write to.
type Leader interface {
	Store
	Lead(ctx context.Context, name string) (epoch int64, err error)
}

// Leases tests two that are open on the same rows: whoever took over last writes, the other one does not, whatever it
// believes.
func Leases(t *testing.T, a, b Leader) {
	put := func(s Leader, id string) error {
		return s.Commit(t.Context(), bindery.Changes{Builds: []bindery.Build{Build(id, "key of "+id)}})
	}
	lead := func(s Leader, name string) int64 {
		t.Helper()
		epoch, err := s.Lead(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return epoch
	}
	first := lead(a, "a")
	if err := put(a, "one"); err != nil {
		t.Fatalf("who leads cannot write: %v", err)
	}
	if second := lead(b, "b"); second <= first {
		t.Errorf("lease %d follows lease %d", second, first)
	}
	if err := put(a, "two"); !errors.Is(err, bindery.ErrLocked) {
		t.Errorf("who was deposed writes: %v", err)
	}
	if _, err := b.Build(t.Context(), "two"); !errors.Is(err, bindery.ErrNotFound) {
		t.Errorf("and it is there: %v", err)
	}
	if err := put(b, "three"); err != nil {
		t.Errorf("who leads now cannot write: %v", err)
	}
	lead(a, "a")
	if err := put(b, "four"); !errors.Is(err, bindery.ErrLocked) {
		t.Errorf("who was deposed in turn writes: %v", err)
	}
	// Both write and take over at random: each transaction that succeeded is there, each that did not is not.
	var wg sync.WaitGroup
	for name, s := range map[string]Leader{"a": a, "b": b} {
		wg.Go(func() {
			for i := range 50 {
				id := fmt.Sprint(name, i)
				if i%7 == 0 {
					if _, err := s.Lead(t.Context(), name); err != nil {
						t.Error(err)
					}
				}
				err := put(s, id)
				if err != nil && !errors.Is(err, bindery.ErrLocked) {
					t.Errorf("%s: %v", id, err)
				}
				if _, got := s.Build(t.Context(), id); (got == nil) != (err == nil) {
					t.Errorf("%s: written with %v, read with %v", id, err, got)
				}
			}
		})
	}
	wg.Wait()
}

// queue writes and reads what the queue must not forget beside builds.
func queue(t *testing.T, s Store) {
	failed := InState(Build("f", "k"), bindery.BuildFailed)
	failed.Kind, failed.Slow, failed.Forced, failed.Quarantined, failed.Disk, failed.Quick = "conda", true, 2, true, 1<<33, true
	rule := bindery.Rule{Kind: "ban", Scope: "owner", Name: "gh/o", Value: 1.5, Message: "no", Reason: "why", Who: "ann", Created: At, Until: At.AddDate(100, 0, 0)}
	event := rule // the same for an event: it stands beside the other one
	event.From, event.Prebuild = At.AddDate(1, 0, 0), []bindery.Source{{Provider: "git", URL: "https://github.com/o/r", Ref: "main"}, {Provider: "git", URL: "https://github.com/o/r2"}}
	wide := bindery.Rule{Kind: "hold-until-built", Scope: "spec", Name: "^gh/o/.*", Reason: "why", Who: "ann", Created: At}
	usage := bindery.Usage{Time: At.Add(-time.Hour), Flows: []bindery.Flow{{Class: bindery.Attended, Scope: "owner", Name: "gh/o", Ahead: 12.5}}}
	done := InState(Build("d", "kd"), bindery.BuildSucceeded)
	commit(t, s, bindery.Changes{Builds: []bindery.Build{failed, done}, Rules: []bindery.Rule{wide, event, rule}, Usage: &usage})
	read := func() bindery.Live {
		t.Helper()
		live, err := s.Live(t.Context(), At)
		if err != nil {
			t.Fatal(err)
		}
		return live
	}
	live := read()
	same(t, "failures", live.Failed, []bindery.Build{failed})
	same(t, "rules", live.Rules, []bindery.Rule{rule, event, wide})
	same(t, "usage", live.Usage, usage)
	if len(live.Since) != 2 {
		t.Errorf("%d builds have ended since the usage was written down, want 2", len(live.Since))
	}
	over := rule
	over.Until, over.Value = At.Add(-time.Hour), 2
	usage.Time = At.Add(time.Hour)
	commit(t, s, bindery.Changes{Rules: []bindery.Rule{over}, Lifted: []bindery.Rule{event, wide}, Usage: &usage, Forgive: []string{"k"}})
	if live = read(); len(live.Rules) != 0 || len(live.Since) != 0 || len(live.Failed) != 0 {
		t.Errorf("a rule that has expired, usage that is newer, a failure that is forgiven: %+v", live)
	}
	if b, err := s.Build(t.Context(), "f"); err != nil || b.State != bindery.BuildFailed || b.Quarantined || b.Row != 0 {
		t.Errorf("the forgiven build: %+v, %v", b, err)
	}
	commit(t, s, bindery.Changes{Rules: []bindery.Rule{rule}})
	commit(t, s, bindery.Changes{Lifted: []bindery.Rule{rule}})
	if live = read(); len(live.Rules) != 0 {
		t.Errorf("lifted: %+v", live.Rules)
	}
}

func workers(t *testing.T, s Store) {
	joined := bindery.WorkerRecord{Name: "b", Pool: "build", Address: "tls:192.0.2.1:8588", Shared: true, Joined: At}
	own := bindery.WorkerRecord{Name: "a", Drained: true, Who: "ann", Reason: "new disk", Since: At}
	far := At.AddDate(100, 0, 0)
	token := bindery.JoinToken{ID: "t1", Hash: "h", Pool: "build", Uses: 2, Who: "ann", Created: At, Expires: far}
	old := bindery.JoinToken{ID: "t0", Hash: "h", Uses: 2, Who: "ann", Created: At.Add(-time.Hour), Expires: At}
	commit(t, s, bindery.Changes{Workers: []bindery.WorkerRecord{joined, own}, Tokens: []bindery.JoinToken{token, old}})
	read := func() bindery.Live {
		t.Helper()
		live, err := s.Live(t.Context(), At)
		if err != nil {
			t.Fatal(err)
		}
		return live
	}
	live := read()
	same(t, "workers", live.Workers, []bindery.WorkerRecord{own, joined})
	same(t, "tokens that have not expired", live.Tokens, []bindery.JoinToken{token})
	joined.Pool, joined.Shared = "", false
	token.Uses = 0
	commit(t, s, bindery.Changes{Workers: []bindery.WorkerRecord{joined}, Removed: []string{"a"}, Tokens: []bindery.JoinToken{token}})
	live = read()
	same(t, "workers that are left", live.Workers, []bindery.WorkerRecord{joined})
	same(t, "tokens that are not used up", live.Tokens, []bindery.JoinToken{})
}

// audit writes lines and finds them again.
func audit(t *testing.T, s Store) {
	log, ok := s.(interface {
		Audit(ctx context.Context, q bindery.AuditQuery) ([]bindery.Audit, error)
	})
	if !ok {
		t.Fatal("the store shows no audit log")
	}
	var lines []bindery.Audit
	for i := range 250 {
		l := bindery.Audit{Time: At.Add(time.Duration(i) * time.Minute), Who: "token:ops", Did: "set ban", What: fmt.Sprintf("owner gh/o%d", i), Reason: "100 % load"}
		if i%50 == 7 {
			l.Who, l.Did, l.Reason = "local:Ann_B", "cancel build", ""
		}
		lines = append(lines, l)
	}
	commit(t, s, bindery.Changes{Audit: lines})
	find := func(q bindery.AuditQuery) []bindery.Audit {
		t.Helper()
		out, err := log.Audit(t.Context(), q)
		if err != nil {
			t.Fatalf("%+v: %v", q, err)
		}
		return out
	}
	newest := find(bindery.AuditQuery{})
	if len(newest) != 100 || newest[0].What != "owner gh/o249" || newest[0].ID <= newest[1].ID || !newest[0].Time.Equal(lines[249].Time) {
		t.Errorf("the newest: %d lines, %+v", len(newest), newest[0])
	}
	for name, c := range map[string]struct {
		q    bindery.AuditQuery
		want int
	}{
		"who": {bindery.AuditQuery{Who: "ann_b"}, 5}, "no wildcard": {bindery.AuditQuery{Who: "ann%b"}, 0}, "neither": {bindery.AuditQuery{Who: "annxb"}, 0},
		"what": {bindery.AuditQuery{What: "GH/O24"}, 11}, "did": {bindery.AuditQuery{What: "cancel build"}, 5}, "reason": {bindery.AuditQuery{What: "100 %", Limit: 1000}, 245},
		"since": {bindery.AuditQuery{Since: lines[240].Time}, 10}, "until": {bindery.AuditQuery{Until: lines[9].Time}, 10},
		"between": {bindery.AuditQuery{Since: lines[5].Time, Until: lines[9].Time, Who: "ops"}, 4}, "limit": {bindery.AuditQuery{Limit: 3}, 3},
		"quote": {bindery.AuditQuery{What: "' OR 1=1 --"}, 0},
	} {
		if got := find(c.q); len(got) != c.want {
			t.Errorf("%s: %d lines, want %d", name, len(got), c.want)
		}
	}
	var all []bindery.Audit
	for q := (bindery.AuditQuery{Limit: 60}); ; q.Before = all[len(all)-1].ID {
		page := find(q)
		if all = append(all, page...); len(page) == 0 {
			break
		}
	}
	if len(all) != 250 || all[249].What != "owner gh/o0" {
		t.Errorf("page by page: %d lines", len(all))
	}
}
