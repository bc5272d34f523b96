// Package condatest makes small conda channels for tests, since no public channel can be counted on: real packages in
// both of conda's formats, with real repodata, down to a Python interpreter that runs.
package condatest

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"cmp"
	"context"
	"crypto/md5" // a field of the format
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"
)

// A Package is one package of a channel.
type Package struct {
	Name, Version string
	Build         string // default: "0"
	Noarch        string // "python", "generic", or empty for one of linux-64
	Depends       []string
	EntryPoints   []string // of a noarch Python package: "command = module:function"
	Files         map[string]File
	PostLink      string // a script that runs once the package is in place
	Bzip2         bool   // write it in the older format, .tar.bz2
}

// A File is one file of a package.
type File struct {
	Data        []byte
	Executable  bool
	Link        string // a symbolic link to this
	Placeholder string // "text" or "binary": Data contains Prefix, which installing replaces
}

// Prefix stands in a package's files for the directory that it will be installed into. Its length is what binaries
// leave room for.
const Prefix = "/opt/placeholder_placeholder_placeholder_placeholder_placeholder_placeholder_placeholder_placeholder_placeholder"

// made is the time in every archive: equal packages make equal files.
func made() time.Time { return time.Unix(1706702400, 0).UTC() }

// Write makes the channel of packages in dir.
func Write(ctx context.Context, dir string, packages ...Package) error {
	type repodata struct {
		Info    map[string]string         `json:"info"`
		Old     map[string]map[string]any `json:"packages"`
		Current map[string]map[string]any `json:"packages.conda"`
		Version int                       `json:"repodata_version"`
	}
	subdirs := map[string]repodata{}
	for _, s := range []string{"linux-64", "noarch"} {
		subdirs[s] = repodata{map[string]string{"subdir": s}, map[string]map[string]any{}, map[string]map[string]any{}, 1}
		if err := os.MkdirAll(filepath.Join(dir, s), 0o755); err != nil {
			return err
		}
	}
	for _, p := range packages {
		subdir, name := p.subdir(), p.fileName()
		file := filepath.Join(dir, subdir, name)
		if err := p.write(ctx, file); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		record := p.index()
		sum, old := sha256.Sum256(data), md5.Sum(data)
		record["sha256"], record["md5"], record["size"] = hex.EncodeToString(sum[:]), hex.EncodeToString(old[:]), len(data)
		if p.Bzip2 {
			subdirs[subdir].Old[name] = record
		} else {
			subdirs[subdir].Current[name] = record
		}
	}
	for s, r := range subdirs {
		data, err := json.MarshalIndent(r, "", " ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, s, "repodata.json"), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (p Package) subdir() string {
	if p.Noarch != "" {
		return "noarch"
	}
	return "linux-64"
}

func (p Package) stem() string { return p.Name + "-" + p.Version + "-" + cmp.Or(p.Build, "0") }

func (p Package) fileName() string {
	if p.Bzip2 {
		return p.stem() + ".tar.bz2"
	}
	return p.stem() + ".conda"
}

func (p Package) index() map[string]any {
	index := map[string]any{
		"name": p.Name, "version": p.Version, "build": cmp.Or(p.Build, "0"), "build_number": 0,
		"depends": slices.Clone(append([]string{}, p.Depends...)), "subdir": p.subdir(), "timestamp": made().UnixMilli(), "license": "MIT",
	}
	if p.Noarch != "" {
		index["noarch"] = p.Noarch
		return index
	}
	index["arch"], index["platform"] = "x86_64", "linux"
	return index
}

func (p Package) write(ctx context.Context, file string) error {
	files := maps.Clone(p.Files)
	if files == nil {
		files = map[string]File{}
	}
	if p.PostLink != "" {
		files["bin/."+p.Name+"-post-link.sh"] = File{Data: []byte(p.PostLink), Executable: true}
	}
	info, err := p.info(files)
	if err != nil {
		return err
	}
	if p.Bzip2 {
		return writeBzip2(ctx, file, info, files)
	}
	return writeConda(file, p.stem(), info, files)
}

// info is the package's description of itself.
func (p Package) info(files map[string]File) (map[string]File, error) {
	type entry struct {
		Path        string `json:"_path"`
		Type        string `json:"path_type"`
		SHA256      string `json:"sha256"`
		Size        int    `json:"size_in_bytes"`
		Mode        string `json:"file_mode,omitempty"`
		Placeholder string `json:"prefix_placeholder,omitempty"`
	}
	var paths []entry
	var names bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(files)) {
		f := files[name]
		e := entry{Path: name, Type: "hardlink", Size: len(f.Data)}
		if f.Link != "" {
			e.Type = "softlink"
		}
		if f.Placeholder != "" {
			e.Mode, e.Placeholder = f.Placeholder, Prefix
		}
		sum := sha256.Sum256(f.Data)
		e.SHA256 = hex.EncodeToString(sum[:])
		paths = append(paths, e)
		fmt.Fprintln(&names, name)
	}
	info := map[string]File{"info/files": {Data: names.Bytes()}}
	docs := map[string]any{
		"info/index.json": p.index(),
		"info/paths.json": map[string]any{"paths": append([]entry{}, paths...), "paths_version": 1},
	}
	if p.Noarch == "python" {
		python := map[string]any{"type": "python", "entry_points": append([]string{}, p.EntryPoints...)}
		docs["info/link.json"] = map[string]any{"noarch": python, "package_metadata_version": 1}
	}
	for name, doc := range docs {
		data, err := json.MarshalIndent(doc, "", " ")
		if err != nil {
			return nil, err
		}
		info[name] = File{Data: data}
	}
	return info, nil
}

// writeTar writes files in the order of their names.
func writeTar(w io.Writer, sets ...map[string]File) error {
	t := tar.NewWriter(w)
	for _, files := range sets {
		for _, name := range slices.Sorted(maps.Keys(files)) {
			f := files[name]
			h := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(f.Data)), ModTime: made(), Typeflag: tar.TypeReg}
			if f.Executable {
				h.Mode = 0o755
			}
			if f.Link != "" {
				h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, f.Link, 0
			}
			if err := t.WriteHeader(h); err != nil {
				return err
			}
			if f.Link != "" {
				continue
			}
			if _, err := t.Write(f.Data); err != nil {
				return err
			}
		}
	}
	return t.Close()
}

