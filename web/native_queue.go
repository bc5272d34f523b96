package web

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

func errNoQueue() error {
	return bindery.Errorf(bindery.ErrNotReady, bindery.Ours, "Ask the operator of this hub.", "This hub has no queue to look at")
}

// getQueue is for everybody: whoever waits may know for what. Who asks is for tokens.
func (s *Server) getQueue(ctx context.Context, c Caller, most int) (bindery.Queue, error) {
	if s.cfg.Queue == nil {
		return bindery.Queue{}, errNoQueue()
	}
	look := s.cfg.Queue.Queue
	if !c.Scope.Includes(api.ScopeRead) {
		look = s.glance.queue
	}
	q, err := look(ctx)
	if err != nil {
		return bindery.Queue{}, err
	}
	if n := len(q.Waiting) - most; n > 0 {
		q.Waiting, q.More = q.Waiting[:most], q.More+n
	}
	return s.shownQueue(c, q), nil
}

// A glance is the queue as it was at most a second ago. Status pages ask for it all the time, and to look at a long
// queue holds up those who work on it.
type glance struct {
	look func(ctx context.Context) (bindery.Queue, error)
	now  func() time.Time

	mu    sync.Mutex
	taken time.Time
	last  bindery.Queue
}

const glanceFor = time.Second

func (g *glance) queue(ctx context.Context) (bindery.Queue, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if age := g.now().Sub(g.taken); !g.taken.IsZero() && age >= 0 && age < glanceFor {
		return g.last, nil
	}
	q, err := g.look(ctx)
	if err == nil {
		g.last, g.taken = q, g.now()
	}
	return q, err
}

// shownQueue leaves out what c may not know. Lists are there even when they are empty.
func (s *Server) shownQueue(c Caller, q bindery.Queue) bindery.Queue {
	known := c.Scope.Includes(api.ScopeRead)
	hide := func(all []bindery.QueuedBuild) []bindery.QueuedBuild {
		out := append([]bindery.QueuedBuild{}, all...)
		for i := range out {
			if !known {
				out[i].Asker, out[i].Worker = "", ""
			}
			if !known && s.cfg.HideSources { // whoever knows its id may read its log
				out[i].ID, out[i].Key = "", ""
			}
			out[i].Source = s.shownSource(c, out[i].Source)
		}
		return out
	}
	q.Running, q.Waiting = hide(q.Running), hide(q.Waiting)
	q.Shares = append([]bindery.Share{}, q.Shares...)
	q.Failures = append([]bindery.RecentFailure{}, q.Failures...)
	q.Lobby = append([]bindery.WaitingSession{}, q.Lobby...)
	q.Rules = append([]bindery.Rule{}, q.Rules...)
	for i := range q.Failures {
		f := &q.Failures[i]
		f.Source = s.shownSource(c, f.Source)
		if !known && s.cfg.HideSources {
			f.Build, f.Key, f.Err = "", "", nil
		}
	}
	if known {
		return q
	}
	q.Rules = []bindery.Rule{}
	q.Shares = slices.DeleteFunc(q.Shares, func(x bindery.Share) bool {
		return x.Scope != bindery.OnOwner || strings.HasPrefix(x.Name, bindery.ProviderLocal) || s.cfg.HideSources
	})
	for i := range q.Lobby {
		q.Lobby[i].Asker, q.Lobby[i].Repo = "", ""
	}
	return q
}

// shownSource is a source as c may see it: directories of the machine are nobody else's business, and repositories are
// not where the operator says so.
func (s *Server) shownSource(c Caller, src bindery.Source) bindery.Source {
	switch {
	case c.Admin:
	case src.Provider == bindery.ProviderLocal, s.cfg.HideSources && !c.Scope.Includes(api.ScopeRead):
		return bindery.Source{Provider: src.Provider}
	}
	return src
}

// oneLine makes one line of a person's words: they are shown in lists, logs and streams.
func oneLine(s string) string {
	return bindery.Printable(strings.Join(strings.Fields(s), " "))
}
