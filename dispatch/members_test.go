package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/dispatch"
)

// A prover is a worker that looks at its machine.
type prover struct {
	*worker
	found   bindery.Preflight
	emptied int
	room    int64 // that emptying its cache gives
}

func (p *prover) Preflight(context.Context, time.Duration) (bindery.Preflight, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down {
		return bindery.Preflight{}, p.away()
	}
	out := p.found
	out.At, out.Clock = time.Now(), time.Now()
	return out, nil
}

func (p *prover) MakeRoom(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.emptied++
	p.found.Scratch.Free += p.room
	return nil
}

func newProver(name string) *prover {
	p := &prover{worker: newWorker()}
	p.name = name
	p.found.Scratch = bindery.Scratch{Path: "/srv", Free: 50 << 30}
	return p
}

// others is a hub's configuration with more workers, by address.
func others(all ...*prover) func(*dispatch.Config) {
	return func(c *dispatch.Config) {
		c.Connect = func(r bindery.WorkerRecord) (dispatch.Worker, error) {
			for _, p := range all {
				if r.Address == "unix:/"+p.name {
					return p, nil
				}
			}
			return nil, errors.New("no such worker")
		}
		c.Minimums = func(string) bindery.Minimums { return bindery.Minimums{Free: 10 << 30} }
	}
}

