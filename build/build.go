// Package build carries out one build from start to end: fetch, plan, keys, solve.
package build

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/plan"
)

// Sources fetches repositories.
type Sources interface {
	// Fetch returns the directory with src's files: a fresh checkout inside scratch, or the directory that src names.
	Fetch(ctx context.Context, src bindery.Source, scratch string, say func(string)) (dir string, err error)
}

// An Engine solves jobs and keeps the images that it made.
type Engine interface {
	// Image returns the image called name, or an error of kind not-found.
	Image(ctx context.Context, name string) (bindery.Image, error)
	Solve(ctx context.Context, job plan.Job, emit func(bindery.Event)) (plan.Made, error)
}

// Config configures a Builder.
type Config struct {
	Sources    Sources          // required
	Engine     Engine           // required
	Generation string           // required: the rules, by which equal plans become equal images; the rest of a recipe is below
	Base       string           // default: plan.DefaultBase
	Appendix   string           // lines of a Dockerfile for the end of every image; requests may bring their own
	Suites     []string         // plan.Options.Suites
	Scratch    string           // directory for checkouts; required
	Now        func() time.Time // default: time.Now
	Log        *slog.Logger     // default: discard
}

// A Builder builds. Any number of builds may run at a time.
type Builder struct {
	cfg Config
}

// New checks the configuration. It starts nothing.
func New(cfg Config) (*Builder, error) {
	if cfg.Sources == nil || cfg.Engine == nil || cfg.Generation == "" || cfg.Scratch == "" {
		return nil, errors.New("build: Config.Sources, Engine, Generation and Scratch are required")
	}
	cfg.Base = cmp.Or(cfg.Base, plan.DefaultBase)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Builder{cfg}, nil
}

// Build carries out one attempt. It emits everything but the last event of the build's story: the caller makes that,
// PhaseBuilt or PhaseFailed, from what Build returns. Events come without number and time, and from any goroutine.
// An error is a *bindery.Error, or one of ours that nobody foresaw.
func (b *Builder) Build(ctx context.Context, req bindery.BuildRequest, emit func(bindery.Event)) (bindery.BuildResult, error) {
	result, err := b.build(ctx, req, emit)
	return result, ended(ctx, err)
}

func (b *Builder) build(ctx context.Context, req bindery.BuildRequest, emit func(bindery.Event)) (bindery.BuildResult, error) {
	made := b.recipe(req)
	result := bindery.BuildResult{Generation: made.Generation(), Seconds: map[string]float64{}}
	start := b.cfg.Now()
	lap := func(stage string) {
		now := b.cfg.Now()
		result.Seconds[stage] = now.Sub(start).Seconds()
		start = now
	}

	t, err := b.fetch(ctx, req.Source, func(line string) { say(emit, bindery.PhaseFetching, strings.TrimSuffix(line, "\n")+"\n") })
	if err != nil {
		return result, err
	}
	defer t.close()
	lap("fetch")

	job, err := b.job(ctx, req, made, t, emit)
	if err != nil {
		return result, err
	}
	result.Image, result.EnvKey, result.ImageKey = job.Name, job.EnvKey, job.ImageKey
	result.Kind, result.Copies = job.Plan.Pack, copies(job)
	lap("plan")

	have, err := b.have(ctx, job)
	if err != nil {
		return result, err
	}
	if have {
		say(emit, bindery.PhaseBuilding, "The image of these files exists already.\n")
		lap("solve")
		result.Seconds["export"] = 0
		return result, nil
	}
	solve := b.cfg.Engine.Solve
	if req.Quick {
		solve = b.quickly
	}
	done, err := solve(ctx, job, emit)
	if err != nil {
		return result, fmt.Errorf("solve: %w", err)
	}
	result.Steps, result.Digest, result.Size = done.Steps, done.Digest, done.Image.Size
	result.Seconds["solve"], result.Seconds["export"] = done.Solve, done.Export
	return result, nil
}

// Plan returns what the files of src ask for. As plan.Detect's, the plan beside an error has what was decided before.
func (b *Builder) Plan(ctx context.Context, src bindery.Source, base string) (plan.Plan, error) {
	t, err := b.fetch(ctx, src, func(string) {})
	if err != nil {
		return plan.Plan{}, ended(ctx, err)
	}
	defer t.close()
	p, err := plan.Detect(t.files(ctx), plan.Options{Base: cmp.Or(base, b.cfg.Base), Suites: b.cfg.Suites})
	return p, ended(ctx, err)
}

