package web

import (
	"cmp"
	"context"
	"net/netip"
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

// banned refuses what an operator has banned before anything is asked of its forge. The queue looks again: a ban may
// come between the two.
func (s *Server) banned(ctx context.Context, ask bindery.Ask) error {
	if s.cfg.Queue == nil {
		return nil
	}
	rules, err := s.cfg.Queue.Rules(ctx)
	if err != nil {
		return err
	}
	for _, r := range rules {
		if r.Kind != "ban" {
			continue
		}
		p := bindery.Pattern{Scope: r.Scope, Names: []string{r.Name}}
		if !p.Concerns(ask.Source, ask.Requester, netip.Addr{}) {
			continue
		}
		text := "This " + r.Scope + " is not served at the moment"
		if r.Message != "" {
			text += ": " + r.Message
		}
		return bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Ask the operator of this hub.", "%s", text)
	}
	return nil
}

func shownRule(r bindery.Rule) api.Rule {
	out := api.Rule{
		Kind: r.Kind, Pattern: bindery.PatternText(r.Scope, r.Name), Scope: r.Scope, Value: r.Value,
		Reason: r.Reason, Message: r.Message, By: r.Who, Created: r.Created, Until: r.Until,
	}
	out.ID = ruleID(out.Kind, out.Pattern)
	return out
}

func ruleID(kind, pattern string) string { return kind + "-" + bindery.Key("rule", pattern)[:10] }

// getRules lists rules by their patterns: one that stands for two names is one rule to people.
func (s *Server) getRules(ctx context.Context, _ Caller, _ struct{}) ([]api.Rule, error) {
	if s.cfg.Queue == nil {
		return nil, errNoQueue()
	}
	all, err := s.cfg.Queue.Rules(ctx)
	out := []api.Rule{}
	for _, r := range all {
		out = append(out, shownRule(r))
	}
	slices.SortStableFunc(out, func(a, b api.Rule) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Pattern, b.Pattern))
	})
	return slices.CompactFunc(out, func(a, b api.Rule) bool { return a.ID == b.ID }), err
}

func (s *Server) postRule(ctx context.Context, c Caller, in api.NewRule) (api.Rule, error) {
	if s.cfg.Queue == nil {
		return api.Rule{}, errNoQueue()
	}
	p, err := s.checkRule(&in)
	if err != nil {
		return api.Rule{}, err
	}
	r := bindery.Rule{
		Kind: in.Kind, Scope: p.Scope, Value: in.Value, Message: in.Message, Reason: in.Reason,
		Who: c.Who, Created: s.cfg.Now().UTC(), Until: in.Until,
	}
	for _, name := range p.Names {
		r.Name = name
		if err := s.cfg.Queue.SetRule(ctx, r); err != nil {
			return api.Rule{}, err
		}
	}
	return shownRule(r), nil
}

// checkRule refuses what cannot be meant.
func (s *Server) checkRule(in *api.NewRule) (bindery.Pattern, error) {
	p, err := bindery.ParsePattern(in.Pattern)
	if err != nil {
		return p, err
	}
	in.Reason, in.Message = oneLine(in.Reason), oneLine(in.Message)
	bad := func(remedy, format string, args ...any) (bindery.Pattern, error) {
		return p, bindery.Errorf(bindery.ErrInvalid, bindery.User, remedy, format, args...)
	}
	switch {
	case in.Reason == "":
		return bad("Say why: the audit log keeps it.", "A rule needs a reason")
	case len(in.Reason) > 1000 || len(in.Message) > 1000:
		return bad("Use at most 1000 bytes for each.", "The reason or the message is too long")
	case !in.Until.IsZero() && !in.Until.After(s.cfg.Now()):
		return bad("Give a time to come.", "The rule would have expired already")
	}
	switch in.Kind {
	case "ban", "hold", "hold-launches":
		in.Value = 0
	case "quota":
		if in.Value < 0 || in.Value > 1e6 || in.Value != float64(int(in.Value)) {
			return bad("Give a number of sessions.", "%v is not a quota", in.Value)
		}
	case "weight":
		if !(in.Value > 0 && in.Value <= 1000) {
			return bad("Give a number above 0 and up to 1000; everybody has 1.", "%v is not a weight", in.Value)
		}
		if p.Scope == bindery.OnRepository {
			return bad("Weigh its owner, as in gh/owner/*.", "Slots are shared over owners and requesters, not over repositories")
		}
	default:
		return bad("Use ban, hold, hold-launches, quota or weight.", "%q is not a kind of rule", bindery.Printable(in.Kind))
	}
	if p.Scope == bindery.OnNetwork {
		return bad("Name the /24 or the /48 that it is in: requests are charged to these.", "%q is not a block that rules are made for", p.String())
	}
	return p, nil
}

func (s *Server) deleteRule(ctx context.Context, c Caller, in about[api.LiftRule]) (struct{}, error) {
	if s.cfg.Queue == nil {
		return struct{}{}, errNoQueue()
	}
	all, err := s.cfg.Queue.Rules(ctx)
	if err != nil {
		return struct{}{}, err
	}
	found := false
	for _, r := range all {
		if shownRule(r).ID != in.id {
			continue
		}
		found = true
		if err := s.cfg.Queue.LiftRule(ctx, r, c.Who, oneLine(in.body.Reason)); err != nil {
			return struct{}{}, err
		}
	}
	if !found {
		return struct{}{}, bindery.Errorf(bindery.ErrNotFound, bindery.User, "List the rules that stand; it may have expired.", "There is no rule %s", bindery.Printable(in.id))
	}
	return struct{}{}, nil
}

func (s *Server) getAudit(ctx context.Context, _ Caller, most int) ([]api.AuditLine, error) {
	out := []api.AuditLine{}
	if s.cfg.History == nil {
		return out, nil
	}
	all, err := s.cfg.History.Audit(ctx, most)
	for _, a := range all {
		out = append(out, api.AuditLine{Time: a.Time, Who: a.Who, Did: a.Did, What: a.What, Reason: a.Reason})
	}
	return out, err
}

// oneLine makes one line of a person's words: they are shown in lists, logs and streams.
func oneLine(s string) string {
	return bindery.Printable(strings.Join(strings.Fields(s), " "))
}
