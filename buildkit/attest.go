package buildkit

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	gatewaypb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/result"
	fstypes "github.com/tonistiigi/fsutil/types"

	"github.com/bindery-hub/bindery/inventory"
)

// attest attaches to a result what its job wants said of it: what is in it, how it was made. The exporters make in-toto
// statements about the image of it. It is read from the result's records; nothing in it is run.
func (s *solve) attest(ctx context.Context, c gateway.Client, res *gateway.Result) error {
	x := s.job.Export
	if !x.SBOM && !x.Provenance || len(s.job.Push) == 0 && s.job.OCI == "" {
		return nil
	}
	ref, err := res.SingleRef()
	if err != nil {
		return fmt.Errorf("attest: %w", err)
	}
	inv, err := inventory.Read(refFS{ctx, ref})
	if err != nil {
		return fmt.Errorf("attest: %w", err)
	}
	said := map[string][]byte{}
	if x.SBOM {
		said[inventory.SPDXType] = inv.SPDX(s.job.Name, "bindery-"+Generation())
	}
	if x.Provenance {
		m := inventory.Making{
			Commit: s.job.Source.Commit, Subdir: s.job.Source.Subdir, Base: s.job.Plan.Base,
			Generation: Generation(), EnvKey: s.job.EnvKey, ImageKey: s.job.ImageKey, Plan: s.job.Plan,
		}
		if m.Commit != "" {
			m.Repository = s.job.Source.URL
		}
		said[inventory.ProvenanceType] = inv.Provenance(m)
	}
	// Statements are about the image of one platform, so the result must say which it has.
	platform := platforms.Normalize(platforms.DefaultSpec())
	id := platforms.FormatAll(platform)
	which, err := json.Marshal(exptypes.Platforms{Platforms: []exptypes.Platform{{ID: id, Platform: platform}}})
	if err != nil {
		return fmt.Errorf("attest: %w", err)
	}
	config := res.Metadata[exptypes.ExporterImageConfigKey]
	res.AddMeta(exptypes.ExporterPlatformsKey, which)
	res.AddMeta(exptypes.ExporterImageConfigKey+"/"+id, config)
	res.AddRef(id, ref)
	res.SetRef(nil)
	for kind, data := range said {
		if err := s.say(ctx, c, res, id, kind, data); err != nil {
			return fmt.Errorf("attest: %w", err)
		}
	}
	return nil
}

// say attaches one predicate. It travels as a file, since the result may not carry it itself.
func (s *solve) say(ctx context.Context, c gateway.Client, res *gateway.Result, platform, kind string, data []byte) error {
	const file = "/predicate.json"
	st := llb.Scratch().File(llb.Mkfile(file, 0o644, data), llb.WithCustomName(hidden+"write "+kind))
	def, err := st.Marshal(ctx, llb.Platform(platforms.DefaultSpec()))
	if err != nil {
		return err
	}
	made, err := c.Solve(ctx, gateway.SolveRequest{Definition: def.ToPB(), Evaluate: true})
	if err != nil {
		return err
	}
	ref, err := made.SingleRef()
	if err != nil {
		return err
	}
	res.AddAttestation(platform, gateway.Attestation{
		Kind: gatewaypb.AttestationKind_InToto, Ref: ref, Path: file,
		InToto: result.InTotoAttestation{PredicateType: kind, Subjects: []result.InTotoSubject{{Kind: gatewaypb.InTotoSubjectKind_Self}}},
	})
	return nil
}

// refFS reads a result that is still inside the engine. The engine follows no link out of it.
type refFS struct {
	ctx context.Context //nolint:containedctx // fs.FS has no place for it, and a refFS lives for one call
	ref gateway.Reference
}

// Open opens a file or a directory.
func (f refFS) Open(name string) (fs.File, error) {
	st, err := f.stat(name)
	if err != nil {
		return nil, err
	}
	return &refFile{f, name, st, nil}, nil
}

