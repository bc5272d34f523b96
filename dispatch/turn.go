package dispatch

import (
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/sched"
)

// A turn collects what one pass of the loop changes and what is to be done once that is stored.
type turn struct {
	d     *Dispatcher
	now   time.Time
	batch []*message // that it takes in

	built  []*build          // changed, in order
	builds map[string]*build // the same, by id
	tail   []bindery.Tail
	tails  map[string]int // build to its place in tail
	ses    []*session
	saved  map[string]bool // ids of ses
	known  []bindery.Known
	forget []string
	after  []func()
	undo   []func() // for what no restore brings back

	rules, lifted []bindery.Rule
	forgive       []string
	audit         []bindery.Audit
	usage         *bindery.Usage
	workers       []bindery.WorkerRecord
	removed       []string
	tokens        []bindery.JoinToken

	generations []bindery.Generation
	holds       []bindery.Held
	unheld      []string
	starts      []bindery.Started

	fresh    bindery.Build // that is being submitted
	answer   string        // id of the build that answers it
	seated   *session      // that was admitted last
	refused  sched.Refuse  // why a session was not admitted
	rejected string        // why a build was not accepted
}

func (t *turn) changes() bindery.Changes {
	c := bindery.Changes{Tails: t.tail, Known: t.known, Forget: t.forget, Rules: t.rules, Lifted: t.lifted, Forgive: t.forgive, Audit: t.audit, Usage: t.usage,
		Workers: t.workers, Removed: t.removed, Tokens: t.tokens}
	c.Builds = make([]bindery.Build, 0, len(t.built))
	c.Generations, c.Held, c.Unheld, c.Started = t.generations, t.holds, t.unheld, t.starts
	for _, b := range t.built {
		c.Builds = append(c.Builds, b.Build)
	}
	for i := range c.Tails {
		if b := t.find(c.Tails[i].Build); b != nil {
			c.Tails[i].Attempt, c.Tails[i].Read = b.Attempt, b.read
		}
	}
	for _, s := range t.ses {
		c.Sessions = append(c.Sessions, s.Session)
	}
	return c
}

// find looks for a build among those changed now, for it may be over already.
func (t *turn) find(id string) *build {
	if b := t.builds[id]; b != nil {
		return b
	}
	return t.d.builds[id]
}

func (t *turn) save(b *build) {
	if t.builds[b.ID] == nil {
		t.builds[b.ID] = b
		t.built = append(t.built, b)
	}
}

func (t *turn) saveSession(s *session) {
	if !t.saved[s.ID] {
		t.saved[s.ID] = true
		t.ses = append(t.ses, s)
	}
}

// say adds an event to a build's story.
func (t *turn) say(b *build, e bindery.Event) {
	b.seq++
	e.Seq = b.seq
	if e.Time.IsZero() {
		e.Time = t.now
	}
	e.Time = e.Time.UTC().Truncate(time.Microsecond)
	i, ok := t.tails[b.ID]
	if !ok {
		i = len(t.tail)
		t.tails[b.ID] = i
		t.tail = append(t.tail, bindery.Tail{Build: b.ID})
	}
	t.tail[i].Events = append(t.tail[i].Events, e)
}

// otherwise has f run, with the state locked, if the transaction fails.
func (t *turn) otherwise(f func()) { t.undo = append(t.undo, f) }

func (t *turn) then(f func()) { t.after = append(t.after, f) }

// step asks the scheduler and does to the records what it decides.
func (t *turn) step(in sched.Input) {
	for _, decision := range t.d.decide(t.now, in) {
		switch d := decision.(type) {
		case sched.Queue:
			t.queue(t.fresh, d)
		case sched.Join:
			t.answer = d.Existing
		case sched.Recall:
			t.answer = d.Failed
		case sched.Reject:
			t.rejected = d.Reason
		case sched.Refuse:
			t.turnAway(d)
		case sched.Stop:
			if s := t.d.sessions[d.Session]; s != nil {
				t.stop(s, "It was stopped because "+d.Reason)
			}
		case sched.Drain:
			t.drain(d)
		case sched.Lifted:
			t.lift(d)
		case sched.Admit:
			t.seat(d.Session)
		case sched.Hold: // it waits in the lobby
		default:
			t.move(decision)
		}
	}
}

// move carries out a decision about a build that is not over.
func (t *turn) move(decision sched.Decision) {
	switch d := decision.(type) {
	case sched.Start:
		t.start(t.d.builds[d.Build], d)
	case sched.Again:
		t.again(t.d.builds[d.Build], d)
	case sched.Done:
		t.succeed(t.d.builds[d.Build])
	case sched.Fail:
		t.fail(t.d.builds[d.Build], d)
	case sched.Drop:
		t.drop(t.d.builds[d.Build], d)
	case sched.Promote:
		b := t.d.builds[d.Build]
		b.Class = d.Class
		if t.fresh.Class == d.Class { // who has just joined is why
			b.Evidence = t.fresh.Evidence
		}
		t.save(b)
	case sched.Slow:
		b := t.d.builds[d.Build]
		b.Slow = true
		t.save(b)
		text := "The build has run for long: it goes on in the slow lane.\n"
		if d.Reason != "" {
			text = "It goes on in the slow lane: " + d.Reason + ".\n"
		}
		t.say(b, bindery.Event{Phase: bindery.PhaseBuilding, Message: text})
	case sched.Abort:
		b := t.d.builds[d.Build]
		t.say(b, bindery.Event{Phase: bindery.PhaseBuilding, Message: "The build is being stopped: " + d.Reason + ".\n"})
		t.then(func() { t.d.spawn(t.d.abort(d)) })
	}
}
