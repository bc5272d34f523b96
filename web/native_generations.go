package web

import (
	"context"
	"net/http"
	"strconv"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

// Generations is the part of a dispatcher that knows by what images are made.
type Generations interface {
	Generations(ctx context.Context) ([]bindery.RolloutStatus, error)
	Generation(ctx context.Context, name string) (bindery.RolloutStatus, error)
	PlanRollout(ctx context.Context, name string, opt bindery.RolloutOptions, slots int) (bindery.RolloutPlan, error)
}

// Rollouts is the part that replaces images by those of another generation.
type Rollouts interface {
	StartRollout(ctx context.Context, name string, opt bindery.RolloutOptions, who, reason string) error
	PauseRollout(ctx context.Context, name, who, reason string) error
	ResumeRollout(ctx context.Context, name, who, reason string) error
	Rollback(ctx context.Context, name, who, reason string) error
}

// Library is the part that knows images.
type Library interface {
	Library(ctx context.Context, limit int) (bindery.Library, error)
	RemoveImage(ctx context.Context, name, who, reason string) error
	Prune(ctx context.Context, r bindery.Retention, dryRun bool, who, reason string) (bindery.Pruned, error)
	Invalidate(ctx context.Context, selector string, force, dryRun bool, who, reason string) (bindery.Invalidation, error)
}

func errNoGenerations() error {
	return bindery.Errorf(bindery.ErrNotReady, bindery.Ours, "Ask the operator of this hub.", "This hub has no generations to look at")
}

// generationRoutes are those of the native API about generations and images.
func (s *Server) generationRoutes() []route {
	const generations, images = "/api/v1/generations", "/api/v1/images"
	const read, admin = api.ScopeRead, api.ScopeAdmin
	plan := []param{
		{name: "slots", about: "reckon with so many slots", kind: "integer", most: maxListed}, {name: "canary", about: "share of the images that go first", kind: "number", most: 1},
		{name: "pace", about: "builds started in an hour at most", kind: "integer", most: mostPace}, {name: "at_once", about: "builds at once at most", kind: "integer", most: maxListed},
		{name: "since", about: "images that nobody launched for so long stay as they are, such as 720h; negative: none", kind: "string"},
	}
	few := param{name: "limit", about: "how many at most", kind: "integer", most: maxListed}
	once := s.replays.once
	change := func(do func(Rollouts) func(context.Context, string, string, string) error) handler {
		return once(call(func(ctx context.Context, c Caller, in about[api.ChangeRollout]) (bindery.RolloutStatus, error) {
			return s.changeRollout(ctx, c, in, do)
		}, aboutIt))
	}
	return []route{
		{method: "GET", path: generations, scope: read, id: "listGenerations", summary: "Generations of the builder, the newest first", out: []bindery.RolloutStatus{}, h: call(s.getGenerations, nothing)},
		{method: "GET", path: generations + "/{id}", scope: read, id: "getGeneration", summary: `How a generation and its roll-out stand; "next": the one that rolls out, else the current one`, out: bindery.RolloutStatus{}, h: call(s.getGeneration, id)},
		{method: "GET", path: generations + "/{id}/plan", scope: read, id: "planRollout", summary: `What a roll-out would cost and bring; "next": of what the hub is set to build by`, query: plan, out: bindery.RolloutPlan{}, h: call(s.getPlan, planned)},
		{method: "POST", path: generations + "/{id}/start", scope: admin, id: "startRollout", summary: "Begin to replace the images of older generations", in: api.StartRollout{}, optional: true, out: bindery.RolloutStatus{}, h: once(call(s.startRollout, aboutIt))},
		{method: "POST", path: generations + "/{id}/pause", scope: admin, id: "pauseRollout", summary: "Begin nothing more", in: api.ChangeRollout{}, optional: true, out: bindery.RolloutStatus{}, h: change(func(r Rollouts) func(context.Context, string, string, string) error { return r.PauseRollout })},
		{method: "POST", path: generations + "/{id}/resume", scope: admin, id: "resumeRollout", summary: "Go on", in: api.ChangeRollout{}, optional: true, out: bindery.RolloutStatus{}, h: change(func(r Rollouts) func(context.Context, string, string, string) error { return r.ResumeRollout })},
		{method: "POST", path: generations + "/{id}/rollback", scope: admin, id: "rollBack", summary: "Serve by the generation before, at once", in: api.ChangeRollout{}, optional: true, out: bindery.RolloutStatus{}, h: change(func(r Rollouts) func(context.Context, string, string, string) error { return r.Rollback })},
		{method: "GET", path: images, scope: read, id: "listImages", summary: "Images, the most popular first, and where the disk went", query: []param{few}, out: bindery.Library{}, h: call(s.getImages, upTo(maxListed))},
		{method: "DELETE", path: images + "/{id}", scope: admin, id: "removeImage", summary: "Remove an image that is not in use, by what follows bindery/ in its name", in: api.RemoveImage{}, optional: true, h: call(s.deleteImage, aboutIt)},
		{method: "POST", path: images + "/prune", scope: admin, id: "pruneImages", summary: "Remove what a rule of retention does not keep", in: api.PruneImages{}, optional: true, out: bindery.Pruned{}, h: once(call(s.pruneImages, orBody))},
		{method: "POST", path: images + "/invalidate", scope: admin, id: "invalidateImages", summary: "Have images built anew while they serve; forced: drop them, at their visitors' cost", in: api.InvalidateImages{}, out: bindery.Invalidation{}, h: once(call(s.invalidateImages, body))},
	}
}

// named is a generation's name as the dispatcher has it.
func named(id string) string {
	if id == api.Next {
		return ""
	}
	return id
}

func (s *Server) getGenerations(ctx context.Context, c Caller, _ struct{}) ([]bindery.RolloutStatus, error) {
	if s.cfg.Generations == nil {
		return nil, errNoGenerations()
	}
	all, err := s.cfg.Generations.Generations(ctx)
	for i := range all {
		s.hideHeld(c, all[i].Held)
	}
	return all, err
}

func (s *Server) getGeneration(ctx context.Context, c Caller, id string) (bindery.RolloutStatus, error) {
	if s.cfg.Generations == nil {
		return bindery.RolloutStatus{}, errNoGenerations()
	}
	g, err := s.cfg.Generations.Generation(ctx, named(id))
	s.hideHeld(c, g.Held)
	return g, err
}

func (s *Server) hideHeld(c Caller, held []bindery.Held) {
	for i := range held {
		held[i].Source = s.shownSource(c, held[i].Source)
	}
}

// A planAsk is a request for a plan.
type planAsk struct {
	id    string
	slots int
	opt   bindery.RolloutOptions
}

// mostPace is how many builds an hour somebody may ask about.
const mostPace = 1_000_000

func planned(r *http.Request, in *planAsk) error {
	in.id = r.PathValue("id")
	for _, x := range []struct {
		name string
		most int64
		to   *int
	}{{"slots", maxListed, &in.slots}, {"pace", mostPace, &in.opt.Pace}, {"at_once", maxListed, &in.opt.AtOnce}} {
		n, _, err := number(r, x.name, x.most)
		if err != nil {
			return err
		}
		*x.to = int(n)
	}
	q := r.URL.Query()
	bad := func(name, remedy string) error {
		return bindery.Errorf(bindery.ErrInvalid, bindery.User, remedy, "%q is not what %s may be", bindery.Printable(q.Get(name)), name)
	}
	var err error
	if q.Has("canary") {
		if in.opt.Canary, err = strconv.ParseFloat(q.Get("canary"), 64); err != nil {
			return bad("canary", "Give a share from 0 to 1, such as 0.05.")
		}
	}
	if q.Has("since") {
		if in.opt.Since, err = time.ParseDuration(q.Get("since")); err != nil {
			return bad("since", "Write it as 720h.")
		}
	}
	return in.opt.Check()
}

func (s *Server) getPlan(ctx context.Context, _ Caller, in planAsk) (bindery.RolloutPlan, error) {
	if s.cfg.Generations == nil {
		return bindery.RolloutPlan{}, errNoGenerations()
	}
	return s.cfg.Generations.PlanRollout(ctx, named(in.id), in.opt, in.slots)
}

func (s *Server) startRollout(ctx context.Context, c Caller, in about[api.StartRollout]) (bindery.RolloutStatus, error) {
	if s.cfg.Rollouts == nil {
		return bindery.RolloutStatus{}, errNoGenerations()
	}
	if err := checkReason(in.body.Reason); err != nil {
		return bindery.RolloutStatus{}, err
	}
	if err := s.cfg.Rollouts.StartRollout(ctx, named(in.id), in.body.Options, c.Who, oneLine(in.body.Reason)); err != nil {
		return bindery.RolloutStatus{}, err
	}
	return s.getGeneration(ctx, c, in.id)
}

func (s *Server) changeRollout(ctx context.Context, c Caller, in about[api.ChangeRollout], do func(Rollouts) func(context.Context, string, string, string) error) (bindery.RolloutStatus, error) {
	if s.cfg.Rollouts == nil {
		return bindery.RolloutStatus{}, errNoGenerations()
	}
	if err := checkReason(in.body.Reason); err != nil {
		return bindery.RolloutStatus{}, err
	}
	if err := do(s.cfg.Rollouts)(ctx, named(in.id), c.Who, oneLine(in.body.Reason)); err != nil {
		return bindery.RolloutStatus{}, err
	}
	return s.getGeneration(ctx, c, in.id)
}

func (s *Server) getImages(ctx context.Context, c Caller, most int) (bindery.Library, error) {
	if s.cfg.Library == nil {
		return bindery.Library{}, errNoGenerations()
	}
	lib, err := s.cfg.Library.Library(ctx, most)
	s.hideImages(c, lib.Images)
	return lib, err
}

func (s *Server) hideImages(c Caller, all []bindery.ImageRecord) {
	for i := range all {
		all[i].Source = s.shownSource(c, all[i].Source)
	}
}

func (s *Server) deleteImage(ctx context.Context, c Caller, in about[api.RemoveImage]) (struct{}, error) {
	if s.cfg.Library == nil {
		return struct{}{}, errNoGenerations()
	}
	if err := checkReason(in.body.Reason); err != nil {
		return struct{}{}, err
	}
	return struct{}{}, s.cfg.Library.RemoveImage(ctx, in.id, c.Who, oneLine(in.body.Reason))
}

func (s *Server) pruneImages(ctx context.Context, c Caller, in api.PruneImages) (bindery.Pruned, error) {
	if s.cfg.Library == nil {
		return bindery.Pruned{}, errNoGenerations()
	}
	if err := checkReason(in.Reason); err != nil {
		return bindery.Pruned{}, err
	}
	return s.cfg.Library.Prune(ctx, in.Rule, in.DryRun, c.Who, oneLine(in.Reason))
}

func (s *Server) invalidateImages(ctx context.Context, c Caller, in api.InvalidateImages) (bindery.Invalidation, error) {
	if s.cfg.Library == nil {
		return bindery.Invalidation{}, errNoGenerations()
	}
	if err := checkReason(in.Reason); err != nil {
		return bindery.Invalidation{}, err
	}
	return s.cfg.Library.Invalidate(ctx, in.Selector, in.Force, in.DryRun, c.Who, oneLine(in.Reason))
}
