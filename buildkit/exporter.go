package buildkit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/exporter"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/session"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	bindery "github.com/bindery-hub/bindery"
)

// launchable is the exporter that makes a build's result an image to launch from: a lease on the snapshot that is
// there already. Nothing is compressed, pushed or unpacked.
const launchable = "launchable"

const imageAttr = "image" // a bindery.Image as JSON, without its config and size

const leasePrefix = "image/"

func isImageLease(id string) bool { return strings.HasPrefix(id, leasePrefix) }

type launchableExporter struct{ e *Engine }

// Resolve makes an instance for one build.
func (x launchableExporter) Resolve(_ context.Context, id int, attrs map[string]string) (exporter.ExporterInstance, error) {
	var img bindery.Image
	if err := json.Unmarshal([]byte(attrs[imageAttr]), &img); err != nil || img.Name == "" {
		return nil, fmt.Errorf("the launchable exporter needs the attribute %q: %w", imageAttr, err)
	}
	return &launchableInstance{e: x.e, id: id, attrs: attrs, image: img}, nil
}

type launchableInstance struct {
	e     *Engine
	id    int
	attrs map[string]string
	image bindery.Image
}

func (i *launchableInstance) ID() int                  { return i.id }
func (i *launchableInstance) Name() string             { return hidden + "keep the image" }
func (i *launchableInstance) Config() *exporter.Config { return exporter.NewConfig() }
func (i *launchableInstance) Type() string             { return launchable }
func (i *launchableInstance) Attrs() map[string]string { return i.attrs }

// Export leases the result's snapshot, then stores the record. A crash in between leaves a lease without a record,
// which Open drops.
func (i *launchableInstance) Export(ctx context.Context, src *exporter.Source, info exporter.ExportBuildInfo) (map[string]string, exporter.FinalizeFunc, exporter.DescriptorReference, error) {
	ref := src.Ref
	for _, r := range src.Refs { // a frontend that names platforms fills this in place of Ref
		ref = r
	}
	if ref == nil {
		return nil, nil, nil, errors.New("the build has no result")
	}
	config, err := configOf(src)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := ref.Finalize(ctx); err != nil {
		return nil, nil, nil, fmt.Errorf("finalize: %w", err)
	}
	if err := ref.Extract(ctx, session.NewGroup(info.SessionID)); err != nil {
		return nil, nil, nil, fmt.Errorf("extract: %w", err)
	}
	rec := record{Image: i.image, Snapshot: snapshotOf(ref)}
	rec.Image.Config = config
	if rec.Image.Size, err = i.e.chainSize(ctx, rec.Snapshot); err != nil {
		return nil, nil, nil, err
	}
	return nil, nil, nil, i.e.keep(ctx, rec)
}

// snapshotOf is the name of the snapshot that holds ref. BuildKit keeps it under a key that it does not export; a
// test watches over it.
func snapshotOf(ref cache.ImmutableRef) string {
	if id := ref.GetString("cache.snapshot"); id != "" {
		return id
	}
	return ref.ID()
}

func configOf(src *exporter.Source) (bindery.ImageConfig, error) {
	raw := src.Metadata[exptypes.ExporterImageConfigKey]
	for k, v := range src.Metadata {
		if raw == nil && strings.HasPrefix(k, exptypes.ExporterImageConfigKey+"/") {
			raw = v
		}
	}
	var img ocispecs.Image
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &img); err != nil {
			return bindery.ImageConfig{}, fmt.Errorf("image config: %w", err)
		}
	}
	c := img.Config
	return bindery.ImageConfig{User: c.User, WorkingDir: c.WorkingDir, Env: c.Env, Entrypoint: c.Entrypoint, Cmd: c.Cmd, Labels: c.Labels}, nil
}

// chainSize sums a snapshot and its parents.
func (e *Engine) chainSize(ctx context.Context, id string) (int64, error) {
	ctx = within(ctx)
	var size int64
	for id != "" {
		u, err := e.snapshotter().Usage(ctx, id)
		if err != nil {
			return 0, fmt.Errorf("size of the image: %w", err)
		}
		info, err := e.snapshotter().Stat(ctx, id)
		if err != nil {
			return 0, fmt.Errorf("size of the image: %w", err)
		}
		size, id = size+u.Size, info.Parent
	}
	return size, nil
}

// keep leases rec's snapshot and makes rec the image of its name.
func (e *Engine) keep(ctx context.Context, rec record) error {
	rec.Lease = fmt.Sprintf("%s%s@%s@%d", leasePrefix, rec.Image.Name, rec.Snapshot, time.Now().UnixNano())
	l, err := e.stores.leases.Create(ctx, leases.WithID(rec.Lease))
	if err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	if err := e.stores.leases.AddResource(ctx, l, leases.Resource{ID: rec.Snapshot, Type: "snapshots/" + snapshotterName}); err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	old, err := e.records.put(rec)
	e.saved.look()
	if err != nil || old == "" {
		return err
	}
	if err := e.unsave(rec.Image.Name); err != nil {
		return err
	}
	if err := e.stores.leases.Delete(ctx, leases.Lease{ID: old}); err != nil {
		return fmt.Errorf("drop lease: %w", err)
	}
	return nil
}
