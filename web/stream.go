package web

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// An event is one line of BinderHub's event stream. Clients that know BinderHub read phase and message, and print the
// message; the rest is for those that know more.
type event struct {
	Phase      bindery.Phase  `json:"phase,omitempty"`
	Message    string         `json:"message,omitempty"`
	StatusCode int            `json:"status_code,omitempty"`
	ImageName  string         `json:"imageName,omitempty"`
	Position   int            `json:"position,omitempty"`
	Reason     string         `json:"reason,omitempty"`
	Step       *bindery.Step  `json:"step,omitempty"`
	Error      *bindery.Error `json:"error,omitempty"`
}

// A readyEvent ends a stream that went well.
type readyEvent struct {
	Phase             bindery.Phase `json:"phase"`
	Message           string        `json:"message"`
	Image             string        `json:"image"`
	RepoURL           string        `json:"repo_url"`
	Token             string        `json:"token"`
	RefURL            string        `json:"binder_ref_url"`
	LaunchHost        string        `json:"binder_launch_host"`
	Request           string        `json:"binder_request"`
	PersistentRequest string        `json:"binder_persistent_request"`
	ClientIP          string        `json:"binder_client_ip"`
	URL               string        `json:"url"`
}

// A refusal is a failed event as BinderHub words it; err is what happened, for our page and for the log.
type refusal struct {
	status int // 0: the event has no status_code
	msg    string
	err    error
}

func (f *refusal) Error() string { return f.msg }
func (f *refusal) Unwrap() error { return f.err }

// A watch is one request for a stream.
type watch struct {
	s    *Server
	r    *http.Request
	st   *sender
	spec spec
	ask  bindery.Ask

	numbered bool        // the client asked for ids: our page
	after    int64       // it has seen the events up to this one ...
	seen     string      // ... of this build
	standing *time.Timer // looks at the queue until the build starts
}

// buildStream answers GET /build/PROVIDER/SPEC. Whatever happens the status is 200 and the stream says it: BinderHub's
// clients look at nothing else.
func (s *Server) buildStream(w http.ResponseWriter, r *http.Request) error {
	st, ctx := s.newSender(w, r)
	defer st.close()
	wa := &watch{s: s, r: r, st: st, spec: specOf(r.URL.EscapedPath(), "/build/")}
	err := wa.run(ctx)
	if err == nil || ctx.Err() != nil {
		return nil
	}
	visitOf(r.Context()).err = err
	_ = st.send("", failure(err)) // a client that has gone needs no answer
	return nil
}

func failure(err error) event {
	e := bindery.AsError(err)
	ev := event{Phase: bindery.PhaseFailed, Error: e, Message: sentence(e)}
	if f, ok := errors.AsType[*refusal](err); ok {
		ev.Message, ev.StatusCode = f.msg, f.status
	}
	if e.Fault == bindery.Ours && ev.StatusCode == 0 {
		ev.StatusCode = http.StatusInternalServerError
	}
	if !strings.HasSuffix(ev.Message, "\n") {
		ev.Message += "\n"
	}
	return ev
}

// sentence is an error in words, with what to do about it.
func sentence(e *bindery.Error) string {
	msg := strings.TrimRight(e.Msg, " \n")
	if e.Remedy == "" {
		return msg
	}
	if msg != "" && !strings.ContainsAny(msg[len(msg)-1:], ".!?:") {
		msg += "."
	}
	return msg + " " + e.Remedy
}

func (wa *watch) run(ctx context.Context) error {
	src, err := wa.admit()
	if err != nil {
		return err
	}
	b, err := wa.attach(ctx, src)
	if err != nil {
		return err
	}
	fresh := !b.State.Ended()
	if fresh || wa.after > 0 || b.State != bindery.BuildSucceeded {
		if b, err = wa.follow(ctx, b); err != nil {
			return err
		}
	}
	if b.State != bindery.BuildSucceeded {
		return buildFailure(b)
	}
	if err := wa.launch(ctx, b, fresh); err != nil {
		return err
	}
	if fresh { // a client that reconnects by itself must have had the time to see that it is done
		wa.st.flushNow()
		select {
		case <-ctx.Done():
		case <-time.After(wa.s.cfg.Linger):
		}
	}
	return nil
}

// admit checks the request in BinderHub's order and returns the source it asks for.
func (wa *watch) admit() (bindery.Source, error) {
	r, q := wa.r, wa.r.URL.Query()
	v := visitOf(r.Context())
	if !acceptsStream(r.Header.Values("Accept")) {
		return bindery.Source{}, &refusal{http.StatusBadRequest, "Missing Accept header: text/event-stream\n",
			bindery.Errorf(bindery.ErrInvalid, bindery.User, "Send Accept: text/event-stream.", "Missing Accept header: text/event-stream")}
	}
	wa.ask = bindery.Ask{Requester: v.caller.Requester, Class: bindery.Attended}
	if t := q.Get("build_token"); t != "" {
		id, err := wa.s.checkBuildToken(r, t, wa.spec)
		if err != nil {
			return bindery.Source{}, &refusal{http.StatusForbidden, "Invalid build token\n", err}
		}
		wa.ask.Request = bindery.Key("launch", "token", id)
	} else if id := q.Get("request"); isRequestID(id) {
		wa.ask.Request = bindery.Key("launch", wa.ask.Requester, id)
	}
	if wa.spec.provider != bindery.ProviderGit {
		text := "No provider found for prefix " + bindery.Printable(wa.spec.provider)
		return bindery.Source{}, &refusal{0, text + "\n", bindery.Errorf(bindery.ErrInvalid, bindery.User, "This hub knows the prefix git.", "%s", text)}
	}
	src, err := wa.spec.source()
	if err != nil {
		return bindery.Source{}, err
	}
	wa.numbered = q.Has("ids") || r.Header.Get("Last-Event-Id") != ""
	wa.seen, wa.after = cursor(r.Header.Get("Last-Event-Id"), q.Get("after"))
	wa.ask.Retry = wa.after == 0 && strings.EqualFold(q.Get("retry"), "true")
	return src, nil
}

