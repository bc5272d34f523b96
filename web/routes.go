package web

import (
	"net/http"
	"net/url"
	"strings"
)

// plainNames are files that others link to under these very names.
var plainNames = [...]string{
	"badge.svg", "badge_logo.svg", "logo_social.png", "favicon.svg", "favicon.ico", "favicon_building.ico", "favicon_success.ico", "favicon_fail.ico", "robots.txt",
}

// routes is the whole table. The adapter round it refuses what is not in it, and paths that the mux would redirect.
func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	page := func(pattern string, h handler) { mux.Handle(pattern, s.handle(h, s.errorPage)) }
	data := func(pattern string, h handler) { mux.Handle(pattern, s.handle(h, writeProblem)) }

	page("GET /static/{name}", s.assets.serve)
	s.oldStatic(page)
	page("GET /robots.txt", s.assets.plain("robots.txt"))
	page("GET /favicon.ico", s.assets.plain("favicon.ico"))
	if s.cfg.Static != nil {
		page("GET /extra_static/{file...}", s.extraStatic)
		page("GET /extra_static", s.addSlash)
	}
	if !s.cfg.APIOnly {
		s.pageRoutes(page)
	}
	data("GET /build/{provider}/{spec...}", s.buildStream)
	data("GET /build/{provider}", s.addSlash)
	data("GET /health", s.getHealth)
	data("GET /versions", s.getVersions)
	data("GET /api/repoproviders", s.getProviders)
	data("GET /_config", s.getOldProviders)
	if s.cfg.Metrics != nil {
		mux.Handle("GET /metrics", s.cfg.Metrics)
	}
	s.adminRoutes(mux)
	for _, rt := range s.nativeRoutes() {
		data(rt.method+" "+rt.path, s.guarded(rt))
	}
	return mux
}

// pageRoutes are left out in API-only mode.
func (s *Server) pageRoutes(page func(pattern string, h handler)) {
	for pattern, h := range map[string]handler{
		"GET /{$}": s.startPage, "GET /go": s.goPage, "GET /about": s.aboutPage, "GET /status": s.statusPage, "GET /builds/{id}": s.buildPage,
		"GET /v2/{provider}/{spec...}": s.launchPage, "GET /repo/{user}/{repo}": s.oldLink, "GET /repo/{user}/{repo}/{path...}": s.oldLink,
	} {
		page(pattern, s.known(h))
	}
	page("GET /v2/{provider}", s.addSlash)
	s.loginRoutes(page)
	for _, name := range plainNames {
		if name != "robots.txt" && name != "favicon.ico" {
			page("GET /"+name, s.assets.plain(name))
		}
	}
	page("GET /assets/images/badge.svg", s.assets.plain("badge.svg"))
	if s.cfg.Dev {
		page("GET /storybook", s.storybook)
		page("GET /storybook/{story}", s.story)
		page("GET /storybook/stream/{state}", s.storyStream)
		page("GET /storybook/nowhere/{$}", s.storyNowhere)
	}
}

// oldStatic are files that pages elsewhere show from where BinderHub has them.
func (s *Server) oldStatic(page func(pattern string, h handler)) {
	logo := "favicon.svg"
	if s.assets.has("logo.svg") {
		logo = "logo.svg"
	}
	page("GET /static/logo.svg", s.assets.plain(logo))
	page("GET /static/favicon.ico", s.assets.plain("favicon.ico"))
	for _, name := range []string{"badge.svg", "badge_logo.svg", "logo_social.png"} {
		page("GET /static/images/"+name, s.assets.plain(name))
	}
	page("GET /static/images/logo_square.png", s.assets.plain("logo_social.png")) // what previews of pages show
}

// oldLink leads /repo/USER/REPO, which links of Binder's first years have, to the launch page.
func (s *Server) oldLink(w http.ResponseWriter, r *http.Request) error {
	rest := strings.TrimPrefix(r.URL.EscapedPath(), "/repo/")
	user, rest, _ := strings.Cut(rest, "/")
	repo, path, _ := strings.Cut(rest, "/")
	to := s.cfg.Base + "/v2/gh/" + user + "/" + repo + "/master"
	if path, err := url.PathUnescape(path); err == nil && path != "" {
		to += "?urlpath=" + strings.ReplaceAll(url.QueryEscape("/"+path), "+", "%20")
	}
	w.Header().Set("Location", to) // http.Redirect would clean the path
	w.WriteHeader(http.StatusFound)
	return nil
}

// addSlash leads to what is below a path. The mux would do it, but it does not know the base.
func (s *Server) addSlash(w http.ResponseWriter, r *http.Request) error {
	to := s.cfg.Base + r.URL.EscapedPath() + "/"
	if r.URL.RawQuery != "" {
		to += "?" + r.URL.RawQuery
	}
	http.Redirect(w, r, to, http.StatusTemporaryRedirect)
	return nil
}

// strip takes the base path away. What is not below it is not ours, but for the two files that browsers and robots ask
// of a host.
func (s *Server) strip(r *http.Request) (*http.Request, bool) {
	base := s.cfg.Base
	if base == "" || r.URL.Path == "/robots.txt" || r.URL.Path == "/favicon.ico" {
		return r, true
	}
	path, below := strings.CutPrefix(r.URL.Path, base)
	raw, rawBelow := strings.CutPrefix(r.URL.RawPath, base)
	if !below || (r.URL.RawPath != "" && !rawBelow) || (path != "" && path[0] != '/') {
		return r, false
	}
	u := *r.URL
	u.Path, u.RawPath = path, raw
	if path == "" {
		u.Path = "/"
	}
	out := r.WithContext(r.Context())
	out.URL = &u
	return out, true
}

// preflight answers what browsers ask before they ask: any page may, where the configuration allows its origin.
func (s *Server) preflight(w http.ResponseWriter, allowed string) {
	h := w.Header()
	h.Set("Access-Control-Allow-Methods", allowed)
	h.Set("Access-Control-Allow-Headers", "cache-control, authorization, content-type, last-event-id, x-xsrftoken")
	w.WriteHeader(http.StatusOK)
}
