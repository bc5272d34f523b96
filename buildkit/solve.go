package buildkit

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/session"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tonistiigi/fsutil"
	fstypes "github.com/tonistiigi/fsutil/types"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/plan"
)

// Solve builds job's image, keeps it under its name, and pushes or writes it where the job says so. emit gets the
// story as it happens, from one goroutine at a time.
func (e *Engine) Solve(ctx context.Context, job plan.Job, emit func(bindery.Event)) (plan.Made, error) {
	s := &solve{e: e, id: rand.Text(), job: job, emit: emit, stores: map[string]content.Store{}}
	defer e.said.Delete(s.id)
	defer func() {
		select {
		case e.solved <- struct{}{}:
		default: // said already
		}
	}()
	made, err := s.do(ctx)
	if err != nil {
		return plan.Made{}, err
	}
	rec, err := e.records.get(job.Name)
	if err != nil {
		return plan.Made{}, err
	}
	made.Image = rec.Image
	return made, nil
}

type solve struct {
	e      *Engine
	id     string // of this solve in this process
	job    plan.Job
	emit   func(bindery.Event)
	stores map[string]content.Store
	bases  map[string]layout // by suite
	solved time.Time
}

func (s *solve) do(ctx context.Context) (plan.Made, error) {
	began := time.Now()
	if err := s.bootstrap(ctx); err != nil {
		return plan.Made{}, err
	}
	opt, err := s.options()
	if err != nil {
		return plan.Made{}, err
	}
	p := newProgress(s.emit, s.e.cfg.CgroupParent, s.job.Plan.Docker != "", s.e.isFull)
	p.mentions = func(host string) string { return mentions(s.job, host) }
	p.explain = func(step string, code int, said string) *bindery.Error {
		return cmp.Or(condaError(s.job, step, code, said), aptError(s.job.Plan, step, code, said))
	}
	if s.job.Plan.Docker != "" {
		p.source = s.source
	}
	ch, done := make(chan *client.SolveStatus), make(chan struct{})
	tick := time.NewTicker(s.e.cfg.LookEvery)
	defer tick.Stop()
	go func() {
		defer close(done)
		p.follow(ch, tick.C)
	}()
	res, err := s.e.client.Build(ctx, opt, "bindery", s.build, ch)
	<-done
	if err != nil {
		return plan.Made{}, p.solveError(ctx, err)
	}
	made := plan.Made{Steps: p.steps(), Solve: s.solved.Sub(began).Seconds(), Export: time.Since(s.solved).Seconds()}
	made.Digest = res.ExporterResponse[exptypes.ExporterImageDigestKey]
	return made, nil
}

// bootstrap makes the bases that the job stands on.
func (s *solve) bootstrap(ctx context.Context) error {
	s.bases = map[string]layout{}
	names := []string{s.job.Plan.Base}
	if s.job.Plan.Base == "" {
		names = []string{defaultBase}
	}
	if s.job.Plan.Docker != "" {
		names = s.fromLines()
	}
	for _, n := range names {
		suite := suiteOf(n)
		if suite == "" {
			continue
		}
		l, err := s.e.bootstrap(ctx, suite, s.emit)
		if err != nil {
			return err
		}
		blobs, err := local.NewStore(l.dir)
		if err != nil {
			return fmt.Errorf("base %s: %w", suite, err)
		}
		s.bases[suite], s.stores["base-"+suite] = l, blobs
	}
	return nil
}

func (s *solve) options() (client.SolveOpt, error) {
	opt := client.SolveOpt{FrontendAttrs: map[string]string{}, LocalMounts: map[string]fsutil.FS{}, OCIStores: s.stores}
	files, err := s.files()
	if err != nil {
		return opt, err
	}
	opt.LocalMounts[localFiles] = files
	if s.job.Plan.Docker != "" { // the names that the frontend asks for
		opt.LocalMounts["context"], opt.LocalMounts["dockerfile"] = files, files
	}
	if s.job.GitDir != "" {
		git, err := fsutil.NewFS(s.job.GitDir)
		if err != nil {
			return opt, fmt.Errorf("repository: %w", err)
		}
		dir := fsutil.Dir{FS: git, Stat: &fstypes.Stat{Path: ".git", Mode: uint32(fs.ModeDir | 0o755)}}
		if opt.LocalMounts[localGit], err = fsutil.SubDirFS([]fsutil.Dir{dir}); err != nil {
			return opt, fmt.Errorf("repository: %w", err)
		}
	}
	s.e.guard.name(s.job)
	opt.Session = []session.Attachable{s.e.guard.credentials(), s.e.condaCredentials()}
	img, err := json.Marshal(bindery.Image{Name: s.job.Name, EnvKey: s.job.EnvKey, ImageKey: s.job.ImageKey, Source: s.job.Source, Created: time.Now().UTC()})
	if err != nil {
		return opt, fmt.Errorf("image record: %w", err)
	}
	if opt.Exports, err = s.exports(string(img)); err != nil {
		return opt, err
	}
	opt.CacheImports, opt.CacheExports, err = s.caches()
	return opt, err
}

