package web

import (
	"context"
	"sync"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

// criers tell those who read builds' own events where the builds stand. However many read of one, it is asked and encoded
// once for all of them.
type criers struct {
	s *Server

	mu  sync.Mutex
	all map[string]*crier // by build
}

type crier struct {
	stop context.CancelFunc
	line []byte // the newest
	to   map[*sender]bool
}

// join tells a stream, until leave is called.
func (cs *criers) join(ctx context.Context, id string, st *sender) (leave func()) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c := cs.all[id]
	if c == nil {
		ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
		c = &crier{stop: stop, to: map[*sender]bool{}}
		cs.all[id] = c
		cs.s.streams.Go(func() { cs.run(ctx, id, c) })
	}
	c.to[st] = true
	if c.line != nil {
		st.offer(c.line)
	}
	return func() {
		cs.mu.Lock()
		defer cs.mu.Unlock()
		if delete(c.to, st); len(c.to) == 0 {
			cs.close(id, c)
		}
	}
}

// run tells everybody until the build is over.
func (cs *criers) run(ctx context.Context, id string, c *crier) {
	for at, err := range cs.s.cfg.Builds.Standings(ctx, id) {
		if err != nil {
			break // the streams themselves say what is wrong
		}
		line, err := standingLine(at)
		if err != nil {
			break // its fields are plain
		}
		cs.mu.Lock()
		c.line = line
		for st := range c.to {
			st.offer(c.line) // who is too far behind hears of the next
		}
		cs.mu.Unlock()
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.close(id, c)
}

// close is called with the lock held.
func (cs *criers) close(id string, c *crier) {
	if cs.all[id] == c {
		delete(cs.all, id)
	}
	c.stop()
}

// standingLine is a standing beside the events of a build, which have numbers.
func standingLine(at bindery.Standing) ([]byte, error) {
	line, err := eventLine("", at)
	return append([]byte("event: "+api.StandingEvent+"\n"), line...), err
}
