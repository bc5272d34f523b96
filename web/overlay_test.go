package web_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/bindery-hub/bindery/web"
)

func TestAnOperatorsOwnFiles(t *testing.T) {
	own := fstest.MapFS{
		"static/logo.svg":      {Data: []byte("<svg/>")},
		"static/extra.js":      {Data: []byte("0")},
		"templates/error.html": {Data: []byte(`{{define "main"}}<h1>Our own words</h1>{{end}}`)},
	}
	ts := serve(t, newHub(), func(c *web.Config) {
		c.Files, c.Banner, c.About = web.Overlay(own), "<p>At <b>noon</b></p>", "<p>The department</p>"
	})
	_, about := ask(t, "GET", ts.URL+"/about", "")
	for _, part := range []string{"<p>At <b>noon</b></p>", "<p>The department</p>", `/static/logo.`, `/static/extra.`} {
		if !strings.Contains(about, part) {
			t.Errorf("the about page has no %s:\n%s", part, about)
		}
	}
	if _, lost := ask(t, "GET", ts.URL+"/nothing", "", "Accept", "text/html"); !strings.Contains(lost, "Our own words") {
		t.Errorf("got %s", lost)
	}
}