// files is the repository as it goes into the image: scripts that will be run are executable, whatever Git says, and
// devices, pipes and sockets stay out, wherever they came from.
func (s *solve) files() (fsutil.FS, error) {
	all, err := fsutil.NewFS(s.job.Dir)
	if err != nil {
		return nil, fmt.Errorf("repository: %w", err)
	}
	run := map[string]bool{}
	if s.job.Plan.Docker == "" {
		run = map[string]bool{filepath.Clean(s.job.Plan.PostBuild): true, filepath.Clean(s.job.Plan.Start): true}
	}
	return fsutil.NewFilterFS(all, &fsutil.FilterOpt{Map: func(p string, st *fstypes.Stat) fsutil.MapResult {
		mode := fs.FileMode(st.Mode)
		if mode&(fs.ModeDevice|fs.ModeCharDevice|fs.ModeNamedPipe|fs.ModeSocket|fs.ModeIrregular) != 0 {
			return fsutil.MapResultExclude
		}
		if run[p] && mode.IsRegular() {
			st.Mode |= 0o111
		}
		return fsutil.MapResultKeep
	}})
}

// build is what the engine runs to know the graph.
func (s *solve) build(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
	var res *gateway.Result
	var err error
	if s.job.Plan.Docker != "" {
		res, err = s.dockerfile(ctx, c)
	} else {
		res, err = s.plan(ctx, c)
	}
	if err == nil {
		err = s.attest(ctx, res)
	}
	s.solved = time.Now()
	return res, err
}

func (s *solve) plan(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
	base, err := s.root(ctx, c)
	if err != nil {
		return nil, err
	}
	img, err := json.Marshal(imageConfig(s.job, base.env))
	if err != nil {
		return nil, fmt.Errorf("image config: %w", err)
	}
	all := graph(s.job, base)
	if s.job.Appendix != "" {
		return s.appended(ctx, c, all, img)
	}
	def, err := all.Marshal(ctx, llb.Platform(platforms.DefaultSpec()), llb.LocalUniqueID("bindery"))
	if err != nil {
		return nil, fmt.Errorf("graph: %w", err)
	}
	res, err := c.Solve(ctx, gateway.SolveRequest{Definition: def.ToPB(), Evaluate: true})
	if err != nil {
		return nil, err
	}
	res.AddMeta(exptypes.ExporterImageConfigKey, img)
	return res, nil
}

// root is what the graph stands on: a bootstrapped suite, or an image that a registry has.
func (s *solve) root(ctx context.Context, c gateway.Client) (root, error) {
	name := s.job.Plan.Base
	if name == "" {
		name = defaultBase
	}
	if suite := suiteOf(name); suite != "" {
		l := s.bases[suite]
		ref := "bindery.local/" + suite + "@" + l.digest.String()
		return root{llb.OCILayout(ref, llb.OCIStore("", "base-"+suite), llb.WithCustomName(hidden+"unpack the base")), l.env}, nil
	}
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return root{}, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Use debian:bookworm, or the name of an image.", "%q is not a base", bindery.Printable(name)).Because(err)
	}
	ref := reference.TagNameOnly(named).String()
	_, _, raw, err := c.ResolveImageConfig(ctx, ref, sourceresolver.Opt{LogName: "Look up " + name})
	if err != nil {
		return root{}, fmt.Errorf("base image %s: %w", name, err)
	}
	var img ocispecs.Image
	if err := json.Unmarshal(raw, &img); err != nil {
		return root{}, fmt.Errorf("base image %s: %w", name, err)
	}
	return root{llb.Image(ref, llb.WithCustomName("Pull "+name)), img.Config.Env}, nil
}
