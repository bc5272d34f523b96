package build

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/plan"
)

// contentKey names the files that are built: a commit names its own; those of a directory are read.
func (b *Builder) contentKey(ctx context.Context, src bindery.Source, t *tree, p plan.Plan, say func(string)) (string, error) {
	if src.Provider != bindery.ProviderLocal {
		if !src.IsPinned() {
			return "", fmt.Errorf("build %s: the ref %q was not resolved to a commit", src.URL, src.Ref)
		}
		return bindery.Key("content", src.Provider, src.Commit, src.Subdir), nil
	}
	ignorer, err := plan.NewIgnorer(p.Ignore)
	if err != nil {
		return "", err
	}
	sum, err := hashTree(ctx, t.dir, ignorer, say)
	if err != nil {
		return "", err
	}
	return bindery.Key("content", src.Provider, sum), nil
}

// An entry is what one name of a tree contributes to its hash.
type entry struct {
	path string // below the tree, with slashes; any bytes
	mode fs.FileMode
	link string // of a symbolic link
	sum  [sha256.Size]byte
}

// A walk lists a tree and hands its files to be hashed.
type walk struct {
	dir     string
	ignorer *plan.Ignorer
	say     func(string)
	entries []*entry
	files   chan *entry
}

// hashTree hashes paths, modes, links and contents of the files that go into the image. Owners and times do not.
// Symbolic links are not followed.
func hashTree(ctx context.Context, dir string, ignorer *plan.Ignorer, say func(string)) (string, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := &walk{dir: dir, ignorer: ignorer, say: say, files: make(chan *entry, 256)}
	var hashers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		hashers.Go(func() {
			buf, h := make([]byte, 128<<10), sha256.New()
			for e := range w.files {
				if ctx.Err() != nil {
					continue
				}
				if err := hashFile(ctx, filepath.Join(dir, e.path), e, h, buf); err != nil {
					cancel(err)
				}
			}
		})
	}
	err := w.list(ctx, "", plan.Verdict{})
	close(w.files)
	hashers.Wait()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return "", err
	}
	return w.sum(), nil
}

// sum hashes the list. Every part is framed by its length, so that no two trees run into the same bytes.
func (w *walk) sum() string {
	h := sha256.New()
	frame := func(s string) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(s)))
		h.Write(n[:])
		_, _ = io.WriteString(h, s)
	}
	for _, e := range w.entries {
		var mode [4]byte
		binary.BigEndian.PutUint32(mode[:], uint32(e.mode))
		h.Write(mode[:])
		frame(e.path)
		frame(e.link)
		h.Write(e.sum[:])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// list adds what is in the directory rel, in the order of names.
func (w *walk) list(ctx context.Context, rel string, verdict plan.Verdict) error {
	found, err := os.ReadDir(filepath.Join(w.dir, rel))
	if err != nil {
		return unreadable(rel, err)
	}
	for _, f := range found {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		path := f.Name()
		if rel != "" {
			path = rel + "/" + path
		}
		v, err := w.ignorer.Match(path, verdict)
		if err != nil {
			return fmt.Errorf("ignore patterns: %w", err)
		}
		if err := w.add(ctx, path, f, v); err != nil {
			return err
		}
	}
	return nil
}

// add adds the file f, and what is in it.
func (w *walk) add(ctx context.Context, path string, f fs.DirEntry, v plan.Verdict) error {
	if v.Out() && (!f.IsDir() || w.ignorer.Prunes(path)) {
		return nil
	}
	info, err := f.Info()
	if err != nil {
		return unreadable(path, err)
	}
	e := &entry{path: path, mode: info.Mode() & (fs.ModeType | fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)}
	switch {
	case e.mode.IsRegular():
		w.entries = append(w.entries, e)
		w.files <- e
	case e.mode.IsDir():
		return w.addDir(ctx, e, v)
	case e.mode&fs.ModeSymlink != 0:
		if e.link, err = os.Readlink(filepath.Join(w.dir, path)); err != nil {
			return unreadable(path, err)
		}
		e.mode = fs.ModeSymlink // its permissions mean nothing
		w.entries = append(w.entries, e)
	case e.mode&fs.ModeSocket != 0:
		w.say(fmt.Sprintf("%s is a socket: it stays out of the image.\n", bindery.Printable(path)))
	default:
		return bindery.Errorf(bindery.ErrPlan, bindery.User, "Delete it, or name it in .dockerignore.",
			"%s is a pipe or a device, which cannot be part of an image", bindery.Printable(path))
	}
	return nil
}

// addDir adds a directory. One that stays out counts when something in it does not.
func (w *walk) addDir(ctx context.Context, e *entry, v plan.Verdict) error {
	at := len(w.entries)
	w.entries = append(w.entries, e)
	if err := w.list(ctx, e.path, v); err != nil {
		return err
	}
	if v.Out() && len(w.entries) == at+1 {
		w.entries = w.entries[:at]
	}
	return nil
}

// hashFile hashes a regular file. One that has become something else since it was listed is refused, not followed.
func hashFile(ctx context.Context, path string, e *entry, h hash.Hash, buf []byte) error {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return unreadable(e.path, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return unreadable(e.path, errors.Join(err, errors.New("not a regular file any more")))
	}
	h.Reset()
	for ctx.Err() == nil {
		n, err := f.Read(buf)
		h.Write(buf[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			return unreadable(e.path, err)
		}
	}
	h.Sum(e.sum[:0])
	return nil
}

func unreadable(path string, err error) error {
	if path == "" {
		path = "."
	}
	return bindery.Errorf(bindery.ErrPlan, bindery.User, "Make it readable, and leave the directory alone while it is built.",
		"%s cannot be read", bindery.Printable(path)).Because(err)
}
