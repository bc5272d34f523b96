package web

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

// mostPrebuilt bounds the links of one rule.
const mostPrebuilt = 50

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
		if r.Kind != bindery.RuleBan || r.From.After(s.cfg.Now()) || !s.matchers.concerns(r, ask.Source, ask.Requester, ask.Address) {
			continue
		}
		noun := r.Scope
		if noun == bindery.OnSpec {
			noun = bindery.OnRepository
		}
		text := "This " + noun + " is not served at the moment"
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
		Reason: r.Reason, Message: r.Message, By: r.Who, Created: r.Created, From: r.From, Until: r.Until,
	}
	for _, src := range r.Prebuild {
		out.Prebuild = append(out.Prebuild, src.Link())
	}
	out.ID = ruleID(out.Kind, out.Pattern, out.From)
	return out
}

func ruleID(kind, pattern string, from time.Time) string {
	if from.IsZero() {
		return kind + "-" + bindery.Key("rule", pattern)[:10]
	}
	return kind + "-" + bindery.Key("rule", pattern, from.UTC().Format(time.RFC3339Nano))[:10]
}

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
		return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Pattern, b.Pattern), a.From.Compare(b.From))
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
		Who: c.Who, Created: s.cfg.Now().UTC(), From: in.From.UTC(), Until: in.Until.UTC(),
	}
	if r.Prebuild, err = s.prebuilt(in, p); err != nil {
		return api.Rule{}, err
	}
	for _, name := range p.Names {
		r.Name = name
		if err := s.cfg.Queue.SetRule(ctx, r); err != nil {
			return api.Rule{}, err
		}
	}
	return shownRule(r), nil
}

// pattern reads what a new rule is to be about.
func (s *Server) pattern(text string) (bindery.Pattern, error) {
	p, err := bindery.ParsePatternAt(text, s.cfg.Providers)
	if err == nil && p.Scope == bindery.OnSpec {
		err = bindery.CheckSpecs(p.Names[0])
	}
	return p, err
}

// checkRule refuses what cannot be meant.
func (s *Server) checkRule(in *api.NewRule) (bindery.Pattern, error) {
	p, err := s.pattern(in.Pattern)
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
	case !in.Until.IsZero() && !in.From.Before(in.Until):
		return bad("Let it end later than it begins.", "The rule would end before it begins")
	case in.From.After(s.cfg.Now().AddDate(2, 0, 0)):
		return bad("Give a time within two years.", "The rule would begin at %s", in.From.Format(time.DateOnly))
	case len(in.Prebuild) > mostPrebuilt:
		return bad(fmt.Sprintf("Name at most %d.", mostPrebuilt), "There are too many links to prebuild")
	}
	switch in.Kind {
	case bindery.RuleBan, bindery.RuleHold, bindery.RuleHoldLaunches:
		in.Value = 0
	case bindery.RuleUntilBuilt:
		if in.Value = 0; p.Scope == bindery.OnRequester || p.Scope == bindery.OnNetwork {
			return bad("Name a repository, an owner or an expression.", "Nobody builds a %s", p.Scope)
		}
	case bindery.RuleQuota:
		if in.Value < 0 || in.Value > 1e6 || in.Value != float64(int(in.Value)) {
			return bad("Give a number of sessions.", "%v is not a quota", in.Value)
		}
	case bindery.RuleWeight:
		if !(in.Value > 0 && in.Value <= 1000) {
			return bad("Give a number above 0 and up to 1000; everybody has 1.", "%v is not a weight", in.Value)
		}
		if p.Scope != bindery.OnOwner && p.Scope != bindery.OnRequester {
			return bad("Weigh its owner, as in gh/owner/*, or a requester.", "Slots are shared over owners and requesters, not by %s", p.Scope)
		}
	default:
		return bad("Use one of "+strings.Join(bindery.RuleKinds(), ", ")+".", "%q is not a kind of rule", bindery.Printable(in.Kind))
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

// matchers keeps the broad rules' expressions compiled.
type matchers struct {
	mu   sync.Mutex
	made map[[2]string]bindery.Matcher
}

// concerns reports whether a rule is about a source that somebody asks for.
func (m *matchers) concerns(r bindery.Rule, src bindery.Source, requester, addr string) bool {
	subject := cmp.Or(addr, requester)
	switch r.Scope {
	case bindery.OnSpec:
		subject = src.Link()
	case bindery.OnNetwork:
	default:
		p := bindery.Pattern{Scope: r.Scope, Names: []string{r.Name}}
		return p.Concerns(src, requester, netip.Addr{})
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	key := [2]string{r.Scope, r.Name}
	match, ok := m.made[key]
	if !ok {
		if m.made == nil || len(m.made) > 1000 { // of rules that are gone, most of them
			m.made = map[[2]string]bindery.Matcher{}
		}
		var err error
		if match, err = bindery.NewMatcher(r.Scope, r.Name); err != nil {
			return false
		}
		m.made[key] = match
	}
	return match.Matches(subject)
}

// prebuilt reads the links that a rule wants built. A hold until something is built builds it, unless it is told what.
func (s *Server) prebuilt(in api.NewRule, p bindery.Pattern) (out []bindery.Source, err error) {
	for _, link := range in.Prebuild {
		provider, raw, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(link), "/v2/"), "/")
		src, err := s.sourceOf(spec{provider: provider, raw: raw})
		if err != nil {
			return nil, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Write it as a link of this hub has it after /v2/, such as gh/owner/repository/main.",
				"%q cannot be built: %s", bindery.Printable(link), bindery.AsError(err).Msg)
		}
		out = append(out, src)
	}
	if repo, ok := strings.CutPrefix(p.Names[0], bindery.ProviderGit+":"); ok && out == nil && in.Kind == bindery.RuleUntilBuilt && p.Scope == bindery.OnRepository {
		if at := strings.TrimPrefix(strings.TrimSpace(in.Pattern), bindery.ProviderGit+"/"); strings.Contains(at, ":") {
			repo = at // it is read by the protocol that was named
		}
		src, err := bindery.ParseGitSource(repo, "")
		return []bindery.Source{src.At(s.cfg.Providers)}, err
	}
	return out, nil
}

