package web

import (
	"cmp"
	"encoding/json"
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
	page   string
	data   pageData
	status int
}

// stories has every template, in each state that its data can put it into.
func (s *Server) stories(r *http.Request) map[string]story {
	src := sampleSource()
	problem := api.ProblemOf(bindery.Errorf(bindery.ErrInvalid, bindery.User, "Give a URL like https://host/owner/repository.", "%q is not the URL of a Git repository", "<b>nope</b>"), "abcdef")
	out := map[string]story{
		"about":      {page: "about", data: pageData{Title: "About", Body: aboutBody{"v9", "<p>This hub is run by the <strong>department</strong>.</p>"}}},
		"signed-in":  {page: "about", data: pageData{Title: "About", User: "jane.doe@example.org", Body: aboutBody{Generation: "v9"}}},
		"signed-out": {page: "error", data: signedOut("abcdef")},
		"error":      {page: "error", data: pageData{Title: "Not Found", Body: problem}},
		"banner":     {page: "about", data: pageData{Title: "About", Banner: `<p>The hub restarts <strong>at noon</strong>. <a href="/status">Status</a></p>`, Body: aboutBody{Generation: "v9"}}},
		"status-bad": {page: "status", data: s.statusPageData(statusBody{Health: []healthEntry{{Service: "Worker"}, {Service: "disk", OK: true}}})},
	}
	for name, b := range map[string]startBody{
		"start": {}, "start-filled": {Provider: "git", Repository: src.URL, Ref: "main", Path: "index.ipynb"},
		"start-doi":     {Provider: "zenodo", Repository: "10.5281/zenodo.3242074"},
		"start-problem": {Repository: "<b>nope</b>", Problem: &problem},
	} {
		b.Providers = s.providers()
		for i, p := range b.Providers {
			if i == 0 || p.ID == b.Provider {
				b.Shown = p
			}
		}
		out[name] = story{page: "start", data: pageData{Title: "Bindery", Data: startData{Hub: s.hubURL(r), Providers: b.Providers}, Body: b}}
	}
	for _, state := range []string{"waiting", "building", "late", "lobby", "failed", "ready", "refused", "limited", "left", "lost"} { // left: once it is cancelled
		out["launch-"+state] = story{page: "launch", data: pageData{
			Title: "Launch", Body: launchBody{Source: src, Name: shortName(src.URL), Link: src.URL},
			Data: launchData{Stream: s.cfg.Base + "/storybook/stream/" + state, Start: "/", Builds: "/builds/", Icons: s.icons()},
		}}
	}
	for _, b := range sampleBuilds(src) {
		d := s.buildPageData(b)
		d.Data = buildData{Events: s.cfg.Base + "/storybook/stream/" + string(b.State), State: "/", Over: b.State.Ended()}
		out["build-"+string(b.State)] = story{page: "build", data: d}
	}
	for name, q := range map[string]bindery.Queue{"status": sampleQueue(src), "status-idle": {At: sampleNow(), Slots: 2}} {
		b := statusBody{OK: true, Health: []healthEntry{{Service: "Worker", OK: true}, {Service: "disk", OK: true}}, Queue: &q, Waiting: len(q.Waiting), Rows: rowsOf(q)}
		d := s.statusPageData(b)
		d.Data = statusData{Builds: "/builds/"} // the page asks nobody, and stays as it is
		out[name] = story{page: "status", data: d}
	}
	out["storybook-list"] = story{page: "storybook", data: pageData{Title: "Storybook", Body: []string{"start"}}}
	return out
}

func sampleNow() time.Time { return time.Date(2019, 3, 24, 14, 3, 0, 0, time.UTC) }

func sampleSource() bindery.Source {
	return bindery.Source{
		Provider: bindery.ProviderGit, URL: "https://example.org/jane/a-rather-long-name-of-a-course.git", Ref: "feature/with-a-name",
		Commit: "0123456789abcdef0123456789abcdef01234567",
	}
}

