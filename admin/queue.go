package admin

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

// mostRows bounds each table of a page.
const mostRows = 200

type queueBody struct {
	bindery.Queue
	Held   int // of the waiting: a person holds them back
	Hidden int // rows that wait but are not shown
}

func queuePage(v *visit) error {
	q, err := v.hub.Queue(v.r.Context())
	if err != nil {
		return err
	}
	return v.show("queue", data{Title: "Queue", Here: "/admin/queue", Live: true, Body: queueOf(q)})
}

func queueOf(q bindery.Queue) queueBody {
	b := queueBody{Queue: q, Hidden: q.More}
	for _, x := range q.Waiting {
		if strings.HasPrefix(x.Standing.Reason, "The operator") {
			b.Held++
		}
	}
	if n := len(q.Waiting) - mostRows; n > 0 {
		b.Waiting, b.Hidden = q.Waiting[:mostRows], q.More+n
	}
	b.Shares = q.Shares[:min(len(q.Shares), 40)]
	b.Lobby = q.Lobby[:min(len(q.Lobby), mostRows)]
	return b
}

type buildsBody struct {
	Builds        []bindery.Build
	Text          string
	State, Class  string
	States        []bindery.BuildState
	Classes       []bindery.Class
	Found, Looked int
}

// buildsPage searches the builds that live and the newest of those that have ended.
func buildsPage(v *visit) error {
	const looked = 1000
	all, err := v.hub.Builds(v.r.Context(), looked)
	if err != nil {
		return err
	}
	q := v.r.URL.Query()
	return v.show("builds", data{Title: "Builds", Here: "/admin/builds", Body: searched(all, q.Get("q"), q.Get("state"), q.Get("class"))})
}

func searched(all []bindery.Build, text, state, class string) buildsBody {
	b := buildsBody{
		Text: text, State: state, Class: class, States: bindery.BuildStates(), Looked: len(all),
		Classes: []bindery.Class{bindery.Attended, bindery.Unattended, bindery.Background},
	}
	words := strings.Fields(strings.ToLower(text))
	for _, x := range all {
		hay := strings.ToLower(strings.Join([]string{x.ID, specOf(x.Source), x.Source.URL, x.Source.Commit, x.Worker, x.Kind, errText(x.Err)}, " "))
		miss := slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(hay, w) })
		if miss || state != "" && string(x.State) != state || class != "" && string(x.Class) != class {
			continue
		}
		if b.Found++; len(b.Builds) < mostRows {
			b.Builds = append(b.Builds, x)
		}
	}
	return b
}

func errText(e *bindery.Error) string {
	if e == nil {
		return ""
	}
	return e.Msg
}

type buildBody struct {
	bindery.Build
	Facts [][2]string
	Audit []api.AuditLine
	Rules []api.Rule
}

func buildPage(v *visit) error {
	b, err := v.hub.Build(v.r.Context(), v.r.PathValue("id"))
	if err != nil {
		return err
	}
	lines, err := v.hub.Audit(v.r.Context(), bindery.AuditQuery{What: b.ID, Limit: 50})
	if err != nil {
		return err
	}
	rules, err := v.hub.Rules(v.r.Context())
	if err != nil {
		return err
	}
	return v.show("build", data{Title: "Build of " + specOf(b.Source), Here: "/admin/builds", Body: buildOf(b, lines, rules)})
}

func buildOf(b bindery.Build, lines []api.AuditLine, rules []api.Rule) buildBody {
	out := buildBody{Build: b, Audit: lines}
	identity, owner := bindery.PatternText(bindery.OnRepository, b.Source.Identity()), bindery.PatternText(bindery.OnOwner, b.Source.Owner())
	for _, r := range rules {
		m, err := bindery.NewMatcher(r.Scope, r.Pattern)
		if r.Pattern == identity || r.Pattern == owner || r.Scope == bindery.OnSpec && err == nil && m.Matches(b.Source.Link()) {
			out.Rules = append(out.Rules, r)
		}
	}
	add := func(name, text string) {
		if text != "" {
			out.Facts = append(out.Facts, [2]string{name, text})
		}
	}
	add("Repository", b.Source.URL)
	add("Ref", b.Source.Ref)
	add("Commit", b.Source.Commit)
	add("Directory", b.Source.Subdir)
	add("Class", string(b.Class))
	add("Judged by", b.Evidence)
	add("Asked for at", stamp(b.Created))
	add("Started at", stamp(b.Started))
	add("Ended at", stamp(b.Ended))
	if !b.Started.IsZero() && !b.Ended.IsZero() {
		add("Took", seconds(b.Ended.Sub(b.Started)))
	}
	add("Worker", b.Worker)
	add("Kind", b.Kind)
	if b.Result != nil {
		add("Image", b.Result.Image)
		add("Generation", b.Result.Generation)
	}
	return out
}

