package web_test

import (
	"html"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/bindery-hub/bindery/web"
)

// TestOperatorsHeaders sends them with pages, data, files, refusals and streams, in place of ours of the same name.
func TestOperatorsHeaders(t *testing.T) {
	ts := serve(t, newHub(), func(c *web.Config) {
		c.Headers = map[string]string{"Strict-Transport-Security": "max-age=600", "referrer-policy": "no-referrer"}
	})
	for _, path := range []string{"/", "/v2/git/https%3A%2F%2Fexample.org%2Fo%2Fr/main", "/versions", "/badge.svg", "/nothing", "/api/v1/sessions", "/build/nosuch/x"} {
		resp, _ := ask(t, "GET", ts.URL+path, "", "Accept", "text/event-stream, text/html")
		if h := resp.Header; h.Get("Strict-Transport-Security") != "max-age=600" || strings.Join(h.Values("Referrer-Policy"), "|") != "no-referrer" || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", path, h)
		}
	}
	for _, bad := range []map[string]string{
		{"Content-Security-Policy": "default-src *"}, {"set-cookie": "a=b"}, {"Access-Control-Allow-Origin": "*"}, {"Content-Type": "text/html"}, {"": "x"}, {"A b": "x"}, {"A:": "x"},
		{"X-A": "a\r\nX-B: c"}, {"X-A\n": "x"}, {"Transfer-Encoding": "chunked"},
	} {
		if err := web.CheckHeaders(bad); err == nil {
			t.Errorf("%q may be set", bad)
		}
	}
}

// TestExtraStatic serves an operator's directory and nothing beside it.
func TestExtraStatic(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{filepath.Join(outside, "secret"): "secret", filepath.Join(dir, "a.css"): "a{}", filepath.Join(dir, "deep", "x.json"): `{"x":1}`, filepath.Join(dir, "deep", "index.html"): "<p>x</p>"} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"out": filepath.Join(outside, "secret"), "up": "../" + filepath.Base(outside) + "/secret", "in.css": "a.css"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, apiOnly := range []bool{false, true} {
		ts := serve(t, newHub(), func(c *web.Config) { c.Static, c.APIOnly = root.FS(), apiOnly })
		for path, want := range map[string]string{
			"a.css": "text/css; charset=utf-8", "in.css": "text/css; charset=utf-8", "deep/x.json": "application/json", "deep/index.html": "text/html; charset=utf-8",
			"": "", "deep": "", "deep/": "", "out": "", "up": "", "nothing": "", "../secret": "", "%2e%2e/secret": "", "..%2fsecret": "", "deep//x.json": "", "%2Fetc%2Fpasswd": "", "a.css%00": "",
		} {
			resp, body := ask(t, "GET", ts.URL+"/extra_static/"+path, "")
			if (resp.StatusCode == 200) != (want != "") || (want != "" && resp.Header.Get("Content-Type") != want) || strings.Contains(body, "secret") {
				t.Errorf("%s: %d %s", path, resp.StatusCode, resp.Header.Get("Content-Type"))
			}
		}
		resp, body := ask(t, "GET", ts.URL+"/extra_static/deep/x.json", "", "Range", "bytes=1-3")
		if resp.StatusCode != 206 || body != `"x"` {
			t.Errorf("a range: %d %q", resp.StatusCode, body)
		}
		if again, _ := ask(t, "GET", ts.URL+"/extra_static/deep/x.json", "", "If-Modified-Since", resp.Header.Get("Last-Modified")); again.StatusCode != 304 {
			t.Errorf("once more: %d", again.StatusCode)
		}
	}
	if resp, _ := ask(t, "GET", serve(t, newHub()).URL+"/extra_static/a.css", ""); resp.StatusCode != 404 {
		t.Errorf("without a directory: %d", resp.StatusCode)
	}
}

// TestPreviews reads what those see who are sent a link.
func TestPreviews(t *testing.T) {
	heading := regexp.MustCompile(`<meta property="og:title" content="([^"]*)">`)
	for title, want := range map[string][3]string{
		"":              {"Bindery", "About · Bindery", "GitHub: o/r/feature/x"},
		"The <our> hub": {"The <our> hub", "The <our> hub", "GitHub: o/r/feature/x"},
	} {
		ts := serve(t, newHub(), func(c *web.Config) { c.SocialTitle = title })
		for i, path := range []string{"/", "/about", "/v2/gh/o/r/feature%2Fx/"} {
			_, page := ask(t, "GET", ts.URL+path, "")
			if m := heading.FindStringSubmatch(page); m == nil || html.UnescapeString(m[1]) != want[i] {
				t.Errorf("%q: the preview of %s is headed by %q, want %q", title, path, m, want[i])
			}
		}
		if _, page := ask(t, "GET", ts.URL+"/v2/git/https%3A%2F%2Fexample.org%2Fo%2Fr/main", ""); !strings.Contains(page, `content="Git repository: https://example.org/o/r/main"`) {
			t.Errorf("a repository's URL cannot be read: %q", heading.FindString(page))
		}
	}
}
