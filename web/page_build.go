package web

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

type buildBody struct {
	Build  bindery.Build
	Name   string
	Link   string // a page about the repository
	Launch string // where it is launched
	Facts  []fact // what has happened
	Made   []fact // what it was made of and is
}

// A fact is one line of a list.
type fact struct {
	Name, Text string
	Code       bool
}

type buildData struct {
	Events string `json:"events"`
	State  string `json:"state"` // of the build, as JSON
	Over   bool   `json:"over"`
}

// buildPage is a build's own page: it stays when the build is over. It watches without asking for anything.
func (s *Server) buildPage(w http.ResponseWriter, r *http.Request) error {
	c := visitOf(r.Context()).caller
	b, err := s.getBuild(r.Context(), c, r.PathValue("id"))
	if err != nil {
		return err
	}
	return s.write(w, r, http.StatusOK, "build", s.buildPageData(s.shownBuild(c, b)))
}

func (s *Server) buildPageData(b bindery.Build) pageData {
	at := s.cfg.Base + "/api/v1/builds/" + b.ID
	name := cmp.Or(shortName(b.Source.URL), "a repository")
	return pageData{
		Title: "Build of " + name + " · Bindery", Social: "The log of a build.",
		Data: buildData{Events: at + "/events", State: at, Over: b.State.Ended()},
		Body: buildBody{Build: b, Name: name, Link: pageOf(b.Source), Launch: s.launchLink(b.Source), Facts: factsOf(b, s.cfg.Now()), Made: madeOf(b)},
	}
}

// launchLink is where a source is launched; empty when no provider of this hub names it.
func (s *Server) launchLink(src bindery.Source) string {
	p, ok := s.providerOf(src)
	switch {
	case !ok || src.URL == "":
		return ""
	case p.Kind == bindery.ProviderGit:
		return "/v2/" + p.ID + "/" + gitSpec(src.URL, cmp.Or(src.Ref, src.Commit, "HEAD"))
	}
	return "/v2/" + p.ID + "/" + p.Spec(src)
}

// providerOf returns the provider that src is of: its address tells which of several of one kind. A DOI tells where it is
// looked up, and before that any provider that looks there will do.
func (s *Server) providerOf(src bindery.Source) (found bindery.Provider, ok bool) {
	for _, p := range s.cfg.Providers {
		switch {
		case p.Kind != src.Provider:
		case p.URL == "" || strings.HasPrefix(src.URL, p.URL+"/"):
			return p, true
		case !ok && (src.URL == "" || strings.HasPrefix(src.URL, p.DOI+"/")):
			found, ok = p, true
		}
	}
	return found, ok
}

// facts are lines that say something.
type facts []fact

func (f *facts) add(name, text string, code bool) {
	if text != "" {
		*f = append(*f, fact{name, text, code})
	}
}

// factsOf are what has happened to a build.
func factsOf(b bindery.Build, now time.Time) (out facts) {
	out.add("Asked for", stamp(b.Created), false)
	out.add("By", map[bindery.Class]string{bindery.Attended: "somebody who waits for it", bindery.Unattended: "a program", bindery.Background: "this hub"}[b.Class], false)
	out.add("Judged by", b.Evidence, false)
	if !b.Started.IsZero() {
		out.add("Waited", words(b.Started.Sub(b.Created)), false)
		if b.Attempt > 1 {
			out.add("Attempt", fmt.Sprint(b.Attempt), false)
		}
		if !b.Ended.IsZero() {
			out.add("Took", words(b.Ended.Sub(b.Started)), false)
		}
	}
	if res := b.Result; res != nil {
		out.add("Commands", fmt.Sprintf("%d run, %d from the cache", res.Steps.Run, res.Steps.Cached), false)
		for _, stage := range []string{"fetch", "plan", "solve", "export"} {
			if seconds, ok := res.Seconds[stage]; ok {
				out.add(map[string]string{"fetch": "Fetching", "plan": "Planning", "solve": "Building", "export": "Storing"}[stage], words(time.Duration(seconds*float64(time.Second))), false)
			}
		}
	}
	if b.State == bindery.BuildFailed && b.Until.After(now) {
		out.add("Tried again by itself", "not before "+stamp(b.Until), false)
	}
	return out
}

// madeOf are what a build was made of, by what, and what that came to.
func madeOf(b bindery.Build) (out facts) {
	out.add("Repository", b.Source.URL, true)
	out.add("Ref", b.Source.Ref, true)
	out.add("Commit", b.Source.Commit, true)
	out.add("Directory", b.Source.Subdir, true)
	if res := b.Result; res != nil {
		out.add("Builder generation", res.Generation, true)
		out.add("Environment key", res.EnvKey, true)
		out.add("Image key", res.ImageKey, true)
		out.add("Image", res.Image, true)
		out.add("Digest", res.Digest, true)
	}
	return out
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2 January 2006, 15:04:05 UTC")
}

// words is a duration as people say it. words.js says the same.
func words(d time.Duration) string {
	minutes, seconds := int(d.Minutes()), int(d.Seconds())%60
	switch {
	case d < 50*time.Millisecond:
		return "0 s"
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%d s", seconds)
	case d < 10*time.Minute && seconds > 0:
		return fmt.Sprintf("%d min %d s", minutes, seconds)
	case d < time.Hour:
		return fmt.Sprintf("%d min", minutes)
	}
	return fmt.Sprintf("%d h %d min", minutes/60, minutes%60)
}