// recipe is what an attempt is made by: the request's or the worker's own, with the rules of this program in any case.
// The planner's own base has no name in it.
func (b *Builder) recipe(req bindery.BuildRequest) bindery.Recipe {
	r := bindery.Recipe{Base: b.cfg.Base, Appendix: b.cfg.Appendix, Suites: b.cfg.Suites}
	if req.Recipe != nil {
		r = *req.Recipe
	}
	r.Rules, r.Base, r.Appendix = b.cfg.Generation, cmp.Or(req.Base, r.Base), cmp.Or(req.Appendix, r.Appendix)
	if r.Base == plan.DefaultBase {
		r.Base = ""
	}
	return r
}

// job plans what t's files ask for, and names it.
func (b *Builder) job(ctx context.Context, req bindery.BuildRequest, r bindery.Recipe, t *tree, emit func(bindery.Event)) (plan.Job, error) {
	p, err := plan.Detect(t.files(ctx), plan.Options{Base: cmp.Or(r.Base, plan.DefaultBase), Suites: r.Suites})
	if err != nil {
		return plan.Job{}, err
	}
	if err := explain(p, emit); err != nil {
		return plan.Job{}, err
	}
	content, err := b.contentKey(ctx, req.Source, t, p, func(text string) { say(emit, bindery.PhaseBuilding, text) })
	if err != nil {
		return plan.Job{}, err
	}
	job := plan.Job{Plan: p, Dir: t.dir, Source: req.Source, Labels: b.labels(req.Source), Push: req.Push, OCI: req.OCI, Export: req.Export}
	if job.EnvKey, err = p.EnvKey(b.cfg.Generation, t.files(ctx)); err != nil {
		return plan.Job{}, err
	}
	if p.Pack == plan.PackDockerfile { // any step of it may read any file
		job.EnvKey = bindery.Key("env", job.EnvKey, content)
	}
	identity := bindery.ProviderLocal
	if req.Source.Provider != bindery.ProviderLocal {
		identity = req.Source.Identity()
	}
	more := []string{identity}
	if p.Pack != plan.PackDockerfile && r.Appendix != "" {
		job.Appendix = r.Appendix
		more = append(more, r.Appendix)
	}
	if job.ImageKey, err = p.ImageKey(job.EnvKey, content, more...); err != nil {
		return plan.Job{}, err
	}
	job.Name = ImageName(job.ImageKey)
	job.GitDir, err = gitDir(t, p)
	return job, err
}

// ImageName is the name of the image with a key.
func ImageName(imageKey string) string { return "bindery/" + imageKey[:min(24, len(imageKey))] }

// labels are those that repo2docker gives.
func (b *Builder) labels(src bindery.Source) map[string]string {
	repo, ref := src.URL, cmp.Or(src.Commit, src.Ref, "None")
	if src.Provider == bindery.ProviderLocal {
		repo, ref = "local", "None"
	}
	return map[string]string{"repo2docker.repo": repo, "repo2docker.ref": ref, "repo2docker.version": "bindery-" + b.cfg.Generation}
}

// have reports whether the job's image exists. One that is to go elsewhere is solved all the same, from cache.
func (b *Builder) have(ctx context.Context, job plan.Job) (bool, error) {
	if len(job.Push) > 0 || job.OCI != "" || job.Export.CacheTo != "" {
		return false, nil
	}
	image, err := b.cfg.Engine.Image(ctx, job.Name)
	if errors.Is(err, bindery.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for image %s: %w", job.Name, err)
	}
	return image.ImageKey == job.ImageKey, nil
}

// gitDir returns the .git directory of the job's files, if it can be taken as a whole.
func gitDir(t *tree, p plan.Plan) (string, error) {
	info, err := t.root.Lstat(".git")
	if err != nil || !info.IsDir() || p.Pack == plan.PackDockerfile {
		return "", nil
	}
	ignorer, err := plan.NewIgnorer(p.Ignore)
	if err != nil || ignorer.About(".git") {
		return "", err
	}
	return filepath.Join(t.dir, ".git"), nil
}

// mostPlan bounds the plan that travels with a build's events. Lock files of a thousand packages make longer ones:
// `bindery plan` shows those.
const mostPlan = 256 << 10

