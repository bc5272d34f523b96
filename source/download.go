package source

import (
	"context"
	"crypto/md5" //nolint:gosec // archives publish MD5 sums; they tell a broken download, not a forger
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// A landing is where the files of an archive are put: a directory that nothing leaves, with bounds on how much fits.
type landing struct {
	s     *Sources
	dir   string
	root  *os.Root
	bytes int64 // still allowed
	files int
}

// tooLarge is what a person reads whose data set does not fit.
func (l *landing) tooLarge() error {
	return bindery.Errorf(bindery.ErrInvalid, bindery.User, "Use a smaller data set, or fetch large data when the environment is built.",
		"The data set is larger than this hub allows (%d files, %.1f GB)", l.s.cfg.MaxFiles, float64(l.s.cfg.MaxBytes)/1e9)
}

// fetchArchive downloads the files of src into dir, which it creates, and unpacks what is to be unpacked.
func (o *op) fetchArchive(ctx context.Context, src bindery.Source, dir string) error {
	p, err := o.s.providerOf(src)
	if err != nil {
		return err
	}
	d := &deposit{o, p}
	items, err := o.s.archiveOf(p.Kind).list(ctx, d, src)
	if err != nil {
		return err
	}
	if len(items) == 0 {
		return bindery.Errorf(bindery.ErrRepoNotFound, bindery.User, "Publish files in it, or use another data set.", "The data set has no files").Because(errNoFiles)
	}
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return spaceOr(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	l := &landing{s: o.s, dir: dir, root: root, bytes: o.s.cfg.MaxBytes, files: o.s.cfg.MaxFiles}
	if err := l.expect(items); err != nil {
		return err
	}
	for _, it := range items {
		if err := d.land(ctx, l, it, len(items) == 1); err != nil {
			return spaceOr(err)
		}
	}
	return spaceOr(l.handOver())
}

// expect refuses what is known to be too much before it is downloaded.
func (l *landing) expect(items []item) error {
	var sum int64
	for _, it := range items {
		sum += max(0, it.size)
		if sum > l.bytes || sum < 0 || len(items) > l.files {
			return l.tooLarge()
		}
	}
	return nil
}

// land downloads one item and puts it, or what is in it, where it belongs.
func (d *deposit) land(ctx context.Context, l *landing, it item, alone bool) error {
	name := path.Clean(it.path)
	if it.path == "" || name == "." || !filepath.IsLocal(name) || strings.ContainsAny(it.path, "\x00\\") {
		return bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Name the file differently in the data set.", "The data set has a file of a name that is not allowed: %q", bindery.Printable(it.path))
	}
	packed := it.kind == bagged || it.kind == tarred || (it.kind == zipAlone && alone)
	if !packed {
		return d.save(ctx, l, it, func() (*os.File, error) { return l.create(name, 0o644) })
	}
	f, err := os.CreateTemp(filepath.Dir(l.dir), "archive-") // beside the files, on the disk that has room for them
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := d.save(ctx, l, it, func() (*os.File, error) { return os.OpenFile(f.Name(), os.O_WRONLY|os.O_TRUNC, 0) }); err != nil {
		return err
	}
	switch {
	case it.kind == tarred:
		return l.untar(ctx, f, strings.TrimPrefix(it.sum, "git:"))
	case it.kind == bagged:
		return l.unzip(ctx, f, "data/contents/")
	case !isZip(f):
		return l.move(f, name)
	}
	d.say("Unpacking " + bindery.Printable(name))
	if err := l.unzip(ctx, f, ""); err != nil {
		return err
	}
	return l.hoist()
}

// save downloads an item into what open opens, again when the connection breaks.
func (d *deposit) save(ctx context.Context, l *landing, it item, open func() (*os.File, error)) error {
	size := ""
	if it.size >= 0 {
		size = fmt.Sprintf(", %.1f MB", float64(it.size)/1e6)
	}
	d.say("Downloading " + bindery.Printable(it.path) + size)
	var err error
	for try := range 3 {
		if try > 0 {
			d.say("The download broke off; once more")
			if err := d.pause(ctx); err != nil {
				return err
			}
		}
		var f *os.File
		if f, err = open(); err != nil {
			return err
		}
		var n int64
		n, err = d.download(ctx, it, f, l.bytes)
		err = errors.Join(err, f.Close())
		if errors.Is(err, errOver) {
			return l.tooLarge()
		}
		if err == nil {
			l.bytes -= n
			return nil
		}
		if e, ok := errors.AsType[*bindery.Error](err); !ok || e.Fault != bindery.Transient || ctx.Err() != nil {
			break
		}
	}
	if ctx.Err() != nil {
		return ended(ctx)
	}
	return err
}

// errOver says that something is larger than what is left.
var errOver = errors.New("larger than allowed")

const stallTimeout = 2 * time.Minute // of a download that sends nothing

// download copies an item to f, at most most bytes, and compares its sum.
func (d *deposit) download(ctx context.Context, it item, f *os.File, most int64) (int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stalled := time.AfterFunc(stallTimeout, cancel)
	defer stalled.Stop()
	header, err := d.header(it.url)
	if err != nil {
		return 0, err
	}
	resp, err := d.s.guard.start(ctx, ask{url: it.url, header: header})
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, reply{status: resp.StatusCode, at: resp.Request.URL}.refused("the file " + bindery.Printable(it.path))
	}
	sum := newSum(it.sum)
	to := io.Writer(f)
	if sum != nil {
		to = io.MultiWriter(f, sum)
	}
	from := readFunc(func(p []byte) (int, error) {
		stalled.Reset(stallTimeout)
		return resp.Body.Read(p)
	})
	n, err := io.Copy(to, io.LimitReader(from, most+1))
	switch {
	case err != nil:
		if spaceOr(err) != err { //nolint:errorlint // whether it was turned into another
			return 0, spaceOr(err)
		}
		return 0, unreachable("The download of %s broke off", bindery.Printable(it.path)).Because(err)
	case n > most:
		return 0, errOver
	case sum != nil && hex.EncodeToString(sum.Sum(nil)) != strings.ToLower(it.sum[strings.IndexByte(it.sum, ':')+1:]):
		return 0, unreachable("What was downloaded as %s is not what the archive says that it is", bindery.Printable(it.path))
	}
	return n, nil
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// newSum returns the hash that a sum was made by; nil when we do not know it.
func newSum(sum string) hash.Hash {
	kind, digits, _ := strings.Cut(sum, ":")
	h := map[string]func() hash.Hash{"md5": md5.New, "sha1": sha1.New, "sha256": sha256.New, "sha512": sha512.New}[strings.ToLower(kind)]
	if h == nil || len(digits) != 2*h().Size() {
		return nil
	}
	return h()
}

// create makes a file and the directories above it, and counts it.
func (l *landing) create(name string, mode fs.FileMode) (*os.File, error) {
	if l.files--; l.files < 0 {
		return nil, l.tooLarge()
	}
	if dir := path.Dir(name); dir != "." {
		if err := l.root.MkdirAll(dir, 0o755); err != nil {
			return nil, clash(name, err)
		}
	}
	// A second file of one name replaces the first, but never goes where a link of that name leads to.
	if info, err := l.root.Lstat(name); err == nil && !info.IsDir() {
		if err := l.root.Remove(name); err != nil {
			return nil, err
		}
	}
	f, err := l.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return nil, clash(name, err)
	}
	return f, nil
}

func clash(name string, err error) error {
	if spaceOr(err) != err { //nolint:errorlint // whether it was turned into another
		return err
	}
	return bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Name the file differently in the data set.",
		"The data set has a file that cannot be written: %q", bindery.Printable(name)).Because(err)
}

// move puts a file that turned out to be no archive where it belongs.
func (l *landing) move(f *os.File, name string) error {
	to, err := l.create(name, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Seek(0, io.SeekStart)
	if err == nil {
		_, err = io.Copy(to, f)
	}
	return errors.Join(err, to.Close())
}

// hoist lifts what is in the only directory of the landing one level up, as archives of repositories have it.
func (l *landing) hoist() error {
	entries, err := os.ReadDir(l.dir)
	if err != nil || len(entries) != 1 || !entries[0].IsDir() {
		return err
	}
	inner := "hoisted-" + bindery.Key("hoist", entries[0].Name())[:16] // a name that nothing in it has
	if err := l.root.Rename(entries[0].Name(), inner); err != nil {
		return err
	}
	below, err := os.ReadDir(filepath.Join(l.dir, inner))
	if err != nil {
		return err
	}
	for _, e := range below {
		if err := l.root.Rename(inner+"/"+e.Name(), e.Name()); err != nil {
			return err
		}
	}
	return l.root.Remove(inner)
}

// handOver gives the files to whom a checkout's belong.
func (l *landing) handOver() error {
	return filepath.WalkDir(l.dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return l.s.give(path)
	})
}
