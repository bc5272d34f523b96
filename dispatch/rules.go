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
	Audit(ctx context.Context, limit int) ([]bindery.Audit, error)
}

// SetRule makes a rule, or replaces the one of its kind, scope and name. It is in effect when SetRule returns, and a
// line of the audit log says who set it. Created is filled in.
func (d *Dispatcher) SetRule(ctx context.Context, r bindery.Rule) error {
	if err := d.ready(ctx); err != nil {
		return err
	}
	if err := d.checkRule(r); err != nil {
		return err
	}
	return d.do(ctx, func(t *turn) {
		r.Created, r.Until = t.now, r.Until.UTC().Truncate(time.Microsecond)
		t.rules = append(t.rules, r)
		t.note(r.Who, "set "+r.Kind, ruleWords(r), cmp.Or(r.Reason, r.Message))
		d.rules[ruleKey(r)] = r
		t.step(sched.SetRule{Rule: ruleOf(r)})
	})
}

// LiftRule ends the rule of a kind, scope and name. That there is none is an error: the name may be misspelt.
func (d *Dispatcher) LiftRule(ctx context.Context, r bindery.Rule, who, reason string) error {
	if err := d.ready(ctx); err != nil {
		return err
	}
	found := false
	err := d.do(ctx, func(t *turn) {
		old, ok := d.rules[ruleKey(r)]
		if found = ok && !expired(old, t.now); !found {
			return
		}
		t.lifted = append(t.lifted, old)
		t.note(who, "lift "+old.Kind, ruleWords(old), reason)
		delete(d.rules, ruleKey(r))
		t.step(sched.LiftRule{Kind: sched.RuleKind(r.Kind), Scope: sched.Scope(r.Scope), Name: r.Name})
	})
	if err == nil && !found {
		err = bindery.Errorf(bindery.ErrNotFound, bindery.User, "List the rules that stand, and name one of them.",
			"There is no %s of the %s %q", bindery.Printable(r.Kind), bindery.Printable(r.Scope), bindery.Printable(r.Name))
	}
	return err
}

// Rules returns the rules that stand, in order.
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
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// Audit returns the newest lines of the audit log, the newest first.
func (d *Dispatcher) Audit(ctx context.Context, limit int) ([]bindery.Audit, error) {
	log, ok := d.cfg.Store.(AuditReader)
	if !ok {
		return nil, nil
	}
	return log.Audit(ctx, limit)
}

func expired(r bindery.Rule, now time.Time) bool { return !r.Until.IsZero() && !r.Until.After(now) }

// A rule stands for its kind, scope and name.
type ruleName struct{ kind, scope, name string }

func ruleKey(r bindery.Rule) ruleName { return ruleName{r.Kind, r.Scope, r.Name} }

// ruleOf is what the scheduler must know of a rule. What it says to visitors is the message, never the reason.
func ruleOf(r bindery.Rule) sched.Rule {
	return sched.Rule{
		Kind: sched.RuleKind(r.Kind), Scope: sched.Scope(r.Scope), Name: r.Name, Value: r.Value, Until: r.Until, Reason: r.Message,
	}
}

func ruleWords(r bindery.Rule) string {
	text := fmt.Sprintf("%s %s", r.Scope, r.Name)
	if r.Kind == string(sched.Weight) || r.Kind == string(sched.Quota) {
		text += fmt.Sprintf(" to %g", r.Value)
	}
	if !r.Until.IsZero() {
		text += " until " + r.Until.UTC().Format(time.RFC3339)
	}
	return text
}

// checkRule refuses rules that cannot mean anything: the store would, too, but in words for nobody.
func (d *Dispatcher) checkRule(r bindery.Rule) error {
	kinds := []string{string(sched.Ban), string(sched.Pause), string(sched.Stay), string(sched.Weight), string(sched.Quota)}
	scopes := []string{string(sched.OnRepo), string(sched.OnOwner), string(sched.OnRequester)}
	bad := func(remedy, format string, args ...any) error {
		return bindery.Errorf(bindery.ErrInvalid, bindery.User, remedy, format, args...)
	}
	switch {
	case !slices.Contains(kinds, r.Kind):
		return bad("Choose one of "+strings.Join(kinds, ", ")+".", "%q is not a kind of rule", bindery.Printable(r.Kind))
	case !slices.Contains(scopes, r.Scope):
		return bad("Choose one of "+strings.Join(scopes, ", ")+".", "%q is not what a rule can be about", bindery.Printable(r.Scope))
	case r.Name == "":
		return bad("Name a repository, an owner or a requester.", "The rule is about nothing")
	case r.Kind == string(sched.Weight) && (r.Value <= 0 || r.Value > 1000):
		return bad("Give a number above 0, at most 1000; everybody's weight is 1.", "%g is not a weight", r.Value)
	case r.Kind == string(sched.Weight) && r.Scope == string(sched.OnRepo):
		return bad("Give the weight to its owner.", "A repository has no weight of its own")
	case r.Kind == string(sched.Quota) && (r.Value < 0 || r.Value != float64(int64(r.Value))):
		return bad("Give a whole number, 0 for none.", "%g is not a number of sessions", r.Value)
	case expired(r, d.now()):
		return bad("Give a time that is to come.", "The rule would have expired at %s", r.Until.UTC().Format(time.RFC3339))
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