func sampleBuilds(src bindery.Source) (out []bindery.Build) {
	at := sampleNow()
	b := bindery.Build{ID: "b-sample", Source: src, Class: bindery.Attended, Attempt: 1, Created: at.Add(-5 * time.Minute), Started: at.Add(-4 * time.Minute)}
	for _, state := range bindery.BuildStates() {
		x := b
		x.State = state
		switch state {
		case bindery.BuildQueued:
			x.Started, x.Attempt = time.Time{}, 0
		case bindery.BuildSucceeded:
			x.Ended = at
			x.Result = &bindery.BuildResult{
				Image: "bindery/0f3c", EnvKey: "7d1a", ImageKey: "0f3c", Generation: "v9", Steps: bindery.Steps{Run: 4, Cached: 7},
				Seconds: map[string]float64{"fetch": 1.2, "plan": 0.01, "solve": 230.5},
			}
		case bindery.BuildFailed:
			x.Ended, x.Until = at, at.Add(time.Hour)
			x.Err = bindery.Errorf(bindery.ErrStep, bindery.User, "Read the last lines of the log; they are the command's own.", "pip install -r requirements.txt ended with exit code 1")
		case bindery.BuildCancelled:
			x.Ended = at
			x.Err = bindery.Errorf(bindery.ErrCancelled, bindery.User, "Start it again if you want it after all.", "The build was cancelled")
		}
		out = append(out, x)
	}
	return out
}

func sampleQueue(src bindery.Source) bindery.Queue {
	at := sampleNow()
	builds := sampleBuilds(src)
	q := bindery.Queue{At: at, Slots: 2, Taken: 2, Sessions: 41}
	for i, watchers := range []int{136, 1} {
		q.Running = append(q.Running, bindery.QueuedBuild{Build: builds[1], Watchers: watchers, Age: time.Duration(i+1) * 11 * time.Minute, Expected: 12 * time.Minute})
	}
	for i := range 4 {
		q.Waiting = append(q.Waiting, bindery.QueuedBuild{Build: builds[0], Watchers: 1, Age: time.Duration(i) * time.Minute, Standing: bindery.Standing{
			Position: i + 1, Reason: "Every slot is taken (2); this owner has its share of the slots", From: at.Add(time.Duration(i) * time.Minute), To: at.Add(time.Duration(3*i+2) * time.Minute),
		}})
	}
	q.Failures = []bindery.RecentFailure{{Build: "b-old", Source: src, Row: 2, Until: at.Add(40 * time.Minute), Err: bindery.Errorf(bindery.ErrStep, bindery.User, "", "\"Run postBuild\" failed with exit code 1:\nMaking the data\n%s", strings.Repeat("data", 40))}}
	return q
}

const samplePlan = `{"pack":"python","config_dir":"binder","base":"debian:bookworm","python":"3.11","apt":["graphviz","libgdal-dev"],
"env":[{"tool":"pip","files":["binder/requirements.txt"]}],"content":[{"tool":"pip","args":["."]}],"post_build":"binder/postBuild",
"reads":["binder/apt.txt","binder/requirements.txt"],"why":[{"file":"binder/requirements.txt","text":"makes a Python environment"},
{"file":"","text":"Python 3.11 is the base's own"}],"ignored":[{"file":"requirements.txt","text":"is not read: binder/ is there"}]}`

