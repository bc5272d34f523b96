package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
	"github.com/bindery-hub/bindery/source/sourcetest"
)

// newRule is what the next generation adds to every image. It breaks two of the samples and is slow for one.
const newRule = `RUN if [ -e "$HOME/breaks" ]; then echo "libold is gone" >&2; exit 1; fi; if [ -e "$HOME/slow" ]; then sleep 10; fi; touch "$HOME/.upgraded"`

// An upgrade is a hub with 30 images, and visitors who never stop coming.
type upgrade struct {
	t       *testing.T
	h       *hub
	sources []bindery.Source // those of index 1 and 2 break, that of 3 is slow

	mu       sync.Mutex
	launches int
	slowest  time.Duration
	away     bool // the hub is being restarted: nobody can come
}

// TestUpgrade is the roll-out of a generation that breaks two of thirty images and slows one: canary, roll-out, pause by
// itself, kill -9, resume, end, rollback. Visitors never wait, and none of their launches fails.
func TestUpgrade(t *testing.T) {
	h, err := newHub(filepath.Join(shared.dir, "upgrade"))
	if err != nil {
		t.Fatal(err)
	}
	defer h.destroy()
	u := &upgrade{t: t, h: h}
	h.start(t)
	u.images(30)
	u.popular()

	u.restart(func() { u.configure(newRule) })
	old, next := u.generations()
	var plan bindery.RolloutPlan
	if err := json.Unmarshal([]byte(h.must(t, "generation", "plan", "--json")), &plan); err != nil || plan.Images != 30 || plan.Rolled != 30 || plan.To != next || plan.From != old {
		t.Fatalf("the plan: %+v, %v", plan, err)
	}
	if r := h.run(t, "images", "prune", "--superseded", "1ns", "--json"); r.code != 0 || !strings.Contains(r.stdout, `"removed": []`) {
		t.Errorf("nothing is superseded: %s%s", r.stdout, r.stderr)
	}
	visits, leave := u.visitors()

	h.must(t, "generation", "start", "--canary", "0.1", "--reason", "a test")
	u.reaches(next, bindery.GenerationPaused)
	g := u.status(next)
	if len(g.Held) != 2 || g.Proven < 3 || g.Proven > 20 || !strings.Contains(g.Rollout.Paused, "2 of") {
		t.Fatalf("it paused with %d proven, %+v held: %s", g.Proven, g.Held, g.Rollout.Paused)
	}
	for _, held := range g.Held {
		if held.Stage != "build" || held.Fault != bindery.User || !strings.HasSuffix(held.Source.URL, "r01") && !strings.HasSuffix(held.Source.URL, "r02") {
			t.Errorf("held: %+v", held)
		}
	}
	u.restart(func() {}) // by kill -9
	if g = u.status(next); g.State != bindery.GenerationPaused || len(g.Held) != 2 {
		t.Fatalf("after kill -9: %+v", g)
	}
	h.must(t, "generation", "resume", "--reason", "the two are known")
	u.restart(func() {})
	u.reaches(next, bindery.GenerationCurrent)
	u.served(next, old)

	h.must(t, "generation", "rollback", "--reason", "it was a test")
	u.served(old, old)
	if g = u.status(next); g.State != bindery.GenerationWithdrawn {
		t.Errorf("after the rollback: %s", g.State)
	}
	leave()
	<-visits
	u.mu.Lock()
	defer u.mu.Unlock()
	t.Logf("%d launches, the slowest %s", u.launches, u.slowest)
	if u.slowest > 15*time.Second { // each answers in a second or two; who waits for a build or a place waits for longer
		t.Errorf("a launch took %s", u.slowest)
	}
	if u.launches < 20 {
		t.Errorf("only %d visitors came", u.launches)
	}
	u.audited()
	u.disk()
}

