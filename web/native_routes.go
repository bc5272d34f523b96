package web

import (
	"net/http"
	"reflect"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

// A route of the native API: how it is answered, and what the OpenAPI document says of it.
type route struct {
	method, path string
	scope        api.Scope // that a token must have; empty: anybody, or whoever has the thing's own token
	id           string    // name in the document
	summary      string
	query        []param
	in           any    // what its body is like; nil: it has none
	out          any    // what its answer is like, as JSON; nil: an empty object
	media        string // of the answer, when that is not JSON
	optional     bool   // the body may be left out
	known        bool   // where people sign in, it is for those who have
	h            handler
}

// A param is one of a route's query.
type param struct {
	name, about, kind string // kind as JSON Schema has it
	most              int
}

// guarded is a route's handler behind its scope.
func (s *Server) guarded(rt route) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		v := visitOf(r.Context())
		if rt.known && !s.gate.open(v.caller) {
			askForToken(w, r, needScope(v.caller, api.ScopeRead))
			return nil
		}
		if err := needScope(v.caller, rt.scope); err != nil {
			if v.caller.Scope == "" {
				askForToken(w, r, err)
				return nil
			}
			return err
		}
		return rt.h(w, r)
	}
}

// askForToken answers whoever showed none that is known. Whoever showed one that may not do it gets a 403.
func askForToken(w http.ResponseWriter, r *http.Request, err error) {
	v := visitOf(r.Context())
	v.err = err
	w.Header().Set("WWW-Authenticate", `Bearer realm="bindery"`)
	p := api.ProblemOf(err, v.id)
	p.Status, p.Title = http.StatusUnauthorized, http.StatusText(http.StatusUnauthorized)
	writeProblem(w, r, p)
}

