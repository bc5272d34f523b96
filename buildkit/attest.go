package buildkit

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/exporter"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	gatewaypb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/result"
	fstypes "github.com/tonistiigi/fsutil/types"

	"github.com/bindery-hub/bindery/inventory"
)

// attest finds out what job wants said of its result: what is in it, how it was made. The exporters make in-toto
// statements about the image of that. It is read from the result's records; nothing in it is run.
func (s *solve) attest(ctx context.Context, res *gateway.Result) error {
	x := s.job.Export
	if !x.SBOM && !x.Provenance || len(s.job.Push) == 0 && s.job.OCI == "" {
		return nil
	}
	ref, err := res.SingleRef()
	if err != nil {
		return fmt.Errorf("attest: %w", err)
	}
	if ref == nil {
		return nil // an image without a layer: nothing is in it
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
	s.e.said.Store(s.id, said)
	return nil
}

// saysAttr is the attribute by which an exporter finds what its build says of the result. It cannot travel with the
// result itself: BuildKit lets no build function speak of provenance, only its own exporters.
const saysAttr = "bindery.says"

// attestingExporter is one of BuildKit's, of images, that attaches what the build says of them.
type attestingExporter struct {
	exporter.Exporter
	e *Engine
}

// Resolve makes an instance for one build.
func (x attestingExporter) Resolve(ctx context.Context, id int, attrs map[string]string) (exporter.ExporterInstance, error) {
	rest := maps.Clone(attrs)
	delete(rest, saysAttr)
	i, err := x.Exporter.Resolve(ctx, id, rest)
	return attestingInstance{i, x.e, attrs[saysAttr]}, err
}

type attestingInstance struct {
	exporter.ExporterInstance
	e    *Engine
	says string
}

// Export adds the statements to a copy of the result, which other exporters share.
func (i attestingInstance) Export(ctx context.Context, src *exporter.Source, info exporter.ExportBuildInfo) (map[string]string, exporter.FinalizeFunc, exporter.DescriptorReference, error) {
	said, ok := i.e.said.Load(i.says)
	if !ok {
		return i.ExporterInstance.Export(ctx, src, info)
	}
	ps, err := exptypes.ParsePlatforms(src.Metadata)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("attest: %w", err)
	}
	with := &exporter.Source{Ref: src.Ref, Refs: src.Refs, Metadata: src.Metadata, Attestations: maps.Clone(src.Attestations)}
	statements := said.(map[string][]byte) //nolint:forcetypeassert // attest stores no other
	for _, kind := range slices.Sorted(maps.Keys(statements)) {
		with.AddAttestation(ps.Platforms[0].ID, exporter.Attestation{
			Kind:        gatewaypb.AttestationKind_InToto,
			ContentFunc: func(context.Context) ([]byte, error) { return statements[kind], nil },
			Path:        "predicate.json",
			InToto:      result.InTotoAttestation{PredicateType: kind, Subjects: []result.InTotoSubject{{Kind: gatewaypb.InTotoSubjectKind_Self}}},
		})
	}
	return i.ExporterInstance.Export(ctx, with, info)
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
