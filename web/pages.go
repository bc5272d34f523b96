package web

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
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
var pageNames = [...]string{"start", "launch", "build", "status", "about", "error", "storybook"}

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
	t, err := template.New("layout.html").Funcs(template.FuncMap{"static": p.assets.url, "has": p.assets.has}).
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
	Banner  template.HTML
	Heading string // of a link's preview; default: the operator's, else the title
	Social  string // one sentence for those who see a link before they follow it
	Token   string // of a launch page: a build token
	User    string // who has signed in
	Config  pageConfig
	Data    any // for the page's script, as JSON
	Body    any // for the page's template
}

// What stands for the operator's own HTML while a page is rendered: that is sent as it was written. Nothing else in a page
// has such a comment, for templates drop theirs and escape what visitors say.
const bannerHere, aboutHere = template.HTML("<!--banner-->"), template.HTML("<!--about-->")

// write renders the whole page before it sends the first byte, so that a template's error is a proper error.
func (s *Server) write(w http.ResponseWriter, r *http.Request, status int, name string, d pageData) error {
	t := s.pages.parsed[name]
	if s.pages.dev {
		var err error
		if t, err = s.pages.parse(name); err != nil {
			return err
		}
	}
	d.Version, d.Hub, d.Banner = s.cfg.Version, s.hubURL(r), cmp.Or(d.Banner, s.cfg.Banner)
	banner := d.Banner
	d.User = cmp.Or(d.User, visitOf(r.Context()).caller.user)
	d.Heading = cmp.Or(d.Heading, s.cfg.SocialTitle, d.Title)
	d.Config = s.pageConfig(r, d)
	if banner != "" {
		d.Banner = bannerHere
	}
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
	h.Set("Content-Security-Policy", policyFor(text))
	text = bytes.Replace(text, []byte(bannerHere), []byte(banner), 1)
	text = bytes.Replace(text, []byte(aboutHere), []byte(s.cfg.About), 1)
	h.Set("Cache-Control", "no-store")   // pages hold tokens
	h.Del("Access-Control-Allow-Origin") // so no page elsewhere reads them, though it may launch
	w.WriteHeader(status)
	_, _ = w.Write(text) // a client that has gone is not our error
	return nil
}

// A pageConfig is what BinderHub's pages have for their scripts, and programs read out of them.
type pageConfig struct {
	BaseURL      string                    `json:"baseUrl"`
	BadgeBaseURL string                    `json:"badgeBaseUrl"`
	LogoURL      string                    `json:"logoUrl"`
	LogoWidth    string                    `json:"logoWidth"`
	Providers    []bindery.ProviderDisplay `json:"repoProviders"`
	About        string                    `json:"aboutMessage"`
	Banner       string                    `json:"bannerHtml"`
	Version      string                    `json:"binderVersion"`
	BuildToken   string                    `json:"buildToken,omitempty"`
}

func (s *Server) pageConfig(r *http.Request, d pageData) pageConfig {
	logo := "logo.svg"
	if !s.assets.has(logo) {
		logo = "favicon.svg"
	}
	at, _ := s.assets.url(logo) // none is as good as no logo
	return pageConfig{
		BaseURL: s.cfg.Base + "/", BadgeBaseURL: s.launchHost(r), LogoURL: s.cfg.Base + at, LogoWidth: "320px", Providers: s.providers(),
		About: string(s.cfg.About), Banner: string(d.Banner), Version: s.cfg.Version, BuildToken: d.Token,
	}
}

// policyFor is contentPolicy with leave for the one script that is in the page itself: by its sum, so for no other.
func policyFor(page []byte) string {
	const begin, end = "<script>", "</script>"
	_, script, ok := bytes.Cut(page, []byte(begin+"window.pageConfig"))
	if !ok {
		return contentPolicy
	}
	script, _, _ = bytes.Cut(script, []byte(end))
	sum := sha256.Sum256(append([]byte("window.pageConfig"), script...))
	return strings.Replace(contentPolicy, "script-src 'self'", "script-src 'self' 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'", 1)
}

type aboutBody struct {
	Generation string
	Text       template.HTML // the operator's
}

func (s *Server) aboutPage(w http.ResponseWriter, r *http.Request) error {
	b := aboutBody{Generation: s.cfg.Generation}
	if s.cfg.About != "" {
		b.Text = aboutHere
	}
	return s.write(w, r, http.StatusOK, "about", pageData{Title: "About · Bindery", Body: b})
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
