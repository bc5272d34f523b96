package web

import (
	"bytes"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"strings"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

// pages are the templates. Each page is the layout with one file's "main" in it.
type pages struct {
	files  fs.FS
	assets *assets
	dev    bool
	parsed map[string]*template.Template
}

// pageNames lists the files of templates/, without the layout.
var pageNames = [...]string{"start", "launch", "about", "error", "storybook"}

func newPages(cfg Config, a *assets) (*pages, error) {
	p := &pages{files: cfg.Files, assets: a, dev: cfg.Dev, parsed: map[string]*template.Template{}}
	for _, name := range pageNames {
		t, err := p.parse(name)
		if err != nil {
			return nil, err
		}
		p.parsed[name] = t
	}
	return p, nil
}

func (p *pages) parse(name string) (*template.Template, error) {
	t, err := template.New("layout.html").Funcs(template.FuncMap{"static": p.assets.url}).
		ParseFS(p.files, "templates/layout.html", "templates/"+name+".html")
	if err != nil {
		return nil, fmt.Errorf("web: %w", err)
	}
	return t, nil
}

// A pageData is what every page gets.
type pageData struct {
	Title   string
	Version string
	Hub     string // own origin, without a slash at its end
	Data    any    // for the page's script, as JSON
	Body    any    // for the page's template
}

// write renders the whole page before it sends the first byte, so that a template's error is a proper error.
func (s *Server) write(w http.ResponseWriter, r *http.Request, status int, name string, d pageData) error {
	t := s.pages.parsed[name]
	if s.pages.dev {
		var err error
		if t, err = s.pages.parse(name); err != nil {
			return err
		}
	}
	d.Version, d.Hub = s.cfg.Version, s.hubURL(r)
	var b bytes.Buffer
	if err := t.Execute(&b, d); err != nil {
		return fmt.Errorf("render %s: %w", name, err)
	}
	text := b.Bytes()
	if s.cfg.Base != "" { // templates are written as if the hub were at the root
		for _, attr := range []string{`href="/`, `src="/`, `action="/`} {
			text = bytes.ReplaceAll(text, []byte(attr), []byte(strings.TrimSuffix(attr, "/")+s.cfg.Base+"/"))
		}
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store") // pages hold tokens
	w.WriteHeader(status)
	_, _ = w.Write(text) // a client that has gone is not our error
	return nil
}

type startBody struct {
	Repository, Ref, Path string
	Problem               *api.Problem
}

type startData struct {
	Hub string `json:"hub"`
}

func (s *Server) startPage(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	return s.showStart(w, r, http.StatusOK, startBody{Repository: q.Get("repository"), Ref: q.Get("ref"), Path: q.Get("path")})
}

func (s *Server) showStart(w http.ResponseWriter, r *http.Request, status int, b startBody) error {
	return s.write(w, r, status, "start", pageData{Title: "Bindery", Data: startData{Hub: s.hubURL(r)}, Body: b})
}

// goPage is where the start page's form leads without its script: it redirects to the launch page, and does nothing.
func (s *Server) goPage(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	repo, ref := strings.TrimSpace(q.Get("repository")), strings.TrimSpace(q.Get("ref"))
	b := startBody{Repository: repo, Ref: ref, Path: q.Get("path")}
	if ref == "" {
		ref = "HEAD"
	}
	if _, err := bindery.ParseGitSource(repo, ref); err != nil {
		p := api.ProblemOf(err, visitOf(r.Context()).id)
		b.Problem = &p
		return s.showStart(w, r, p.Status, b)
	}
	to := s.cfg.Base + "/v2/git/" + gitSpec(repo, ref)
	if p := strings.TrimLeft(strings.TrimSpace(b.Path), "/"); p != "" {
		to += "?" + url.Values{"urlpath": {"doc/tree/" + p}}.Encode()
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}

type launchBody struct {
	Source bindery.Source
	Name   string // of the repository, short
	Link   string // to the repository, when it has pages
}

// launchData is what the launch page's script needs.
type launchData struct {
	Stream string `json:"stream"` // of events; the script adds where it is
	Start  string `json:"start"`  // the start page, filled in
}

// launchPage shows a launch. Loading it starts nothing; the event stream that its script opens does.
func (s *Server) launchPage(w http.ResponseWriter, r *http.Request) error {
	sp := specOf(r.URL.EscapedPath(), "/v2/")
	src, err := s.sourceOf(sp)
	if err != nil {
		return err
	}
	token, err := s.buildToken(r, sp)
	if err != nil {
		return err
	}
	b := launchBody{Source: src, Name: shortName(src.URL)}
	if strings.HasPrefix(src.URL, "https://") || strings.HasPrefix(src.URL, "http://") {
		b.Link = src.URL
	}
	return s.write(w, r, http.StatusOK, "launch", pageData{
		Title: b.Name + " · Bindery", Body: b,
		Data: launchData{
			Stream: s.cfg.Base + "/build/" + sp.String() + "?" + url.Values{"build_token": {token}, "ids": {"1"}}.Encode(),
			Start:  s.cfg.Base + "/?" + url.Values{"repository": {src.URL}, "ref": {src.Ref}}.Encode(),
		},
	})
}

// shortName is the last two elements of a repository's path, which is how people call it.
func shortName(repoURL string) string {
	u, err := url.Parse(repoURL)
	if err != nil {
		return bindery.Printable(repoURL)
	}
	parts := strings.Split(strings.Trim(strings.TrimSuffix(strings.TrimRight(u.Path, "/"), ".git"), "/"), "/")
	name := strings.Join(parts[max(0, len(parts)-2):], "/")
	if name == "" {
		name = u.Host
	}
	return bindery.Printable(name)
}

func (s *Server) aboutPage(w http.ResponseWriter, r *http.Request) error {
	return s.write(w, r, http.StatusOK, "about", pageData{Title: "About · Bindery", Body: s.cfg.Generation})
}

// errorPage shows a problem to whoever came by a browser, and sends it as data to all others.
func (s *Server) errorPage(w http.ResponseWriter, r *http.Request, p api.Problem) {
	if accept := r.Header.Get("Accept"); accept != "" && !strings.Contains(accept, "text/html") && !strings.Contains(accept, "*/*") {
		writeProblem(w, r, p)
		return
	}
	if err := s.write(w, r, p.Status, "error", pageData{Title: p.Title + " · Bindery", Body: p}); err != nil {
		s.cfg.Log.ErrorContext(r.Context(), "the error page has an error", "err", err)
		writeProblem(w, r, p)
	}
}
