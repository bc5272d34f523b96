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
// again is part of the story, not its end.
func (wa *watch) follow(ctx context.Context) error {
	stop := func() {}
	defer func() { stop() }()
	if wa.after > 0 && wa.build.State == bindery.BuildQueued {
		stop = wa.watchQueue(ctx, wa.build.ID)
	}
	over := wa.build.State.Ended()
	for {
		before := wa.after
		for e, err := range wa.s.cfg.Builds.Events(ctx, wa.build.ID, wa.after) {
			if err != nil {
				return err
			}
			wa.after = e.Seq
			if err := wa.sendLine(wa.build.ID, e); err != nil {
				return err
			}
			if e.Phase == bindery.PhaseWaiting && !over { // it was queued, or is again
				stop()
				stop = wa.watchQueue(ctx, wa.build.ID)
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := wa.look(ctx); err != nil || wa.build.State.Ended() {
			return err
		}
		if wa.after == before { // its events ended before it did: do not spin
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Second):
			}
		}
	}
}

// look asks how the build is now.
func (wa *watch) look(ctx context.Context) error {
	b, err := wa.s.cfg.Builds.Build(ctx, wa.build.ID)
	if err == nil {
		wa.build = b
	}
	return err
}

// sendLine sends one event of a build. Its last is not sent: what it means for this visitor is said after it, and
// clients take the first failed event for the end.
func (wa *watch) sendLine(build string, e bindery.Event) error {
	out := event{Phase: e.Phase, Message: e.Message}
	if e.Phase == bindery.PhaseBuilt || e.Phase == bindery.PhaseFailed || e.Phase == bindery.PhaseReady {
		out.Phase = bindery.PhaseBuilding
	}
	id := ""
	if wa.numbered {
		id, out.Step = build+"."+strconv.FormatInt(e.Seq, 10), e.Step
	}
	if e.Last() || (out.Message == "" && out.Step == nil) {
		return nil
	}
	return wa.st.send(id, out)
}

// watchQueue tells where the build stands, at once and whenever that changes, until it starts or stop is called. What
// comes before, "Waiting for build to start...", is part of the build's own story.
func (wa *watch) watchQueue(ctx context.Context, id string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for at, err := range wa.s.cfg.Builds.Standings(ctx, id) {
			if err != nil || wa.st.send("", wa.waiting(at)) != nil {
				return // the stream itself says what is wrong
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
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
				if err != nil || wa.st.send("", wa.standing(bindery.PhaseLaunching, "Waiting to launch", at)) != nil {
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

// waiting is a standing as a line that old clients simply print, with the parts that our page shows in its own way.
func (wa *watch) waiting(at bindery.Standing) event {
	return wa.standing(bindery.PhaseWaiting, "Waiting for build to start", at)
}

func (wa *watch) standing(phase bindery.Phase, waits string, at bindery.Standing) event {
	ev := event{Phase: phase, Position: at.Position, Reason: at.Reason, Message: waits + "...\n"}
	if !at.From.IsZero() {
		ev.From, ev.Likely, ev.To = &at.From, &at.Likely, &at.To
	}
	if at.Position > 0 {
		text := fmt.Sprintf("%s: number %d in the queue", waits, at.Position)
		if at.Reason != "" {
			text += ". " + strings.TrimSuffix(at.Reason, ".")
		}
		if when := interval(at, wa.s.cfg.Now()); when != "" {
			text += ". It starts " + when
		}
		ev.Message = text + ".\n"
	}
	return ev
}

// interval says in words when something starts: "in 2 to 6 minutes". Nobody reads seconds of what takes minutes.
func interval(at bindery.Standing, now time.Time) string {
	if at.To.IsZero() {
		return ""
	}
	from, to := max(at.From.Sub(now), 0), max(at.To.Sub(now), 0)
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
