package web

import (
	"context"
	"log/slog"
	"sync"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// launches makes one session of any number of requests that carry the same request id: a visitor whose stream breaks
// and comes back gets the session that was being started. A launch outlives its requests by a grace period only.
type launches struct {
	sessions Sessions
	grace    time.Duration
	log      *slog.Logger
	running  sync.WaitGroup

	mu  sync.Mutex
	all map[string]*launching // by request id
}

// keepLaunches bounds how many finished launches are remembered.
const keepLaunches = 4096

type launching struct {
	done    chan struct{}
	sess    bindery.Session
	err     error
	cancel  context.CancelFunc
	waiters int
	leaving *time.Timer
}

func newLaunches(cfg Config) *launches {
	return &launches{sessions: cfg.Sessions, grace: cfg.LeaveGrace, log: cfg.Log, all: map[string]*launching{}}
}

// get returns the session of a request, and starts it when there is none that lives.
func (l *launches) get(ctx context.Context, b bindery.Build, ask bindery.Ask) (bindery.Session, error) {
	if ask.Request == "" {
		return l.sessions.Launch(ctx, b, ask)
	}
	key := bindery.Key("launch", ask.Request, b.ID)
	la := l.join(ctx, key, b, ask)
	defer l.leave(la)
	select {
	case <-la.done:
		return la.sess, la.err
	case <-ctx.Done():
		return bindery.Session{}, ctx.Err()
	}
}

func (l *launches) join(ctx context.Context, key string, b bindery.Build, ask bindery.Ask) *launching {
	if old := l.peek(key); old != nil && !l.alive(ctx, old) {
		l.forget(key, old)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	la := l.all[key]
	if la == nil {
		l.shrink()
		la = &launching{done: make(chan struct{})}
		l.all[key] = la
		run, cancel := context.WithCancel(context.WithoutCancel(ctx))
		la.cancel = cancel
		l.running.Go(func() { l.launch(run, key, la, b, ask) })
	}
	la.waiters++
	if la.leaving != nil {
		la.leaving.Stop()
	}
	return la
}

func (l *launches) launch(ctx context.Context, key string, la *launching, b bindery.Build, ask bindery.Ask) {
	defer la.cancel()
	sess, err := l.sessions.Launch(ctx, b, ask)
	l.mu.Lock()
	defer l.mu.Unlock()
	la.sess, la.err = sess, err
	if err != nil && l.all[key] == la {
		delete(l.all, key) // the next one tries again
	}
	close(la.done)
}

func (l *launches) leave(la *launching) {
	l.mu.Lock()
	defer l.mu.Unlock()
	la.waiters--
	if la.waiters > 0 || la.ended() {
		return
	}
	la.leaving = time.AfterFunc(l.grace, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if la.waiters == 0 {
			la.cancel()
		}
	})
}

func (la *launching) ended() bool {
	select {
	case <-la.done:
		return true
	default:
		return false
	}
}

func (l *launches) peek(key string) *launching {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all[key]
}

// alive reports whether a launch is under way or its session still there.
func (l *launches) alive(ctx context.Context, la *launching) bool {
	if !la.ended() {
		return true
	}
	sess, err := l.sessions.Session(ctx, la.sess.ID)
	return err == nil && (sess.State == bindery.SessionReady || sess.State == bindery.SessionPending)
}

func (l *launches) forget(key string, la *launching) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all[key] == la {
		delete(l.all, key)
	}
}

// shrink drops finished launches, any of them, when there are too many: their visitors have long moved on.
func (l *launches) shrink() {
	for key, la := range l.all {
		if len(l.all) < keepLaunches {
			return
		}
		if la.ended() {
			delete(l.all, key)
		}
	}
}

// wait returns when no launch is under way. When ctx ends first those that are left are given up.
func (l *launches) wait(ctx context.Context) {
	done := make(chan struct{})
	go func() { l.running.Wait(); close(done) }()
	select {
	case <-done:
		return
	case <-ctx.Done():
	}
	l.mu.Lock()
	for _, la := range l.all {
		la.cancel()
	}
	l.mu.Unlock()
	<-done
}
