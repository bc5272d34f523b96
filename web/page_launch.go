package web

import (
	"net/http"
	"net/url"
	"strings"

	bindery "github.com/bindery-hub/bindery"
)

type launchBody struct {
	Source bindery.Source
	Name   string // of the repository, short
	Link   string // to the repository, when it has pages
}

// launchData is what the launch page's script needs.
type launchData struct {
	Stream string            `json:"stream"` // of events; the script adds where it is
	Start  string            `json:"start"`  // the start page, filled in
	Builds string            `json:"builds"` // the pages of builds begin with it
	Icons  map[string]string `json:"icons"`  // by phase
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
	b := launchBody{Source: src, Name: shortName(src.URL), Link: pageOf(src)}
	return s.write(w, r, http.StatusOK, "launch", pageData{
		Title: b.Name + " · Bindery", Heading: s.heading(sp), Social: "Opens " + b.Name + " as a running notebook.", Token: token, Body: b,
		Data: launchData{
			Stream: s.cfg.Base + "/build/" + sp.String() + "?" + url.Values{"build_token": {token}, "ids": {"1"}}.Encode(),
			Start:  s.cfg.Base + "/?" + url.Values{"repository": {src.URL}, "ref": {src.Ref}}.Encode(),
			Builds: s.cfg.Base + "/builds/", Icons: s.icons(),
		},
	})
}

// heading is what previews of a launch link begin with, as BinderHub's do, only that what is encoded can be read.
func (s *Server) heading(sp spec) string {
	p, _ := s.provider(sp) // it was found before
	raw := strings.TrimRight(sp.raw, "/")
	if text, err := url.PathUnescape(raw); err == nil {
		raw = text
	}
	return p.Display().DisplayName + ": " + bindery.Printable(raw)
}

// icons are the favicons of a launch, by phase: a person who works in another tab sees when it is done.
func (s *Server) icons() map[string]string {
	out := map[string]string{}
	for _, phase := range []string{"building", "success", "fail"} {
		if u, err := s.assets.url("favicon_" + phase + ".svg"); err == nil {
			out[phase] = s.cfg.Base + u
		}
	}
	return out
}

// pageOf is a page about a source, when it has one that a browser may open.
func pageOf(src bindery.Source) string {
	if strings.HasPrefix(src.URL, "https://") || strings.HasPrefix(src.URL, "http://") {
		return src.URL
	}
	return ""
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