// acceptsStream reports whether a list of media ranges names event streams.
func acceptsStream(accept []string) bool {
	for part := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		t, _, err := mime.ParseMediaType(part)
		if err != nil {
			t, _, _ = strings.Cut(part, ";")
		}
		if strings.EqualFold(strings.TrimSpace(t), "text/event-stream") {
			return true
		}
	}
	return false
}

// isRequestID wants ids that nobody guesses: whoever knows one shares its session.
func isRequestID(id string) bool {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return len(id) >= 22 && len(id) <= 128 && strings.Trim(id, alphabet) == ""
}

// cursor reads "BUILD.N", the id of the last event that a client has seen.
func cursor(ids ...string) (build string, after int64) {
	for _, id := range ids {
		i := strings.LastIndexByte(id, '.')
		if i <= 0 {
			continue
		}
		if n, err := strconv.ParseInt(id[i+1:], 10, 64); err == nil && n > 0 {
			return id[:i], n
		}
	}
	return "", 0
}

// attach finds the build that answers the request. A client that comes back goes on with the build it had seen, though
// the branch it asked for may have moved on since.
func (wa *watch) attach(ctx context.Context, src bindery.Source) (bindery.Build, error) {
	wa.ask.Source = src
	if wa.seen != "" {
		b, err := wa.s.cfg.Builds.Build(ctx, wa.seen)
		if err == nil && b.Source.Provider == src.Provider && b.Source.Identity() == src.Identity() {
			wa.ask.Source = b.Source
			return b, nil
		}
		wa.after = 0
	}
	name := "git:" + bindery.Printable(strings.TrimRight(wa.spec.raw, "/"))
	resolved, err := wa.s.cfg.Builds.Resolve(ctx, src)
	if errors.Is(err, bindery.ErrRefNotFound) {
		return bindery.Build{}, &refusal{0, fmt.Sprintf("Could not resolve ref for %s. Double check your URL and that your repo is public.\n", name), err}
	}
	if err != nil {
		return bindery.Build{}, &refusal{0, fmt.Sprintf("Error resolving ref for %s: %s\n", name, sentence(bindery.AsError(err))), err}
	}
	if strings.EqualFold(wa.r.URL.Query().Get("build_only"), "true") {
		const text = "Building but not launching is not permitted when the API only mode is not enabled"
		return bindery.Build{}, &refusal{http.StatusBadRequest, text + "\n", bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Leave build_only out.", text)}
	}
	wa.ask.Source = resolved
	return wa.s.cfg.Builds.Submit(ctx, wa.ask)
}

func buildFailure(b bindery.Build) error {
	if b.Err != nil {
		return b.Err
	}
	if b.State == bindery.BuildCancelled {
		return bindery.Errorf(bindery.ErrCancelled, bindery.Transient, "Try again.", "The build was cancelled")
	}
	return bindery.Errorf(bindery.ErrInternal, bindery.Ours, "Try again.", "The build failed without a reason")
}

// launch starts this visitor's session, or finds the one that an earlier connection of theirs started.
func (wa *watch) launch(ctx context.Context, b bindery.Build, fresh bool) error {
	text := "Found built image, launching...\n"
	if fresh {
		text = "Built image, launching...\n"
	}
	image := ""
	if b.Result != nil {
		image = b.Result.Image
	}
	if err := wa.st.send("", event{Phase: bindery.PhaseBuilt, Message: text, ImageName: image}); err != nil {
		return err
	}
	if err := wa.st.send("", event{Phase: bindery.PhaseLaunching, Message: "Launching server...\n"}); err != nil {
		return err
	}
	sess, err := wa.s.launches.get(ctx, b, wa.ask)
	if err != nil {
		return &refusal{http.StatusInternalServerError, sentence(bindery.AsError(err)) + "\n", err}
	}
	if sess.Image != "" {
		image = sess.Image
	}
	at := wa.s.sessionURL(wa.r, sess)
	return wa.st.send("", readyEvent{
		Phase: bindery.PhaseReady, Message: "server running at " + at + "\n", Image: image, Token: sess.Token, URL: at,
		RepoURL: b.Source.URL, RefURL: b.Source.URL, LaunchHost: wa.s.hubURL(wa.r) + "/",
		Request:           "v2/" + strings.TrimRight(wa.spec.String(), "/"),
		PersistentRequest: "v2/git/" + gitSpec(b.Source.URL, b.Source.Commit),
		ClientIP:          visitOf(wa.r.Context()).caller.IP,
	})
}