// explain tells the repository's author what was found, in words and as data.
func explain(p plan.Plan, emit func(bindery.Event)) error {
	var text strings.Builder
	fmt.Fprintf(&text, "Using %s builder\n", p.Pack)
	for _, d := range p.Why {
		fmt.Fprintf(&text, "%s\n", line(d))
	}
	for _, d := range p.Ignored {
		fmt.Fprintf(&text, "Ignored: %s\n", line(d))
	}
	data, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("explain the plan: %w", err)
	}
	if len(data) > mostPlan {
		data = nil
	}
	emit(bindery.Event{Phase: bindery.PhaseBuilding, Message: text.String(), Plan: data})
	return nil
}

func line(d plan.Decision) string {
	if d.File == "" {
		return d.Text
	}
	return bindery.Printable(d.File) + ": " + d.Text
}

func say(emit func(bindery.Event), phase bindery.Phase, text string) {
	emit(bindery.Event{Phase: phase, Message: text})
}

// ended says why a build ended. When its context is over that is the reason, whatever broke because of it.
func ended(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	if e, ok := errors.AsType[*bindery.Error](context.Cause(ctx)); ok {
		return e
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return bindery.Errorf(bindery.ErrTimeout, bindery.User, "Make it do less, or ask the operator for a longer limit.", "The build took too long").Because(err)
	}
	return bindery.Errorf(bindery.ErrCancelled, bindery.User, "Ask for it again if you still want it.", "The build was cancelled").Because(err)
}

// A tree is the directory that is built.
type tree struct {
	dir   string // without symbolic links
	root  *os.Root
	close func()
}

// files are the tree's, as the planner reads them: none once ctx is over, so that planning ends with it.
func (t *tree) files(ctx context.Context) fs.FS { return files{t.root.FS(), ctx.Err} }

type files struct {
	fs.FS
	over func() error // nil until then
}

// Stat comes before everything that the planner does with a file.
func (f files) Stat(name string) (fs.FileInfo, error) {
	if err := f.over(); err != nil {
		return nil, err
	}
	return fs.Stat(f.FS, name)
}

func (f files) Lstat(name string) (fs.FileInfo, error) { return fs.Lstat(f.FS, name) }

func (f files) ReadLink(name string) (string, error) { return fs.ReadLink(f.FS, name) }

// fetch gets the files of src and opens the directory that is to be built.
func (b *Builder) fetch(ctx context.Context, src bindery.Source, say func(string)) (*tree, error) {
	subdir, err := bindery.CleanSubdir(src.Subdir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(b.cfg.Scratch, 0o700); err != nil {
		return nil, fmt.Errorf("make scratch directory: %w", err)
	}
	scratch, err := os.MkdirTemp(b.cfg.Scratch, "build-")
	if err != nil {
		return nil, fmt.Errorf("make scratch directory: %w", err)
	}
	discard := func() {
		if err := os.RemoveAll(scratch); err != nil {
			b.cfg.Log.WarnContext(ctx, "scratch directory stays", "error", err)
		}
	}
	dir, err := b.cfg.Sources.Fetch(ctx, src, scratch, say)
	if err != nil {
		discard()
		return nil, fmt.Errorf("fetch: %w", err)
	}
	t, err := open(dir, subdir)
	if err != nil {
		discard()
		return nil, err
	}
	t.close = func() {
		_ = t.root.Close() // it was only read
		discard()
	}
	return t, nil
}

// open opens dir, or the directory subdir of it, which may not lead out of it.
func open(dir, subdir string) (*tree, error) {
	missing := func(err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return bindery.Errorf(bindery.ErrInvalid, bindery.User, "Look for its name in the repository, at this ref.", "The repository has no directory %q", bindery.Printable(subdir))
		}
		return bindery.Errorf(bindery.ErrInvalid, bindery.User, "Name a directory inside the repository.", "%q is not a directory inside the repository", bindery.Printable(subdir)).Because(err)
	}
	clean, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, fmt.Errorf("open checkout: %w", err)
	}
	root, err := os.OpenRoot(clean)
	if err != nil {
		return nil, fmt.Errorf("open checkout: %w", err)
	}
	if subdir == "" {
		return &tree{dir: clean, root: root}, nil
	}
	defer root.Close()
	sub, err := root.OpenRoot(subdir)
	if err != nil {
		return nil, missing(err)
	}
	full, err := filepath.EvalSymlinks(filepath.Join(clean, subdir))
	if err == nil && !strings.HasPrefix(full, clean+string(filepath.Separator)) {
		err = fs.ErrInvalid
	}
	if err != nil {
		_ = sub.Close() // it was only read
		return nil, missing(err)
	}
	return &tree{dir: full, root: sub}, nil
}
