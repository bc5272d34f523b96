package web

import (
	"context"
	"net/http"
	"sync"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// A healthEntry is one line of BinderHub's /health. It says nothing of how the machine is made: anybody may read it.
type healthEntry struct {
	Service string `json:"service"`
	OK      bool   `json:"ok"`
	Ignore  bool   `json:"_ignore_failure,omitempty"`
	*podQuota
}

// What BinderHub's probes and routers know by its names. Pages have ours.
const (
	serviceSessions = "JupyterHub API"
	serviceQuota    = "Pod quota"
)

// Name is what pages call it.
func (e healthEntry) Name() string {
	switch e.Service {
	case serviceSessions:
		return "Sessions"
	case serviceQuota:
		return "Places for sessions"
	}
	return e.Service
}

// A podQuota is the part of BinderHub's check of it that routers of a federation read.
type podQuota struct {
	Total  int  `json:"total_pods"`
	Builds int  `json:"build_pods"`
	Users  int  `json:"user_pods"`
	Quota  *int `json:"quota"` // null: there is none
}

type healthAnswer struct {
	OK     bool          `json:"ok"`
	Checks []healthEntry `json:"checks"`
}

// healthFor is how long an answer serves for: probing costs the machine nothing however often it is done.
const healthFor = 5 * time.Second

type health struct {
	worker   func(ctx context.Context) (bindery.WorkerStatus, error)
	checks   func(ctx context.Context) []bindery.Check
	sessions Sessions
	workers  Workers // optional
	most     int
	now      func() time.Time

	mu    sync.Mutex
	asked time.Time
	last  healthAnswer
}

func newHealth(cfg Config) *health {
	return &health{worker: cfg.Worker, checks: cfg.Checks, sessions: cfg.Sessions, workers: cfg.Workers, most: cfg.SessionsAtOnce, now: cfg.Now}
}

func (h *health) answer(ctx context.Context) healthAnswer {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.asked.IsZero() && h.now().Sub(h.asked) < healthFor {
		return h.last
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	out := healthAnswer{OK: true, Checks: []healthEntry{}}
	add := func(e healthEntry) {
		out.OK = out.OK && (e.OK || e.Ignore)
		out.Checks = append(out.Checks, e)
	}
	var status bindery.WorkerStatus
	if h.worker != nil {
		var err error
		status, err = h.worker(ctx)
		add(healthEntry{Service: "Worker", OK: err == nil})
	}
	live, err := h.sessions.Sessions(ctx)
	add(healthEntry{Service: serviceSessions, OK: err == nil}) // what starts them here
	q := &podQuota{Users: len(live)}
	for _, b := range status.Builds {
		if !b.Done {
			q.Builds++
		}
	}
	q.Builds += h.elsewhere(ctx)
	if q.Total = q.Users + q.Builds; h.most > 0 {
		q.Quota = &h.most
	}
	add(healthEntry{Service: serviceQuota, OK: q.Quota == nil || q.Users <= h.most, Ignore: true, podQuota: q})
	if h.checks != nil {
		for _, c := range h.checks(ctx) {
			add(healthEntry{Service: c.Name, OK: c.OK, Ignore: c.Level != "required"})
		}
	}
	h.last, h.asked = out, h.now()
	return out
}

// elsewhere counts the builds on workers that have joined.
func (h *health) elsewhere(ctx context.Context) (builds int) {
	if h.workers == nil {
		return 0
	}
	all, err := h.workers.Workers(ctx)
	if err != nil {
		return 0 // the hub is not ready, and builds nothing
	}
	for _, v := range all {
		if v.Record.Address != "" && v.Up {
			builds += v.Running
		}
	}
	return builds
}

func (s *Server) getHealth(w http.ResponseWriter, r *http.Request) error {
	a := s.health.answer(r.Context())
	if !a.OK {
		return writeJSON(w, http.StatusServiceUnavailable, a)
	}
	return writeTagged(w, r, a)
}

// getVersions answers equally on all replicas: routers in front of several hubs leave out one that differs.
func (s *Server) getVersions(w http.ResponseWriter, r *http.Request) error {
	if s.cfg.AllowOrigin == "" {
		w.Header().Set("Access-Control-Allow-Origin", "*")
	}
	builder := "bindery:" + s.cfg.Generation
	return writeTagged(w, r, map[string]any{
		"builder_info": map[string]string{"build_image": builder},
		"binderhub":    s.cfg.Version,
		"builder":      builder,
	})
}

func (s *Server) getProviders(w http.ResponseWriter, r *http.Request) error {
	return writeTagged(w, r, s.providers())
}

// An oldProvider is how BinderHub's releases before 2024 describe one, at /_config.
type oldProvider struct {
	Text              string `json:"text"`
	TagText           string `json:"tag_text"`
	RefPropDisabled   bool   `json:"ref_prop_disabled"`
	LabelPropDisabled bool   `json:"label_prop_disabled"`
}

func (s *Server) getOldProviders(w http.ResponseWriter, r *http.Request) error {
	out := map[string]oldProvider{}
	for _, p := range s.providers() {
		out[p.ID] = oldProvider{
			Text: p.Repo.Label, TagText: "Git ref (branch, tag, or commit)",
			RefPropDisabled: !p.Ref.Enabled, LabelPropDisabled: !p.Ref.Enabled,
		}
	}
	return writeTagged(w, r, out)
}

// providers are those of this hub, in the order of its pages.
func (s *Server) providers() []bindery.ProviderDisplay {
	all := make([]bindery.ProviderDisplay, 0, len(s.cfg.Providers))
	for _, p := range s.cfg.Providers {
		all = append(all, p.Display())
	}
	return all
}
