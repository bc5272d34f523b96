// Package admin shows operators the hub: pages over the native API, behind a token of its scope admin.
package admin

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

// Hub is what the pages need of the hub's own server.
type Hub interface {
	// Operator finds the token of scope admin that a person signs in with, by its name and by a print that changes
	// with the token.
	Operator(bearer string) (name, print string, ok bool)
	// Stands reports whether that token is still configured.
	Stands(name, print string) bool
	// As sends requests of the native API into the server as the token of that name.
	As(name string) http.RoundTripper
	// Visitor says where a request comes from, past the hub's proxies, and whether by https.
	Visitor(r *http.Request) (addr string, secure bool)
	// Asset is the path of one of the hub's static files.
	Asset(name string) (string, error)
}

// Config configures a Server.
type Config struct {
	Hub     Hub              // required
	Secret  []byte           // signs sessions and forms; the same on all replicas. required
	Base    string           // path that the hub is below, without a slash at its end
	Version string           // shown at the foot
	Dev     bool             // /admin/storybook shows every page
	Now     func() time.Time // default: time.Now
	Log     *slog.Logger     // default: discard
}

// A Server answers for everything below /admin.
type Server struct {
	cfg     Config
	key     []byte
	pages   map[string]*template.Template
	files   map[string]file
	mux     *http.ServeMux
	tries   tries
	guard   *http.CrossOriginProtection
	revoked revoked
}

// New makes a Server.
func New(cfg Config) (*Server, error) {
	if cfg.Hub == nil || len(cfg.Secret) < 16 {
		return nil, errors.New("admin: Config needs Hub and a Secret of 16 bytes or more")
	}
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	mac := hmac.New(sha256.New, cfg.Secret)
	mac.Write([]byte("bindery admin pages")) // a hash never fails
	s := &Server{cfg: cfg, key: mac.Sum(nil), mux: http.NewServeMux(), guard: http.NewCrossOriginProtection()}
	var err error
	if s.files, err = staticFiles(); err != nil {
		return nil, err
	}
	if s.pages, err = s.parse(); err != nil {
		return nil, err
	}
	s.routes()
	return s, nil
}

// A visit is a request of an operator who has signed in.
type visit struct {
	s    *Server
	w    http.ResponseWriter
	r    *http.Request
	who  string
	form string // token that its forms carry
	hub  *api.Client
}

// A page answers a visit, or says why not; then it has written nothing.
type page func(v *visit) error

func (s *Server) routes() {
	open := func(pattern string, h http.HandlerFunc) { s.mux.HandleFunc(pattern, h) }
	open("GET /admin/static/{name}", s.static)
	open("GET /admin/login", s.loginPage)
	open("POST /admin/login", s.login)
	get := func(path string, h page) { s.mux.HandleFunc("GET "+path, s.signedIn(h)) }
	post := func(path string, h page) { s.mux.HandleFunc("POST "+path, s.signedIn(s.formed(h))) }
	post("/admin/logout", s.logout)
	get("/admin/{$}", func(v *visit) error { return v.redirect("/admin/queue", "") })
	get("/admin", func(v *visit) error { return v.redirect("/admin/queue", "") })
	get("/admin/queue", queuePage)
	get("/admin/builds", buildsPage)
	get("/admin/builds/{id}", buildPage)
	post("/admin/builds/{id}/{act}", buildAction)
	get("/admin/sessions", sessionsPage)
	post("/admin/sessions/{id}/stop", stopSession)
	get("/admin/workers", workersPage)
	post("/admin/workers/{id}/{act}", workerAction)
	get("/admin/generations", generationsPage)
	get("/admin/generations/{id}/plan", planPage)
	post("/admin/generations/{id}/{act}", generationAction)
	get("/admin/images", imagesPage)
	post("/admin/images", changeImages)
	post("/admin/images/{id}/remove", removeImage)
	get("/admin/rules", rulesPage)
	post("/admin/rules", addRule)
	post("/admin/rules/{id}/lift", liftRule)
	get("/admin/audit", auditPage)
	get("/admin/audit.jsonl", exportAudit)
	if s.cfg.Dev {
		open("GET /admin/storybook", s.storybook)
		open("GET /admin/storybook/{story}", s.story)
	}
}

// policy allows what the pages are made of. Nothing inline runs, nobody frames them.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; " +
	"base-uri 'none'; frame-ancestors 'none'"

// ServeHTTP answers one request, whose path is without Config.Base.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Del("Access-Control-Allow-Origin") // whoever may launch from elsewhere may not operate from there
	h.Del("Access-Control-Allow-Headers")
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	if err := s.guard.Check(r); err != nil {
		s.problem(w, r, nil, bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Use the page itself.", "Another site may not do that here"))
		return
	}
	if _, pattern := s.mux.Handler(r); pattern == "" {
		s.problem(w, r, nil, bindery.Errorf(bindery.ErrNotFound, bindery.User, "Use the navigation.", "There is no such page"))
		return
	}
	s.mux.ServeHTTP(w, r)
}

