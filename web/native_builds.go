package web

import (
	"cmp"
	"context"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

func (s *Server) postBuild(ctx context.Context, c Caller, in api.NewBuild) (bindery.Build, error) {
	src, err := s.askedSource(c, in.Source)
	if err != nil {
		return bindery.Build{}, err
	}
	ask := bindery.Ask{Source: src, Requester: c.Requester, Address: c.address(), Class: in.Class, Evidence: "said by " + c.Requester, Retry: in.Retry}
	switch in.Class {
	case "":
		ask.Class, ask.Evidence = unsaid(c)
	case bindery.Attended, bindery.Unattended, bindery.Background:
	default:
		return bindery.Build{}, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Use attended, unattended or background.", "%q is not a class", bindery.Printable(string(in.Class)))
	}
	return s.submit(ctx, c, ask)
}

// unsaid is the class of what a program asks for that says none.
func unsaid(c Caller) (class bindery.Class, evidence string) {
	return bindery.Unattended, "nothing said by " + c.Requester
}

func (s *Server) submit(ctx context.Context, c Caller, ask bindery.Ask) (bindery.Build, error) {
	if err := s.permit(ctx, c, &ask); err != nil {
		return bindery.Build{}, err
	}
	src, err := s.cfg.Builds.Resolve(ctx, ask.Source)
	if err != nil {
		return bindery.Build{}, err
	}
	elsewhere := src.Identity() != ask.Source.Identity() // as a DOI leads to a record
	if ask.Source = src; elsewhere {
		if err := s.permit(ctx, c, &ask); err != nil {
			return bindery.Build{}, err
		}
	}
	return s.cfg.Builds.Submit(ctx, ask)
}

// permit refuses a program what the configuration does not let it launch, and what is banned now.
func (s *Server) permit(ctx context.Context, c Caller, ask *bindery.Ask) error {
	return cmp.Or(s.ruled(c, ask.Source, ask), s.banned(ctx, *ask))
}

// ruled holds what a program asks for to the configuration's rules, as links are, and fills in the quota. An operator may
// try what nobody else may.
func (s *Server) ruled(c Caller, src bindery.Source, ask *bindery.Ask) error {
	if c.Admin {
		return nil
	}
	names := s.names(spec{}, src)
	ask.RepoQuota = s.rules.quota(names)
	if !s.rules.allows(spec{}, names) {
		return notAllowed(src.Link())
	}
	return nil
}

// askedSource checks a source that came over the wire. Directories are for whoever is at the machine.
func (s *Server) askedSource(c Caller, in bindery.Source) (bindery.Source, error) {
	sub, err := bindery.CleanSubdir(in.Subdir)
	if err != nil {
		return in, err
	}
	switch {
	case in.Provider == bindery.ProviderLocal && c.Local:
		return bindery.Source{Provider: in.Provider, URL: in.URL, Subdir: sub}, nil
	case in.Provider == bindery.ProviderGit || in.Provider == "":
		src, err := bindery.ParseGitSource(in.URL, in.Ref)
		src.Subdir = sub
		if bindery.IsCommit(in.Commit) && src.Ref == "" {
			src.Ref = in.Commit
		}
		return src.At(s.cfg.Providers), err
	case in.Provider == bindery.ProviderLocal:
		return in, bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Use the hub's socket on its own machine.", "Directories are not built over the network")
	}
	if in.IsArchive() {
		return s.askedArchive(in, sub)
	}
	return in, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Use git, or the kind of an archive.", "No provider found for prefix %s", bindery.Printable(in.Provider))
}

// askedArchive reads an archive's address by the grammar of its provider, as if it came in a link.
func (s *Server) askedArchive(in bindery.Source, subdir string) (bindery.Source, error) {
	p, ok := s.providerOf(in)
	if !ok && in.Ref != "" { // a DOI means the same wherever it is looked up
		p, ok = s.providerOf(bindery.Source{Provider: in.Provider})
	}
	if !ok {
		return in, bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Use a provider that GET /api/repoproviders names, and an address of its own.",
			"This hub has no provider %s of %s", bindery.Printable(in.Provider), bindery.Printable(in.URL))
	}
	in.Commit = "" // it is looked up here, whatever was said
	src, err := p.ParseSpec(p.Spec(in))
	src.Subdir = subdir
	return src, err
}

func (s *Server) getBuild(ctx context.Context, c Caller, id string) (bindery.Build, error) {
	b, err := s.cfg.Builds.Build(ctx, id)
	if err == nil && b.Source.Provider == bindery.ProviderLocal && !c.Admin {
		err = bindery.Errorf(bindery.ErrNotFound, bindery.User, "Check its id.", "There is no such build")
	}
	if err != nil {
		return bindery.Build{}, err
	}
	b.Evidence = shownEvidence(c, b.Evidence)
	return b, nil
}

// showBuild answers with a build.
func (s *Server) showBuild(ctx context.Context, c Caller, id string) (bindery.Build, error) {
	b, err := s.getBuild(ctx, c, id)
	return s.shownBuild(c, b), err
}

// shownEvidence leaves out the name of the token that said it: who asks is not for strangers to read.
func shownEvidence(c Caller, evidence string) string {
	if said, _, named := strings.Cut(evidence, " token:"); named && !c.Scope.Includes(api.ScopeRead) {
		return said + " a program's token"
	}
	return evidence
}

