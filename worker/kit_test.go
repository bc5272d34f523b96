package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/worker"
)

// A fake does what the URL of a build's source says: "lines N", "say TEXT", "wait", "fail", "panic", "children".
type fake struct {
	mu       sync.Mutex
	prepared map[string]bool
	started  int
	dropped  []bindery.Dropped
}

func newFake() *fake { return &fake{prepared: map[string]bool{}} }

func (f *fake) Build(ctx context.Context, req bindery.BuildRequest, emit func(bindery.Event)) (bindery.BuildResult, error) {
	f.mu.Lock()
	f.started++
	f.mu.Unlock()
	verb, arg, _ := strings.Cut(req.Source.URL, " ")
	result := bindery.BuildResult{Image: "bindery/" + req.ID}
	switch verb {
	case "lines":
		n := 0
		_, _ = fmt.Sscan(arg, &n)
		for i := range n {
			emit(bindery.Event{Phase: bindery.PhaseBuilding, Message: fmt.Sprintf("line %d\n", i+1)})
		}
	case "say":
		for part := range strings.SplitSeq(arg, "|") {
			emit(bindery.Event{Phase: bindery.PhaseBuilding, Message: part})
		}
	case "wait":
		emit(bindery.Event{Phase: bindery.PhaseBuilding, Message: "waiting\n"})
		<-ctx.Done()
		return result, ctx.Err()
	case "fail":
		return result, bindery.Errorf(bindery.ErrStep, bindery.User, "Correct it.", "postBuild failed with %s", arg)
	case "panic":
		panic("the builder is broken")
	case "children":
		cmd := exec.Command("sh", "-c", "setsid sleep 987654 & sleep 987655 & echo ready; wait")
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			return result, err
		}
		ready := make([]byte, 6)
		if _, err := out.Read(ready); err != nil {
			return result, err
		}
		emit(bindery.Event{Phase: bindery.PhaseBuilding, Message: "children run\n"})
		<-ctx.Done()
		return result, ctx.Err()
	}
	return result, nil
}

func (f *fake) Image(_ context.Context, name string) (bindery.Image, error) {
	if name == "bindery/known" {
		return bindery.Image{Name: name}, nil
	}
	return bindery.Image{}, bindery.Errorf(bindery.ErrNotFound, bindery.Ours, "Build it.", "There is no image %q", name)
}
func (f *fake) Images(context.Context) ([]bindery.Image, error) {
	return []bindery.Image{{Name: "bindery/known"}}, nil
}
func (f *fake) RemoveImage(ctx context.Context, name string) error {
	_, err := f.Image(ctx, name)
	return err
}

func (f *fake) Dropped(context.Context) ([]bindery.Dropped, error) { return f.dropped, nil }

func (f *fake) ForgetDropped(_ context.Context, last int64) error {
	f.dropped = slices.DeleteFunc(f.dropped, func(d bindery.Dropped) bool { return d.Number <= last })
	return nil
}

func (f *fake) Prepare(_ context.Context, session, image string) (bindery.Rootfs, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.prepared[session] = true
	return bindery.Rootfs{Mounts: []bindery.Mount{{Type: "overlay", Source: image}}}, nil
}

func (f *fake) Release(_ context.Context, session string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.prepared, session)
	return nil
}

func (f *fake) Prepared(context.Context) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := []string{}
	for s := range f.prepared {
		out = append(out, s)
	}
	return out, nil
}

func (f *fake) Resolve(_ context.Context, src bindery.Source) (bindery.Source, error) {
	if src.Ref == "none" {
		return src, bindery.Errorf(bindery.ErrRefNotFound, bindery.User, "Check the ref.", "There is no ref %q", src.Ref)
	}
	src.Commit = strings.Repeat("a", 40)
	return src, nil
}

func (f *fake) Plan(_ context.Context, src bindery.Source, base string) (json.RawMessage, error) {
	return json.Marshal(map[string]string{"url": src.URL, "base": base})
}

func config(dir string, f *fake) worker.Config {
	return worker.Config{Builder: f, Images: f, Resolver: f, Planner: f, Dir: dir, Name: "w", Version: "1", Generation: "g", Slots: 4}
}

// running is a server in this process.
type running struct {
	*worker.Client
	stop func() // ends it; may be called twice
	done chan error
}

// serve runs a server with the state in dir.
func serve(t *testing.T, dir string, f *fake, change ...func(*worker.Config)) *running {
	t.Helper()
	cfg := config(dir, f)
	for _, c := range change {
		c(&cfg)
	}
	s, err := worker.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := worker.Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Client: worker.NewClient(filepath.Join(dir, "worker.sock")), done: make(chan error, 1)}
	go func() { r.done <- s.Run(ctx, l) }()
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-r.done; err != nil {
				t.Errorf("Run: %v", err)
			}
			if err := l.Release(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(r.stop)
	return r
}

func request(id, what string) bindery.BuildRequest {
	return bindery.BuildRequest{ID: id, Attempt: 1, Source: bindery.Source{Provider: bindery.ProviderGit, URL: what}}
}

func start(t *testing.T, c *worker.Client, id, what string) {
	t.Helper()
	if err := c.Start(t.Context(), request(id, what)); err != nil {
		t.Fatalf("Start: %v", err)
	}
}

// events reads an attempt to its end and checks the numbers.
func events(t *testing.T, c *worker.Client, id string, after int64) []bindery.Event {
	t.Helper()
	var out []bindery.Event
	for ev, err := range c.Events(t.Context(), id, 1, after) {
		if err != nil {
			t.Errorf("Events(%s, %d): %v", id, after, err)
			return out
		}
		if want := after + int64(len(out)) + 1; ev.Seq != want {
			t.Errorf("event %d comes as number %d", ev.Seq, want)
		}
		out = append(out, ev)
	}
	return out
}

func last(t *testing.T, evs []bindery.Event) bindery.Event {
	t.Helper()
	if len(evs) == 0 || !evs[len(evs)-1].Last() {
		t.Fatalf("the events have no end: %+v", evs)
	}
	return evs[len(evs)-1]
}

func wantKind(t *testing.T, err error, kind bindery.Kind, fault bindery.Fault) {
	t.Helper()
	e, ok := errors.AsType[*bindery.Error](err)
	if !ok || e.Kind != kind || e.Fault != fault {
		t.Errorf("got error %#v (%v), want kind %q of fault %q", e, err, kind, fault)
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("it did not come to pass that %s", what)
		case <-tick.C:
		}
	}
}

// firstEvent waits until an attempt has said something.
func firstEvent(t *testing.T, c *worker.Client, id string) {
	t.Helper()
	for _, err := range c.Events(t.Context(), id, 1, 0) {
		if err != nil {
			t.Fatal(err)
		}
		return
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
