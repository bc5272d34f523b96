package web_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
	"github.com/bindery-hub/bindery/web"
)

// A shelf is the generations and images of a hub: one that is current, one that may be rolled out.
type shelf struct {
	state  bindery.GenerationState // of the new one
	images []bindery.ImageRecord
	did    []string

	planned bindery.RolloutOptions
}

func newShelf() *shelf {
	return &shelf{state: bindery.GenerationNew, images: []bindery.ImageRecord{
		{Key: "k", Image: "bindery/0f3c", Source: repo, Generation: "g1", State: "serving", Rank: 1, Size: 7},
		{Image: "bindery/mine", Source: bindery.Source{Provider: bindery.ProviderLocal, URL: "/home/ann/secret"}, State: "unlisted"},
	}}
}

func (s *shelf) Generations(context.Context) ([]bindery.RolloutStatus, error) {
	old, next := bindery.RolloutStatus{}, bindery.RolloutStatus{}
	old.Name, old.State = "g1", bindery.GenerationCurrent
	next.Name, next.State = "g2", s.state
	next.Held = []bindery.Held{{Generation: "g2", Key: "k", Source: repo, Stage: "build", Reason: "a step failed", Fault: bindery.User}}
	return []bindery.RolloutStatus{next, old}, nil
}

func (s *shelf) Generation(ctx context.Context, name string) (bindery.RolloutStatus, error) {
	all, _ := s.Generations(ctx)
	for _, g := range all {
		if g.Name == name || name == "" {
			return g, nil
		}
	}
	return bindery.RolloutStatus{}, bindery.Errorf(bindery.ErrNotFound, bindery.User, "List them.", "There is no generation %q", name)
}

func (s *shelf) PlanRollout(ctx context.Context, name string, opt bindery.RolloutOptions, slots int) (bindery.RolloutPlan, error) {
	s.planned = opt
	_, err := s.Generation(ctx, name)
	return bindery.RolloutPlan{From: "g1", To: "g2", Images: 1, Slots: slots, Demand: []bindery.Demand{{Within: time.Hour, Builds: 2.5, Days: 7}}}, err
}

func (s *shelf) StartRollout(ctx context.Context, name string, opt bindery.RolloutOptions, who, reason string) error {
	if err := opt.Check(); err != nil {
		return err
	}
	return s.change(ctx, name, bindery.GenerationCanary, "start", who, reason)
}

func (s *shelf) PauseRollout(ctx context.Context, name, who, reason string) error {
	return s.change(ctx, name, bindery.GenerationPaused, "pause", who, reason)
}

func (s *shelf) ResumeRollout(ctx context.Context, name, who, reason string) error {
	return s.change(ctx, name, bindery.GenerationCanary, "resume", who, reason)
}

func (s *shelf) Rollback(ctx context.Context, name, who, reason string) error {
	return s.change(ctx, name, bindery.GenerationWithdrawn, "rollback", who, reason)
}

func (s *shelf) change(ctx context.Context, name string, to bindery.GenerationState, did, who, reason string) error {
	if _, err := s.Generation(ctx, name); err != nil {
		return err
	}
	s.state, s.did = to, append(s.did, did+" by "+who+": "+reason)
	return nil
}

func (s *shelf) Library(_ context.Context, limit int) (bindery.Library, error) {
	n := min(limit, len(s.images))
	return bindery.Library{Images: append([]bindery.ImageRecord{}, s.images[:n]...), More: len(s.images) - n, Disk: &bindery.DiskUse{Images: 7, Total: 7}}, nil
}

func (s *shelf) RemoveImage(_ context.Context, name, who, reason string) error {
	if name != "0f3c" {
		return bindery.Errorf(bindery.ErrNotFound, bindery.User, "List them.", "There is no image %q", name)
	}
	s.did = append(s.did, "remove by "+who+": "+reason)
	return nil
}

func (s *shelf) Prune(_ context.Context, r bindery.Retention, dryRun bool, _, _ string) (bindery.Pruned, error) {
	if r.Unused < 0 {
		return bindery.Pruned{}, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Give a time.", "It cannot be meant")
	}
	return bindery.Pruned{DryRun: dryRun, Removed: []bindery.ImageRecord{}, Kept: len(s.images)}, nil
}

func (s *shelf) Invalidate(_ context.Context, selector string, force, dryRun bool, who, _ string) (bindery.Invalidation, error) {
	sel, err := bindery.ParseSelector(selector)
	if err == nil && !dryRun {
		s.did = append(s.did, "invalidate "+sel.Text+" by "+who)
	}
	return bindery.Invalidation{Selector: sel.Text, Forced: force, Done: !dryRun, Images: 1}, err
}

func shelved(h *hub, s *shelf) func(*web.Config) {
	return func(c *web.Config) {
		operated(h)(c)
		c.Generations, c.Rollouts, c.Library = s, s, s
	}
}

