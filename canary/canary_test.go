package canary_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/canary"
)

// A hub builds in two seconds, after three, and launches in one. Its zero value works.
type hub struct {
	refuses  string // what it does not do
	stuck    bool   // builds stay in the queue
	made     int
	asks     []bindery.Ask
	sessions []bindery.Session
	images   int
	visits   int
	at       time.Time
}

var errBroken = bindery.Errorf(bindery.ErrNotReady, bindery.Ours, "", "broken")

func (h *hub) broken(what string) error {
	if h.refuses == what {
		return errBroken
	}
	return nil
}

func (h *hub) Submit(_ context.Context, ask bindery.Ask) (bindery.Build, error) {
	h.asks, h.at = append(h.asks, ask), time.Now()
	h.made++
	return bindery.Build{ID: "b-1", Source: ask.Source, State: bindery.BuildQueued, Created: h.at}, h.broken("submit")
}

func (h *hub) Build(context.Context, string) (bindery.Build, error) {
	b := bindery.Build{ID: "b-1", State: bindery.BuildQueued, Created: h.at}
	if h.stuck {
		return b, nil
	}
	b.State, b.Started, b.Ended, b.Result = bindery.BuildSucceeded, h.at.Add(3*time.Second), h.at.Add(5*time.Second), &bindery.BuildResult{}
	if h.refuses == "build" {
		b.State, b.Result, b.Err = bindery.BuildFailed, nil, errBroken
	}
	return b, nil
}

func (h *hub) Events(ctx context.Context, _ string, _ int64) iter.Seq2[bindery.Event, error] {
	return func(yield func(bindery.Event, error) bool) {
		if h.stuck {
			<-ctx.Done()
			yield(bindery.Event{}, ctx.Err())
			return
		}
		time.Sleep(5 * time.Second)
		h.images++
		yield(bindery.Event{Phase: bindery.PhaseBuilt, Result: &bindery.BuildResult{}}, nil)
	}
}

func (h *hub) Launch(_ context.Context, _ bindery.Build, ask bindery.Ask) (bindery.Session, error) {
	time.Sleep(time.Second)
	if err := h.broken("launch"); err != nil {
		return bindery.Session{}, err
	}
	s := bindery.Session{ID: "s-1", Requester: ask.Requester}
	h.sessions = append(h.sessions, s)
	return s, nil
}

func (h *hub) Sessions(context.Context) ([]bindery.Session, error) {
	return slices.Clone(h.sessions), nil
}

func (h *hub) StopSession(_ context.Context, id, _ string) error {
	h.sessions = slices.DeleteFunc(h.sessions, func(s bindery.Session) bool { return s.ID == id })
	return h.broken("stop")
}

// sing has a canary sing for a while, and returns what it said.
func sing(t *testing.T, h *hub, while time.Duration) (reports []bindery.CanaryReport, age time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c, err := canary.New(canary.Config{
			Hub: h, Source: func() (bindery.Source, error) {
				return bindery.Source{Provider: "local", URL: "/canary"}, h.broken("source")
			},
			Visit:  func(context.Context, bindery.Session) error { h.visits++; return h.broken("visit") },
			Health: func(context.Context) error { return h.broken("health") },
			Forget: func(context.Context) error { h.images = 0; return nil },
			Report: func(rep bindery.CanaryReport) { reports = append(reports, rep) },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), while)
		defer cancel()
		if err := c.Run(ctx); err != nil {
			t.Error(err)
		}
		age = time.Since(c.Healthy())
	})
	return reports, age
}

func TestSings(t *testing.T) {
	h := &hub{images: 3, sessions: []bindery.Session{{ID: "old", Requester: bindery.CanaryRequester}, {ID: "s-visitor", Requester: "192.0.2.0/24"}}}
	reports, age := sing(t, h, 11*time.Minute)
	if len(reports) != 2 || h.made != 2 || h.visits != 2 {
		t.Fatalf("%d reports, %d builds, %d visits in two turns", len(reports), h.made, h.visits)
	}
	took := reports[1].Took
	if reports[1].Err != nil || took[bindery.CanaryQueue] != 3*time.Second || took[bindery.CanaryBuild] != 2*time.Second || took[bindery.CanaryLaunch] != time.Second || len(took) != len(bindery.CanaryPhases()) {
		t.Errorf("%+v", reports[1])
	}
	if len(h.sessions) != 1 || h.sessions[0].ID != "s-visitor" || h.images != 0 {
		t.Errorf("left: %+v, %d images", h.sessions, h.images)
	}
	if ask := h.asks[0]; ask.Requester != bindery.CanaryRequester || ask.Class != bindery.Attended {
		t.Errorf("asked %+v", ask)
	}
	if age > 30*time.Second {
		t.Errorf("health was last well %s ago", age)
	}
}

func TestSaysWhereItFails(t *testing.T) {
	for broken, phase := range map[string]string{
		"health": bindery.CanaryHealth, "source": bindery.CanaryBuild, "submit": bindery.CanaryBuild, "build": bindery.CanaryBuild,
		"launch": bindery.CanaryLaunch, "visit": bindery.CanaryVisit, "stop": bindery.CanaryStop,
	} {
		h := &hub{refuses: broken}
		reports, age := sing(t, h, 6*time.Minute)
		if broken == "submit" { // there is an id, and no start
			phase = bindery.CanaryQueue
		}
		if len(reports) != 1 || reports[0].Failed != phase || !errors.Is(reports[0].Err, errBroken) {
			t.Errorf("%s: %+v", broken, reports)
		}
		if len(h.sessions) != 0 || h.images != 0 {
			t.Errorf("%s: left %+v, %d images", broken, h.sessions, h.images)
		}
		if broken == "health" && age < 6*time.Minute {
			t.Errorf("health was last well %s ago", age)
		}
	}
}

func TestGivesUp(t *testing.T) {
	h := &hub{stuck: true}
	reports, _ := sing(t, h, 16*time.Minute)
	if len(reports) != 1 || reports[0].Failed != bindery.CanaryQueue || reports[0].Err.Kind != bindery.ErrTimeout || !strings.Contains(reports[0].Err.Msg, "10m") {
		t.Errorf("%+v", reports)
	}
}
