package build_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/build"
	"github.com/bindery-hub/bindery/plan"
)

// sources checks out the same files for every commit, and gives local directories in place.
type sources struct {
	files fstest.MapFS
	err   error
}

func (s sources) Fetch(ctx context.Context, src bindery.Source, scratch string, say func(string)) (string, error) {
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	say("Fetching\n")
	if s.err != nil || src.Provider == bindery.ProviderLocal {
		return src.URL, s.err
	}
	dir := filepath.Join(scratch, "checkout")
	return dir, errors.Join(os.CopyFS(dir, s.files), os.MkdirAll(filepath.Join(dir, ".git"), 0o755))
}

// engine keeps the images that it was asked to make.
type engine struct {
	mu     sync.Mutex
	images map[string]bindery.Image
	jobs   []plan.Job
	err    error
	check  func(plan.Job)
}

func (e *engine) Image(_ context.Context, name string) (bindery.Image, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	image, ok := e.images[name]
	if !ok {
		return bindery.Image{}, bindery.Errorf(bindery.ErrNotFound, bindery.User, "Build it.", "There is no image %s", name)
	}
	return image, nil
}

func (e *engine) Solve(ctx context.Context, job plan.Job, emit func(bindery.Event)) (plan.Made, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		return plan.Made{}, e.err
	}
	if e.check != nil {
		e.check(job)
	}
	emit(bindery.Event{Phase: bindery.PhaseBuilding, Message: "step\n"})
	e.jobs = append(e.jobs, job)
	if e.images == nil {
		e.images = map[string]bindery.Image{}
	}
	e.images[job.Name] = bindery.Image{Name: job.Name, EnvKey: job.EnvKey, ImageKey: job.ImageKey}
	return plan.Made{Steps: bindery.Steps{Run: 3}, Solve: 1, Export: 2}, ctx.Err()
}

func newBuilder(t *testing.T, s build.Sources, e build.Engine) (*build.Builder, string) {
	t.Helper()
	scratch := filepath.Join(t.TempDir(), "scratch")
	b, err := build.New(build.Config{Sources: s, Engine: e, Generation: "g1", Scratch: scratch})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if left, _ := os.ReadDir(scratch); len(left) > 0 {
			t.Errorf("left in scratch: %v", left)
		}
	})
	return b, scratch
}

func gitSource(commit string) bindery.Source {
	return bindery.Source{Provider: bindery.ProviderGit, URL: "https://h/o/r", Ref: "main", Commit: strings.Repeat(commit, 40)}
}

func TestBuild(t *testing.T) {
	files := fstest.MapFS{
		"requirements.txt":          {Data: []byte("six")},
		"sub/binder/apt.txt":        {Data: []byte("git")},
		"sub/binder/.dockerignore":  {Data: []byte(".git")},
		"sub/deeper/.dockerignore":  {Data: []byte("x")},
		"sub/deeper/postBuild":      {Data: []byte("true")},
		"sub/deeper/.git/something": {Data: []byte("")},
	}
	e := &engine{check: func(job plan.Job) {
		if _, err := os.Stat(job.Dir); err != nil {
			t.Error(err)
		}
	}}
	b, scratch := newBuilder(t, sources{files: files}, e)
	var events []bindery.Event
	run := func(src bindery.Source) bindery.BuildResult {
		t.Helper()
		got, err := b.Build(t.Context(), bindery.BuildRequest{Source: src}, func(e bindery.Event) { events = append(events, e) })
		if err != nil {
			t.Fatal(err)
		}
		return got
	}

	first := run(gitSource("1"))
	if first.Image != build.ImageName(first.ImageKey) || first.Steps.Run != 3 || first.Seconds["solve"] != 1 || first.Seconds["export"] != 2 {
		t.Errorf("result %+v", first)
	}
	job := e.jobs[0]
	if !strings.HasPrefix(job.Dir, scratch) || job.GitDir != filepath.Join(job.Dir, ".git") || job.Plan.Pack != plan.PackPython {
		t.Errorf("job %+v", job)
	}
	want := map[string]string{"repo2docker.repo": "https://h/o/r", "repo2docker.ref": strings.Repeat("1", 40), "repo2docker.version": "bindery-g1"}
	if diff := cmp.Diff(want, job.Labels); diff != "" {
		t.Error(diff)
	}
	if events[0].Phase != bindery.PhaseFetching || events[len(events)-1].Phase != bindery.PhaseBuilding || events[len(events)-1].Last() {
		t.Errorf("events %+v", events)
	}

	again := run(gitSource("1"))
	if len(e.jobs) != 1 || again.ImageKey != first.ImageKey || again.Steps != (bindery.Steps{}) {
		t.Errorf("built again: %+v", again)
	}
	next := run(gitSource("2"))
	if next.ImageKey == first.ImageKey || next.EnvKey != first.EnvKey {
		t.Errorf("another commit with the same requirements: %+v after %+v", next, first)
	}

	sub := gitSource("1")
	sub.Subdir = "sub"
	if run(sub); e.jobs[len(e.jobs)-1].GitDir != "" || e.jobs[len(e.jobs)-1].Plan.ConfigDir != "binder" {
		t.Errorf("subdirectory: %+v", e.jobs[len(e.jobs)-1])
	}
	if _, err := b.Build(t.Context(), bindery.BuildRequest{Source: gitSource("1"), OCI: "/x"}, func(bindery.Event) {}); err != nil || e.jobs[len(e.jobs)-1].OCI != "/x" {
		t.Errorf("an image that exists was not solved for its OCI layout: %v", err)
	}
}