func (f refFS) stat(name string) (*fstypes.Stat, error) {
	st, err := f.ref.StatFile(f.ctx, gateway.StatRequest{Path: "/" + name})
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
	}
	return st, nil
}

// ReadDir lists a directory.
func (f refFS) ReadDir(name string) ([]fs.DirEntry, error) {
	all, err := f.ref.ReadDir(f.ctx, gateway.ReadDirRequest{Path: "/" + name})
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	out := make([]fs.DirEntry, len(all))
	for i, st := range all {
		out[i] = fs.FileInfoToDirEntry(refInfo{st})
	}
	return out, nil
}

type refFile struct {
	fs   refFS
	name string
	st   *fstypes.Stat
	body *strings.Reader
}

// Stat tells what it is.
func (f *refFile) Stat() (fs.FileInfo, error) { return refInfo{f.st}, nil }

// Close does nothing: nothing is held.
func (f *refFile) Close() error { return nil }

// Read reads the file, all of it at the first call: those who read have looked at its size.
func (f *refFile) Read(p []byte) (int, error) {
	if f.body == nil {
		data, err := f.fs.ref.ReadFile(f.fs.ctx, gateway.ReadRequest{Filename: "/" + f.name})
		if err != nil {
			return 0, &fs.PathError{Op: "read", Path: f.name, Err: err}
		}
		f.body = strings.NewReader(string(data))
	}
	n, err := f.body.Read(p)
	if err == io.EOF && n > 0 {
		err = nil
	}
	return n, err
}

type refInfo struct{ st *fstypes.Stat }

func (i refInfo) Name() string       { return path.Base(i.st.Path) }
func (i refInfo) Size() int64        { return i.st.Size }
func (i refInfo) Mode() fs.FileMode  { return fs.FileMode(i.st.Mode) }
func (i refInfo) ModTime() time.Time { return time.Unix(0, i.st.ModTime) }
func (i refInfo) IsDir() bool        { return i.Mode().IsDir() }
func (i refInfo) Sys() any           { return nil }

const lookPrefix = "look-" // of the snapshots through which kept images are read

// Inventory lists what the image called name has installed.
func (e *Engine) Inventory(ctx context.Context, name string) (inventory.Inventory, error) {
	rec, err := e.records.get(name)
	if err != nil {
		return inventory.Inventory{}, err
	}
	key, nctx := lookPrefix+rand.Text(), within(ctx)
	labels := map[string]string{rootLabel: time.Now().UTC().Format(time.RFC3339)}
	ms, err := e.snapshotter().View(nctx, key, rec.Snapshot, snapshots.WithLabels(labels))
	if err != nil {
		return inventory.Inventory{}, classify(fmt.Errorf("look into %s: %w", name, err))
	}
	defer func() {
		if err := e.snapshotter().Remove(within(context.WithoutCancel(ctx)), key); err != nil && !errdefs.IsNotFound(err) {
			e.cfg.Log.WarnContext(ctx, "a view of an image stays", "err", err)
		}
	}()
	var inv inventory.Inventory
	err = mount.WithReadonlyTempMount(ctx, ms, func(dir string) error {
		root, err := os.OpenRoot(dir)
		if err != nil {
			return err
		}
		defer root.Close()
		inv, err = inventory.Read(root.FS())
		return err
	})
	if err != nil {
		return inv, fmt.Errorf("look into %s: %w", name, err)
	}
	return inv, nil
}

// dropViews removes views that a killed engine left.
func (e *Engine) dropViews(ctx context.Context) error {
	var left []string
	err := e.snapshotter().Walk(within(ctx), func(_ context.Context, info snapshots.Info) error {
		if strings.HasPrefix(info.Name, lookPrefix) {
			left = append(left, info.Name)
		}
		return nil
	})
	for _, key := range left {
		if rerr := e.snapshotter().Remove(within(ctx), key); rerr != nil && err == nil {
			err = rerr
		}
	}
	if err != nil {
		return fmt.Errorf("drop views: %w", err)
	}
	return nil
}
