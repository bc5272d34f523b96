package source

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"context"
	"crypto/md5" //nolint:gosec // BagIt's manifests are
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	bindery "github.com/bindery-hub/bindery"
)

// isZip reports whether f has a zip file's directory at its end.
func isZip(f *os.File) bool {
	info, err := f.Stat()
	if err != nil {
		return false
	}
	_, err = zip.NewReader(f, info.Size())
	return err == nil
}

func damaged(err error) error {
	return bindery.Errorf(bindery.ErrInvalid, bindery.User, "Pack the archive anew.", "The archive of the data set is damaged").Because(err)
}

func dangerous(name, what string) error {
	return bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Pack the archive without it.", "The archive has an entry that is not allowed: %q %s", bindery.Printable(name), what)
}

// inside checks the name of an entry and returns it clean. Leading "./" and slashes at the end are usual.
func inside(name string) (string, error) {
	clean := path.Clean(strings.TrimPrefix(name, "./"))
	if clean == "." {
		return "", nil
	}
	if !filepath.IsLocal(clean) || strings.ContainsAny(name, "\x00\\") || len(name) > 4000 || slices.Contains(strings.Split(name, "/"), "..") {
		return "", dangerous(name, "has a name that leads elsewhere")
	}
	return clean, nil
}

// unzip unpacks a zip file; of a bag, whose payload is below one directory and keep, only that, with its sums compared.
func (l *landing) unzip(ctx context.Context, f *os.File, keep string) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	z, err := zip.NewReader(f, info.Size())
	if err != nil {
		return damaged(err)
	}
	var sums map[string]string
	if keep != "" {
		if sums, err = manifest(z); err != nil {
			return err
		}
	}
	for _, e := range z.File {
		if ctx.Err() != nil {
			return ended(ctx)
		}
		name, err := inside(e.Name)
		if err != nil {
			return err
		}
		sum := ""
		if keep != "" {
			_, below, _ := strings.Cut(name, "/") // of the directory that the bag is
			sum = sums[below]
			var ok bool
			if name, ok = strings.CutPrefix(below, keep); !ok || name == "" {
				continue
			}
		}
		if name == "" {
			continue
		}
		if err := l.unzipOne(e, name, sum); err != nil {
			return err
		}
	}
	return nil
}

// manifest reads the MD5 sums of a bag; a bag without them has none.
func manifest(z *zip.Reader) (map[string]string, error) {
	sums := map[string]string{}
	for _, e := range z.File {
		if strings.Count(e.Name, "/") != 1 || !strings.HasSuffix(e.Name, "/manifest-md5.txt") {
			continue
		}
		f, err := e.Open()
		if err != nil {
			return nil, damaged(err)
		}
		text, err := io.ReadAll(io.LimitReader(f, 64<<20))
		_ = f.Close() // it was only read
		if err != nil {
			return nil, damaged(err)
		}
		for line := range strings.Lines(string(text)) {
			sum, name, ok := strings.Cut(strings.TrimSpace(line), " ")
			if ok && len(sum) == 2*md5.Size {
				sums[strings.TrimLeft(name, " *")] = strings.ToLower(sum)
			}
		}
	}
	return sums, nil
}

func (l *landing) unzipOne(e *zip.File, name, sum string) error {
	mode := e.Mode()
	switch {
	case mode.IsDir():
		if l.files--; l.files < 0 {
			return l.tooLarge()
		}
		if err := l.root.MkdirAll(name, 0o755); err != nil {
			return clash(name, err)
		}
		return nil
	case e.Flags&1 != 0:
		return dangerous(name, "is encrypted")
	case mode&fs.ModeSymlink != 0 || mode.IsRegular():
	default:
		return dangerous(name, "is a device or a pipe")
	}
	if int64(e.UncompressedSize64) > l.bytes || int64(e.UncompressedSize64) < 0 {
		return l.tooLarge()
	}
	from, err := e.Open()
	if err != nil {
		return damaged(err)
	}
	defer from.Close()
	if mode&fs.ModeSymlink != 0 {
		target, err := io.ReadAll(io.LimitReader(from, 4096))
		if err != nil {
			return damaged(err)
		}
		return l.link(name, string(target))
	}
	return l.write(from, name, mode, sum)
}

// write copies an entry into a file. What an archive says of its sizes is not believed.
func (l *landing) write(from io.Reader, name string, mode fs.FileMode, sum string) error {
	perm := fs.FileMode(0o644)
	if mode&0o111 != 0 {
		perm = 0o755
	}
	to, err := l.create(name, perm)
	if err != nil {
		return err
	}
	h := md5.New()
	n, err := io.Copy(io.MultiWriter(to, h), io.LimitReader(from, l.bytes+1))
	err = errors.Join(err, to.Close())
	if l.bytes -= n; l.bytes < 0 {
		return l.tooLarge()
	}
	if err != nil {
		if spaceOr(err) != err { //nolint:errorlint // whether it was turned into another
			return spaceOr(err)
		}
		return damaged(err)
	}
	if sum != "" && hex.EncodeToString(h.Sum(nil)) != sum {
		return unreachable("The file %s is not what the archive says that it is", bindery.Printable(name))
	}
	return nil
}

