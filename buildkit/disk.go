package buildkit

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/containerd/containerd/v2/core/snapshots"

	bindery "github.com/bindery-hub/bindery"
)

// mergedLabel has the bytes that a merge added: its files are links to those of the layers that it was merged from.
const mergedLabel = "buildkit.mergeUsageSize"

// A heldLayer is a snapshot with its own bytes.
type heldLayer struct {
	parent  string
	size    int64
	session bool
	images  map[string]bool // that stand on it
}

// Disk says where the bytes of the engine's directories are. The layers are counted as the snapshotter has them, all
// else as the file system does.
func (e *Engine) Disk(ctx context.Context) (bindery.DiskUse, error) {
	layers, err := e.heldLayers(ctx)
	if err != nil {
		return bindery.DiskUse{}, err
	}
	all, err := e.records.all()
	if err != nil {
		return bindery.DiskUse{}, err
	}
	tops := map[string]string{}
	for _, r := range all {
		tops[r.Image.Name] = r.Snapshot
	}
	use := shareOut(layers, tops)
	counted := []string{ // the layers, and where they are mounted
		filepath.Join(e.stores.dir, "snapshots", "snapshots"), filepath.Join(e.stores.dir, "executor"), filepath.Join(e.stores.dir, "cachemounts"),
		tempDir(e.cfg.Dir),
	}
	for _, dir := range []string{e.cfg.Dir, e.cfg.BaseDir} {
		n, err := onDisk(ctx, dir, counted...)
		if err != nil {
			return use, err
		}
		use.Other += n
	}
	use.Total = use.Images + use.Shared + use.Sessions + use.Cache + use.Other
	return use, nil
}

// shareOut says whose the bytes of layers are. tops are the topmost layers of images, by the images' names.
func shareOut(layers map[string]*heldLayer, tops map[string]string) bindery.DiskUse {
	use := bindery.DiskUse{Own: map[string]int64{}}
	for name, top := range tops {
		use.Own[name] = 0
		for at := top; layers[at] != nil; at = layers[at].parent {
			layers[at].images[name] = true
		}
	}
	for _, l := range layers {
		switch {
		case l.session:
			use.Sessions += l.size
		case len(l.images) > 1:
			use.Shared += l.size
		case len(l.images) == 1:
			use.Images += l.size
			for name := range l.images {
				use.Own[name] += l.size
			}
		default:
			use.Cache += l.size
		}
	}
	return use
}

// heldLayers lists the snapshots by their names.
func (e *Engine) heldLayers(ctx context.Context) (map[string]*heldLayer, error) {
	out := map[string]*heldLayer{}
	sn, nctx := e.snapshotter(), within(ctx)
	var infos []snapshots.Info
	err := sn.Walk(nctx, func(_ context.Context, info snapshots.Info) error {
		infos = append(infos, info)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list layers: %w", err)
	}
	for _, info := range infos {
		l := &heldLayer{parent: info.Parent, session: strings.HasPrefix(info.Name, sessionPrefix), images: map[string]bool{}}
		if merged, err := strconv.ParseInt(info.Labels[mergedLabel], 10, 64); err == nil {
			l.size = merged
		} else if u, err := sn.Usage(nctx, info.Name); err == nil { // it may have gone since
			l.size = u.Size
		}
		out[info.Name] = l
	}
	return out, ctx.Err()
}

// onDisk counts the bytes that a directory takes, but for some below it. What goes while it looks is not counted.
func onDisk(ctx context.Context, dir string, but ...string) (n int64, err error) {
	linked := map[uint64]bool{}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return nil
		case slices.Contains(but, path):
			return filepath.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok || st.Nlink > 1 && !d.IsDir() && linked[st.Ino] {
			return nil
		}
		linked[st.Ino] = true
		n += st.Blocks * 512
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("measure %s: %w", dir, err)
	}
	return n, nil
}