// signedIn leads whoever has not signed in to the page for that, and nowhere else.
func (s *Server) signedIn(h page) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		t, ok := s.ticketOf(r)
		if !ok {
			if r.Method == http.MethodGet {
				http.Redirect(w, r, s.cfg.Base+"/admin/login?next="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
				return
			}
			s.problem(w, r, nil, bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Sign in, then do it again: nothing was done.", "You are not signed in any more"))
			return
		}
		hub, err := api.NewClient(api.ClientConfig{URL: "http://hub.internal", HTTP: s.cfg.Hub.As(t.Name)})
		v := &visit{s: s, w: w, r: r, who: t.Name, form: s.formToken(t), hub: hub}
		if err == nil {
			s.renew(w, r, t)
			err = h(v)
		}
		if err != nil {
			s.problem(w, r, v, err)
		}
	}
}

// formed refuses forms that are not ours.
func (s *Server) formed(h page) page {
	return func(v *visit) error {
		if err := v.r.ParseForm(); err != nil {
			return bindery.Errorf(bindery.ErrInvalid, bindery.User, "Send it again.", "The form cannot be read")
		}
		if !hmac.Equal([]byte(v.r.PostForm.Get("form")), []byte(v.form)) {
			return bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Load the page again, then send the form: nothing was done.", "The form is not of this page")
		}
		return h(v)
	}
}

// redirect leads to a page of ours; done names what to tell there.
func (v *visit) redirect(to, done string) error {
	if done != "" {
		sep := "?"
		if strings.Contains(to, "?") {
			sep = "&"
		}
		to += sep + "done=" + url.QueryEscape(done)
	}
	http.Redirect(v.w, v.r, v.s.cfg.Base+to, http.StatusSeeOther)
	return nil
}

// reason is why an operator does something, in one line.
func (v *visit) reason() string { return strings.Join(strings.Fields(v.r.PostForm.Get("reason")), " ") }

// done are what pages say after something was done: never words of the address, which anybody may have written.
var done = map[string]string{
	"cancel": "The build is being stopped.", "retry": "It is built again.", "forgive": "The failure is forgotten: the next visitor has it built again.",
	"stop": "The session is being stopped.", "rule": "The rule stands.", "lift": "The rule is lifted.", "drain": "The worker gets no more builds.",
	"resume": "The worker gets builds again.", "leave": "The worker is removed.", "remove": "The image is removed.", "start": "The roll-out has begun.", "pause": "The roll-out is paused.",
	"goon": "The roll-out goes on.", "rollback": "The roll-out is undone.",
	"anew": "The chosen images are built anew; each serves until then.", "dropped": "The chosen images are dropped, but for those in use.", "pruned": "The images are removed, but for those in use.",
}

// statusOf is the status of a page about an error.
func statusOf(err error) int {
	return api.ProblemOf(err, "").Status
}

func (s *Server) problem(w http.ResponseWriter, r *http.Request, v *visit, err error) {
	e := bindery.AsError(err)
	if e.Fault == bindery.Ours {
		s.cfg.Log.ErrorContext(r.Context(), "an admin page has an error", "path", bindery.Printable(r.URL.Path), "err", err)
	}
	back := r.Header.Get("Referer")
	if u, parseErr := url.Parse(back); parseErr != nil || u.Host != r.Host || !strings.HasPrefix(u.Path, s.cfg.Base+"/admin") {
		back = s.cfg.Base + "/admin/queue"
	}
	d := data{Title: "That did not work", Body: problemBody{Msg: e.Msg, Remedy: e.Remedy, Back: back}}
	if writeErr := s.write(w, v, statusOf(err), "problem", d); writeErr != nil {
		s.cfg.Log.ErrorContext(r.Context(), "the page about an error has an error", "err", writeErr)
		http.Error(w, e.Msg, http.StatusInternalServerError)
	}
}

type problemBody struct{ Msg, Remedy, Back string }

// seconds writes a duration as people do: "40 s", "12 min", "3 h 5 min", "2 d 4 h".
func seconds(d time.Duration) string {
	d = d.Round(time.Second)
	switch n := int(d / time.Second); {
	case n < 0:
		return "0 s"
	case n < 100:
		return fmt.Sprintf("%d s", n)
	case n < 100*60:
		return fmt.Sprintf("%d min", (n+30)/60)
	case n < 48*3600:
		return strings.TrimSuffix(fmt.Sprintf("%d h %d min", n/3600, n%3600/60), " 0 min")
	default:
		return strings.TrimSuffix(fmt.Sprintf("%d d %d h", n/86400, n%86400/3600), " 0 h")
	}
}