// writeConda writes the newer format: a zip with two tars in it, each compressed by zstd.
func writeConda(file, stem string, info, files map[string]File) error {
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer out.Close()
	z := zip.NewWriter(out)
	// With its sizes before the data, as conda's own packages have them: who reads while downloading needs that.
	add := func(name string, write func(io.Writer) error) error {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			return err
		}
		size := uint64(b.Len())
		h := &zip.FileHeader{Name: name, Method: zip.Store, Modified: made(), CRC32: crc32.ChecksumIEEE(b.Bytes()), CompressedSize64: size, UncompressedSize64: size}
		w, err := z.CreateRaw(h)
		if err != nil {
			return err
		}
		_, err = w.Write(b.Bytes())
		return err
	}
	compressed := func(set map[string]File) func(io.Writer) error {
		return func(w io.Writer) error {
			c, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest))
			if err != nil {
				return err
			}
			if err := writeTar(c, set); err != nil {
				return err
			}
			return c.Close()
		}
	}
	if err := add("metadata.json", func(w io.Writer) error { _, err := io.WriteString(w, `{"conda_pkg_format_version": 2}`); return err }); err != nil {
		return err
	}
	if err := add("pkg-"+stem+".tar.zst", compressed(files)); err != nil {
		return err
	}
	if err := add("info-"+stem+".tar.zst", compressed(info)); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return out.Close()
}

// writeBzip2 writes the older format. The standard library only reads it, so the bzip2 program writes.
func writeBzip2(ctx context.Context, file string, info, files map[string]File) error {
	var raw bytes.Buffer
	if err := writeTar(&raw, info, files); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "bzip2", "--stdout")
	cmd.Stdin = &raw
	data, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("bzip2: %w", err)
	}
	return os.WriteFile(file, data, 0o644)
}
