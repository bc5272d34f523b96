package web_test

import (
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/web"
)

// tokenOf takes the build token out of a launch page.
func tokenOf(t *testing.T, hub, repo string) string {
	t.Helper()
	_, page := ask(t, "GET", hub+"/v2/git/https%3A%2F%2Fexample.org%2Fo%2F"+repo+"/main", "")
	m := regexp.MustCompile(`"buildToken":"([^"]+)"`).FindStringSubmatch(page)
	if m == nil {
		t.Fatalf("no token in %s", page)
	}
	return m[1]
}

// TestReports looks at what is told of launches that ended in each way.
func TestReports(t *testing.T) {
	var mu sync.Mutex
	var all []bindery.LaunchReport
	told := make(chan struct{}, 100)
	h := playing(t).withQuota()
	ts := serve(t, h, conform, func(c *web.Config) {
		c.Report = func(rep bindery.LaunchReport) {
			mu.Lock()
			defer mu.Unlock()
			all = append(all, rep)
			told <- struct{}{}
		}
	})
	next := func() bindery.LaunchReport {
		t.Helper()
		select {
		case <-told:
		case <-time.After(20 * time.Second):
			t.Fatal("nothing was told")
		}
		mu.Lock()
		defer mu.Unlock()
		return all[len(all)-1]
	}
	at := ts.URL + "/build/git/https%3A%2F%2Fexample.org%2Fo%2F"
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	open(t, at+"new/main", "Origin", "https://elsewhere.example", "Traceparent", trace).rest()
	rep := next()
	if rep.Status != "success" || rep.Cached || rep.Build == "" || rep.Session != "s1" || rep.Built <= 0 || rep.Started <= 0 || rep.Token || rep.Source.Commit != commit ||
		rep.RequestOrigin != "https://elsewhere.example" || rep.Spec != "https%3A%2F%2Fexample.org%2Fo%2Fnew/main" || rep.Repo != "https://example.org/o/new" ||
		rep.Origin != strings.TrimPrefix(ts.URL, "http://") || rep.Class != bindery.Unattended || rep.Evidence == "" || rep.Parent != trace {
		t.Errorf("new: %+v", rep)
	}
	open(t, at+"new/main", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors").rest()
	if rep = next(); !rep.Cached || rep.RequestOrigin != "cross-site" || rep.Class != bindery.Attended {
		t.Errorf("cached: %+v", rep)
	}
	open(t, at+"failing/main").rest()
	if rep = next(); rep.Status != "failure" || rep.Err == nil || rep.Err.Kind != bindery.ErrStep || rep.Started != 0 {
		t.Errorf("failing: %+v", rep)
	}
	open(t, at+"full/main").rest()
	next()
	open(t, at+"full/main").rest()
	if rep = next(); rep.Status != "repo_quota" {
		t.Errorf("full: %+v", rep)
	}
	public := serve(t, h, func(c *web.Config) {
		c.URL = "https://hub.example.org"
		c.Report = func(rep bindery.LaunchReport) {
			mu.Lock()
			defer mu.Unlock()
			all = append(all, rep)
			told <- struct{}{}
		}
	})
	open(t, public.URL+"/build/git/https%3A%2F%2Fexample.org%2Fo%2Fnew/main?build_token="+tokenOf(t, public.URL, "new")).rest()
	if rep = next(); rep.Origin != "hub.example.org" || !rep.Token {
		t.Errorf("by a public name: %+v", rep)
	}
	open(t, ts.URL+"/build/nosuch/x/y").rest()
	open(t, at+"new/main", "Accept", "text/html").rest()
	open(t, at+"new/main?build_token=x").rest()
	if len(told) != 0 {
		t.Errorf("refusals were told of: %+v", all)
	}
}
