package dispatch

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/sched"
)

// AuditReader is a Store that can show its audit log, the newest lines first.
type AuditReader interface {
	Audit(ctx context.Context, q bindery.AuditQuery) ([]bindery.Audit, error)
}

// SetRule makes a rule, or replaces the one of its kind, scope, name and beginning. It is in effect when SetRule returns, and a
// line of the audit log says who set it. Created is filled in.
func (d *Dispatcher) SetRule(ctx context.Context, r bindery.Rule) error {
	if err := d.ready(ctx); err != nil {
		return err
	}
	if err := d.checkRule(r); err != nil {
		return err
	}
	return d.do(ctx, func(t *turn) {
		r.Created, r.From, r.Until = t.now, exact(r.From), exact(r.Until)
		t.rules = append(t.rules, r)
		t.note(r.Who, "set "+r.Kind, ruleWords(r), cmp.Or(r.Reason, r.Message))
		d.rules[ruleKey(r)] = r
		t.step(sched.SetRule{Rule: ruleOf(r)})
		if len(r.Prebuild) > 0 {
			t.then(d.wakePrebuild)
		}
	})
}

// exact is a time as the store keeps it.
func exact(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}

// LiftRule ends the rule of a kind, scope, name and beginning. That there is none is an error: the name may be misspelt.
func (d *Dispatcher) LiftRule(ctx context.Context, r bindery.Rule, who, reason string) error {
	if err := d.ready(ctx); err != nil {
		return err
	}
	r.From = exact(r.From)
	found := false
	err := d.do(ctx, func(t *turn) {
		old, ok := d.rules[ruleKey(r)]
		if found = ok && !expired(old, t.now); !found {
			return
		}
		t.lifted = append(t.lifted, old)
		t.note(who, "lift "+old.Kind, ruleWords(old), reason)
		delete(d.rules, ruleKey(r))
		t.step(sched.LiftRule{Kind: sched.RuleKind(r.Kind), Scope: sched.Scope(r.Scope), Name: r.Name, From: r.From})
	})
	if err == nil && !found {
		err = bindery.Errorf(bindery.ErrNotFound, bindery.User, "List the rules that stand, and name one of them.",
			"There is no %s of the %s %q", bindery.Printable(r.Kind), bindery.Printable(r.Scope), bindery.Printable(r.Name))
	}
	return err
}

// lift ends a rule that the queue has ended.
func (t *turn) lift(d sched.Lifted) {
	key := ruleKey(bindery.Rule{Kind: string(d.Rule.Kind), Scope: string(d.Rule.Scope), Name: d.Rule.Name, From: d.Rule.From})
	r, ok := t.d.rules[key]
	if !ok {
		return
	}
	t.lifted = append(t.lifted, r)
	t.note("hub", "lift "+r.Kind, ruleWords(r), "it is built: "+d.Build)
	delete(t.d.rules, key)
}

// Rules returns the rules that stand, in force or not yet, in order.
func (d *Dispatcher) Rules(ctx context.Context) ([]bindery.Rule, error) {
	if err := d.ready(ctx); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.standingRules(d.now()), nil
}

// standingRules needs the state locked.
func (d *Dispatcher) standingRules(now time.Time) []bindery.Rule {
	out := []bindery.Rule{}
	for _, r := range d.rules {
		if !expired(r, now) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b bindery.Rule) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.Name, b.Name), a.From.Compare(b.From))
	})
	return out
}

// Audit returns lines of the audit log, the newest first.
func (d *Dispatcher) Audit(ctx context.Context, q bindery.AuditQuery) ([]bindery.Audit, error) {
	log, ok := d.cfg.Store.(AuditReader)
	if !ok {
		return nil, nil
	}
	return log.Audit(ctx, q)
}

func expired(r bindery.Rule, now time.Time) bool { return !r.Until.IsZero() && !r.Until.After(now) }

// A rule stands for its kind, scope, name and beginning.
type ruleName struct {
	kind, scope, name string
	from              int64
}

func ruleKey(r bindery.Rule) ruleName {
	if r.From.IsZero() {
		return ruleName{r.Kind, r.Scope, r.Name, 0}
	}
	return ruleName{r.Kind, r.Scope, r.Name, r.From.UnixMicro()}
}

// ruleOf is what the scheduler must know of a rule. What it says to visitors is the message, never the reason.
func ruleOf(r bindery.Rule) sched.Rule {
	return sched.Rule{
		Kind: sched.RuleKind(r.Kind), Scope: sched.Scope(r.Scope), Name: r.Name, Value: r.Value, From: r.From, Until: r.Until, Reason: r.Message,
	}
}