// buildAction cancels, retries or forgives.
func buildAction(v *visit) error {
	id, act := v.r.PathValue("id"), v.r.PathValue("act")
	back := cmp.Or(ourPath(v.r.PostForm.Get("back")), "/admin/builds/"+id)
	switch act {
	case "cancel":
		if err := v.hub.CancelBuild(v.r.Context(), id, v.reason()); err != nil {
			return err
		}
	case "retry":
		b, err := v.hub.RetryBuild(v.r.Context(), id, v.reason())
		if err != nil {
			return err
		}
		back = "/admin/builds/" + b.ID
	case "forgive":
		if err := v.hub.ForgiveBuild(v.r.Context(), id, v.reason()); err != nil {
			return err
		}
	default:
		return bindery.Errorf(bindery.ErrNotFound, bindery.User, "Use the page.", "Nothing of that name can be done with a build")
	}
	return v.redirect(back, act)
}

// ourPath is a page of ours that a form names, or nothing.
func ourPath(p string) string {
	if p == "/admin/queue" || p == "/admin/sessions" || p == "/admin/workers" {
		return p
	}
	return ""
}

type sessionsBody struct {
	Sessions      []api.Session
	Text          string
	Found, Looked int
}

func sessionsPage(v *visit) error {
	all, err := v.hub.Sessions(v.r.Context())
	if err != nil {
		return err
	}
	return v.show("sessions", data{Title: "Sessions", Here: "/admin/sessions", Live: true, Body: foundSessions(all, v.r.URL.Query().Get("q"))})
}

func foundSessions(all []api.Session, text string) sessionsBody {
	b := sessionsBody{Text: text, Looked: len(all)}
	slices.SortStableFunc(all, func(x, y api.Session) int { return y.Created.Compare(x.Created) })
	for _, x := range all {
		hay := strings.ToLower(x.ID + " " + specOf(x.Source) + " " + x.Requester + " " + string(x.State))
		if slices.ContainsFunc(strings.Fields(strings.ToLower(text)), func(w string) bool { return !strings.Contains(hay, w) }) {
			continue
		}
		if b.Found++; len(b.Sessions) < mostRows {
			b.Sessions = append(b.Sessions, x)
		}
	}
	return b
}

func stopSession(v *visit) error {
	if err := v.hub.StopSession(v.r.Context(), v.r.PathValue("id"), v.reason()); err != nil {
		return err
	}
	return v.redirect("/admin/sessions", "stop")
}

type workersBody struct{ Workers []bindery.WorkerView }

func workersPage(v *visit) error {
	all, err := v.hub.Workers(v.r.Context())
	if err != nil {
		return err
	}
	return v.show("workers", data{Title: "Workers", Here: "/admin/workers", Live: true, Body: workersBody{all}})
}

func workerAction(v *visit) error {
	id, act := v.r.PathValue("id"), v.r.PathValue("act")
	var err error
	switch act {
	case "drain":
		_, err = v.hub.DrainWorker(v.r.Context(), id, v.reason())
	case "resume":
		_, err = v.hub.ResumeWorker(v.r.Context(), id, v.reason())
	case "remove": // one that still builds is drained first
		act, err = "leave", v.hub.RemoveWorker(v.r.Context(), id, api.RemoveWorker{Reason: v.reason()})
	default:
		err = bindery.Errorf(bindery.ErrNotFound, bindery.User, "Use the page.", "Nothing of that name can be done with a worker")
	}
	if err != nil {
		return err
	}
	return v.redirect("/admin/workers", act)
}

type auditBody struct {
	Lines            []api.AuditLine
	Who, What, Since string
	Problem          string
	More             int64 // the id before which older lines are; 0: there are none
	Query            string
}

// auditQuery reads the form of the audit page.
func auditQuery(r *http.Request, now time.Time) (q bindery.AuditQuery, problem string) {
	v := r.URL.Query()
	q = bindery.AuditQuery{Who: v.Get("who"), What: v.Get("what")}
	text := strings.TrimSpace(v.Get("since"))
	if d, err := time.ParseDuration(text); text != "" && err == nil {
		q.Since = now.Add(-d)
		return q, ""
	}
	var err error
	if q.Since, err = moment(text); err != nil {
		return q, "Since: " + bindery.AsError(err).Msg
	}
	return q, ""
}

func auditPage(v *visit) error {
	q, problem := auditQuery(v.r, v.s.cfg.Now())
	values := v.r.URL.Query()
	b := auditBody{Who: q.Who, What: q.What, Since: values.Get("since"), Problem: problem}
	if problem == "" {
		const page = 100
		q.Limit, q.Before = page, atoi(values.Get("before"))
		lines, err := v.hub.Audit(v.r.Context(), q)
		if err != nil {
			return err
		}
		if b.Lines = lines; len(lines) == page {
			b.More = lines[page-1].ID
		}
	}
	values.Del("before")
	values.Del("done")
	b.Query = values.Encode()
	return v.show("audit", data{Title: "Audit log", Here: "/admin/audit", Body: b})
}