func TestLocal(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	b, _ := newBuilder(t, sources{}, &engine{})
	key := func() string {
		t.Helper()
		got, err := b.Build(t.Context(), bindery.BuildRequest{Source: bindery.Source{Provider: bindery.ProviderLocal, URL: dir}}, func(bindery.Event) {})
		if err != nil {
			t.Fatal(err)
		}
		return got.ImageKey
	}
	write("a", "1", 0o644)
	write("ünï \xff\n", "odd", 0o644)
	write(".dockerignore", "data\n*.log\n", 0o644)
	seen := map[string]string{}
	fresh := func(what string) {
		t.Helper()
		k := key()
		if before, ok := seen[k]; ok {
			t.Errorf("%s has the key of %s", what, before)
		}
		if k != key() {
			t.Errorf("%s has two keys", what)
		}
		seen[k] = what
	}
	fresh("the first")
	write("a", "2", 0o644)
	fresh("other content")
	write("a", "2", 0o755)
	fresh("another mode")
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	fresh("a link")
	if err := errors.Join(os.Remove(filepath.Join(dir, "link")), os.Symlink("/etc/shadow", filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	fresh("a link elsewhere")
	write("ünï \xfe\n", "odd", 0o644)
	fresh("another odd name")
	if err := os.Mkdir(filepath.Join(dir, "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	fresh("an empty directory")

	last := key()
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	write("data/big", "x", 0o644)
	write("x.log", "x", 0o644)
	if err := os.Chtimes(filepath.Join(dir, "a"), time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if key() != last {
		t.Error("ignored files or times change the image")
	}

	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := b.Build(t.Context(), bindery.BuildRequest{Source: bindery.Source{Provider: bindery.ProviderLocal, URL: dir}}, func(bindery.Event) {})
	if !errors.Is(err, bindery.ErrPlan) || bindery.AsError(err).Fault != bindery.User || !strings.Contains(err.Error(), "pipe") {
		t.Errorf("a pipe: %v", err)
	}
}

func TestDockerfileCoversContent(t *testing.T) {
	e := &engine{}
	b, _ := newBuilder(t, sources{files: fstest.MapFS{"Dockerfile": {Data: []byte("FROM x")}}}, e)
	var keys []string
	for _, commit := range []string{"1", "2"} {
		got, err := b.Build(t.Context(), bindery.BuildRequest{Source: gitSource(commit)}, func(bindery.Event) {})
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, got.EnvKey)
	}
	if keys[0] == keys[1] {
		t.Error("the environment of a Dockerfile does not depend on the files that it copies")
	}
}

func TestErrors(t *testing.T) {
	stepFailed := bindery.Errorf(bindery.ErrStep, bindery.User, "Mend it.", "postBuild failed")
	outside := t.TempDir()
	linked := t.TempDir()
	if err := errors.Join(os.Symlink(outside, filepath.Join(linked, "out")), os.WriteFile(filepath.Join(linked, "file"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	local := func(subdir string) bindery.Source {
		return bindery.Source{Provider: bindery.ProviderLocal, URL: linked, Subdir: subdir}
	}
	for name, tt := range map[string]struct {
		sources sources
		engine  *engine
		src     bindery.Source
		kind    bindery.Kind
		fault   bindery.Fault
	}{
		"fetch":            {sources{err: bindery.Errorf(bindery.ErrUnreachable, bindery.Transient, "Wait.", "no answer")}, &engine{}, gitSource("1"), bindery.ErrUnreachable, bindery.Transient},
		"unknown fetch":    {sources{err: errors.New("x")}, &engine{}, gitSource("1"), bindery.ErrInternal, bindery.Ours},
		"step":             {sources{files: fstest.MapFS{}}, &engine{err: fmt.Errorf("x: %w", stepFailed)}, gitSource("1"), bindery.ErrStep, bindery.User},
		"plan":             {sources{files: fstest.MapFS{"binder/x": {}, ".binder/x": {}}}, &engine{}, gitSource("1"), bindery.ErrPlan, bindery.User},
		"missing subdir":   {sources{}, &engine{}, local("nowhere"), bindery.ErrInvalid, bindery.User},
		"subdir is a file": {sources{}, &engine{}, local("file"), bindery.ErrInvalid, bindery.User},
		"subdir leads out": {sources{}, &engine{}, local("out"), bindery.ErrInvalid, bindery.User},
		"subdir is above":  {sources{}, &engine{}, local("../x"), bindery.ErrInvalid, bindery.User},
		"no commit":        {sources{files: fstest.MapFS{}}, &engine{}, bindery.Source{Provider: "git", URL: "https://h/o/r"}, bindery.ErrInternal, bindery.Ours},
	} {
		t.Run(name, func(t *testing.T) {
			b, _ := newBuilder(t, tt.sources, tt.engine)
			_, err := b.Build(t.Context(), bindery.BuildRequest{Source: tt.src}, func(bindery.Event) {})
			e := bindery.AsError(err)
			if err == nil || e.Kind != tt.kind || e.Fault != tt.fault || e.Remedy == "" {
				t.Errorf("got %#v", err)
			}
			if err != nil && strings.Contains(e.Msg, outside) {
				t.Errorf("the message shows a path of the machine: %s", e.Msg)
			}
		})
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	e := &engine{check: func(plan.Job) { cancel() }}
	b, _ := newBuilder(t, sources{files: fstest.MapFS{}}, e)
	_, err := b.Build(ctx, bindery.BuildRequest{Source: gitSource("1")}, func(bindery.Event) {})
	if !errors.Is(err, bindery.ErrCancelled) {
		t.Errorf("got %v", err)
	}
	if _, err := b.Plan(ctx, gitSource("1"), ""); !errors.Is(err, bindery.ErrCancelled) {
		t.Errorf("Plan: %v", err)
	}
}

func TestPlanReturnsThePackBesideItsError(t *testing.T) {
	b, _ := newBuilder(t, sources{files: fstest.MapFS{"environment.yml": {Data: []byte("- x")}}}, &engine{})
	p, err := b.Plan(t.Context(), gitSource("1"), "")
	if p.Pack != plan.PackConda || !errors.Is(err, bindery.ErrPlan) {
		t.Errorf("%q, %v", p.Pack, err)
	}
}

// BenchmarkManyFiles hashes 50,000 small files.
func BenchmarkManyFiles(b *testing.B) {
	dir := b.TempDir()
	for i := range 500 {
		sub := filepath.Join(dir, fmt.Sprintf("d%03d", i))
		if err := os.Mkdir(sub, 0o755); err != nil {
			b.Fatal(err)
		}
		for j := range 100 {
			if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("f%02d", j)), fmt.Appendf(nil, "%d %d\n", i, j), 0o644); err != nil {
				b.Fatal(err)
			}
		}
	}
	benchmark(b, dir)
}

// BenchmarkLargeFiles hashes 500 MB in five files.
func BenchmarkLargeFiles(b *testing.B) {
	dir := b.TempDir()
	data := make([]byte, 100<<20)
	for i := range 5 {
		data[0] = byte(i)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), data, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	benchmark(b, dir)
}

func benchmark(b *testing.B, dir string) {
	b.Helper()
	builder, err := build.New(build.Config{Sources: sources{}, Engine: &engine{}, Generation: "g", Scratch: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := builder.Build(b.Context(), bindery.BuildRequest{Source: bindery.Source{Provider: bindery.ProviderLocal, URL: dir}}, func(bindery.Event) {}); err != nil {
			b.Fatal(err)
		}
	}
}

// ending is a source after whose fetching nobody waits for the build any more.
type ending struct {
	sources
	end context.CancelFunc
}

func (s ending) Fetch(ctx context.Context, src bindery.Source, scratch string, say func(string)) (string, error) {
	defer s.end()
	return s.sources.Fetch(ctx, src, scratch, say)
}

// Planning ends with the build, between two files.
func TestPlanningEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b, _ := newBuilder(t, ending{sources{files: fstest.MapFS{"requirements.txt": {Data: []byte("six")}}}, cancel}, &engine{})
	if p, err := b.Plan(ctx, gitSource("1"), ""); !errors.Is(err, bindery.ErrCancelled) || len(p.Env) > 0 {
		t.Errorf("%+v, %v", p.Env, err)
	}
}
