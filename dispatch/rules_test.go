package dispatch_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/dispatch"
)

func ban(repo string) bindery.Rule {
	return bindery.Rule{
		Kind: "ban", Scope: "repository", Name: "git:https://example.org/o/" + repo, Message: "it broke the hub; write to ops@example.org",
		Reason: "ticket 7", Who: "ann",
	}
}

// TestRules sets, lifts and outlives rules: they take effect at once, expire, come back after a restart, and are in the
// audit log.
func TestRules(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *hub) {
		synctest.Wait()
		running := h.submit(t, ask("bad"))
		if err := h.SetRule(t.Context(), ban("bad")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := h.build(t, running.ID); got.State != bindery.BuildCancelled || !strings.Contains(got.Err.Msg, "ops@example.org") {
			t.Errorf("what ran: %+v", got)
		}
		refused := func(h *hub, repo string) bool {
			t.Helper()
			_, err := h.Submit(t.Context(), ask(repo))
			if err != nil && (!errors.Is(err, bindery.ErrNotAllowed) || !strings.Contains(err.Error(), "ops@") || strings.Contains(err.Error(), "ticket")) {
				t.Errorf("refused: %v", err)
			}
			return err != nil
		}
		short := ban("short")
		short.Until = time.Now().Add(time.Minute)
		if err := h.SetRule(t.Context(), short); err != nil {
			t.Fatal(err)
		}
		if !refused(h, "bad") || !refused(h, "short") || refused(h, "good") {
			t.Error("the wrong ones are refused")
		}
		h.stop()
		h = run(t, h.st, h.w, h.l, nil)
		defer h.stop()
		if rules, err := h.Rules(t.Context()); err != nil || len(rules) != 2 || rules[0].Who != "ann" || rules[0].Created.IsZero() || !refused(h, "bad") || !refused(h, "short") {
			t.Errorf("after a restart: %+v, %v", rules, err)
		}
		time.Sleep(2 * time.Minute)
		if refused(h, "short") || !refused(h, "bad") {
			t.Error("after a minute")
		}
		if err := h.LiftRule(t.Context(), ban("bad"), "bob", "mended"); err != nil || refused(h, "bad") {
			t.Errorf("lifted: %v", err)
		}
		if err := h.LiftRule(t.Context(), ban("bad"), "bob", ""); !errors.Is(err, bindery.ErrNotFound) {
			t.Errorf("lifted twice: %v", err)
		}
		log, err := h.Audit(t.Context(), bindery.AuditQuery{})
		if err != nil || len(log) != 3 || log[0].Who != "bob" || log[0].Did != "lift ban" || log[0].Reason != "mended" || log[2].Reason != "ticket 7" {
			t.Errorf("audit: %+v, %v", log, err)
		}
	})
}

