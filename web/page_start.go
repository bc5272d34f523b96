package web

import (
	"cmp"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

type startBody struct {
	Providers                       []bindery.ProviderDisplay
	Provider, Repository, Ref, Path string
	Kind                            string // of Path: file, lab or url
	Shown                           bindery.ProviderDisplay
	Problem                         *api.Problem
}

type startData struct {
	Hub       string                    `json:"hub"` // that links begin with
	Providers []bindery.ProviderDisplay `json:"providers"`
}

// asked reads the start page's form.
func (s *Server) asked(q url.Values) startBody {
	b := startBody{
		Providers: s.providers(), Provider: q.Get("provider"), Repository: strings.TrimSpace(q.Get("repository")),
		Ref: strings.TrimSpace(q.Get("ref")), Path: strings.TrimSpace(q.Get("path")), Kind: q.Get("kind"),
	}
	if _, err := bindery.ParseGitSource(b.Repository, ""); b.Provider == "" && err == nil {
		b.Provider = bindery.ProviderGit // links of ours name a repository by its URL
	}
	for i, p := range b.Providers {
		if i == 0 || p.ID == b.Provider {
			b.Shown = p
		}
	}
	b.Provider = b.Shown.ID
	return b
}

func (s *Server) startPage(w http.ResponseWriter, r *http.Request) error {
	return s.showStart(w, r, http.StatusOK, s.asked(r.URL.Query()))
}

func (s *Server) showStart(w http.ResponseWriter, r *http.Request, status int, b startBody) error {
	return s.write(w, r, status, "start", pageData{
		Title: "Bindery", Social: "From a Git repository to a running notebook.",
		Data: startData{Hub: strings.TrimSuffix(s.launchHost(r), "/"), Providers: b.Providers}, Body: b,
	})
}

// goPage is where the start page's form leads without its script: it redirects to the launch page, and does nothing.
func (s *Server) goPage(w http.ResponseWriter, r *http.Request) error {
	b := s.asked(r.URL.Query())
	to, err := s.formLink(b)
	if err != nil {
		p := api.ProblemOf(err, visitOf(r.Context()).id)
		b.Problem = &p
		return s.showStart(w, r, p.Status, b)
	}
	http.Redirect(w, r, s.cfg.Base+to, http.StatusSeeOther)
	return nil
}

var treeRE, deepTreeRE = regexp.MustCompile(`^([^/]+/[^/]+)/tree/(.+)$`), regexp.MustCompile(`^(.+?)/-/tree/(.+)$`)

// cutTree takes the ref out of the address of a page of files, as forges have them: GitLab's where a repository may be
// deeper than its owner, else GitHub's.
func cutTree(repo string, deep bool) (string, string) {
	re := treeRE
	if deep {
		re = deepTreeRE
	}
	m := re.FindStringSubmatch(repo)
	if m == nil {
		return repo, ""
	}
	ref, err := url.PathUnescape(m[2])
	if err != nil {
		ref = m[2]
	}
	return m[1], ref
}

// formLink is the path of the launch that the form asks for. It is what start.js makes of the same form.
func (s *Server) formLink(b startBody) (string, error) {
	repo, ref := b.Repository, ""
	if i := strings.IndexAny(repo, "?#"); i >= 0 && b.Shown.Ref.Enabled && strings.Contains(repo[:i], "://") {
		repo = repo[:i] // of a page that shows the repository, not of the repository
	}
	if d := b.Shown.Detect; d != nil {
		if re, err := regexp.Compile(d.Regex); err == nil {
			m := re.FindStringSubmatch(repo)
			repo = ""
			if i := re.SubexpIndex("repo"); m != nil && i > 0 {
				repo = m[i]
			}
		}
		repo, ref = cutTree(repo, b.Shown.Repo.URLEncode)
	}
	raw := strings.ReplaceAll(escape(repo), "%2F", "/")
	if b.Shown.Repo.URLEncode {
		raw = escape(repo)
	}
	raw += "/"
	if b.Shown.Ref.Enabled {
		raw += escapeRef(cmp.Or(b.Ref, ref, b.Shown.Ref.Default))
	}
	if _, err := s.sourceOf(spec{b.Shown.ID, raw}); err != nil {
		return "", err
	}
	to := "/v2/" + b.Shown.ID + "/" + raw
	path := strings.TrimLeft(b.Path, "/")
	switch {
	case path == "":
	case b.Kind == "url":
		to += "?" + url.Values{"urlpath": {b.Path}}.Encode()
	case b.Kind == "lab":
		to += "?" + url.Values{"labpath": {path}}.Encode()
	default:
		to += "?" + url.Values{"urlpath": {"/doc/tree/" + path}}.Encode()
	}
	return to, nil
}
