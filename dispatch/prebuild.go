package dispatch

import (
	"context"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/sched"
)

const (
	// prebuildNear is how long before a rule begins its images are as urgent as a person's: until then they are built in
	// slots that nobody else needs.
	prebuildNear  = time.Hour
	prebuildAgain = time.Minute // after a failure that may pass
)

// prebuild asks for the images that rules name: once when the rule is made, in the background, and once near its
// beginning, when branches may have moved. What is there by then costs nothing.
func (d *Dispatcher) prebuild(ctx context.Context) {
	done := map[ruleName]time.Time{} // up to which time each rule has been served
	for {
		next := d.prebuildDue(ctx, done)
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-d.ruled:
			timer.Stop()
		case <-timer.C:
		}
	}
}

func (d *Dispatcher) wakePrebuild() {
	select {
	case d.ruled <- struct{}{}:
	default:
	}
}

// prebuildDue serves the rules whose time it is, and says when to look again.
func (d *Dispatcher) prebuildDue(ctx context.Context, done map[ruleName]time.Time) time.Duration {
	const longest = 24 * time.Hour
	next := longest
	d.mu.Lock()
	now := d.now()
	rules := d.standingRules(now)
	d.mu.Unlock()
	stands := map[ruleName]bool{}
	for _, r := range rules {
		key, near := ruleKey(r), r.From.Add(-prebuildNear)
		stands[key] = true
		if len(r.Prebuild) == 0 {
			continue
		}
		class := bindery.Attended
		if r.From.After(now) && near.After(now) {
			class = bindery.Background
			next = min(next, near.Sub(now))
		}
		served := done[key]
		if !served.IsZero() && !served.Before(r.Created) && (class == bindery.Background || !served.Before(near)) {
			continue
		}
		if d.prebuildRule(ctx, r, class, served.Before(r.Created)) {
			done[key] = now
		} else {
			next = min(next, prebuildAgain)
		}
	}
	for key := range done {
		if !stands[key] {
			delete(done, key)
		}
	}
	return next
}

// prebuildRule asks for all images of a rule and reports whether that is settled.
func (d *Dispatcher) prebuildRule(ctx context.Context, r bindery.Rule, class bindery.Class, first bool) bool {
	settled := true
	for _, src := range r.Prebuild {
		b, err := d.prebuildOne(ctx, r, src, class, first)
		if ctx.Err() != nil {
			return false
		}
		answer := string(class) + " build " + b.ID
		if err != nil {
			d.cfg.Log.WarnContext(ctx, "what a rule wants is not built", "rule", ruleWords(r), "spec", src.Link(), "err", err)
			if bindery.AsError(err).Fault != bindery.User {
				settled = false // it is tried again
				continue
			}
			answer = "it is not built: " + bindery.AsError(err).Msg
		}
		_ = d.do(ctx, func(t *turn) { t.note("hub", "prebuild", src.Link()+" for "+r.Kind+" of "+ruleWords(r), answer) }) // it is only told
	}
	return settled
}

func (d *Dispatcher) prebuildOne(ctx context.Context, r bindery.Rule, src bindery.Source, class bindery.Class, first bool) (bindery.Build, error) {
	src, err := d.Resolve(ctx, src)
	if err != nil {
		return bindery.Build{}, err
	}
	if r.Kind == bindery.RuleUntilBuilt && first { // who holds launches until it is built wants it built: no failure stands in the way
		key := bindery.BuildKey(src, d.cfg.Generation)
		err := d.do(ctx, func(t *turn) {
			t.forgive = append(t.forgive, key)
			t.step(sched.Forgive{Key: key})
		})
		if err != nil {
			return bindery.Build{}, err
		}
	}
	return d.Submit(ctx, bindery.Ask{Source: src, Requester: r.Who, Class: class, Evidence: "a rule of " + r.Who})
}
