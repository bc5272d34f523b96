package web

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
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
	From       *time.Time     `json:"from,omitempty"` // the build starts between From and To in nine cases of ten
	Likely     *time.Time     `json:"likely,omitempty"`
	To         *time.Time     `json:"to,omitempty"`
	Run        *bindery.Run   `json:"run,omitempty"` // it runs, and this is when it will be done
	Step       *bindery.Step  `json:"step,omitempty"`
	Error      *bindery.Error `json:"error,omitempty"`
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
	s     *Server
	r     *http.Request
	st    *sender
	ended func() // is called when its stream is over
	spec  spec
	ask   bindery.Ask

	token     bool // it came with a build token of a page of ours
	page      bool // and from where that page is
	provider  bindery.Provider
	buildOnly bool   // it wants an image and no session
	numbered  bool   // the client asked for ids: our page
	after     int64  // it has seen the events up to this one ...
	seen      string // ... of this build
	tale
}

// buildStream answers GET /build/PROVIDER/SPEC. Whatever happens the status is 200 and the stream says it: BinderHub's
// clients look at nothing else.
func (s *Server) buildStream(w http.ResponseWriter, r *http.Request) error {
	wa := &watch{s: s, r: r, spec: specOf(r.URL.EscapedPath(), "/build/"), tale: tale{began: s.cfg.Now()}}
	err := wa.admit(w.Header())
	if err == nil {
		streamHeaders(w.Header())
		if line, ok := takeOver(w, r, s.cfg.Now()); ok {
			s.alone(line, wa)
			return nil
		}
	}
	done := make(chan struct{})
	st, ctx := s.newSender(w, r)
	wa.st, wa.ended = st, func() { close(done) }
	wa.tell(ctx, err)
	<-done
	return nil
}

// tell is the stream: all of it, or why there is none. It returns before that is over when an audience goes on with it.
func (wa *watch) tell(ctx context.Context, err error) {
	wa.s.load.streams.Add(1)
	wa.s.load.opened.Add(1)
	if wa.seen != "" {
		wa.s.load.resumed.Add(1)
	}
	if err != nil {
		wa.end(ctx, err)
		return
	}
	wa.advance(ctx, func() (bool, error) {
		if err := wa.begin(ctx); err != nil {
			return false, err
		}
		if wa.cached && wa.after == 0 && wa.build.State == bindery.BuildSucceeded {
			return false, nil
		}
		return wa.follow(ctx)
	})
}

// advance takes a step of the stream, and goes on to its end unless the step says that it waits.
func (wa *watch) advance(ctx context.Context, step func() (waits bool, err error)) {
	defer func() {
		if p := recover(); p != nil {
			wa.s.panicked(&response{status: http.StatusOK}, wa.r, fmt.Sprint(p))
			wa.st.cancel(errors.New("panic"))
			wa.end(ctx, nil)
		}
	}()
	waits, err := step()
	if waits {
		return
	}
	if err == nil {
		err = wa.finish(ctx)
	}
	wa.report(ctx, err)
	if err == nil && wa.linger && ctx.Err() == nil { // a client that reconnects by itself must have had the time to see that it is done
		wa.st.flushNow()
		select {
		case <-ctx.Done():
		case <-time.After(wa.s.cfg.Linger):
		}
	}
	wa.end(ctx, err)
}

