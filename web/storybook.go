package web

import (
	"net/http"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

// A story is a page with sample data in it, to be looked at.
type story struct {
	page string
	data pageData
}

// stories has every template at least once.
func (s *Server) stories(r *http.Request) map[string]story {
	src := bindery.Source{Provider: bindery.ProviderGit, URL: "https://example.org/jane/a-rather-long-name-of-a-course.git", Ref: "feature/with-a-name"}
	problem := api.ProblemOf(bindery.Errorf(bindery.ErrInvalid, bindery.User, "Give a URL like https://host/owner/repository.", "%q is not the URL of a Git repository", "<b>nope</b>"), "abcdef")
	return map[string]story{
		"start":          {"start", pageData{Title: "Bindery", Data: startData{Hub: s.hubURL(r)}, Body: startBody{}}},
		"start-filled":   {"start", pageData{Title: "Bindery", Data: startData{Hub: s.hubURL(r)}, Body: startBody{Repository: src.URL, Ref: "main", Path: "index.ipynb"}}},
		"start-problem":  {"start", pageData{Title: "Bindery", Data: startData{Hub: s.hubURL(r)}, Body: startBody{Repository: "<b>nope</b>", Problem: &problem}}},
		"launch":         {"launch", pageData{Title: "Launch", Data: launchData{Stream: "/build/git/x", Start: "/"}, Body: launchBody{Source: src, Name: shortName(src.URL), Link: src.URL}}},
		"about":          {"about", pageData{Title: "About", Body: s.cfg.Generation}},
		"error":          {"error", pageData{Title: "Not Found", Body: problem}},
		"storybook-list": {"storybook", pageData{Title: "Storybook", Body: []string{"start"}}},
	}
}

func (s *Server) storybook(w http.ResponseWriter, r *http.Request) error {
	names := []string{"start", "start-filled", "start-problem", "launch", "about", "error"}
	return s.write(w, r, http.StatusOK, "storybook", pageData{Title: "Storybook", Body: names})
}

func (s *Server) story(w http.ResponseWriter, r *http.Request) error {
	st, ok := s.stories(r)[r.PathValue("story")]
	if !ok {
		return notFound(w, r)
	}
	return s.write(w, r, http.StatusOK, st.page, st.data)
}
