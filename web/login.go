package web

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

// A Login is a server at which people say who they are.
type Login interface {
	// SignIn is where a browser is sent. It comes back to redirect with the state and a code.
	SignIn(redirect, state, verifier string) string
	// User is the name of the person that a code is about.
	User(ctx context.Context, redirect, code, verifier string) (string, error)
}

const (
	userCookie  = "bindery_user"  // who has signed in
	stateCookie = "bindery_login" // that this browser began to
	loginLife   = 12 * time.Hour
	stateLife   = 10 * time.Minute
)

// A gate keeps out who has not signed in; nil lets everybody pass.
//
// What a browser holds is a cookie, which the pages of a session on the same host can make it send, and which such a
// session would see. So the cookie opens only what can be looked at. What has an effect, the event stream, wants the
// build token that a page was given, which names the person; and the sessions' proxy drops the cookies of the hub.
type gate struct {
	login Login
	users []string // that may come in; none: all who sign in
	key   []byte
	now   func() time.Time
}

func newGate(cfg Config) *gate {
	if cfg.Login == nil {
		return nil
	}
	mac := hmac.New(sha256.New, cfg.Secret)
	mac.Write([]byte("bindery login")) // a hash never fails
	return &gate{login: cfg.Login, users: cfg.Users, key: mac.Sum(nil), now: cfg.Now}
}

// admits reports whether somebody of that name may use this hub.
func (g *gate) admits(user string) bool {
	return user != "" && (len(g.users) == 0 || slices.Contains(g.users, user))
}

// open reports whether a caller may pass: the machine's owner, an API token, or whoever has signed in.
func (g *gate) open(c Caller) bool {
	return g == nil || c.Local || c.Scope != "" || c.user != ""
}

// A pass is what the cookie and the state hold, signed. The subject is a name, or where to go on; the ID is a secret
// between one browser and us.
type pass struct {
	jwt.RegisteredClaims
	Once string `json:"once"` // no two are equal
}

func (g *gate) seal(kind, subject, id string, life time.Duration) (string, error) {
	p := pass{Once: rand.Text()}
	p.Subject, p.ID = subject, id
	p.Audience, p.ExpiresAt = jwt.ClaimStrings{kind}, jwt.NewNumericDate(g.now().Add(life))
	return jwt.NewWithClaims(jwt.SigningMethodHS256, p).SignedString(g.key)
}

func (g *gate) unseal(kind, text string) (p pass, ok bool) {
	_, err := jwt.ParseWithClaims(text, &p, func(*jwt.Token) (any, error) { return g.key, nil },
		jwt.WithValidMethods([]string{"HS256"}), jwt.WithAudience(kind), jwt.WithExpirationRequired(), jwt.WithTimeFunc(g.now))
	return p, err == nil
}

// userOf is who has signed in, by the cookie of a request. A session's page may have set one more: one that is none of
// ours means nothing, and one of somebody else that nobody knows who sits there.
func (g *gate) userOf(r *http.Request, secure bool) (user string) {
	if g == nil {
		return ""
	}
	for _, c := range r.CookiesNamed(cookieName(userCookie, secure)) {
		p, ok := g.unseal("user", c.Value)
		switch {
		case !ok || !g.admits(p.Subject):
		case user != "" && user != p.Subject:
			return ""
		default:
			user = p.Subject
		}
	}
	return user
}

// cookieName is the name of a cookie of ours. By https browsers take one of this name from the host itself only and for
// all of its paths, and newer ones take it from no script, so that there is one at most.
func cookieName(name string, secure bool) string {
	if secure {
		return "__Host-Http-" + name
	}
	return name
}

// secure reports whether the visitor's browser came by https.
func (s *Server) secure(c Caller) bool { return c.secure || strings.HasPrefix(s.cfg.URL, "https:") }

// verifier is what a code is asked for with, so that one that was begun elsewhere is worth nothing here.
func (g *gate) verifier(state string) string {
	mac := hmac.New(sha256.New, g.key)
	mac.Write([]byte("verifier " + state)) // a hash never fails
	return hex.EncodeToString(mac.Sum(nil))
}

func (s *Server) setCookie(w http.ResponseWriter, r *http.Request, name, value string, life time.Duration) {
	secure, path := s.secure(visitOf(r.Context()).caller), s.cfg.Base+"/"
	if secure {
		path = "/" // or a browser would not take the name
	}
	http.SetCookie(w, &http.Cookie{
		Name: cookieName(name, secure), Value: value, Path: path, MaxAge: int(life / time.Second), HttpOnly: true, Secure: secure,
		// Links of other sites lead to pages here, so Strict would ask people to sign in once more.
		SameSite: http.SameSiteLaxMode,
	})
}

