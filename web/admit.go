package web

import (
	"mime"
	"net/http"
	"strconv"
	"strings"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

// admit checks a request in BinderHub's order as far as that needs nothing but the request: network, Accept, token,
// limit. It runs before the headers of the answer are sent, since some of them say what it found.
func (wa *watch) admit(h http.Header) error {
	r, s := wa.r, wa.s
	v := visitOf(r.Context())
	if err := s.keepOut(v.caller); err != nil {
		return err
	}
	if !acceptsStream(r.Header.Values("Accept")) {
		return &refusal{http.StatusBadRequest, "Missing Accept header: text/event-stream\n",
			bindery.Errorf(bindery.ErrInvalid, bindery.User, "Send Accept: text/event-stream.", "Missing Accept header: text/event-stream")}
	}
	if isPrefetch(r) { // a browser that guesses where its user will go; nobody asked for anything
		return &refusal{http.StatusServiceUnavailable, "Nothing is launched ahead of its visitor\n",
			bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Ask when somebody wants it.", "Nothing is launched ahead of its visitor")}
	}
	q := r.URL.Query()
	wa.ask = bindery.Ask{Requester: v.caller.Requester, Address: v.caller.address()}
	wa.seen, wa.after = cursor(r.Header.Get("Last-Event-Id"), q.Get("after"))
	user := ""
	if t := q.Get("build_token"); t != "" {
		claims, err := s.checkBuildToken(r, t, wa.spec)
		if err != nil {
			return &refusal{http.StatusForbidden, "Invalid build token\n", err}
		}
		wa.token, user = true, claims.User
		// Who comes back has been away for as long as his build took.
		wa.page = claims.Net == block(v.caller.addr) && (claims.fresh(s.cfg.Now()) || wa.seen != "")
		wa.ask.Request = bindery.Key("launch", "token", claims.ID)
	} else if id := q.Get("request"); isRequestID(id) {
		wa.ask.Request = bindery.Key("launch", wa.ask.Requester, id)
	}
	if err := wa.signedIn(user); err != nil {
		return err
	}
	wa.ask.Class, wa.ask.Evidence = s.agents.classOf(r, wa.token)
	wa.buildOnly = strings.EqualFold(q.Get("build_only"), "true")
	wa.numbered = q.Has("ids") || r.Header.Get("Last-Event-Id") != ""
	wa.ask.Retry = wa.after == 0 && strings.EqualFold(q.Get("retry"), "true")
	return wa.limit(h)
}

// pageLimit is how many times the limit for programs a block of addresses may launch by our pages: a class behind one
// address passes, and a program that loads a page before each launch does not get far.
const pageLimit = 30

// limit counts the request: that of a page of ours by its block of addresses, as long as that has something left. Nobody
// counts tokens of the API that may launch, who has signed in, and this very machine.
func (wa *watch) limit(h http.Header) error {
	c := visitOf(wa.r.Context()).caller
	if c.Scope.Includes(api.ScopeLaunch) || c.here || wa.s.gate != nil { // signedIn lets nobody else come here
		return nil
	}
	paid := ""
	if wa.ask.Request != "" {
		paid = bindery.Key("paid", wa.ask.Request, wa.spec.String())
	}
	now := wa.s.cfg.Now()
	if wa.page && wa.s.pageLimiter.take(block(c.addr), paid, now).ok {
		return nil
	}
	a := wa.s.limiter.take(identity(c.addr), paid, now)
	a.tell(h, now)
	if a.ok {
		return nil
	}
	text := "Rate limit exceeded. Try again in " + strconv.Itoa(a.wait(now)) + " seconds."
	return &refusal{http.StatusTooManyRequests, text + "\n", bindery.Errorf(bindery.ErrRateLimit, bindery.User, "Wait, or open the link in a browser.", "%s", text)}
}

// keepOut refuses callers of banned networks.
func (s *Server) keepOut(c Caller) error {
	if c.Admin {
		return nil
	}
	label, banned := s.rules.bannedNetwork(c.addr)
	if !banned {
		return nil
	}
	text := "Requests from " + bindery.Printable(label) + " are not allowed"
	return &refusal{http.StatusForbidden, text + "\n", bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Ask the operator of this hub.", "%s", text)}
}

// source is the rest of the admission: what the spec names, and whether that may be launched here.
func (wa *watch) source() (bindery.Source, error) {
	src, err := wa.s.sourceOf(wa.spec)
	if err != nil {
		return src, err
	}
	wa.provider, _ = wa.s.provider(wa.spec) // sourceOf has found it
	return src, wa.permit(src)
}

// permit refuses what the configuration does not let the link launch.
func (wa *watch) permit(src bindery.Source) error {
	names := wa.s.names(wa.spec, src)
	wa.ask.RepoQuota = wa.s.rules.quota(names)
	if !wa.s.rules.allows(wa.spec, names) {
		raw := bindery.Printable(strings.TrimRight(wa.spec.raw, "/"))
		// Exactly BinderHub's text, which ends without a newline.
		return &refusal{0, "Sorry, " + raw + " is not allowed to launch. Please contact admins for more info!", notAllowed(raw)}
	}
	return nil
}

// sourceOf reads a spec by the grammar of its provider.
func (s *Server) sourceOf(sp spec) (bindery.Source, error) {
	p, err := s.provider(sp)
	if err != nil {
		return bindery.Source{}, &refusal{0, bindery.AsError(err).Msg + "\n", err}
	}
	src, err := p.ParseSpec(sp.raw)
	return src.At(s.cfg.Providers), err
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