// nativeRoutes is the whole native API. Those that change something take an Idempotency-Key.
func (s *Server) nativeRoutes() []route {
	const builds, sessions, rules = "/api/v1/builds", "/api/v1/sessions", "/api/v1/rules"
	const workers = "/api/v1/workers"
	few := param{name: "limit", about: "how many at most", kind: "integer", most: maxListed}
	many := param{name: "limit", about: "how many waiting builds at most", kind: "integer", most: maxListed}
	follow := param{name: "follow", about: "1: go on until the end", kind: "string"}
	after := param{name: "after", about: "number of the last event seen; Last-Event-ID says it too", kind: "integer"}
	export := []param{
		{name: "kind", about: "launches, requests, builds, sessions, generations, canaries, pools, audit or all; default: launches", kind: "string"},
		{name: "since", about: "a time (RFC 3339); default: a day ago", kind: "string"}, {name: "until", about: "a time after the last; default: now", kind: "string"},
	}
	const read, launch, admin = api.ScopeRead, api.ScopeLaunch, api.ScopeAdmin
	once := s.replays.once
	audit := []param{
		few, {name: "who", about: "lines of whoever has this in the name", kind: "string"}, {name: "what", about: "lines that hold this", kind: "string"},
		{name: "since", about: "lines from this time on, RFC 3339", kind: "string"}, {name: "until", about: "lines up to this time, RFC 3339", kind: "string"},
		{name: "before", about: "lines before the one of this id: the last one of the page before", kind: "integer"},
	}
	return append([]route{
		{method: "GET", path: "/api/v1/openapi.json", id: "getDocument", summary: "This document", out: map[string]any{}, h: s.getDocument},
		{method: "GET", path: "/api/v1/status", scope: read, id: "getStatus", summary: "State of the hub and of its worker", out: api.Status{}, h: call(s.getStatus, nothing)},
		{method: "GET", path: "/api/v1/queue", id: "getQueue", known: true, summary: "What waits and runs; who asks is told to tokens only", query: []param{many}, out: bindery.Queue{}, h: call(s.getQueue, upTo(maxListed))},

		{method: "GET", path: builds, scope: read, id: "listBuilds", summary: "Builds, those that live first", query: []param{few}, out: []bindery.Build{}, h: call(s.getBuilds, upTo(100))},
		{method: "POST", path: builds, scope: launch, id: "submitBuild", summary: "Ask for a build; one that exists answers", in: api.NewBuild{}, out: bindery.Build{}, h: once(call(s.postBuild, body))},
		{method: "GET", path: builds + "/{id}", id: "getBuild", known: true, summary: "One build", out: bindery.Build{}, h: call(s.showBuild, id)},
		{method: "DELETE", path: builds + "/{id}", scope: launch, id: "cancelBuild", summary: "Stop a build: one's own, with admin anybody's", in: api.CancelBuild{}, optional: true, h: call(s.deleteBuild, aboutIt)},
		{method: "POST", path: builds + "/{id}/retry", scope: launch, id: "retryBuild", summary: "Build again what has failed", in: api.RetryBuild{}, optional: true, out: bindery.Build{}, h: once(call(s.retryBuild, aboutIt))},
		{method: "POST", path: builds + "/{id}/forgive", scope: admin, id: "forgiveBuild", summary: "Forget that it failed: the next one who asks has it built again", in: api.ForgiveBuild{}, optional: true, h: once(call(s.forgiveBuild, aboutIt))},
		{method: "GET", path: builds + "/{id}/events", id: "followBuild", known: true, summary: "Events of a build, numbered, resumable by Last-Event-ID; ends with an event of type end", query: []param{after}, out: bindery.Event{}, media: "text/event-stream", h: s.buildEvents},
		{method: "GET", path: builds + "/{id}/plan", id: "getBuildPlan", known: true, summary: "What the repository's files ask for, and why; as `bindery plan` prints it", out: map[string]any{}, h: s.buildPlan},
		{method: "GET", path: builds + "/{id}/provenance", id: "getBuildProvenance", known: true, summary: "How an image was made: an in-toto statement with an SLSA predicate", out: map[string]any{}, h: s.buildProvenance},
		{method: "GET", path: builds + "/{id}/log", id: "getBuildLog", known: true, summary: "What a build printed", query: []param{follow}, media: "text/plain", h: s.buildLog},

		{method: "GET", path: sessions, scope: read, id: "listSessions", summary: "Sessions that have not ended, without their tokens", out: []api.Session{}, h: call(s.getSessions, nothing)},
		{method: "POST", path: sessions, scope: launch, id: "launchSession", summary: "Start a session; answers when its server does", in: api.NewSession{}, out: api.Session{}, h: once(call(s.postSession, body))},
		{method: "GET", path: sessions + "/{id}", id: "getSession", summary: "One session, for admin or by its own token", out: api.Session{}, h: call(s.getSession, id)},
		{method: "DELETE", path: sessions + "/{id}", id: "stopSession", summary: "Stop a session, with admin or its own token", in: api.StopSession{}, optional: true, h: call(s.deleteSession, aboutIt)},
		{method: "GET", path: sessions + "/{id}/log", id: "getSessionLog", summary: "What a session's server printed", query: []param{follow}, media: "text/plain", h: s.sessionLog},

		{method: "GET", path: rules, scope: read, id: "listRules", summary: "Rules that stand", out: []api.Rule{}, h: call(s.getRules, nothing)},
		{method: "POST", path: rules, scope: admin, id: "addRule", summary: "Make a rule, or replace the one of its kind and pattern", in: api.NewRule{}, out: api.Rule{}, h: once(call(s.postRule, body))},
		{method: "GET", path: rules + "/preview", scope: read, id: "previewRule", summary: "What a pattern means, and what a rule of it would be about now", query: []param{{name: "pattern", about: "as for addRule", kind: "string"}}, out: api.RulePreview{}, h: call(s.previewRule, readPattern)},
		{method: "DELETE", path: rules + "/{id}", scope: admin, id: "liftRule", summary: "End a rule", in: api.LiftRule{}, optional: true, h: call(s.deleteRule, aboutIt)},
		{method: "GET", path: workers, scope: read, id: "listWorkers", summary: "Workers, the hub's own first", out: []bindery.WorkerView{}, h: call(s.getWorkers, nothing)},
		{method: "POST", path: workers, scope: admin, id: "addWorker", summary: "Have a worker of the hub's own machine join, by the hub's socket only", in: api.NewWorker{}, out: bindery.WorkerView{}, h: once(call(s.postWorker, body))},
		{method: "GET", path: workers + "/{id}", scope: read, id: "getWorker", summary: "One worker: what it found, what it lacks", out: bindery.WorkerView{}, h: call(s.getWorker, id)},
		{method: "DELETE", path: workers + "/{id}", scope: admin, id: "removeWorker", summary: "Forget a worker that has joined", in: api.RemoveWorker{}, optional: true, h: call(s.deleteWorker, aboutIt)},
		{method: "POST", path: workers + "/{id}/drain", scope: admin, id: "drainWorker", summary: "Let a worker have no more builds", in: api.ChangeWorker{}, optional: true, out: bindery.WorkerView{}, h: once(call(s.drainWorker, aboutIt))},
		{method: "POST", path: workers + "/{id}/resume", scope: admin, id: "resumeWorker", summary: "Let a worker that was drained have builds again", in: api.ChangeWorker{}, optional: true, out: bindery.WorkerView{}, h: once(call(s.resumeWorker, aboutIt))},
		{method: "POST", path: "/api/v1/join-tokens", scope: admin, id: "addJoinToken", summary: "Make a token by which workers join; it is told once", in: api.NewJoinToken{}, optional: true, out: api.JoinToken{}, h: once(call(s.postJoinToken, orBody))},
		{method: "GET", path: "/api/v1/audit", scope: admin, id: "listAudit", summary: "Who did what, when and why, newest first", query: audit, out: []api.AuditLine{}, h: call(s.getAudit, readAudit)},
		{method: "GET", path: "/api/v1/events", scope: admin, id: "exportEvents", summary: "What happened, as lines of JSON in order of time: launches in BinderHub's schema, the rest in Bindery's",
			query: export, media: "application/x-ndjson", h: s.exportEvents},
	}, s.generationRoutes()...)
}

// typeOf is the Go type that a route's body or answer is made of.
func typeOf(v any) reflect.Type { return reflect.TypeOf(v) }
