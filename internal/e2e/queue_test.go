package e2e

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
	"github.com/bindery-hub/bindery/source/sourcetest"
)

// TestKilledQueue fills the queue of a real hub with ten thousand builds and kills the hub again and again, at moments
// that nobody chose: while it takes builds in, stores, starts, reads and tells. It is back within two seconds with
// everything that it had acknowledged, nothing is there twice, and nothing ran twice.
func TestKilledQueue(t *testing.T) {
	const wanted, kills = 10_000, 8
	h, err := newHub(filepath.Join(shared.dir, "queue"))
	if err != nil {
		t.Fatal(err)
	}
	h.start(t)
	t.Cleanup(h.destroy)
	srv := sourcetest.Start(t)
	srv.Repo("ann/many").Commit("main", map[string]string{"README": "no directories"})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))

	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	q := &crowd{h: h, url: srv.URL + "/ann/many", ids: make([]string, wanted)}
	var wg sync.WaitGroup
	next := make(chan int)
	for range 24 {
		wg.Go(func() {
			for i := range next {
				q.submit(ctx, t, i)
			}
		})
	}
	go func() {
		defer close(next)
		for i := range wanted {
			select {
			case next <- i:
			case <-ctx.Done():
				return
			}
		}
	}()
	full := make(chan struct{})
	go func() { wg.Wait(); close(full) }()
	var back []time.Duration
	for n := range kills {
		if n == kills/2 {
			<-full // the other half of the kills are those of a hub with all of it to restore
		}
		<-time.After(time.Duration(200+rng.IntN(1500)) * time.Millisecond) // a random moment is the point
		h.kill9(t)
		back = append(back, q.again(ctx, t))
	}
	<-full
	slices.Sort(back)
	t.Logf("back after %v", back)
	if middle := back[len(back)/2]; middle > 2*time.Second {
		t.Errorf("the hub was back after %v as a rule, want 2 s at most", middle)
	}
	q.check(ctx, t)
	// What all these hubs decided is decided again, from the traces that they left, torn ends and all.
	replayed := h.run(t, "sim", "replay")
	t.Logf("replayed:\n%s", replayed.stdout)
	if replayed.code != 0 {
		t.Errorf("replay: exit code %d\n%s", replayed.code, replayed.stderr)
	}
}

// A crowd asks for builds, each of a directory that is not there: it runs for a moment and fails once.
type crowd struct {
	h   *hub
	url string
	ids []string // of the builds that were acknowledged, by directory
}

// submit asks until it is answered, over as many hubs as it takes.
func (q *crowd) submit(ctx context.Context, t *testing.T, i int) {
	client := q.h.client(t)
	src := bindery.Source{Provider: bindery.ProviderGit, URL: q.url, Ref: "main", Subdir: fmt.Sprint("d", i)}
	for ctx.Err() == nil {
		b, err := client.Submit(ctx, api.NewBuild{Source: src})
		if err == nil {
			q.ids[i] = b.ID
			return
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	t.Errorf("directory %d: nobody answers", i)
}

// again starts another hub, and says how long it takes to have its queue back.
func (q *crowd) again(ctx context.Context, t *testing.T) time.Duration {
	began := time.Now()
	done := make(chan time.Duration)
	client := q.h.client(t)
	go func() {
		for {
			if _, err := client.Builds(ctx, 1); err == nil || ctx.Err() != nil {
				done <- time.Since(began)
				return
			}
			<-time.After(5 * time.Millisecond)
		}
	}()
	q.h.start(t)
	return <-done
}

// check looks at every build that was ever acknowledged.
func (q *crowd) check(ctx context.Context, t *testing.T) {
	t.Helper()
	client := q.h.client(t)
	seen, states := map[string]int{}, map[bindery.BuildState]int{}
	for i, id := range q.ids {
		if other, twice := seen[id]; twice {
			t.Fatalf("directories %d and %d have one build, %s", other, i, id)
		}
		seen[id] = i
		b, err := client.Build(ctx, id)
		if err != nil {
			t.Fatalf("directory %d: its build is lost: %v", i, err)
		}
		states[b.State]++
		if want := fmt.Sprint("d", i); b.Source.Subdir != want || b.Attempt > 1 || b.State == bindery.BuildSucceeded || b.State == bindery.BuildCancelled {
			t.Fatalf("the build of %s: %+v", want, b)
		}
		if b.State == bindery.BuildFailed {
			q.story(ctx, t, client, b)
		}
		// Asking again gives the same build: there is no other one of its key.
		if i%500 == 0 {
			if again, err := client.Submit(ctx, api.NewBuild{Source: b.Source}); err != nil || again.ID != id && again.State != bindery.BuildQueued {
				t.Errorf("asked again for %s: %+v, %v", id, again, err)
			}
		}
	}
	t.Logf("of %d: %v", len(q.ids), states)
	if states[bindery.BuildFailed] == 0 {
		t.Error("no build ended: nothing was tested")
	}
}

// story wants that a build's log was told once.
func (q *crowd) story(ctx context.Context, t *testing.T, client *api.Client, b bindery.Build) {
	t.Helper()
	r, err := client.BuildLog(ctx, b.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil || strings.Count(string(text), "Waiting for build to start") != 1 || strings.Count(string(text), "Checking out") != 1 {
		t.Errorf("the story of %s: %v\n%s", b.ID, err, text)
	}
}
