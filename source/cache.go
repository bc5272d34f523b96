package source

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	bindery "github.com/bindery-hub/bindery"
)

// A cache is one bare repository in Dir, locked. refs/commits/ names the commits that it holds completely; of each
// it has the files, of their histories nothing that the server let us leave out.
type cache struct {
	name string // below repos
	real string // its path
	path string // its path in the box
	old  bool   // it was there before
	lock *os.File
}

// openCache locks the cache of the repository called identity and makes it when there is none.
func (o *op) openCache(ctx context.Context, identity string, wide bool) (*cache, error) {
	sum := sha256.Sum256([]byte(identity))
	name := hex.EncodeToString(sum[:16])
	if wide {
		name += "-256"
	}
	locks := filepath.Join(o.s.cfg.Dir, "locks")
	if err := os.MkdirAll(locks, 0o700); err != nil {
		return nil, spaceOr(err)
	}
	lock, err := flock(ctx, filepath.Join(locks, name))
	if err != nil {
		return nil, spaceOr(err)
	}
	c := &cache{name: name, real: filepath.Join(o.s.reposDir(), name+".git"), path: o.s.box.cachePath(name + ".git"), lock: lock}
	now := time.Now()
	_ = os.Chtimes(lock.Name(), now, now) // the time of the last use; a failure makes it go early
	if err := o.s.makeCache(c, wide); err != nil {
		_ = lock.Close()
		return nil, spaceOr(err)
	}
	return c, nil
}

func (c *cache) close() { _ = c.lock.Close() }

func (s *Sources) makeCache(c *cache, wide bool) error {
	if _, err := os.Stat(filepath.Join(c.real, "config")); err == nil {
		c.old = true
		return nil
	}
	if err := os.RemoveAll(c.real); err != nil {
		return err
	}
	if err := os.Mkdir(c.real, 0o700); err != nil {
		return err
	}
	return s.writeRepo(c.real, "ref: refs/heads/main\n", bareConfig("", !wide))
}

// empty throws the contents of c away.
func (s *Sources) empty(c *cache, wide bool) error {
	if err := os.RemoveAll(c.real); err != nil {
		return err
	}
	return s.makeCache(c, wide)
}

// flock waits for the lock file path.
func flock(ctx context.Context, path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(err, f.Close())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, errors.Join(ended(ctx), f.Close())
		}
	}
}

// bareConfig is the configuration of a repository of ours; worktree is what is added when it has files.
func bareConfig(worktree string, sha1 bool) string {
	version, extension := 0, ""
	if !sha1 {
		version, extension = 1, "[extensions]\n\tobjectformat = sha256\n"
	}
	return fmt.Sprintf("[core]\n\trepositoryformatversion = %d\n\tfilemode = true\n\tbare = %t\n%s%s", version, worktree == "", extension, worktree)
}

// writeRepo makes the skeleton of a repository in dir, which exists, and gives it to git.
func (s *Sources) writeRepo(dir, head, config string) error {
	for _, d := range []string{"objects", "objects/info", "objects/pack", "refs", "refs/heads", "refs/tags", "info"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{"HEAD": head, "config": config} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return s.give(path)
	})
}

// cleanCache removes caches that were not used for MaxAge, then the longest unused until MaxCache is kept. It looks at
// most once in ten minutes, and leaves alone what is locked.
func (s *Sources) cleanCache(now time.Time) {
	s.sweep.Lock()
	defer s.sweep.Unlock()
	if now.Sub(s.swept) < 10*time.Minute {
		return
	}
	s.swept = now
	s.answers.clean()
	type entry struct {
		name string
		used time.Time
		size int64
	}
	locks, _ := os.ReadDir(filepath.Join(s.cfg.Dir, "locks")) // none before the first fetch
	var all []entry
	var total int64
	for _, l := range locks {
		info, err := l.Info()
		if err != nil {
			continue
		}
		e := entry{name: l.Name(), used: info.ModTime(), size: treeSize(filepath.Join(s.reposDir(), l.Name()+".git"))}
		all, total = append(all, e), total+e.size
	}
	slices.SortFunc(all, func(a, b entry) int { return a.used.Compare(b.used) })
	for _, e := range all {
		if now.Sub(e.used) < s.cfg.MaxAge && total <= s.cfg.MaxCache {
			break
		}
		if s.evict(e.name) {
			total -= e.size
		}
	}
}

