package dispatch

import (
	"context"
	"sync"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// resolver asks each question once while it is being answered, and keeps answers for a while; old ones for when nobody
// can be asked.
type resolver struct {
	mu      sync.Mutex
	known   map[bindery.Source]resolved
	pending map[bindery.Source]*question
}

type resolved struct {
	url    string // of an archive it is known only now
	commit string
	err    error     // it is not there
	asked  time.Time // when it was
	until  time.Time // zero: for good
}

// fill puts the answer into a question.
func (k resolved) fill(src bindery.Source) (bindery.Source, error) {
	if k.err != nil {
		return src, k.err
	}
	src.URL, src.Commit = k.url, k.commit
	return src, nil
}

// A question is asked of the worker as long as anybody waits for its answer.
type question struct {
	askers int
	cancel context.CancelFunc
	done   chan struct{}
	src    bindery.Source
	err    error
}

// mostResolved bounds the answers that are kept.
const mostResolved = 10_000

// An answer serves for staleFor while there is no newer one to be had: a forge that is down, or a worker that is being
// replaced, fails no launch of a ref that is known. That something is not there is believed for absentFor only, since
// people push what they have just been told is missing.
const staleFor, absentFor = 24 * time.Hour, 30 * time.Second

// Resolve fills in the commit of a source. Equal questions that are asked at once are asked of the worker once;
// answers for a ref are kept for Config.ResolveFor, those for a full commit for good. When the worker cannot tell, an
// old answer serves.
func (d *Dispatcher) Resolve(ctx context.Context, src bindery.Source) (bindery.Source, error) {
	if src.Provider == bindery.ProviderLocal {
		return d.cfg.Worker.Resolve(ctx, src)
	}
	if src.Commit != "" {
		return src, nil
	}
	// A directory of a repository resolves like the repository.
	key := src
	key.Subdir = ""
	r := &d.resolver
	r.mu.Lock()
	if k, ok := r.known[key]; ok && (k.until.IsZero() || d.cfg.Now().Before(k.until)) {
		r.mu.Unlock()
		return k.fill(src)
	}
	q := r.pending[key]
	if q == nil {
		q = d.ask(ctx, key)
	}
	q.askers++
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if q.askers--; q.askers == 0 {
			q.cancel()
			if r.pending[key] == q {
				delete(r.pending, key)
			}
		}
	}()
	select {
	case <-q.done:
	case <-ctx.Done():
		return src, ctx.Err()
	}
	if q.err != nil {
		return src, q.err
	}
	src.URL, src.Commit = q.src.URL, q.src.Commit
	return src, nil
}

// ask starts a question; the resolver is locked. The goroutine ends at the latest when nobody waits for it any more.
func (d *Dispatcher) ask(ctx context.Context, key bindery.Source) *question {
	// Whoever asks first may leave first: the others go on waiting.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	q := &question{cancel: cancel, done: make(chan struct{})}
	r := &d.resolver
	r.pending[key] = q
	go func() {
		defer close(q.done)
		defer cancel()
		var err error
		q.src, err = d.cfg.Worker.Resolve(ctx, key)
		q.err = err
		defer func() { d.cfg.Resolved(key, err, err != nil && q.err == nil) }()
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.pending[key] == q {
			delete(r.pending, key)
		}
		if k, keep := d.learn(key, q); keep {
			if len(r.known) >= mostResolved {
				clear(r.known)
			}
			r.known[key] = k
		}
	}()
	return q
}

// learn makes of an answer what is kept of it. For a lack of one it puts an old answer in its place. The resolver is
// locked.
func (d *Dispatcher) learn(key bindery.Source, q *question) (k resolved, keep bool) {
	now := d.cfg.Now()
	if q.err == nil {
		k = resolved{url: q.src.URL, commit: q.src.Commit, asked: now, until: now.Add(d.cfg.ResolveFor)}
		if bindery.IsCommit(key.Ref) {
			k.until = time.Time{}
		}
		return k, true
	}
	e := bindery.AsError(q.err)
	if e.Kind == bindery.ErrRefNotFound || e.Kind == bindery.ErrRepoNotFound {
		return resolved{err: q.err, asked: now, until: now.Add(absentFor)}, true
	}
	old, known := d.resolver.known[key]
	if !known || old.err != nil || e.Fault == bindery.User || now.Sub(old.asked) > staleFor {
		return resolved{}, false
	}
	d.cfg.Log.Warn("a ref cannot be resolved; its last commit serves", "repository", key.Identity(), "ref", key.Ref, "since", old.asked, "err", q.err)
	q.src, q.err = key, nil
	q.src.URL, q.src.Commit = old.url, old.commit
	old.until = now.Add(absentFor) // not every launch meanwhile waits for a server that is down
	return old, true
}
