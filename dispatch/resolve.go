package dispatch

import (
	"context"
	"sync"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// resolver asks each question once while it is being answered, and keeps answers for a while.
type resolver struct {
	mu      sync.Mutex
	known   map[bindery.Source]resolved
	pending map[bindery.Source]*question
}

type resolved struct {
	commit string
	until  time.Time // zero: for good
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

// Resolve fills in the commit of a source. Equal questions that are asked at once are asked of the worker once;
// answers for a ref are kept for Config.ResolveFor, those for a full commit for good.
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
		src.Commit = k.commit
		return src, nil
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
	src.Commit = q.src.Commit
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
		q.src, q.err = d.cfg.Worker.Resolve(ctx, key)
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.pending[key] == q {
			delete(r.pending, key)
		}
		if q.err != nil {
			return
		}
		k := resolved{commit: q.src.Commit, until: d.cfg.Now().Add(d.cfg.ResolveFor)}
		if bindery.IsCommit(key.Ref) {
			k.until = time.Time{}
		}
		if len(r.known) >= mostResolved {
			clear(r.known)
		}
		r.known[key] = k
	}()
	return q
}
