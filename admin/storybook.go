package admin

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

// A story is a page with sample data in it, to be looked at.
type story struct {
	page string
	data data
	open bool // nobody has signed in
}

func sampleSource(path, ref string) bindery.Source {
	return bindery.Source{Provider: bindery.ProviderGit, URL: "https://github.com/" + path, Ref: ref, Commit: "0123456789abcdef0123456789abcdef01234567"}
}

func sampleBuild(at time.Time, id, path string, state bindery.BuildState) bindery.Build {
	b := bindery.Build{ID: id, Source: sampleSource(path, "main"), Class: bindery.Attended, State: state, Created: at.Add(-25 * time.Minute), Kind: "conda", Evidence: "a build token of our page"}
	if state != bindery.BuildQueued {
		b.Attempt, b.Worker, b.Started = 1, "builder-1", at.Add(-22*time.Minute)
	}
	if state.Ended() {
		b.Ended = at.Add(-3 * time.Minute)
	}
	switch state {
	case bindery.BuildSucceeded:
		b.Result = &bindery.BuildResult{Image: "bindery/0f3c", Generation: "v9"}
	case bindery.BuildFailed:
		b.Err = bindery.Errorf(bindery.ErrStep, bindery.User, "Read the last lines of the log; they are the command's own.", "pip install -r requirements.txt ended with exit code 1")
	case bindery.BuildCancelled:
		b.Err = bindery.Errorf(bindery.ErrCancelled, bindery.User, "Start it again if you want it after all.", "The build was cancelled")
	}
	return b
}

func sampleQueue(at time.Time) bindery.Queue {
	q := bindery.Queue{At: at, Slots: 8, Taken: 3, Sessions: 212}
	for i, name := range []string{"jupyterlab/jupyterlab-demo", "ipython/ipython-in-depth", "a-university-with-a-long-name/a-rather-long-name-of-a-course-2026"} {
		x := bindery.QueuedBuild{
			Build: sampleBuild(at, fmt.Sprintf("b-%d", i), name, bindery.BuildRunning), Asker: "192.0.2.0/24", Watchers: []int{136, 12, 1}[i],
			Age: time.Duration(22-8*i) * time.Minute, Expected: time.Duration(18) * time.Minute, Slow: i == 0,
		}
		if i == 2 {
			x.Stopping = "it made no progress for 20m"
		}
		q.Running = append(q.Running, x)
	}
	for i, why := range []string{"Every slot is taken (8); this build is next", "The operator holds this repository back: it is being repaired", "No person waits for it, and persons take every slot; 2 builds are ahead"} {
		x := bindery.QueuedBuild{
			Build: sampleBuild(at, fmt.Sprintf("w-%d", i), fmt.Sprintf("owner-%d/repository", i), bindery.BuildQueued), Asker: "2001:db8:1::/48", Watchers: i + 1,
			Age: time.Duration(i+1) * 70 * time.Second, Standing: bindery.Standing{Position: i + 1, Reason: why},
		}
		if i != 1 {
			x.Standing.From, x.Standing.To = at.Add(time.Duration(i+1)*time.Minute), at.Add(time.Duration(5*i+4)*time.Minute)
		}
		q.Waiting = append(q.Waiting, x)
	}
	q.More = 4
	failed := sampleBuild(at, "f-1", "RasaHQ/rasa_core", bindery.BuildFailed)
	q.Failures = []bindery.RecentFailure{{Build: failed.ID, Source: failed.Source, Row: 3, Until: at.Add(9 * time.Minute), Err: failed.Err, Quarantined: true}}
	q.Lobby = []bindery.WaitingSession{{ID: "x", Repo: "git:https://github.com/ipython/ipython-in-depth", Asker: "192.0.2.0/24", Age: time.Minute, Standing: bindery.Standing{Position: 1, Reason: "Waiting for a place: all places of this repository are taken (100)"}}}
	q.Shares = []bindery.Share{
		{Scope: bindery.OnOwner, Name: "gh/jupyterlab", Class: bindery.Attended, Running: 2, Waiting: 1, Share: 0.25, Weight: 1},
		{Scope: bindery.OnRequester, Name: "192.0.2.0/24", Class: bindery.Attended, Running: 1, Waiting: 2, Share: 0.125, Weight: 3},
	}
	return q
}