func TestGenerationsByTheAPI(t *testing.T) {
	h, s := newHub(), newShelf()
	c, stranger := dial(t, h, "", shelved(h, s))
	ctx := t.Context()
	all, err := c.Generations(ctx)
	if err != nil || len(all) != 2 || len(all[0].Held) != 1 {
		t.Fatalf("%+v, %v", all, err)
	}
	for _, opt := range []bindery.RolloutOptions{{}, {Canary: 0.125, Pace: 60, AtOnce: 3, Since: -time.Hour}} {
		p, err := c.PlanRollout(ctx, "", opt, 8)
		if err != nil || p.Slots != 8 || p.Demand[0].Builds != 2.5 || s.planned != opt {
			t.Errorf("%+v, %v; by %+v, want %+v", p, err, s.planned, opt)
		}
	}
	for _, step := range []struct {
		do   func() (bindery.RolloutStatus, error)
		want bindery.GenerationState
	}{
		{func() (bindery.RolloutStatus, error) {
			return c.StartRollout(ctx, "g2", api.StartRollout{Options: bindery.RolloutOptions{Canary: 0.1, Pace: 60}, Reason: "a new\nbase"})
		}, bindery.GenerationCanary},
		{func() (bindery.RolloutStatus, error) { return c.ChangeRollout(ctx, "", "pause", "lunch") }, bindery.GenerationPaused},
		{func() (bindery.RolloutStatus, error) { return c.ChangeRollout(ctx, "", "resume", "") }, bindery.GenerationCanary},
		{func() (bindery.RolloutStatus, error) { return c.ChangeRollout(ctx, "g2", "rollback", "it is slow") }, bindery.GenerationWithdrawn},
	} {
		if g, err := step.do(); err != nil || g.State != step.want {
			t.Errorf("%s, %v; want %s", g.State, err, step.want)
		}
	}
	if want := "start by local:root: a new base"; len(s.did) != 4 || !strings.HasPrefix(s.did[0], "start by local") || !strings.HasSuffix(s.did[0], ": a new base") {
		t.Errorf("it was done: %q, want %q first", s.did, want)
	}
	for name, do := range map[string]func() error{
		"an unknown one": func() error { _, err := c.Generation(ctx, "g9"); return err },
		"an image":       func() error { return c.RemoveImage(ctx, "bindery/none", "") },
	} {
		if err := do(); !errors.Is(err, bindery.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, do := range map[string]func() error{
		"a share": func() error {
			_, err := c.StartRollout(ctx, "", api.StartRollout{Options: bindery.RolloutOptions{Canary: 7}})
			return err
		},
		"a share of a plan": func() error { _, err := c.PlanRollout(ctx, "", bindery.RolloutOptions{Canary: 7}, 0); return err },
		"a plan's pace":     func() error { _, err := c.PlanRollout(ctx, "", bindery.RolloutOptions{Pace: -1}, 0); return err },
		"a selector":        func() error { _, err := c.Invalidate(ctx, api.InvalidateImages{Selector: "gh/*"}); return err },
		"a rule": func() error {
			_, err := c.PruneImages(ctx, api.PruneImages{Rule: bindery.Retention{Unused: -1}})
			return err
		},
		"a reason": func() error { _, err := c.ChangeRollout(ctx, "", "pause", strings.Repeat("x", 1001)); return err },
	} {
		if err := do(); !errors.Is(err, bindery.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	lib, err := c.Images(ctx, 0)
	if err != nil || len(lib.Images) != 2 || lib.Disk.Total != 7 {
		t.Errorf("%+v, %v", lib, err)
	}
	if lib, err = c.Images(ctx, 1); err != nil || len(lib.Images) != 1 || lib.More != 1 {
		t.Errorf("%+v, %v", lib, err)
	}
	if err := c.RemoveImage(ctx, "bindery/0f3c", "it is odd"); err != nil {
		t.Error(err)
	}
	if _, err := stranger.Generations(ctx); !errors.Is(err, bindery.ErrNotAllowed) {
		t.Errorf("a stranger: %v", err)
	}
	if _, err := stranger.Invalidate(ctx, api.InvalidateImages{Selector: "*", Force: true}); !errors.Is(err, bindery.ErrNotAllowed) {
		t.Errorf("a stranger: %v", err)
	}
}

// TestImagesOfTheMachineAreItsOwners: who reads the list need not learn the names of directories here.
func TestImagesOfTheMachineAreItsOwners(t *testing.T) {
	h, s := newHub(), newShelf()
	ts := serve(t, h, shelved(h, s), func(c *web.Config) { c.Tokens = []web.Token{{Hash: web.HashToken("r"), Scope: api.ScopeRead}} })
	_, text := ask(t, "GET", ts.URL+"/api/v1/images", "", "Authorization", "Bearer r")
	if strings.Contains(text, "/home/ann") || !strings.Contains(text, "bindery/mine") {
		t.Errorf("a reader sees: %s", text)
	}
}