// evict removes the cache called name unless it is in use. Its lock file stays, so that nobody locks a file that has
// lost its name.
func (s *Sources) evict(name string) bool {
	f, err := os.OpenFile(filepath.Join(s.cfg.Dir, "locks", name), os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return false
	}
	return os.RemoveAll(filepath.Join(s.reposDir(), name+".git")) == nil
}

func treeSize(dir string) int64 {
	var sum int64
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // it may go while we look
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			sum += info.Size()
		}
		return nil
	})
	return sum
}

// obtain makes sure that c holds commit completely.
func (o *op) obtain(ctx context.Context, c *cache, url, commit string) error {
	ref := "refs/commits/" + commit
	if _, err := o.git(ctx, call{dir: c.path, args: []string{"cat-file", "-e", ref + "^{commit}"}}); err == nil {
		o.say("Using the cached files of " + commit[:12])
		return nil
	} else if ctx.Err() != nil {
		return err
	}
	o.say("Fetching " + bindery.Printable(url) + " at " + commit[:12])
	_ = os.Remove(filepath.Join(c.real, "shallow.lock")) // of a git that was killed; the cache is ours alone
	err := o.watched(ctx, c.real, treeSize(c.real)+o.s.cfg.MaxBytes, func(ctx context.Context) error {
		_, err := o.git(ctx, call{dir: c.path, loud: true, args: []string{"fetch", "--progress", "--depth=1", "--no-tags", "--no-write-fetch-head", "--", url, "+" + commit + ":" + ref}})
		if err != nil && asksTooMuch(err) {
			return o.obtainAll(ctx, c, url, commit)
		}
		return err
	})
	if err == nil {
		return nil
	}
	removeTemporary(filepath.Join(c.real, "objects", "pack"))
	if errors.Is(err, bindery.ErrRefNotFound) {
		return noRef(commit)
	}
	return err
}

// obtainAll is the way with servers that serve no commit by its name: everything, then look.
func (o *op) obtainAll(ctx context.Context, c *cache, url, commit string) error {
	args := []string{"fetch", "--progress", "--no-tags", "--no-write-fetch-head"}
	// The tip of a branch may have been fetched before, without its history. Such an end of history stays one unless
	// the fetch says otherwise, and the commit that is wanted may lie behind it.
	if info, err := os.Stat(filepath.Join(c.real, "shallow")); err == nil && info.Size() > 0 {
		args = append(args, "--unshallow")
	}
	if _, err := o.git(ctx, call{dir: c.path, loud: true, args: append(args, "--", url, "+refs/*:refs/full/*")}); err != nil {
		return err
	}
	if _, err := o.git(ctx, call{dir: c.path, args: []string{"cat-file", "-e", commit + "^{commit}"}}); err != nil {
		return noRef(commit)
	}
	_, err := o.git(ctx, call{dir: c.path, args: []string{"update-ref", "refs/commits/" + commit, commit}})
	return err
}

func removeTemporary(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "tmp_") || strings.HasPrefix(e.Name(), ".tmp-") {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// watched runs f, which fills dir, and stops it when dir has grown past most.
func (o *op) watched(ctx context.Context, dir string, most int64, f func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	tooLarge := bindery.Errorf(bindery.ErrInvalid, bindery.User, "Make the repository smaller, or fetch large data when the environment is built.",
		"The repository is larger than this hub allows (%.1f GB)", float64(o.s.cfg.MaxBytes)/1e9)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(3 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if treeSize(dir) > most {
					cancel(tooLarge)
					return
				}
			}
		}
	})
	err := f(ctx)
	if errors.Is(context.Cause(ctx), tooLarge) {
		err = tooLarge
	}
	cancel(nil)
	wg.Wait()
	return err
}