func sampleRules(at time.Time) []api.Rule {
	return []api.Rule{
		{ID: "ban-1", Kind: bindery.RuleBan, Pattern: "198.51.100.64/26", Scope: bindery.OnNetwork, Reason: "10,000 requests an hour", Message: "Please write to us.", By: "token:ops", Created: at.Add(-time.Hour), Until: at.Add(11 * time.Hour)},
		{ID: "hold-1", Kind: bindery.RuleUntilBuilt, Pattern: "gh/jupyterlab/jupyterlab-demo", Scope: bindery.OnRepository, Reason: "12 h build, 136 visitors", Message: "It is being built; this may take until the morning.", By: "local:ann", Created: at.Add(-3 * time.Hour)},
		{ID: "quota-1", Kind: bindery.RuleQuota, Pattern: "^gh/org/course-.*", Scope: bindery.OnSpec, Value: 300, Reason: "course, 280 people", By: "token:ops", Created: at, From: at.Add(40 * time.Hour), Until: at.Add(43 * time.Hour), Prebuild: []string{"gh/org/course-1/main"}},
	}
}

func sampleAudit(at time.Time) []api.AuditLine {
	return []api.AuditLine{
		{ID: 3, Time: at, Who: "hub", Did: "lift hold-until-built", What: "repository git:https://github.com/jupyterlab/jupyterlab-demo", Reason: "it is built: b-0"},
		{ID: 2, Time: at.Add(-8 * time.Hour), Who: "token:ops", Did: "set hold-until-built", What: "repository git:https://github.com/jupyterlab/jupyterlab-demo", Reason: "12 h build, 136 visitors"},
		{ID: 1, Time: at.Add(-9 * time.Hour), Who: "local:ann", Did: "cancel build", What: "b-0 of git:https://github.com/jupyterlab/jupyterlab-demo"},
	}
}

func sampleWorkers(at time.Time) []bindery.WorkerView {
	ok := bindery.WorkerView{WorkerStatus: bindery.WorkerStatus{Name: "builder-1", Generation: "v9", Slots: 8, DiskFree: 312e9}, Up: true, State: bindery.WorkerReady, Running: 3, Seen: at}
	ok.Found = bindery.Preflight{At: at.Add(-9 * time.Second), CPUs: 16, Memory: 64e9, Scratch: bindery.Scratch{Path: "/mnt/disks/ssd0", Separate: true}}
	bad := ok
	bad.Name, bad.State, bad.Reason, bad.Running = "builder-2", bindery.WorkerRefused, "its machine lacks what its pool wants", 0
	bad.Found.Scratch = bindery.Scratch{Path: "/var/lib/bindery"}
	bad.Record.Pool, bad.Record.Address = "builders", "unix:/run/builder-2"
	bad.Problems = []bindery.Problem{{Check: bindery.CheckLocalDisk, Measured: "/var/lib/bindery is on the disk that the machine starts from", Wanted: "a local disk", Remedy: "Mount the local disk and put the worker's --state-dir on it."}}
	out := ok
	out.Name, out.State, out.Reason = "builder-3", bindery.WorkerDrained, "kernel upgrade"
	out.Record.Drained = true
	return []bindery.WorkerView{ok, bad, out}
}

func sampleSessions(at time.Time) (out []api.Session) {
	for i, state := range []bindery.SessionState{bindery.SessionReady, bindery.SessionPending, bindery.SessionStopping} {
		x := api.Session{Session: bindery.Session{ID: fmt.Sprintf("s-%d-abcdef", i), Build: "b-0", Source: sampleSource("ipython/ipython-in-depth", "master"), State: state, Created: at.Add(-time.Duration(i+1) * 11 * time.Minute)}}
		x.Requester = "192.0.2.0/24"
		if state == bindery.SessionReady {
			x.Active = at.Add(-20 * time.Second)
		}
		out = append(out, x)
	}
	return out
}

func sampleGenerations(at time.Time) []bindery.RolloutStatus {
	roll := bindery.Generation{
		Name: "v10", State: bindery.GenerationRolling, Created: at.Add(-50 * time.Hour),
		Rollout: &bindery.Rollout{From: "v9", By: "token:ops", Reason: "Python 3.13", Started: at.Add(-7 * time.Hour), Total: 2300, Canary: 115, Skipped: 410},
	}
	a := bindery.RolloutStatus{Generation: roll, Serving: true, Proven: 1280, Building: 7, Starting: 2, Waiting: 1009, Covered: 0.94, Done: at.Add(9 * time.Hour), Images: 1280, Bytes: 214e9}
	a.Held = []bindery.Held{{Generation: "v10", Source: sampleSource("RasaHQ/rasa_core", "master"), Build: "f-1", Stage: "build", Reason: "no version of tensorflow fits", Fault: bindery.User, At: at.Add(-5 * time.Hour)}, {Generation: "v10", Source: sampleSource("LibreTexts/jupyter-python", "master"), Build: "f-2", Stage: "start", Reason: "its server did not answer", Fault: bindery.User, At: at.Add(-time.Hour)}}
	return []bindery.RolloutStatus{a, {Generation: bindery.Generation{Name: "v9", State: bindery.GenerationOld, Created: at.AddDate(0, -3, 0)}, Images: 2300, Bytes: 390e9}}
}