// link makes a symbolic link that stays in the landing. Whatever is written later goes through os.Root, which no link
// leads out of; this is for those who read the files afterwards.
func (l *landing) link(name, target string) error {
	if path.IsAbs(target) || strings.ContainsAny(target, "\x00\\") || target == "" || !filepath.IsLocal(path.Join(path.Dir(name), target)) {
		return dangerous(name, "is a link that leads out")
	}
	f, err := l.create(name, 0o644) // which makes way and counts
	if err != nil {
		return err
	}
	if err := errors.Join(f.Close(), l.root.Remove(name), l.root.Symlink(target, name)); err != nil {
		return clash(name, err)
	}
	return nil
}

// untar unpacks a gzipped tar file of one directory, and compares the name that Git would give to its content.
func (l *landing) untar(ctx context.Context, f *os.File, want string) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		return damaged(err)
	}
	r := tar.NewReader(unzipped)
	for {
		if ctx.Err() != nil {
			return ended(ctx)
		}
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return damaged(err)
		}
		if err := l.untarOne(r, h); err != nil {
			return err
		}
	}
	got, gaps, err := treeName(l.dir)
	// A submodule is a directory with nothing in it here, and something else in the name.
	if err == nil && !gaps && got != want {
		err = unreachable("The directory that was downloaded is not what the archive says that it is").Because(fmt.Errorf("it is %s, not %s", got, want))
	}
	return err
}

func (l *landing) untarOne(r io.Reader, h *tar.Header) error {
	name, err := inside(h.Name)
	if err != nil {
		return err
	}
	// All of it is in one directory, which is the name of the archive.
	_, name, _ = strings.Cut(name, "/")
	switch h.Typeflag {
	case tar.TypeXGlobalHeader:
		return nil
	case tar.TypeDir:
		if name == "" {
			return nil
		}
		if l.files--; l.files < 0 {
			return l.tooLarge()
		}
		if err := l.root.MkdirAll(name, 0o755); err != nil {
			return clash(name, err)
		}
		return nil
	case tar.TypeReg:
		if name == "" {
			return dangerous(h.Name, "is not in the directory of the archive")
		}
		return l.write(r, name, h.FileInfo().Mode(), "")
	case tar.TypeSymlink:
		if name == "" {
			return dangerous(h.Name, "is not in the directory of the archive")
		}
		return l.link(name, h.Linkname)
	}
	return dangerous(h.Name, "is a device, a pipe or a hard link")
}

// treeName is the name of a directory as Git makes it; gaps says that a directory in it is empty, which Git does not
// know.
func treeName(dir string) (name string, gaps bool, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", false, err
	}
	type line struct{ key, text string }
	var lines []line
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return "", false, err
		}
		at, key, mode := filepath.Join(dir, e.Name()), e.Name(), "100644"
		var sum []byte
		switch {
		case e.IsDir():
			sub, gap, err := treeName(at)
			if err != nil {
				return "", false, err
			}
			gaps = gaps || gap
			key, mode = key+"/", "40000" // Git sorts directories as if they ended so
			sum, _ = hex.DecodeString(sub)
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(at)
			if err != nil {
				return "", false, err
			}
			mode, sum = "120000", objectSum("blob", int64(len(target)), strings.NewReader(target))
		default:
			if info.Mode()&0o111 != 0 {
				mode = "100755"
			}
			f, err := os.Open(at)
			if err != nil {
				return "", false, err
			}
			sum = objectSum("blob", info.Size(), f)
			_ = f.Close() // it was only read
		}
		lines = append(lines, line{key, mode + " " + e.Name() + "\x00" + string(sum)})
	}
	slices.SortFunc(lines, func(a, b line) int { return strings.Compare(a.key, b.key) })
	var text strings.Builder
	for _, l := range lines {
		text.WriteString(l.text)
	}
	sum := objectSum("tree", int64(text.Len()), strings.NewReader(text.String()))
	return hex.EncodeToString(sum), gaps || len(entries) == 0, nil
}

// objectSum is the name of an object of Git.
func objectSum(kind string, size int64, content io.Reader) []byte {
	h := sha1.New()
	fmt.Fprintf(h, "%s %d\x00", kind, size)
	_, _ = io.Copy(h, content) // a file that cannot be read gives another name
	return h.Sum(nil)
}