func (h *hub) join(t *testing.T, name string) {
	t.Helper()
	if err := h.JoinWorker(t.Context(), bindery.WorkerRecord{Name: name, Address: "unix:/" + name, Shared: true}, "ann", "", ""); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

func (h *hub) state(t *testing.T, name string) bindery.WorkerView {
	t.Helper()
	all, err := h.Workers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range all {
		if v.Name == name {
			return v
		}
	}
	t.Fatalf("no worker %s in %+v", name, all)
	return bindery.WorkerView{}
}

// TestWorkersJoin has builds go to a second worker while the first is drained, and that survive a restart.
func TestWorkersJoin(t *testing.T) {
	second := newProver("b")
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		db := openStore(t, dir)
		w := newWorker()
		h := run(t, db, w, newLauncher(w), others(second))
		synctest.Wait()
		h.join(t, "b")
		if err := h.DrainWorker(t.Context(), "w", "ann", "a new disk"); err != nil {
			t.Fatal(err)
		}
		if v := h.state(t, "w"); v.State != bindery.WorkerDrained || v.Reason != "a new disk" {
			t.Errorf("%+v", v)
		}
		b := h.submit(t, ask("r"))
		synctest.Wait()
		if got := h.build(t, b.ID); got.Worker != "b" || second.starts[name(b.ID, 1)] != 1 {
			t.Errorf("it runs on %q", got.Worker)
		}
		h.stop()
		h = run(t, db, w, newLauncher(w), others(second))
		synctest.Wait()
		if v := h.state(t, "w"); v.State != bindery.WorkerDrained || v.Record.Who != "ann" {
			t.Errorf("after a restart: %+v", v)
		}
		second.emit(b.ID, 1, built("bindery/r"))
		synctest.Wait()
		if got := h.build(t, b.ID); got.State != bindery.BuildSucceeded || got.Attempt != 1 {
			t.Errorf("after a restart: %+v", got)
		}
		if err := h.ResumeWorker(t.Context(), "w", "ann", ""); err != nil || h.state(t, "w").State != bindery.WorkerReady {
			t.Errorf("resumed: %+v, %v", h.state(t, "w"), err)
		}
		log, err := h.Audit(t.Context(), bindery.AuditQuery{Limit: 10})
		var did []string
		for _, l := range log {
			did = append(did, l.Did+" "+l.What)
		}
		if got := strings.Join(did, ", "); err != nil || got != "resume worker w, drain worker w, join worker b" {
			t.Errorf("audit: %s, %v", got, err)
		}
		h.stop()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestImagesOfWorkers asks every worker for its images and for its disk, and has whoever has an image remove it.
func TestImagesOfWorkers(t *testing.T) {
	second := newProver("b")
	bubble(t, others(second), func(t *testing.T, h *hub) {
		synctest.Wait()
		h.join(t, "b")
		h.w.set(func() { h.w.images["bindery/both"], h.w.images["bindery/own"] = true, true })
		second.set(func() { second.images["bindery/both"], second.images["bindery/b"] = true, true })
		list := func() (string, *bindery.DiskUse) {
			t.Helper()
			lib, err := h.Library(t.Context(), 100)
			if err != nil {
				t.Fatal(err)
			}
			var out []string
			for _, r := range lib.Images {
				out = append(out, fmt.Sprintf("%s on %s: %d", r.Image, strings.Join(r.Workers, "+"), r.Size))
			}
			slices.Sort(out)
			return strings.Join(out, ", "), lib.Disk
		}
		if got, disk := list(); got != "bindery/b on b: 10, bindery/both on w+b: 20, bindery/own on w: 10" || disk.Total != 40 || len(disk.Silent) != 0 {
			t.Errorf("%s; %+v", got, disk)
		}
		for _, image := range []string{"bindery/b", "bindery/both"} {
			if err := h.RemoveImage(t.Context(), image, "ann", ""); err != nil {
				t.Error(err)
			}
		}
		if got, disk := list(); got != "bindery/own on w: 10" || disk.Total != 10 {
			t.Errorf("when two are removed: %s; %+v", got, disk)
		}
		second.set(func() { second.images["bindery/b"], second.down = true, true })
		if got, disk := list(); got != "bindery/own on w: 10" || disk.Total != 10 || !slices.Equal(disk.Silent, []string{"b"}) {
			t.Errorf("when it does not answer: %s; %+v", got, disk)
		}
		time.Sleep(time.Minute) // now that is known
		if got, disk := list(); got != "bindery/own on w: 10" || !slices.Equal(disk.Silent, []string{"b"}) {
			t.Errorf("when it is away: %s; %+v", got, disk)
		}
	})
}

// TestWorkerProves refuses a worker that lacks something, says what, and takes it when it has it.
func TestWorkerProves(t *testing.T) {
	second := newProver("b")
	bubble(t, others(second), func(t *testing.T, h *hub) {
		synctest.Wait()
		second.found.Scratch.Free = 1 << 30
		h.join(t, "b")
		if v := h.state(t, "b"); v.State != bindery.WorkerRefused || len(v.Problems) != 1 || !strings.Contains(v.Reason, "free space: 1 GiB at /srv; wanted: 10 GiB") {
			t.Errorf("%+v", v)
		}
		if second.emptied != 1 {
			t.Errorf("its cache was emptied %d times", second.emptied)
		}
		second.set(func() { second.room = 9600 << 20 }) // above the minimum, and not enough above it
		time.Sleep(90 * time.Second)
		if v := h.state(t, "b"); v.State != bindery.WorkerRefused || second.emptied != 2 {
			t.Errorf("just above: %+v; emptied %d times", v, second.emptied)
		}
		second.set(func() { second.found.Scratch.Free = 12 << 30 })
		time.Sleep(6 * time.Second)
		if v := h.state(t, "b"); v.State != bindery.WorkerReady || v.Reason != "" {
			t.Errorf("%+v", v)
		}
		second.set(func() { second.name = "x" })
		time.Sleep(6 * time.Second)
		if v := h.state(t, "b"); v.State != bindery.WorkerRefused || !strings.Contains(v.Reason, "calls itself x") {
			t.Errorf("%+v", v)
		}
	})
}

// TestWorkerFails moves builds off a worker whose disk fails, and off one that has vanished.
func TestWorkerFails(t *testing.T) {
	for how, fail := range map[string]func(p *prover){
		"read-only": func(p *prover) { p.found.Scratch.ReadOnly = true },
		"away":      func(p *prover) { p.down = true },
	} {
		t.Run(how, func(t *testing.T) {
			second := newProver("b")
			bubble(t, others(second), func(t *testing.T, h *hub) {
				synctest.Wait()
				h.join(t, "b")
				if err := h.DrainWorker(t.Context(), "w", "ann", ""); err != nil {
					t.Fatal(err)
				}
				b := h.submit(t, ask("r"))
				synctest.Wait()
				if err := h.ResumeWorker(t.Context(), "w", "ann", ""); err != nil {
					t.Fatal(err)
				}
				second.set(func() { fail(second) })
				time.Sleep(70 * time.Second)
				got := h.build(t, b.ID)
				if got.State != bindery.BuildRunning || got.Worker != "w" || got.Attempt != 2 || got.Charged != 0 {
					t.Errorf("%+v", got)
				}
				h.w.emit(b.ID, 2, built("bindery/r"))
				second.set(func() { second.down = false })
				time.Sleep(10 * time.Second)
				second.mu.Lock()
				old := second.attempts[name(b.ID, 1)]
				second.mu.Unlock()
				if old != nil && !old.done {
					t.Error("the old attempt goes on")
				}
				if got := h.build(t, b.ID); got.State != bindery.BuildSucceeded {
					t.Errorf("%+v", got)
				}
				second.set(func() { second.found.Scratch.ReadOnly = false })
				time.Sleep(10 * time.Second)
				log, err := h.Audit(t.Context(), bindery.AuditQuery{Who: "hub", Limit: 10})
				var did []string
				for _, l := range log {
					did = append(did, l.Did+" "+l.What)
				}
				want := map[string]string{"read-only": "find worker refused b", "away": "find worker away b"}[how]
				if got := strings.Join(did, ", "); err != nil || got != "find worker ready b, "+want {
					t.Errorf("audit: %s, %v", got, err)
				}
			})
		})
	}
}

func TestWorkerIsRemoved(t *testing.T) {
	second := newProver("b")
	bubble(t, others(second), func(t *testing.T, h *hub) {
		synctest.Wait()
		h.join(t, "b")
		ctx := t.Context()
		if err := h.DrainWorker(ctx, "w", "ann", ""); err != nil {
			t.Fatal(err)
		}
		b := h.submit(t, ask("r"))
		synctest.Wait()
		for _, tt := range []struct {
			err  error
			kind bindery.Kind
		}{
			{h.RemoveWorker(ctx, "b", "ann", "", false), bindery.ErrConflict}, {h.RemoveWorker(ctx, "w", "ann", "", true), bindery.ErrNotAllowed},
			{h.RemoveWorker(ctx, "x", "ann", "", true), bindery.ErrNotFound}, {h.DrainWorker(ctx, "", "ann", ""), bindery.ErrNotFound},
			{h.JoinWorker(ctx, bindery.WorkerRecord{Name: "b", Address: "unix:/elsewhere"}, "ann", "", ""), bindery.ErrConflict},
			{h.JoinWorker(ctx, bindery.WorkerRecord{Name: "w", Address: "unix:/b"}, "ann", "", ""), bindery.ErrConflict},
			{h.JoinWorker(ctx, bindery.WorkerRecord{Name: "-", Address: "unix:/b"}, "ann", "", ""), bindery.ErrInvalid},
		} {
			if !errors.Is(tt.err, tt.kind) {
				t.Errorf("%v, want %s", tt.err, tt.kind)
			}
		}
		if err := h.RemoveWorker(ctx, "b", "ann", "sold", true); err != nil {
			t.Fatal(err)
		}
		if err := h.ResumeWorker(ctx, "w", "ann", ""); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := h.build(t, b.ID); got.Worker != "w" || got.Attempt != 2 {
			t.Errorf("%+v", got)
		}
		if all, err := h.Workers(ctx); err != nil || len(all) != 1 {
			t.Errorf("%+v, %v", all, err)
		}
	})
}

// TestJoinTokens: a token lets as many workers join as it says, until it expires, and a used one is not forgotten by a
// restart.
func TestJoinTokens(t *testing.T) {
	all := []*prover{newProver("a"), newProver("b"), newProver("c"), newProver("d")}
	bubble(t, others(all...), func(t *testing.T, h *hub) {
		synctest.Wait()
		ctx := t.Context()
		join := func(name, token, hash string) error {
			return h.JoinWorker(ctx, bindery.WorkerRecord{Name: name, Address: "unix:/" + name}, "worker:"+name, token, hash)
		}
		if err := h.AddJoinToken(ctx, bindery.JoinToken{ID: "t", Hash: "h", Uses: 2, Pool: "build", Who: "ann", Expires: time.Now().Add(time.Hour)}, "new machines"); err != nil {
			t.Fatal(err)
		}
		if log, err := h.Audit(ctx, bindery.AuditQuery{What: "make join token"}); err != nil || len(log) != 1 || log[0].Who != "ann" || log[0].Reason != "new machines" {
			t.Errorf("audit: %+v, %v", log, err)
		}
		var wg sync.WaitGroup // both at once
		for _, n := range []string{"a", "b"} {
			wg.Go(func() {
				if err := join(n, "t", "h"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		if v := h.state(t, "a"); v.Pool != "build" || v.State != bindery.WorkerRefused || !strings.Contains(v.Reason, "on another machine") {
			t.Errorf("a worker whose images are elsewhere: %+v", v)
		}
		if err := h.AddJoinToken(ctx, bindery.JoinToken{ID: "u", Hash: "h", Uses: 5, Who: "ann", Expires: time.Now().Add(time.Minute)}, ""); err != nil {
			t.Fatal(err)
		}
		for _, tt := range [][2]string{{"t", "h"}, {"u", "x"}, {"none", ""}} {
			if err := join("c", tt[0], tt[1]); !errors.Is(err, bindery.ErrNotAllowed) {
				t.Errorf("%q: %v", tt, err)
			}
		}
		if err := join("a", "u", "h"); err != nil {
			t.Errorf("the same worker once more: %v", err)
		}
		time.Sleep(2 * time.Minute)
		if err := join("c", "u", "h"); !errors.Is(err, bindery.ErrNotAllowed) {
			t.Errorf("expired: %v", err)
		}
	})
}