func ruleWords(r bindery.Rule) string {
	text := fmt.Sprintf("%s %s", r.Scope, r.Name)
	if r.Kind == string(sched.Weight) || r.Kind == string(sched.Quota) {
		text += fmt.Sprintf(" to %g", r.Value)
	}
	if !r.From.IsZero() {
		text += " from " + r.From.UTC().Format(time.RFC3339)
	}
	if !r.Until.IsZero() {
		text += " until " + r.Until.UTC().Format(time.RFC3339)
	}
	return text
}

// checkRule refuses rules that cannot mean anything: the store would, too, but in words for nobody.
func (d *Dispatcher) checkRule(r bindery.Rule) error {
	kinds := bindery.RuleKinds()
	scopes := []string{bindery.OnRepository, bindery.OnOwner, bindery.OnRequester, bindery.OnNetwork, bindery.OnSpec}
	broad := r.Scope == bindery.OnNetwork || r.Scope == bindery.OnSpec
	bad := func(remedy, format string, args ...any) error {
		return bindery.Errorf(bindery.ErrInvalid, bindery.User, remedy, format, args...)
	}
	switch {
	case !slices.Contains(kinds, r.Kind):
		return bad("Choose one of "+strings.Join(kinds, ", ")+".", "%q is not a kind of rule", bindery.Printable(r.Kind))
	case !slices.Contains(scopes, r.Scope):
		return bad("Choose one of "+strings.Join(scopes, ", ")+".", "%q is not what a rule can be about", bindery.Printable(r.Scope))
	case r.Name == "":
		return bad("Name a repository, an owner, a requester, a network or specs.", "The rule is about nothing")
	case r.Kind == bindery.RuleUntilBuilt && (r.Scope == bindery.OnRequester || r.Scope == bindery.OnNetwork):
		return bad("Name a repository, an owner or specs.", "A %s is never built", r.Scope)
	case r.Kind == string(sched.Weight) && (r.Value <= 0 || r.Value > 1000):
		return bad("Give a number above 0, at most 1000; everybody's weight is 1.", "%g is not a weight", r.Value)
	case r.Kind == string(sched.Weight) && (r.Scope == bindery.OnRepository || broad):
		return bad("Give the weight to an owner or to a requester.", "A %s has no share of its own", r.Scope)
	case r.Kind == string(sched.Quota) && (r.Value < 0 || r.Value != float64(int64(r.Value))):
		return bad("Give a whole number, 0 for none.", "%g is not a number of sessions", r.Value)
	case !r.Until.IsZero() && !r.From.IsZero() && !r.Until.After(r.From):
		return bad("Let it end later than it begins.", "The rule would end before it begins")
	case expired(r, d.now()):
		return bad("Give a time that is to come.", "The rule would have expired at %s", r.Until.UTC().Format(time.RFC3339))
	}
	if broad {
		if _, err := bindery.NewMatcher(r.Scope, r.Name); err != nil {
			return err
		}
	}
	return d.room(broad)
}

// Each request is compared with all broad rules, each one that ends wakes the queue.
const mostRules, mostBroad = 5000, 200

// room refuses more rules than the queue can look at all the time.
func (d *Dispatcher) room(broad bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	all, wide := len(d.rules), 0
	for _, r := range d.rules {
		if r.Scope == bindery.OnNetwork || r.Scope == bindery.OnSpec {
			wide++
		}
	}
	if all >= mostRules || broad && wide >= mostBroad {
		return bindery.Errorf(bindery.ErrConflict, bindery.User, "Lift some, or let one expression stand for several.",
			"There are %d rules, %d of them about networks and expressions: no more fit", all, wide)
	}
	return nil
}

// restoreRules replaces the rules by those that are stored.
func (d *Dispatcher) restoreRules(stored []bindery.Rule) []sched.Rule {
	d.rules = make(map[ruleName]bindery.Rule, len(stored))
	out := make([]sched.Rule, 0, len(stored)) // not nil: that would mean the scheduler's own
	for _, r := range stored {
		d.rules[ruleKey(r)] = r
		out = append(out, ruleOf(r))
	}
	return out
}

// note adds a line to the audit log.
func (t *turn) note(who, did, what, reason string) {
	t.audit = append(t.audit, bindery.Audit{Time: t.now, Who: who, Did: did, What: what, Reason: reason})
}
