package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// clientsPage is a page as a course or a documentation has it: on another origin than the hub's, with thebe's bundle.
const clientsPage = `<!doctype html><meta charset="utf-8"><title>A page elsewhere</title>
<script type="importmap">{"imports": {
  "@microsoft/fetch-event-source": "/esm/fetch-event-source.js", "event-iterator": "/esm/event-iterator.js"}}</script>
<div id="cell"></div>
<script src="/npm/thebe-core/dist/lib/thebe-core.min.js"></script>`

// clientsSite serves that page and the published packages as they are. Browsers load no CommonJS, which bundlers turn
// into modules for them; here that is one line before and one after.
func clientsSite(t testing.TB) string {
	t.Helper()
	modules := filepath.Join(root(), "internal", "e2e", "node_modules")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, clientsPage)
	})
	mux.Handle("GET /npm/", http.StripPrefix("/npm/", http.FileServer(http.Dir(modules))))
	module := func(name, export string, files ...string) {
		mux.HandleFunc("GET /esm/"+name, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/javascript")
			fmt.Fprint(w, "const parts = {};\nconst require = (name) => parts[name.replace('./', '')];\n")
			for _, f := range files {
				text, err := os.ReadFile(filepath.Join(modules, f))
				if err != nil {
					t.Error(err)
				}
				fmt.Fprintf(w, "{ const exports = parts[%q] = {};\n%s\n}\n", strings.TrimSuffix(filepath.Base(f), ".js"), text)
			}
			last := strings.TrimSuffix(filepath.Base(files[len(files)-1]), ".js")
			fmt.Fprintf(w, "export const %s = parts[%q].%s;\n", export, last, export)
		})
	}
	module("event-iterator.js", "EventIterator", "event-iterator/lib/event-iterator.js")
	const fes = "@microsoft/fetch-event-source/lib/cjs/"
	module("fetch-event-source.js", "fetchEventSource", fes+"parse.js", fes+"fetch.js")
	ts := httptest.NewServer(mux)
	t.Cleanup(ts.Close)
	return ts.URL
}

// TestPublishedClients has the clients of BinderHub, as npm has them, build and launch here.
func TestPublishedClients(t *testing.T) {
	h := theHub(t)
	repo := made(t, requirements(map[string]string{"apt.txt": "", "who.txt": "published clients\n"}))
	before := h.remains(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "clients.mjs",
		"http://"+h.listen, "git/"+url.QueryEscape(repo)+"/main", repo, "main", clientsSite(t))
	cmd.Dir = filepath.Join(root(), "internal", "e2e")
	r := finish(t, cmd)
	type run struct {
		Phases []string
		Last   said
		Status int
	}
	var seen struct {
		Node, Page run
		Thebe      struct {
			Phases                      []string
			Output, Error, Failure, URL string
		}
		Errors  []string
		Failure string
	}
	line := r.stdout[strings.LastIndex(strings.TrimSpace(r.stdout), "\n")+1:]
	if err := json.Unmarshal([]byte(line), &seen); err != nil {
		t.Fatalf("%v: %s%s\n%s", err, r.stdout, r.stderr, h.tail())
	}
	if seen.Failure != "" || len(seen.Errors) > 0 {
		t.Fatalf("%s %q\n%s", seen.Failure, seen.Errors, h.tail())
	}
	if want := []string{"waiting", "building", "built", "launching", "ready"}; !slices.Equal(withoutFetching(seen.Node.Phases), want) {
		t.Errorf("in Node.js, new: %q", seen.Node.Phases)
	}
	if want := []string{"built", "launching", "ready"}; !slices.Equal(seen.Page.Phases, want) {
		t.Errorf("in a page, cached: %q", seen.Page.Phases)
	}
	for _, c := range []run{seen.Node, seen.Page} {
		if c.Status != http.StatusOK || !strings.HasSuffix(c.Last.URL, "/") || c.Last.Token == "" {
			t.Errorf("the session answers %d; the last event is %+v", c.Status, c.Last)
		}
	}
	if seen.Thebe.Output != "six times seven is 42" || seen.Thebe.Failure+seen.Thebe.Error != "" {
		t.Errorf("thebe: %q %s%s\n%s", seen.Thebe.Output, seen.Thebe.Failure, seen.Thebe.Error, strings.Join(seen.Thebe.Phases, "\n"))
	}
	r = finish(t, exec.CommandContext(ctx, shared.bin, "launch", repo, "--ref", "main", "--hub", "http://"+h.listen, "--file", "who.txt", "--json"))
	var ours struct{ Link, URL, Token string }
	if err := json.Unmarshal([]byte(r.stdout), &ours); err != nil || r.code != 0 || ours.Link != ours.URL+"doc/tree/who.txt?token="+ours.Token {
		t.Errorf("bindery launch: %d %s%s", r.code, r.stdout, r.stderr)
	}
	if _, err := answers(said{URL: ours.URL, Token: ours.Token}, "api/status"); err != nil {
		t.Error(err)
	}
	for _, s := range h.list(t) {
		h.stop(t, s)
	}
	h.settles(t, before)
}

func withoutFetching(phases []string) []string {
	return slices.DeleteFunc(slices.Clone(phases), func(p string) bool { return p == "fetching" })
}