// TestRulesMakeSense refuses what no rule can mean.
func TestRulesMakeSense(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *hub) {
		for name, spoil := range map[string]func(*bindery.Rule){
			"kind":    func(r *bindery.Rule) { r.Kind = "curse" },
			"scope":   func(r *bindery.Rule) { r.Scope = "planet" },
			"name":    func(r *bindery.Rule) { r.Name = "" },
			"weight":  func(r *bindery.Rule) { r.Kind, r.Scope = "weight", "owner" },
			"of repo": func(r *bindery.Rule) { r.Kind, r.Value = "weight", 2 },
			"quota":   func(r *bindery.Rule) { r.Kind, r.Value = "quota", 1.5 },
			"network": func(r *bindery.Rule) { r.Scope, r.Name = "network", "192.0.2.0/240" },
			"expr":    func(r *bindery.Rule) { r.Scope, r.Name = "spec", "^gh/(" },
			"share":   func(r *bindery.Rule) { r.Kind, r.Scope, r.Name, r.Value = "weight", "spec", "^gh/", 2 },
			"built":   func(r *bindery.Rule) { r.Kind, r.Scope, r.Name = "hold-until-built", "network", "192.0.2.0/25" },
			"never": func(r *bindery.Rule) {
				r.From, r.Until = time.Now().Add(2*time.Hour), time.Now().Add(time.Hour)
			},
			"past": func(r *bindery.Rule) { r.Until = time.Now().Add(-time.Hour) },
		} {
			r := ban("r")
			spoil(&r)
			if err := h.SetRule(t.Context(), r); !errors.Is(err, bindery.ErrInvalid) || bindery.AsError(err).Remedy == "" {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// TestOperators cancel and retry: a retry by an operator waits for no failure, and no budget.
func TestOperators(t *testing.T) {
	bubble(t, func(c *dispatch.Config) { c.Policy.Retries = -1 }, func(t *testing.T, h *hub) {
		synctest.Wait()
		b := h.submit(t, ask("r"))
		if err := h.CancelBuild(t.Context(), b.ID, "ann", "stuck"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := h.build(t, b.ID); got.State != bindery.BuildCancelled {
			t.Errorf("cancelled: %+v", got)
		}
		if err := h.CancelBuild(t.Context(), b.ID, "ann", "stuck"); !errors.Is(err, bindery.ErrConflict) {
			t.Errorf("cancelled twice: %v", err)
		}
		b = h.submit(t, ask("r"))
		synctest.Wait()
		h.w.emit(b.ID, 1, failed(bindery.User))
		synctest.Wait()
		a := ask("r")
		a.Retry = true
		if got := h.submit(t, a); got.ID != b.ID {
			t.Errorf("there is no budget: %+v", got)
		}
		again, err := h.RetryBuild(t.Context(), b.ID, "ann", "it is mended")
		if err != nil || again.ID == b.ID {
			t.Fatalf("retried: %+v, %v", again, err)
		}
		synctest.Wait()
		h.w.emit(again.ID, 1, failed(bindery.User))
		synctest.Wait()
		if got := h.build(t, again.ID); got.Row != 1 {
			t.Errorf("failures in a row: %+v", got)
		}
		log, err := h.Audit(t.Context(), bindery.AuditQuery{})
		if err != nil || len(log) != 2 || log[0].Did != "retry build" || log[0].Reason != "it is mended" || log[1].Did != "cancel build" {
			t.Errorf("audit: %+v, %v", log, err)
		}
	})
}

// TestQueue looks at everything that the queue holds.
func TestQueue(t *testing.T) {
	bubble(t, func(c *dispatch.Config) { c.Policy.Remember = 5 * time.Minute }, func(t *testing.T, h *hub) {
		h.w.set(func() { h.w.slots = 1 })
		time.Sleep(6 * time.Second) // until that is seen
		bad := h.submit(t, ask("bad"))
		synctest.Wait()
		h.w.emit(bad.ID, 1, failed(bindery.User))
		synctest.Wait()
		running := h.submit(t, ask("r0"))
		var waiting []string
		for _, repo := range []string{"r1", "r2"} {
			waiting = append(waiting, h.submit(t, ask(repo)).ID)
		}
		watch := h.watch(t, waiting[1])
		synctest.Wait()
		time.Sleep(time.Minute)
		q, err := h.Queue(t.Context())
		if err != nil || q.Slots != 1 || q.Taken != 1 || len(q.Running) != 1 || len(q.Waiting) != 2 || len(q.Failures) != 1 {
			t.Fatalf("queue: %+v, %v", q, err)
		}
		if r := q.Running[0]; r.ID != running.ID || r.Age.Round(time.Second) != time.Minute || r.Worker != "w" || r.Expected <= 0 || r.Source.URL == "" {
			t.Errorf("running: %+v", r)
		}
		// Who is watched goes first.
		if w := q.Waiting[0]; w.ID != waiting[1] || w.Standing.Position != 1 || w.Watchers != 1 || w.Standing.Reason == "" || w.Standing.To.IsZero() {
			t.Errorf("waiting: %+v", w)
		}
		if f := q.Failures[0]; f.Build != bad.ID || f.Err == nil || f.Row != 1 || f.Source.Owner() != "git/example.org/o" {
			t.Errorf("failures: %+v", f)
		}
		if s := q.Shares; len(s) != 2 || s[0].Name != "git/example.org/o" || s[0].Running != 1 || s[0].Waiting != 2 || s[0].Share != 1 {
			t.Errorf("shares: %+v", s)
		}
		watch()
	})
}

// watch reads a build's story until the returned function is called.
func (h *hub) watch(t *testing.T, id string) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for range h.Events(ctx, id, 0) {
			continue
		}
	}()
	return cancel
}

// TestStandings hears of every change within a second, and of nothing else.
func TestStandings(t *testing.T) {
	bubble(t, func(c *dispatch.Config) { c.Policy.Grace = -1 }, func(t *testing.T, h *hub) {
		h.w.set(func() { h.w.slots = 1 })
		time.Sleep(6 * time.Second) // until that is seen
		first, second, third := h.submit(t, ask("a")), h.submit(t, ask("b")), h.submit(t, ask("c"))
		type heard struct {
			bindery.Standing
			at time.Duration
		}
		var got []heard
		var mu sync.Mutex
		soFar := func() []heard {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(got)
		}
		begin, over := time.Now(), make(chan error, 1)
		go func() {
			for st, err := range h.Standings(t.Context(), third.ID) {
				if err != nil {
					over <- err
					return
				}
				mu.Lock()
				got = append(got, heard{st, time.Since(begin)})
				mu.Unlock()
			}
			over <- nil
		}()
		synctest.Wait()
		if got := soFar(); len(got) != 1 || got[0].Position != 2 || got[0].at != 0 {
			t.Fatalf("at once: %+v", got)
		}
		time.Sleep(time.Minute)
		h.w.emit(first.ID, 1, built("a"))
		time.Sleep(time.Second)
		all := soFar()
		if last := all[len(all)-1]; last.Position != 1 || last.at > time.Minute+time.Second {
			t.Errorf("when the first was done: %+v", last)
		}
		if len(all) > 20 {
			t.Errorf("told %d times in a minute", len(all))
		}
		h.w.emit(second.ID, 1, built("b"))
		time.Sleep(time.Second)
		before := soFar()
		if last := before[len(before)-1]; last.Position != 0 || time.Since(last.Run.Since) > time.Second {
			t.Errorf("when it runs: %+v", last)
		}
		time.Sleep(10 * time.Minute)
		if n := len(soFar()) - len(before); n > 0 { // nothing is known of how long builds take
			t.Errorf("told %d times while it ran", n)
		}
		h.w.emit(third.ID, 1, built("c"))
		time.Sleep(time.Second)
		select {
		case err := <-over:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("it is over, and who reads is not told")
		}
		for range h.Standings(t.Context(), "b-unknown") {
			t.Error("an unknown build stands somewhere")
		}
	})
}

// TestRuns hears when a running build will be done: at once, again when it has changed by a tenth of what is left, for as long
// as it runs.
func TestRuns(t *testing.T) {
	bubble(t, func(c *dispatch.Config) { c.Policy.Grace, c.Policy.Stall = -1, -1 }, func(t *testing.T, h *hub) {
		synctest.Wait()
		run := func(what string) bindery.Build {
			b := h.submit(t, bindery.Ask{Source: bindery.Source{Provider: bindery.ProviderGit, URL: "https://example.org/o/r", Commit: strings.Repeat(what, 40)}, Requester: "q"})
			synctest.Wait()
			return b
		}
		before := run("a")
		time.Sleep(4 * time.Minute)
		h.w.emit(before.ID, 1, built("a"))
		synctest.Wait()

		second := run("b")
		began := time.Now()
		type heard struct {
			bindery.Run
			at time.Duration
		}
		told := make(chan heard, 100)
		go func() {
			defer close(told)
			for st, err := range h.Standings(t.Context(), second.ID) {
				if err != nil || st.Position != 0 || st.Reason != "" {
					t.Errorf("%+v, %v", st, err)
				}
				told <- heard{st.Run, time.Since(began)}
			}
		}()
		synctest.Wait()
		if n := len(told); n != 1 {
			t.Fatalf("told %d times at once", n)
		}
		time.Sleep(20 * time.Minute)
		h.w.emit(second.ID, 1, built("b"))
		first := <-told
		if first.Since != began.UTC() || first.Least < time.Minute || first.Most > 12*time.Minute || !first.From.Equal(began.Add(first.Least)) || first.Late(began) {
			t.Errorf("at once: %+v", first)
		}
		last, n := first, 1
		for next := range told { // until it is over
			if !next.To.After(last.To) || next.Since != first.Since {
				t.Errorf("%+v after %+v", next, last)
			}
			last = next
			n++
		}
		if n < 5 || n > 40 || !last.Late(time.Now()) {
			t.Errorf("told %d times in 20 minutes, at last %+v", n, last)
		}
	})
}

// TestBroadRules refuses by networks of any size and by expressions, of what is built as of what is not.
func TestBroadRules(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *hub) {
		synctest.Wait()
		made := h.make(t, "course-1")
		set := func(kind, scope, name string) bindery.Rule {
			r := bindery.Rule{Kind: kind, Scope: scope, Name: name, Message: "closed", Reason: "ticket 7", Who: "ann"}
			if err := h.SetRule(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			return r
		}
		from := func(repo, ref, addr string) error {
			a := ask(repo)
			a.Source.Ref, a.Address = ref, addr
			_, err := h.Submit(t.Context(), a)
			if repo != "course-1" {
				return err
			}
			_, err = h.Launch(t.Context(), made, a)
			return err
		}
		r := set("ban", "network", "192.0.2.128/25")
		if err := from("x", "main", "192.0.2.129"); !errors.Is(err, bindery.ErrNotAllowed) || !strings.Contains(err.Error(), "closed") || strings.Contains(err.Error(), "ticket") {
			t.Errorf("a network: %v", err)
		}
		if err := from("course-1", "main", "192.0.2.200"); err == nil {
			t.Error("a network may launch")
		}
		if err := from("x", "main", "192.0.2.1"); err != nil {
			t.Errorf("another address of the same block: %v", err)
		}
		if err := h.LiftRule(t.Context(), r, "ann", ""); err != nil || from("y", "main", "192.0.2.129") != nil {
			t.Errorf("lifted: %v", err)
		}
		set("ban", "spec", "^https://example.org/o/course-[0-9]+/(main|HEAD)$")
		if from("course-2", "main", "") == nil || from("course-1", "main", "") == nil || from("course-2", "next", "") != nil {
			t.Error("an expression")
		}
	})
}

// TestUntilBuilt holds launches of a broken repository until it is built: the hold builds it itself, whatever is
// remembered of it, and ends with the build.
func TestUntilBuilt(t *testing.T) {
	bubble(t, oneSlot, func(t *testing.T, h *hub) {
		synctest.Wait()
		b := h.submit(t, ask("r"))
		synctest.Wait()
		h.w.emit(b.ID, 1, failed(bindery.User))
		synctest.Wait()
		r := bindery.Rule{
			Kind: bindery.RuleUntilBuilt, Scope: "repository", Name: ask("r").Source.Identity(), Message: "it takes hours", Reason: "floods", Who: "ann",
			Prebuild: []bindery.Source{ask("r").Source},
		}
		if err := h.SetRule(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		again := h.submit(t, ask("r"))
		if again.ID == b.ID || again.State != bindery.BuildRunning || !again.Slow {
			t.Fatalf("it is not built aside: %+v", again)
		}
		h.w.emit(again.ID, 1, built("image"))
		told := strings.Join(texts(h.story(t, again.ID)), "")
		if !strings.Contains(told, "it takes hours") || strings.Contains(told, "floods") {
			t.Errorf("visitors read %q", told)
		}
		if rules, err := h.Rules(t.Context()); err != nil || len(rules) != 0 {
			t.Errorf("it is built, and these stand: %+v, %v", rules, err)
		}
		log, err := h.Audit(t.Context(), bindery.AuditQuery{Who: "hub"})
		if err != nil || len(log) != 2 || log[0].Did != "lift hold-until-built" || !strings.Contains(log[0].Reason, again.ID) || log[1].Did != "prebuild" {
			t.Errorf("audit: %+v, %v", log, err)
		}
		synctest.Wait()
		if live, err := h.st.Live(t.Context(), time.Now()); err != nil || len(live.Rules) != 0 {
			t.Errorf("stored: %+v, %v", live.Rules, err)
		}
	})
}

// TestPrebuild makes the images of an event before it begins, in the background, and again near its beginning, in case
// the branch has moved.
func TestPrebuild(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *hub) {
		synctest.Wait()
		r := bindery.Rule{
			Kind: bindery.RuleQuota, Scope: "owner", Name: ask("r").Source.Owner(), Value: 300, Reason: "a course", Who: "ann",
			From: time.Now().Add(5 * time.Hour), Until: time.Now().Add(8 * time.Hour), Prebuild: []bindery.Source{ask("r").Source},
		}
		if err := h.SetRule(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second) // until the worker is known to have slots
		synctest.Wait()
		q, err := h.Queue(t.Context())
		if err != nil || len(q.Running)+len(q.Waiting) != 1 {
			t.Fatalf("%+v, %v", q, err)
		}
		b := append(q.Running, q.Waiting...)[0].Build
		if b.Class != bindery.Background || b.Requester != "ann" {
			t.Errorf("it is built as %+v", b)
		}
		h.w.emit(b.ID, 1, built("image"))
		synctest.Wait()
		h.w.set(func() { h.w.commit = commit2 })
		time.Sleep(3*time.Hour + 50*time.Minute)
		if q, _ := h.Queue(t.Context()); len(q.Running)+len(q.Waiting) != 0 {
			t.Errorf("too early: %+v", q)
		}
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		q, _ = h.Queue(t.Context())
		if len(q.Running) != 1 || q.Running[0].Class != bindery.Attended || q.Running[0].Source.Commit == b.Source.Commit {
			t.Errorf("near the start: %+v", q)
		}
	})
}

