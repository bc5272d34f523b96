package web

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// follow sends the story of the build until it is over, and keeps how it ended. A stored failure that is being tried
// again is part of the story, not its end. While there is nothing to send but what all who watch the build are sent, the
// stream is part of the build's audience; follow returns then, and is called again when the audience lets go of it.
func (wa *watch) follow(ctx context.Context) (waits bool, err error) {
	for {
		before := wa.after
		if !wa.build.State.Ended() {
			if waits, err = wa.attend(ctx); waits || err != nil {
				return waits, err
			}
		} else if err := wa.read(ctx, math.MaxInt64); err != nil {
			return false, err
		}
		if over, err := wa.look(ctx, before); over || err != nil {
			return false, err
		}
	}
}

// attend joins the build's audience, after it has caught up with it.
func (wa *watch) attend(ctx context.Context) (waits bool, err error) {
	before := wa.after
	next := func(err error) { // when the audience has let go
		wa.advance(ctx, func() (bool, error) {
			if err == nil { // it has been sent all that there was
				over := false
				if over, err = wa.look(ctx, before); over {
					return false, err
				}
			}
			if err != nil && err != errBehind {
				return false, err
			}
			return wa.follow(ctx)
		})
	}
	for {
		behind, joined := wa.s.audiences.join(ctx, wa, next)
		if joined {
			return true, nil
		}
		if err := wa.read(ctx, behind); err != nil {
			return false, err
		}
	}
}

// read sends the events up to number last that were not sent yet.
func (wa *watch) read(ctx context.Context, last int64) error {
	for e, err := range wa.s.cfg.Builds.Events(ctx, wa.build.ID, wa.after) {
		if err != nil {
			return err
		}
		wa.after = e.Seq
		if line := wa.line(e); line != nil {
			if err := wa.st.write(line); err != nil {
				return err
			}
		}
		if wa.after >= last {
			break
		}
	}
	return ctx.Err()
}

// look asks how the build is now. A build whose events end before it does is looked at once in a second.
func (wa *watch) look(ctx context.Context, before int64) (over bool, err error) {
	b, err := wa.s.cfg.Builds.Build(ctx, wa.build.ID)
	if err != nil {
		return false, err
	}
	if wa.build = b; b.State.Ended() {
		return true, nil
	}
	if wa.after == before {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(time.Second):
		}
	}
	return false, nil
}

// line is what a stream is sent of one event of its build.
func (wa *watch) line(e bindery.Event) []byte { return buildLine(wa.build.ID, e, wa.numbered) }

// buildLine is one event of a build for those who follow it; nil: nothing of it is sent. Its last is not sent: what it
// means for this visitor is said after it, and clients take the first failed event for the end.
func buildLine(build string, e bindery.Event, numbered bool) []byte {
	out := event{Phase: e.Phase, Message: e.Message}
	if e.Phase == bindery.PhaseBuilt || e.Phase == bindery.PhaseFailed || e.Phase == bindery.PhaseReady {
		out.Phase = bindery.PhaseBuilding
	}
	id := ""
	if numbered {
		id, out.Step = build+"."+strconv.FormatInt(e.Seq, 10), e.Step
	}
	if e.Last() || (out.Message == "" && out.Step == nil) {
		return nil
	}
	line, err := eventLine(id, out)
	if err != nil {
		return nil // its fields are plain
	}
	return line
}

// lobbyGap is how long a launch may take before it is looked up whether it waits for a place.
const lobbyGap = 500 * time.Millisecond

// watchLobby tells where a launch stands that waits for a place, until stop is called.
func (wa *watch) watchLobby(ctx context.Context, request string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for told := false; ; {
			select {
			case <-ctx.Done():
				return
			case <-time.After(lobbyGap):
			}
			for at, err := range wa.s.cfg.Builds.Standings(ctx, request) {
				if err != nil || wa.st.send("", wa.s.standing(bindery.PhaseLaunching, "Waiting to launch", at)) != nil {
					return // the stream itself says what is wrong
				}
				told = true
			}
			if told {
				return // it has its place, or will get none
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// standing is a standing as a line that old clients simply print, with the parts that our page shows in its own way.
func (s *Server) standing(phase bindery.Phase, waits string, at bindery.Standing) event {
	if !at.Run.Since.IsZero() {
		return event{Phase: bindery.PhaseBuilding, Run: &at.Run, Message: lasting(at.Run, s.cfg.Now())}
	}
	ev := event{Phase: phase, Position: at.Position, Reason: at.Reason, Message: waits + "...\n"}
	if !at.From.IsZero() {
		ev.From, ev.Likely, ev.To = &at.From, &at.Likely, &at.To
	}
	if at.Position == 0 && at.Reason != "" {
		ev.Message = waits + ": " + strings.TrimSuffix(at.Reason, ".") + ".\n"
	}
	if at.Position > 0 {
		text := fmt.Sprintf("%s: number %d in the queue", waits, at.Position)
		if at.Reason != "" {
			text += ". " + strings.TrimSuffix(at.Reason, ".")
		}
		if when := interval(at, s.cfg.Now()); when != "" {
			text += ". It starts " + when
		}
		ev.Message = text + ".\n"
	}
	return ev
}

// lasting says in words what such a build takes; nothing where nobody knows.
func lasting(run bindery.Run, now time.Time) string {
	if run.To.IsZero() {
		return ""
	}
	text := "Builds of this repository take " + lasts(run) + ".\n"
	if run.From.IsZero() {
		text = "Builds take " + lasts(run) + " here.\n"
	}
	if run.Late(now) {
		text = "This takes longer than usual. " + text
	}
	return text
}

// lasts is "2 to 5 minutes", or "up to 20 minutes" where nobody plans by the shortest. words.js says the same.
func lasts(run bindery.Run) string {
	least, unit, name, step := run.Least, time.Minute, "minutes", 1.0
	switch {
	case run.Most < 90*time.Second:
		unit, name, step = time.Second, "seconds", 10
	case run.Most >= 90*time.Minute:
		unit, name = time.Hour, "hours"
	}
	if run.Most > 4*least {
		least = 0
	}
	from := int(math.Floor(float64(least)/float64(unit)/step) * step)
	to := max(roundUp(float64(run.Most)/float64(unit), step), int(step))
	switch {
	case from >= to:
		return fmt.Sprintf("about %d %s", to, name)
	case from == 0:
		return fmt.Sprintf("up to %d %s", to, name)
	}
	return fmt.Sprintf("%d to %d %s", from, to, name)
}

// interval says in words when something starts: "in 2 to 6 minutes". Nobody reads seconds of what takes minutes.
func interval(at bindery.Standing, now time.Time) string {
	if at.To.IsZero() {
		return ""
	}
	to, from := max(at.To.Sub(now), 0), time.Duration(0)
	if at.Plannable(now) {
		from = at.From.Sub(now)
	}
	switch {
	case to < 10*time.Second:
		return "in a few seconds"
	case to < 90*time.Second:
		return fmt.Sprintf("within %d seconds", roundUp(to.Seconds(), 10))
	case to < 90*time.Minute:
		return span(int(from.Minutes()), roundUp(to.Minutes(), 1), "minutes")
	}
	return span(int(from.Hours()), roundUp(to.Hours(), 1), "hours")
}

func span(from, to int, unit string) string {
	switch {
	case from >= to:
		return fmt.Sprintf("in about %d %s", to, unit)
	case from == 0:
		return fmt.Sprintf("within %d %s", to, unit)
	}
	return fmt.Sprintf("in %d to %d %s", from, to, unit)
}

func roundUp(x, step float64) int { return int(math.Ceil(x/step) * step) }
