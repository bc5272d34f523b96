package web

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// follow sends the story of a build until it is over, and returns how it ended. A stored failure that is being tried
// again is part of the story, not its end.
func (wa *watch) follow(ctx context.Context, b bindery.Build) (bindery.Build, error) {
	stop := wa.watchQueue(ctx, b)
	defer stop()
	builds := wa.s.cfg.Builds
	for {
		before := wa.after
		for e, err := range builds.Events(ctx, b.ID, wa.after) {
			if err != nil {
				return b, err
			}
			wa.after = e.Seq
			if err := wa.sendLine(b.ID, e); err != nil {
				return b, err
			}
		}
		if ctx.Err() != nil {
			return b, ctx.Err()
		}
		now, err := builds.Build(ctx, b.ID)
		if err != nil || now.State.Ended() {
			return now, err
		}
		if wa.after == before { // its events ended before it did: do not spin
			select {
			case <-ctx.Done():
				return b, ctx.Err()
			case <-time.After(time.Second):
			}
		}
	}
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

// watchQueue tells where the build stands, at once and whenever that changes, until stop is called.
func (wa *watch) watchQueue(ctx context.Context, b bindery.Build) (stop func()) {
	if b.State != bindery.BuildQueued {
		if b.State == bindery.BuildRunning && wa.after == 0 {
			_ = wa.st.send("", event{Phase: bindery.PhaseWaiting, Message: "Waiting for build to start...\n"}) // the sender has ended ctx
		}
		return func() {}
	}
	var mu sync.Mutex
	var told bindery.Standing
	first, stopped := true, false
	var look func()
	look = func() {
		mu.Lock()
		defer mu.Unlock()
		if stopped {
			return
		}
		at, err := wa.s.cfg.Builds.Standing(ctx, b.ID)
		if err == nil && (first || (at.Position > 0 && at != told)) {
			_ = wa.st.send("", waiting(at, first)) // the sender has ended ctx
			told, first = at, false
		}
		wa.standing = time.AfterFunc(wa.s.cfg.StandingGap, look)
	}
	look()
	return func() {
		mu.Lock()
		defer mu.Unlock()
		stopped = true
		wa.standing.Stop()
	}
}

func waiting(at bindery.Standing, first bool) event {
	ev := event{Phase: bindery.PhaseWaiting, Position: at.Position, Reason: at.Reason}
	switch {
	case at.Position > 0 && at.Reason != "":
		ev.Message = fmt.Sprintf("Waiting for build to start: number %d in the queue, %s\n", at.Position, strings.TrimSuffix(at.Reason, "."))
	case at.Position > 0:
		ev.Message = fmt.Sprintf("Waiting for build to start: number %d in the queue\n", at.Position)
	case first:
		ev.Message = "Waiting for build to start...\n"
	}
	return ev
}