// known is a page for who has signed in. Everybody else is sent to where that is done, and comes back.
func (s *Server) known(h handler) handler {
	if s.gate == nil {
		return h
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		if !s.gate.open(visitOf(r.Context()).caller) {
			return s.signIn(w, r)
		}
		return h(w, r)
	}
}

const callbackPath = "/oauth_callback"

func (s *Server) signIn(w http.ResponseWriter, r *http.Request) error {
	browser := rand.Text()
	if known := s.stateOf(r); len(known) == len(browser) { // another tab may be on its way
		browser = known
	}
	next := r.URL.RequestURI()
	if len(next) > 2000 || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") {
		next = "/"
	}
	state, err := s.gate.seal("state", next, browser, stateLife)
	if err != nil {
		return err
	}
	s.setCookie(w, r, stateCookie, browser, stateLife)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Location", s.gate.login.SignIn(s.hubURL(r)+callbackPath, state, s.gate.verifier(state)))
	w.WriteHeader(http.StatusFound)
	return nil
}

// stateOf is the secret between this browser and us; empty: there is none. Of two, one was set by somebody else: a
// session's page on the same host, so that the browser comes back with a code of his.
func (s *Server) stateOf(r *http.Request) string {
	all := r.CookiesNamed(cookieName(stateCookie, s.secure(visitOf(r.Context()).caller)))
	if len(all) != 1 {
		return ""
	}
	return all[0].Value
}

// callback is where the browser comes back to.
func (s *Server) callback(w http.ResponseWriter, r *http.Request) error {
	again := func(msg string) *bindery.Error {
		return bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Begin again at the start page.", "%s", msg)
	}
	q := r.URL.Query()
	state := q.Get("state")
	p, ok := s.gate.unseal("state", state)
	if known := s.stateOf(r); !ok || known == "" || !hmac.Equal([]byte(known), []byte(p.ID)) {
		return again("This sign-in was not begun here, or too long ago")
	}
	if q.Get("code") == "" {
		return again("The sign-in was given up").Because(errText(q.Get("error")))
	}
	name, err := s.gate.login.User(r.Context(), s.hubURL(r)+callbackPath, q.Get("code"), s.gate.verifier(state))
	if err != nil {
		return err
	}
	if name == "" || len(name) > 200 || !utf8.ValidString(name) || bindery.Printable(name) != name {
		return again("Your name cannot be used here").Because(errText(name))
	}
	if !s.gate.admits(name) {
		return bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Ask the operator of this hub.", "%s may not use this hub", name)
	}
	text, err := s.gate.seal("user", name, "", loginLife)
	if err != nil {
		return err
	}
	s.cfg.Log.InfoContext(r.Context(), "somebody signed in", "user", name)
	s.setCookie(w, r, userCookie, text, loginLife)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Location", s.cfg.Base+p.Subject) // as it was asked for: http.Redirect would clean it
	w.WriteHeader(http.StatusFound)
	return nil
}

// errText is what the other side said, for the log.
type errText string

func (e errText) Error() string { return bindery.Printable(string(e)) }

// signOut forgets who sits here. At the server that they signed in at, they still are.
func (s *Server) signOut(w http.ResponseWriter, r *http.Request) error {
	s.setCookie(w, r, userCookie, "", -time.Second)
	visitOf(r.Context()).caller.user = ""
	return s.write(w, r, http.StatusOK, "error", signedOut(visitOf(r.Context()).id))
}

func signedOut(request string) pageData {
	return pageData{Title: "Signed out · Bindery", Body: api.Problem{
		Status: http.StatusOK, Title: "Signed out", Message: "You are signed out here", Remedy: "Sessions that run go on until they end by themselves.", RequestID: request,
	}}
}

// loginRoutes are there in login mode only.
func (s *Server) loginRoutes(page func(pattern string, h handler)) {
	if s.gate == nil {
		return
	}
	page("GET "+callbackPath, s.callback)
	page("POST /logout", s.signOut)
}

// signedIn refuses a stream of somebody whom nobody knows; user is whom the build token names.
func (wa *watch) signedIn(user string) error {
	s, c := wa.s, visitOf(wa.r.Context()).caller
	if s.gate == nil || c.Scope.Includes(api.ScopeLaunch) {
		return nil
	}
	if s.gate.admits(user) {
		wa.ask.Requester = "user:" + user
		return nil
	}
	return &refusal{http.StatusForbidden, "Forbidden\n",
		bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Open the link in a browser and sign in, or send a token of this hub with the scope launch.", "Forbidden")}
}