func samplePlan(at time.Time) bindery.RolloutPlan {
	return bindery.RolloutPlan{
		At: at, From: "v9", To: "v10", Images: 2710, Rolled: 2300, Skipped: 410, Window: 30 * 24 * time.Hour, Launches: 310_000, Slots: 8, Background: 5.4,
		Build: 6 * time.Minute, Takes: 43 * time.Hour, Notes: []string{"The 100 most popular images are replaced within two hours."},
		Demand:  []bindery.Demand{{Within: time.Hour, Builds: 61, Days: 7}, {Within: 24 * time.Hour, Builds: 550, Days: 7}},
		Covered: []bindery.Coverage{{Top: 100, Share: 0.81, Takes: 2 * time.Hour}, {Top: 1000, Share: 0.97, Takes: 19 * time.Hour}},
	}
}

func sampleLibrary(at time.Time) bindery.Library {
	lib := bindery.Library{Disk: &bindery.DiskUse{Images: 180e9, Shared: 61e9, Sessions: 12e9, Cache: 94e9, Other: 8e9, Total: 355e9, Silent: []string{"b"}}}
	for i, state := range []string{"serving", "superseded", "unproven", "withdrawn"} {
		lib.Images = append(lib.Images, bindery.ImageRecord{
			Build: fmt.Sprintf("b-%d", i), Image: fmt.Sprintf("bindery/0f3c%d", i), Source: sampleSource(fmt.Sprintf("owner-%d/repository", i), "main"), Generation: "v9", Created: at.AddDate(0, -1, 0),
			Used: at.Add(-time.Duration(i) * time.Hour), Launches: 1200 / (i + 1), Rank: i + 1, Size: int64(i+1) * 330e6, State: state, Sessions: max(2-2*i, 0), Workers: []string{"vm"},
		})
	}
	return lib
}

// sampleChoices are what may be asked of images, and be wrong with it.
func sampleChoices() map[string]choice {
	cost := func(forced bool, words string) *bindery.Invalidation {
		return &bindery.Invalidation{Images: 12, Forced: forced, Words: words}
	}
	removed := sampleLibrary(time.Time{}).Images
	return map[string]choice{
		"anew":  {Do: "anew", Select: "gh/owner/*", Cost: cost(false, "12 images are built anew by the generation v10, which takes about 1h12m0s of idle slots. Each serves until its replacement is proven: no visitor waits.")},
		"drop":  {Do: "drop", Select: "generation:v9", Cost: cost(true, "12 images are dropped at once. They had 480 launches in the last 24 hours.")},
		"prune": {Do: "prune", Fields: map[string]string{"superseded": "72h"}, Pruned: &bindery.Pruned{DryRun: true, Removed: removed, Kept: 2300, Bytes: 9e9}, Shown: removed[:3]},
		"wrong": {Do: "anew", Select: "gh/(", Problem: "A selector is no regular expression", Remedy: "Write gh/owner/repository, gh/owner/* or generation:NAME."},
	}
}

