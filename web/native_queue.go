package web

import (
	"context"
	"encoding/json"
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
			out[i].Source, out[i].Evidence = s.shownSource(c, out[i].Source), shownEvidence(c, out[i].Evidence)
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
	case src.Provider == bindery.ProviderLocal, s.hidesFrom(c):
		return bindery.Source{Provider: src.Provider}
	}
	return src
}

func (s *Server) hidesFrom(c Caller) bool {
	return s.cfg.HideSources && !c.Scope.Includes(api.ScopeRead)
}

// shownText returns what makes of words about a source those that c may read: logs and errors name repositories.
func (s *Server) shownText(c Caller, src bindery.Source) func(string) string {
	if !s.hidesFrom(c) {
		return func(text string) string { return text }
	}
	bare := strings.TrimSuffix(src.URL, ".git")
	_, host, _ := strings.Cut(bare, "://")
	names := []string{src.URL, bare, host}
	if src.IsArchive() {
		names = append(names, src.Ref)
	}
	var pairs []string
	for _, name := range names {
		if name != "" {
			pairs = append(pairs, name, "(a repository)")
		}
	}
	return strings.NewReplacer(pairs...).Replace
}

// shownError is err without its cause.
func shownError(show func(string) string, err *bindery.Error) *bindery.Error {
	if err == nil {
		return nil
	}
	return &bindery.Error{Kind: err.Kind, Fault: err.Fault, Msg: show(err.Msg), Remedy: show(err.Remedy)}
}

// shownBuild is a build as c may see it.
func (s *Server) shownBuild(c Caller, b bindery.Build) bindery.Build {
	if s.hidesFrom(c) {
		b.Key, b.Err = "", shownError(s.shownText(c, b.Source), b.Err)
	}
	b.Source = s.shownSource(c, b.Source)
	return b
}

// shownEvent is what a build says, as whoever show is for may read it.
func shownEvent(show func(string) string, e bindery.Event) bindery.Event {
	e.Message, e.Err = show(e.Message), shownError(show, e.Err)
	if e.Step != nil {
		step := *e.Step
		step.Name, e.Step = show(step.Name), &step
	}
	if e.Plan != nil {
		e.Plan = json.RawMessage(show(string(e.Plan)))
	}
	return e
}

// oneLine makes one line of a person's words: they are shown in lists, logs and streams.
func oneLine(s string) string {
	return bindery.Printable(strings.Join(strings.Fields(s), " "))
}