// end says why a stream ends that had not come to its end.
func (wa *watch) end(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		visitOf(wa.r.Context()).err = err
		_ = wa.st.send("", failure(err)) // a client that has gone needs no answer
	}
	wa.st.close()
	wa.s.load.streams.Add(-1)
	wa.ended()
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
	if _, worded := errors.AsType[*refusal](err); !worded && !strings.HasSuffix(ev.Message, "\n") {
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

// begin finds the build.
func (wa *watch) begin(ctx context.Context) error {
	src, err := wa.source()
	if err != nil {
		return err
	}
	b, err := wa.attach(ctx, src)
	if err != nil {
		return err
	}
	wa.build, wa.cached = b, b.State.Ended()
	return nil
}

// finish launches what was built.
func (wa *watch) finish(ctx context.Context) error {
	if wa.build.State != bindery.BuildSucceeded {
		return buildFailure(wa.build)
	}
	wa.built = wa.s.cfg.Now()
	if wa.buildOnly {
		return wa.st.send("", wa.readyImage())
	}
	wa.linger = !wa.cached
	return wa.launch(ctx, wa.build, !wa.cached)
}

// attach finds the build that answers the request. A client that comes back goes on with the build it had seen, though
// the branch it asked for may have moved on since.
func (wa *watch) attach(ctx context.Context, src bindery.Source) (bindery.Build, error) {
	wa.ask.Source = src
	if err := wa.s.banned(ctx, wa.ask); err != nil {
		return bindery.Build{}, err
	}
	b, known := wa.known(ctx, src)
	if !known {
		resolved, err := wa.resolve(ctx, src)
		if err != nil {
			return bindery.Build{}, err
		}
		if wa.ask.Source = resolved; resolved.Identity() != src.Identity() { // it leads elsewhere: a DOI to a record
			if err := cmp.Or(wa.permit(resolved), wa.s.banned(ctx, wa.ask)); err != nil {
				return bindery.Build{}, err
			}
		}
	}
	if wa.buildOnly && !wa.s.cfg.APIOnly {
		const text = "Building but not launching is not permitted when the API only mode is not enabled"
		return bindery.Build{}, &refusal{http.StatusBadRequest, text + "\n", bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Leave build_only out.", text)}
	}
	if known {
		wa.ask.Source = b.Source
		return b, nil
	}
	wa.ask.Launches = !wa.buildOnly
	b, err := wa.s.cfg.Builds.Submit(ctx, wa.ask)
	if b.ID != wa.seen { // else another link has led to the same build, and what was seen of it was seen
		wa.after = 0
	}
	return b, cmp.Or(fullQuota(err), err)
}

// known is the build that the client says it has seen, when that was asked for by the same link.
func (wa *watch) known(ctx context.Context, src bindery.Source) (bindery.Build, bool) {
	if wa.seen == "" {
		return bindery.Build{}, false
	}
	b, err := wa.s.cfg.Builds.Build(ctx, wa.seen)
	return b, err == nil && sameLink(b.Source, src)
}

// resolve asks what the ref is. GitHub's default branches were renamed while old links say master: those mean HEAD.
func (wa *watch) resolve(ctx context.Context, src bindery.Source) (bindery.Source, error) {
	name := bindery.Printable(wa.spec.provider + ":" + strings.TrimRight(wa.spec.raw, "/"))
	resolved, err := wa.s.cfg.Builds.Resolve(ctx, src)
	if errors.Is(err, bindery.ErrRefNotFound) && wa.provider.Kind == bindery.ProviderGitHub && (src.Ref == "master" || src.Ref == "main") {
		text := fmt.Sprintf("There is no branch %s; the default branch is taken in its place.\n", src.Ref)
		if err := wa.st.send("", event{Phase: bindery.PhaseWaiting, Message: text}); err != nil {
			return src, err
		}
		src.Ref = ""
		resolved, err = wa.s.cfg.Builds.Resolve(ctx, src)
	}
	// A forge says the same of a repository that is not there as of a ref; a Git server tells the two apart.
	if errors.Is(err, bindery.ErrRefNotFound) || (wa.provider.Kind != bindery.ProviderGit && errors.Is(err, bindery.ErrRepoNotFound)) {
		return src, &refusal{0, fmt.Sprintf("Could not resolve ref for %s. Double check your URL and that your repo is public.\n", name), err}
	}
	if err != nil {
		return src, &refusal{0, fmt.Sprintf("Error resolving ref for %s: %s\n", name, sentence(bindery.AsError(err))), err}
	}
	return resolved, nil
}

// named is the source of b as this request named it. The build may have been asked for by another spelling: with other
// letters, or by another provider's link.
func (wa *watch) named(b bindery.Build) bindery.Source {
	src := wa.ask.Source
	src.Commit = b.Source.Commit
	return src
}

// sameLink reports whether a build was asked for by a link like the one that asks now, which is not resolved: of a DOI it
// is not yet known where it leads to. A link to the very commit is as good.
func sameLink(built, asked bindery.Source) bool {
	if built.Provider != asked.Provider || built.Subdir != asked.Subdir {
		return false
	}
	if asked.IsArchive() && asked.Ref != "" {
		return built.Ref == asked.Ref
	}
	return built.Identity() == asked.Identity() && (built.Ref == asked.Ref || built.Commit == asked.Ref)
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

// sayLaunching is how long a launch may take before it is announced. A quota refuses sooner, and then nothing is being
// launched.
const sayLaunching = 150 * time.Millisecond

// launch starts this visitor's session, or finds the one that an earlier connection of theirs started.
func (wa *watch) launch(ctx context.Context, b bindery.Build, fresh bool) error {
	text := "Found built image, launching...\n"
	if fresh {
		text = "Built image, launching...\n"
	}
	if err := wa.st.send("", event{Phase: bindery.PhaseBuilt, Message: text, ImageName: wa.image(b)}); err != nil {
		return err
	}
	announce := sync.OnceFunc(func() {
		_ = wa.st.send("", event{Phase: bindery.PhaseLaunching, Message: "Launching server...\n"}) // the sender has ended ctx
	})
	timer := time.AfterFunc(sayLaunching, announce)
	wa.launching = wa.s.cfg.Now()
	wa.s.load.launching.Add(1)
	ask, start := wa.ask, wa.s.launches.get
	ask.Env = wa.told(b)
	if ask.Request == "" { // a name to look it up by while it waits for a place; nobody else will ask by it
		ask.Request, start = bindery.Key("launch", "once", rand.Text()), wa.s.cfg.Sessions.Launch
	}
	stop := wa.watchLobby(ctx, ask.Request)
	sess, err := start(ctx, b, ask)
	stop()
	wa.s.load.launching.Add(-1)
	timer.Stop()
	if full := fullQuota(err); full != nil {
		return full
	}
	announce()
	wa.session = sess.ID
	if err != nil {
		return &refusal{http.StatusInternalServerError, sentence(bindery.AsError(err)) + "\n", err}
	}
	// Clients of BinderHub expect to hear how the server starts, in words of its own.
	if err := wa.st.send("", event{Phase: bindery.PhaseLaunching, Message: "Server ready at " + sess.BasePath() + "\n"}); err != nil {
		return err
	}
	return wa.st.send("", wa.ready(b, sess))
}

// fullQuota words a full quota as BinderHub does; nil: err is something else.
func fullQuota(err error) error {
	if errors.Is(err, bindery.ErrRepoQuota) || errors.Is(err, bindery.ErrHubQuota) {
		return &refusal{0, bindery.AsError(err).Msg + "! Try again soon.\n", err}
	}
	return nil
}