// images builds the samples: one environment, a few bytes of content each.
func (u *upgrade) images(n int) {
	u.t.Helper()
	srv := sourcetest.Start(u.t)
	client := u.h.client(u.t)
	for i := range n {
		name := fmt.Sprintf("ann/r%02d", i)
		files := map[string]string{
			"README.md": name, "start": "#!/bin/sh\nexec python3 -m http.server 8888\n", // answers sooner than Jupyter
		}
		switch i {
		case 1, 2:
			files["breaks"] = "yes"
		case 3:
			files["slow"] = "yes"
		}
		commit := srv.Repo(name).Commit("main", files)
		u.sources = append(u.sources, bindery.Source{Provider: bindery.ProviderGit, URL: srv.URL + "/" + name, Ref: commit, Commit: commit})
	}
	for _, src := range u.sources {
		eventually(u.t, 4*time.Minute, "the image of "+src.URL, func() bool {
			b, err := client.Submit(u.t.Context(), api.NewBuild{Source: src, Class: bindery.Attended})
			if err != nil || b.State == bindery.BuildFailed {
				u.t.Fatalf("%+v, %v\n%s", b.Err, err, u.h.tail())
			}
			return b.State == bindery.BuildSucceeded
		})
	}
}

// popular makes those that break known to many, so that their turn comes early.
func (u *upgrade) popular() {
	u.t.Helper()
	for _, i := range []int{0, 0, 1, 2} {
		if err := u.visit(u.t.Context(), i); err != nil {
			u.t.Fatal(err)
		}
	}
}

// visit launches a sample and stops it. It fails if the image had to be built.
func (u *upgrade) visit(ctx context.Context, i int) error {
	client := u.h.client(u.t)
	b, err := client.Submit(ctx, api.NewBuild{Source: u.sources[i], Class: bindery.Attended})
	if err != nil {
		return err
	}
	if b.State != bindery.BuildSucceeded {
		return fmt.Errorf("%s waits for a build", u.sources[i].URL)
	}
	began := time.Now()
	s, err := client.Launch(ctx, api.NewSession{Build: b.ID})
	if err != nil {
		return fmt.Errorf("launch %s: %w", u.sources[i].URL, err)
	}
	u.mu.Lock()
	u.launches++
	u.slowest = max(u.slowest, time.Since(began))
	u.mu.Unlock()
	return client.StopSession(ctx, s.ID, "the test has seen it")
}

// visitors come one after another until they are sent away.
func (u *upgrade) visitors() (over <-chan struct{}, leave func()) {
	ctx, cancel := context.WithCancel(u.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i = (i + 7) % len(u.sources) {
			err := u.visit(ctx, i)
			u.mu.Lock()
			away := u.away
			u.mu.Unlock()
			if err != nil && ctx.Err() == nil && !away && !unreachable(err) {
				u.t.Errorf("a visitor: %v", err)
				return
			}
		}
	}()
	return done, cancel
}

// unreachable is what a visitor sees while there is no hub process at all.
func unreachable(err error) bool {
	text := err.Error()
	return strings.Contains(text, "No hub answers") || strings.Contains(text, "restart")
}

// restart kills the hub, and starts it again after something was changed.
func (u *upgrade) restart(change func()) {
	u.t.Helper()
	u.mu.Lock()
	u.away = true
	u.mu.Unlock()
	u.h.kill9(u.t)
	change()
	u.h.start(u.t)
	u.mu.Lock()
	u.away = false
	u.mu.Unlock()
}

func (u *upgrade) configure(appendix string) {
	u.t.Helper()
	text, err := os.ReadFile(u.h.config)
	if err != nil {
		u.t.Fatal(err)
	}
	quoted, err := json.Marshal(appendix)
	if err != nil {
		u.t.Fatal(err)
	}
	if err := os.WriteFile(u.h.config, fmt.Appendf(text, "appendix: %s\n", quoted), 0o600); err != nil {
		u.t.Fatal(err)
	}
}

func (u *upgrade) generations() (old, next string) {
	u.t.Helper()
	var all []bindery.RolloutStatus
	if err := json.Unmarshal([]byte(u.h.must(u.t, "generation", "ls", "--json")), &all); err != nil || len(all) != 2 {
		u.t.Fatalf("%+v, %v", all, err)
	}
	if all[0].State != bindery.GenerationNew || all[1].State != bindery.GenerationCurrent || !all[1].Serving || all[1].Images != 30 {
		u.t.Fatalf("before the roll-out: %+v", all)
	}
	return all[1].Name, all[0].Name
}

func (u *upgrade) status(name string) (g bindery.RolloutStatus) {
	u.t.Helper()
	if err := json.Unmarshal([]byte(u.h.must(u.t, "generation", "status", name, "--json")), &g); err != nil {
		u.t.Fatal(err)
	}
	return g
}