// sampleRefusal is why a launch is not begun; nil: it is.
func sampleRefusal(state string) error {
	switch state {
	case "refused":
		const text = "Sorry, jane/a-rather-long-name-of-a-course is not allowed to launch. Please contact admins for more info!"
		return &refusal{0, text, bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Ask the operator of this hub.", text)}
	case "limited":
		const text = "Rate limit exceeded. Try again in 1742 seconds."
		return &refusal{http.StatusTooManyRequests, text + "\n", bindery.Errorf(bindery.ErrRateLimit, bindery.User, "Wait, or open the link in a browser.", text)}
	}
	return nil
}

// storyStream plays what the pages of a launch and of a build would be told, up to where it is to stay.
func (s *Server) storyStream(w http.ResponseWriter, r *http.Request) error {
	state := r.PathValue("state")
	if state == "lost" && r.URL.Query().Has("after") { // it stays lost for who comes back
		return notFound(w, r)
	}
	if streamHeaders(w.Header()); headOnly(w, r) {
		return nil
	}
	st, ctx := s.newSender(w, r)
	defer st.close()
	at := s.cfg.Now()
	soon, later := at.Add(2*time.Minute+time.Second), at.Add(6*time.Minute-time.Second)
	say := func(phase bindery.Phase, text string) { _ = st.send("b-sample.1", event{Phase: phase, Message: text}) } // a page that has gone needs none
	// stand tells as either page is told.
	stand := func(to bindery.Standing) {
		ev := s.standing(bindery.PhaseWaiting, "", to)
		ev.Message = ""
		_ = st.send("", ev)
		if line, err := standingLine(to); err == nil {
			_ = st.write(line)
		}
	}
	if err := sampleRefusal(state); err != nil {
		_ = st.send("", failure(err))
		<-ctx.Done()
		return nil
	}
	say(bindery.PhaseWaiting, "Waiting for build to start...\n")
	if state == "lost" {
		return nil
	}
	if state == "waiting" || state == string(bindery.BuildQueued) {
		stand(bindery.Standing{Position: 3, Reason: "Every slot is taken (2); 2 builds are ahead", From: soon, Likely: soon, To: later})
		<-ctx.Done()
		return nil
	}
	say(bindery.PhaseFetching, "Fetching the repository\n")
	_ = st.send("b-sample.1", bindery.Event{Seq: 1, Phase: bindery.PhaseBuilding, Plan: json.RawMessage(samplePlan)})
	step := bindery.Step{ID: "1", Name: "uv pip install -r requirements.txt", Started: at.Add(-time.Minute), Current: 3, Total: 9}
	say(bindery.PhaseBuilding, "\x1b[1mStep 4/9\x1b[0m: \x1b[32muv pip install\x1b[0m\n\x1b[33mwarning\x1b[0m: no cache\n\x1b[31merror\x1b[0m: none \x1b[44m blue \x1b[0m\n")
	if state == "failed" || state == "lobby" || state == string(bindery.BuildSucceeded) {
		step.Ended, step.Failed = at, state == "failed"
	}
	_ = st.send("b-sample.2", event{Phase: bindery.PhaseBuilding, Step: &step})
	switch state {
	case "building", string(bindery.BuildRunning):
		stand(bindery.Standing{Run: bindery.Run{
			Since: at.Add(-80 * time.Second), Least: 2 * time.Minute, Most: 5 * time.Minute, From: at.Add(100 * time.Second), Likely: soon, To: at.Add(4*time.Minute - time.Second),
		}})
	case "late":
		stand(bindery.Standing{Run: bindery.Run{Since: at.Add(-20 * time.Minute), Most: 12 * time.Minute, To: later}})
	case "failed":
		_ = st.send("", failure(bindery.Errorf(bindery.ErrStep, bindery.User, "Read the lines above, correct the repository and build again.",
			"\"Install requirements.txt\" failed with exit code 1:\n    numpy=2.2.6\n         ^\n%s", strings.Repeat("long", 40))))
	case "lobby":
		say(bindery.PhaseBuilt, "Built image, launching...\n")
		_ = st.send("", s.standing(bindery.PhaseLaunching, "Waiting to launch", bindery.Standing{Position: 2, Reason: "Every place is taken (40); 1 launch is ahead", From: soon, Likely: soon, To: later}))
	case "ready":
		say(bindery.PhaseLaunching, "Launching server...\n")
		_ = st.send("", readyEvent{Phase: bindery.PhaseReady, Message: "ready", URL: s.hubURL(r) + "/storybook/nowhere/"})
	}
	if bindery.BuildState(state).Ended() {
		_ = st.write([]byte("event: " + api.EndOfStream + "\ndata: {}\n\n"))
	}
	<-ctx.Done()
	return nil
}

// storyNowhere is where the ready launch of the storybook leads: a browser stays where it is.
func (s *Server) storyNowhere(w http.ResponseWriter, _ *http.Request) error {
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) storybook(w http.ResponseWriter, r *http.Request) error {
	return s.write(w, r, http.StatusOK, "storybook", pageData{Title: "Storybook", Body: slices.Sorted(maps.Keys(s.stories(r)))})
}

func (s *Server) story(w http.ResponseWriter, r *http.Request) error {
	st, ok := s.stories(r)[r.PathValue("story")]
	if !ok {
		return notFound(w, r)
	}
	return s.write(w, r, cmp.Or(st.status, http.StatusOK), st.page, st.data)
}