// TestGrantedQuota lets an operator's quota for specs take the place of the configuration's for their repository: at
// the launch, and before anything is built for it.
func TestGrantedQuota(t *testing.T) {
	bubble(t, func(c *dispatch.Config) { c.Limits.Idle, c.Limits.Age = 24*time.Hour, 24*time.Hour }, func(t *testing.T, h *hub) {
		synctest.Wait()
		made := h.make(t, "course-1")
		a := ask("course-1")
		a.RepoQuota, a.Launches = 1, true
		if _, err := h.Launch(t.Context(), made, a); err != nil {
			t.Fatal(err)
		}
		h.w.set(func() { h.w.commit = commit2 }) // so that there is something to build
		time.Sleep(2 * time.Minute)
		if _, err := h.Submit(t.Context(), a); !errors.Is(err, bindery.ErrRepoQuota) {
			t.Errorf("without it: %v", err)
		}
		r := bindery.Rule{Kind: "quota", Scope: "spec", Name: "^https://example.org/o/course-[0-9]/main$", Value: 2, Reason: "a course", Who: "ann", From: time.Now().Add(time.Hour), Until: time.Now().Add(2 * time.Hour)}
		if err := h.SetRule(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Submit(t.Context(), a); !errors.Is(err, bindery.ErrRepoQuota) {
			t.Errorf("before it begins: %v", err)
		}
		time.Sleep(time.Hour + time.Second)
		if _, err := h.Submit(t.Context(), a); err != nil {
			t.Errorf("while it stands: %v", err)
		}
		if _, err := h.Launch(t.Context(), made, a); err != nil {
			t.Errorf("a second session: %v", err)
		}
		if _, err := h.Launch(t.Context(), made, a); err == nil {
			t.Error("a third session")
		}
		time.Sleep(time.Hour)
		if _, err := h.Launch(t.Context(), made, a); !errors.Is(err, bindery.ErrRepoQuota) {
			t.Errorf("after its end: %v", err)
		}
	})
}