// buildEvents is the stream of a build's own events, all of them, numbered. Beside them, under a type of its own and
// without a number, it says where the build stands.
func (s *Server) buildEvents(w http.ResponseWriter, r *http.Request) error {
	c := visitOf(r.Context()).caller
	b, err := s.getBuild(r.Context(), c, r.PathValue("id"))
	if err != nil {
		return err
	}
	show := s.shownText(c, b.Source)
	after, err := eventNumber(r)
	if err != nil {
		return err
	}
	if streamHeaders(w.Header()); headOnly(w, r) {
		return nil
	}
	st, ctx := s.newSender(w, r)
	defer st.close()
	if !b.State.Ended() {
		defer s.criers.join(ctx, b.ID, st)()
	}
	for {
		before := after
		for e, err := range s.cfg.Builds.Events(ctx, b.ID, max(after, 0)) {
			if err != nil || st.send(strconv.FormatInt(e.Seq, 10), shownEvent(show, e)) != nil {
				visitOf(r.Context()).err = err
				return nil // without its end mark the client knows that the stream was cut
			}
			after = e.Seq
		}
		if ctx.Err() != nil {
			return nil
		}
		b, err = s.cfg.Builds.Build(ctx, b.ID)
		if err != nil {
			return nil
		}
		if b.State.Ended() {
			_ = st.write([]byte("event: " + api.EndOfStream + "\ndata: {}\n\n")) // a client that has gone needs no end
			return nil
		}
		if after == before {
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}
}

// eventNumber is the number of the last event that a client has seen: it says so when it comes back, and may say so in
// the URL when it comes first. A Last-Event-ID that is no number is another stream's, and means the start.
func eventNumber(r *http.Request) (int64, error) {
	after, _, err := number(r, "after", math.MaxInt64)
	if n, bad := strconv.ParseInt(r.Header.Get("Last-Event-Id"), 10, 64); bad == nil {
		after = max(n, 0)
	}
	return after, err
}

// getBuilds lists what lives, the newest first, then what has ended, the last first.
func (s *Server) getBuilds(ctx context.Context, c Caller, most int) ([]bindery.Build, error) {
	out := []bindery.Build{}
	if s.cfg.Queue != nil {
		q, err := s.cfg.Queue.Queue(ctx)
		if err != nil {
			return nil, err
		}
		for _, b := range slices.Concat(q.Running, q.Waiting) {
			out = append(out, b.Build)
		}
		slices.SortStableFunc(out, func(a, b bindery.Build) int { return b.Created.Compare(a.Created) })
	}
	if s.cfg.History != nil && len(out) < most {
		past, err := s.cfg.History.Past(ctx, most-len(out))
		if err != nil {
			return nil, err
		}
		out = append(out, past...)
	}
	if !c.Admin {
		out = slices.DeleteFunc(out, func(b bindery.Build) bool { return b.Source.Provider == bindery.ProviderLocal })
	}
	return out[:min(len(out), most)], nil
}

func (s *Server) deleteBuild(ctx context.Context, c Caller, in about[api.CancelBuild]) (struct{}, error) {
	b, err := s.getBuild(ctx, c, in.id)
	if err != nil {
		return struct{}{}, err
	}
	if !c.Admin && b.Requester != c.Requester {
		return struct{}{}, bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Ask the operator of this hub.", "Somebody else asked for that build")
	}
	if s.cfg.Queue == nil {
		return struct{}{}, errNoQueue()
	}
	if b.State.Ended() {
		return struct{}{}, nil
	}
	return struct{}{}, s.cfg.Queue.CancelBuild(ctx, b.ID, c.Who, oneLine(in.body.Reason))
}

func (s *Server) retryBuild(ctx context.Context, c Caller, in about[api.RetryBuild]) (bindery.Build, error) {
	b, err := s.getBuild(ctx, c, in.id)
	if err == nil {
		err = checkReason(in.body.Reason)
	}
	if err != nil {
		return b, err
	}
	if s.cfg.Queue == nil {
		return b, errNoQueue()
	}
	if err := s.ruled(c, b.Source, &bindery.Ask{}); err != nil {
		return bindery.Build{}, err
	}
	if !b.State.Ended() || b.State == bindery.BuildSucceeded {
		return b, nil
	}
	return s.cfg.Queue.RetryBuild(ctx, b.ID, c.Who, oneLine(in.body.Reason))
}

// buildLog is what a build has printed, as text; with ?follow=1 it goes on until the build ends.
func (s *Server) buildLog(w http.ResponseWriter, r *http.Request) error {
	c := visitOf(r.Context()).caller
	b, err := s.getBuild(r.Context(), c, r.PathValue("id"))
	if err != nil {
		return err
	}
	show := s.shownText(c, b.Source)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if headOnly(w, r) {
		return nil
	}
	w.WriteHeader(http.StatusOK)
	rc := http.NewResponseController(w)
	_ = rc.Flush() // so that the follower of an empty log has an answer
	out := flushed{w, rc, s.cfg.WriteTimeout}
	if s.cfg.History != nil && r.URL.Query().Get("follow") != "1" {
		return s.storedLog(r.Context(), b.ID, out, show)
	}
	for e, err := range s.cfg.Builds.Events(r.Context(), b.ID, 0) {
		if err != nil {
			return nil // a cut log is seen as such by the client
		}
		if _, err := io.WriteString(out, show(e.Message)); err != nil {
			return nil
		}
	}
	return nil
}

func (s *Server) storedLog(ctx context.Context, id string, out io.Writer, show func(string) string) error {
	const page = 500
	for after := int64(0); ; {
		events, err := s.cfg.History.Events(ctx, id, after, page)
		var text strings.Builder
		for _, e := range events {
			text.WriteString(show(e.Message))
			after = e.Seq
		}
		if _, werr := io.WriteString(out, text.String()); werr != nil || err != nil || len(events) < page {
			visitOf(ctx).err = err
			return nil
		}
	}
}