// stories has every page, in each state that its data can put it into.
func (s *Server) stories() map[string]story {
	at := s.cfg.Now().UTC().Truncate(time.Second)
	var builds []bindery.Build
	for i, state := range bindery.BuildStates() {
		builds = append(builds, sampleBuild(at, fmt.Sprintf("b-%d", i), "jupyterlab/jupyterlab-demo", state))
	}
	rules := rulesBody{Rules: sampleRules(at), Kinds: kinds(), Now: at}
	preview := rules
	preview.Kind, preview.Pattern, preview.Reason = bindery.RuleHold, "^gh/jupyterlab/", "look at it"
	preview.Preview = &api.RulePreview{Pattern: "^gh/jupyterlab/", Scope: bindery.OnSpec, Running: 1, Waiting: 7, Sessions: 88, Examples: []string{"gh/jupyterlab/jupyterlab-demo/master", "gh/jupyterlab/jupyterlab-demo/3818244"}, Rules: sampleRules(at)[:1]}
	wrong := rulesBody{Kinds: kinds(), Now: at, Pattern: "^gh/(", Problem: `"^gh/(" is not a regular expression: missing closing )`, Remedy: "Write a regular expression of RE2."}
	out := map[string]story{
		"login":         {page: "login", data: data{Title: "Sign in", Body: loginBody{Next: "/admin/queue"}}, open: true},
		"login-refused": {page: "login", data: data{Title: "Sign in", Body: loginBody{"/admin/queue", "This is no token of the scope admin."}}, open: true},
		"problem":       {page: "problem", data: data{Title: "That did not work", Body: problemBody{"The build has ended already", "Nothing is to be done.", "/admin/queue"}}},
		"queue":         {page: "queue", data: data{Title: "Queue", Here: "/admin/queue", Body: queueOf(sampleQueue(at))}},
		"queue-done":    {page: "queue", data: data{Title: "Queue", Here: "/admin/queue", Done: done["cancel"], Body: queueOf(sampleQueue(at))}},
		"queue-live":    {page: "queue", data: data{Title: "Queue", Here: "/admin/queue", Live: true, Body: queueOf(sampleQueue(at))}},
		"queue-idle":    {page: "queue", data: data{Title: "Queue", Here: "/admin/queue", Body: queueOf(bindery.Queue{At: at, Slots: 8})}},
		"builds":        {page: "builds", data: data{Title: "Builds", Here: "/admin/builds", Body: searched(builds, "", "", "")}},
		"builds-none":   {page: "builds", data: data{Title: "Builds", Here: "/admin/builds", Body: searched(builds, "nothing like that", "failed", "")}},
		"sessions":      {page: "sessions", data: data{Title: "Sessions", Here: "/admin/sessions", Body: foundSessions(sampleSessions(at), "")}},
		"sessions-none": {page: "sessions", data: data{Title: "Sessions", Here: "/admin/sessions", Body: foundSessions(nil, "x")}},
		"workers":       {page: "workers", data: data{Title: "Workers", Here: "/admin/workers", Body: workersBody{sampleWorkers(at)}}},
		"workers-none":  {page: "workers", data: data{Title: "Workers", Here: "/admin/workers", Body: workersBody{}}},
		"rules":         {page: "rules", data: data{Title: "Rules", Here: "/admin/rules", Body: rules}},
		"rules-preview": {page: "rules", data: data{Title: "Rules", Here: "/admin/rules", Body: preview}},
		"rules-wrong":   {page: "rules", data: data{Title: "Rules", Here: "/admin/rules", Body: wrong}},
		"audit":         {page: "audit", data: data{Title: "Audit log", Here: "/admin/audit", Body: auditBody{Lines: sampleAudit(at), More: 1}}},
		"audit-none":    {page: "audit", data: data{Title: "Audit log", Here: "/admin/audit", Body: auditBody{Who: "nobody", Since: "yesterday", Problem: `Since: "yesterday" is no time`}}},
	}
	paused := sampleGenerations(at)
	paused[0].State, paused[0].Rollout.Paused, paused[0].Proven, paused[0].Waiting = bindery.GenerationPaused, "7 of 115 failed (6.1 %), the old generation's images fail in 0.4 %", 108, 2181
	fresh := []bindery.RolloutStatus{{Generation: bindery.Generation{Name: "v11", State: bindery.GenerationNew, Created: at}, Serving: true}}
	out["generations"] = story{page: "generations", data: data{Title: "Generations", Here: "/admin/generations", Body: drawn(sampleGenerations(at))}}
	out["generations-paused"] = story{page: "generations", data: data{Title: "Generations", Here: "/admin/generations", Body: drawn(paused)}}
	out["generations-new"] = story{page: "generations", data: data{Title: "Generations", Here: "/admin/generations", Body: drawn(fresh)}}
	out["plan"] = story{page: "plan", data: data{Title: "Plan", Here: "/admin/generations", Body: planBody{Name: "v10", Plan: samplePlan(at)}}}
	out["images"] = story{page: "images", data: data{Title: "Images", Here: "/admin/images", Body: foundImages(sampleLibrary(at), "")}}
	for name, c := range sampleChoices() {
		b := foundImages(sampleLibrary(at), "")
		b.Choice = c
		out["images-"+name] = story{page: "images", data: data{Title: "Images", Here: "/admin/images", Body: b}}
	}
	out["images-none"] = story{page: "images", data: data{Title: "Images", Here: "/admin/images", Body: foundImages(bindery.Library{}, "x")}}
	for _, b := range builds {
		out["build-"+string(b.State)] = story{page: "build", data: data{Title: "Build", Here: "/admin/builds", Body: buildOf(b, sampleAudit(at), sampleRules(at))}}
	}
	return out
}

// storybook lists the stories as plain text, one a line.
func (s *Server) storybook(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte(strings.Join(slices.Sorted(maps.Keys(s.stories())), "\n"))) // a client that has gone is not our error
}

func (s *Server) story(w http.ResponseWriter, r *http.Request) {
	st, ok := s.stories()[r.PathValue("story")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	v := &visit{s: s, w: w, r: r, who: "token:ops", form: "sample"}
	if st.open {
		v = nil
	}
	if err := s.write(w, v, http.StatusOK, st.page, st.data); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}