func readPattern(r *http.Request, in *string) error {
	*in = r.URL.Query().Get("pattern")
	return nil
}

// previewRule says what a rule would be about. It changes nothing.
func (s *Server) previewRule(ctx context.Context, _ Caller, text string) (api.RulePreview, error) {
	if s.cfg.Queue == nil {
		return api.RulePreview{}, errNoQueue()
	}
	p, err := s.pattern(text)
	if err != nil {
		return api.RulePreview{}, err
	}
	q, err := s.cfg.Queue.Queue(ctx)
	if err != nil {
		return api.RulePreview{}, err
	}
	sessions, err := s.cfg.Sessions.Sessions(ctx)
	if err != nil {
		return api.RulePreview{}, err
	}
	out := api.RulePreview{Pattern: p.String(), Scope: p.Scope, Rules: []api.Rule{}, Examples: []string{}}
	about := func(src bindery.Source, requester string) bool {
		return s.matchers.concerns(bindery.Rule{Scope: p.Scope, Name: p.Names[0]}, src, requester, "")
	}
	count := func(n *int, src bindery.Source, requester string) {
		if !about(src, requester) {
			return
		}
		*n++
		if spec := src.Link(); len(out.Examples) < 20 && !slices.Contains(out.Examples, spec) {
			out.Examples = append(out.Examples, spec)
		}
	}
	for _, b := range q.Running {
		count(&out.Running, b.Source, b.Asker)
	}
	for _, b := range q.Waiting {
		count(&out.Waiting, b.Source, b.Asker)
	}
	for _, x := range sessions {
		count(&out.Sessions, x.Source, x.Requester)
	}
	for _, x := range q.Lobby {
		if repo, ok := strings.CutPrefix(x.Repo, bindery.ProviderGit+":"); ok && about(bindery.Source{Provider: bindery.ProviderGit, URL: repo}, x.Asker) {
			out.Lobby++
		}
	}
	for _, r := range q.Rules {
		if x := shownRule(r); x.Pattern == out.Pattern {
			out.Rules = append(out.Rules, x)
		}
	}
	return out, nil
}

// readAudit reads what lines of the audit log are wanted.
func readAudit(r *http.Request, in *bindery.AuditQuery) error {
	v := r.URL.Query()
	if err := upTo(100)(r, &in.Limit); err != nil {
		return err
	}
	before, _, err := number(r, "before", 1<<53)
	if err != nil {
		return err
	}
	in.Who, in.What, in.Before = v.Get("who"), v.Get("what"), before
	if len(in.Who) > 200 || len(in.What) > 200 {
		return bindery.Errorf(bindery.ErrInvalid, bindery.User, "Look for at most 200 bytes.", "What is looked for is too long")
	}
	if in.Since, err = moment(v, "since"); err == nil {
		in.Until, err = moment(v, "until")
	}
	return err
}

func moment(v url.Values, name string) (time.Time, error) {
	text := v.Get(name)
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || t.Year() < 1970 || t.Year() > 9999 {
		return time.Time{}, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Write it as 2026-11-25T09:00:00Z.", "%q is not a time that %s may be", bindery.Printable(text), name)
	}
	return t, nil
}

func (s *Server) getAudit(ctx context.Context, _ Caller, q bindery.AuditQuery) ([]api.AuditLine, error) {
	out := []api.AuditLine{}
	if s.cfg.History == nil {
		return out, nil
	}
	all, err := s.cfg.History.Audit(ctx, q)
	for _, a := range all {
		out = append(out, api.AuditLine{ID: a.ID, Time: a.Time, Who: a.Who, Did: a.Did, What: a.What, Reason: a.Reason})
	}
	return out, err
}