func (u *upgrade) reaches(name string, state bindery.GenerationState) {
	u.t.Helper()
	client := u.h.client(u.t)
	var last bindery.RolloutStatus
	eventually(u.t, 4*time.Minute, fmt.Sprintf("%s is %s", name, state), func() bool {
		g, err := client.Generation(u.t.Context(), name)
		if err != nil {
			u.t.Fatal(err)
		}
		if last = g; g.State != state && (g.State == bindery.GenerationPaused || u.t.Failed()) {
			u.t.Fatalf("it is %s: %s, held %+v\n%s", g.State, g.Rollout.Paused, g.Held, u.h.tail())
		}
		return g.State == state
	})
	u.t.Logf("%s: %d proven, %d held", state, last.Proven, len(last.Held))
}

// served looks at which image each sample has, and that those which broke say why.
func (u *upgrade) served(by, broken string) {
	u.t.Helper()
	var lib bindery.Library
	if err := json.Unmarshal([]byte(u.h.must(u.t, "images", "ls", "--limit", "1000", "--json")), &lib); err != nil {
		u.t.Fatal(err)
	}
	n := 0
	for _, r := range lib.Images {
		if r.State != "serving" {
			continue
		}
		n++
		breaks := strings.HasSuffix(r.Source.URL, "r01") || strings.HasSuffix(r.Source.URL, "r02")
		want := by
		if breaks {
			want = broken
		}
		if r.Generation != want || breaks && !strings.Contains(r.Why, "failed (build)") || r.Size < 0 { // 0: its layers are its predecessor's too
			u.t.Errorf("%s is served by %s, want %s (%q, %d bytes)", r.Source.URL, r.Generation, want, r.Why, r.Size)
		}
	}
	if n != len(u.sources) {
		u.t.Errorf("%d images serve, want %d", n, len(u.sources))
	}
}

// audited looks for who did what, and why.
func (u *upgrade) audited() {
	u.t.Helper()
	var lines []api.AuditLine
	if err := json.Unmarshal([]byte(u.h.must(u.t, "audit", "--json")), &lines); err != nil {
		u.t.Fatal(err)
	}
	for _, want := range []string{"start roll-out: a test", "advance roll-out: Its canary was built and answered", "resume roll-out: the two are known", "roll back: it was a test"} {
		if !slices.ContainsFunc(lines, func(l api.AuditLine) bool { return l.Did+": "+l.Reason == want && l.Who != "" }) {
			u.t.Errorf("the audit log does not have %q", want)
		}
	}
}

// disk compares what is listed with what the disk has.
func (u *upgrade) disk() {
	u.t.Helper()
	var lib bindery.Library
	if err := json.Unmarshal([]byte(u.h.must(u.t, "images", "ls", "--limit", "1000", "--json")), &lib); err != nil || lib.Disk == nil {
		u.t.Fatalf("%+v, %v", lib.Disk, err)
	}
	d, own := lib.Disk, int64(0)
	seen := map[string]bool{}
	for _, r := range lib.Images {
		if !seen[r.Image] {
			own += r.Size
		}
		seen[r.Image] = true
	}
	if own != d.Images || d.Images+d.Shared+d.Sessions+d.Cache+d.Other != d.Total {
		u.t.Errorf("the images listed have %d bytes; %+v", own, d)
	}
	has := u.h.held(u.t)
	u.t.Logf("the disk has %d bytes, %+v are accounted for", has, *d)
	if diff := has - d.Total; diff < -has/50 || diff > has/50 {
		u.t.Errorf("the disk has %d bytes, %d are accounted for: %+v", has, d.Total, d)
	}
}

// held is what a worker's directory takes of its disk.
func (h *hub) held(t *testing.T) (n int64) {
	t.Helper()
	linked := map[uint64]bool{}
	err := filepath.WalkDir(filepath.Join(h.dir, "worker"), func(_ string, e os.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // it went while we looked
		}
		info, err := e.Info()
		if err != nil {
			return nil //nolint:nilerr // it went while we looked
		}
		st := info.Sys().(*syscall.Stat_t)
		if !linked[st.Ino] {
			n += st.Blocks * 512
		}
		linked[st.Ino] = true
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
