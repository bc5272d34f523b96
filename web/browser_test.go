package web_test

import (
	"bytes"
	"context"
	"encoding/json"
	"html"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/web"
)

// browse opens a page in Chromium, waits until its stream has ended, and returns the page as it is then.
func browse(t *testing.T, url string) string {
	t.Helper()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("there is no chromium; scripts/setup test installs it")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--user-data-dir="+t.TempDir(),
		"--virtual-time-budget=5000", "--dump-dom", url)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	return out.String()
}

// failing serves one repository whose build has said text and failed.
func failing(t *testing.T, text string) *httptest.Server {
	t.Helper()
	h := newHub()
	ts := serve(t, h)
	open(t, ts.URL+specPath)
	id := h.theBuild(t)
	h.say(id, text)
	h.fail(id, bindery.Errorf(bindery.ErrStep, bindery.User, "Look at the log.", "postBuild ended with <exit> code 7"))
	return ts
}

func TestLogInABrowser(t *testing.T) {
	ts := failing(t, "plain\n\x1b[1;32mgreen\x1b[0m <script>document.title='x'</script>\r\n10%\r50%\r100%\n\x1b]0;title\x07\x1b[2J\x1b[38;2;1;2;3mrgb\x1b[39m & end\nopen")
	dom := browse(t, ts.URL+"/v2/git/https%3A%2F%2Fexample.org%2Fo%2Fr/main")
	var lines []string
	for _, m := range regexp.MustCompile(`<div class="line">(.*?)</div>`).FindAllStringSubmatch(dom, -1) {
		lines = append(lines, m[1])
	}
	want := "Waiting for build to start...|plain|<span class=\"b f2\">green</span> &lt;script&gt;document.title='x'&lt;/script&gt;|100%|rgb &amp; end|open|" +
		"postBuild ended with &lt;exit&gt; code 7. Look at the log."
	if got := strings.Join(lines, "|"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for _, part := range []string{`data-phase="failed"`, `href="/static/favicon_fail.`, `id="problem-message">postBuild ended with &lt;exit&gt; code 7<`, `id="problem-remedy">Look at the log.<`,
		`href="/?ref=main&amp;repository=https%3A%2F%2Fexample.org%2Fo%2Fr"`} {
		if !strings.Contains(dom, part) {
			t.Errorf("the page has no %s:\n%s", part, dom)
		}
	}
}

// What a step said stands below what happened, as it was written. The log has it already, and is not told again.
func TestFailedStepInABrowser(t *testing.T) {
	h := newHub()
	ts := serve(t, h, operated(h))
	open(t, ts.URL+specPath)
	id := h.theBuild(t)
	h.say(id, "numpy=2\n     ^^\n")
	h.fail(id, bindery.Errorf(bindery.ErrStep, bindery.User, "Read the lines above.", "\"pip\" failed with exit code 1:\nnumpy=2\n     ^^"))
	for page, parts := range map[string][]string{
		"/v2/git/https%3A%2F%2Fexample.org%2Fo%2Fr/main": {`id="problem-message">"pip" failed with exit code 1<`, `id="problem-lines">numpy=2
     ^^<`, `>Build it again<`, `<div class="line">     ^^</div><div class="line">"pip" failed with exit code 1</div></div>`},
		"/builds/" + id: {`<h2>"pip" failed with exit code 1</h2>`, `<pre>numpy=2
     ^^</pre>`},
		"/status": {`<td>"pip" failed with exit code 1: ^^</td>`},
	} {
		dom := strings.ReplaceAll(browse(t, ts.URL+page), "&#34;", `"`)
		for _, part := range parts {
			if !strings.Contains(dom, part) {
				t.Errorf("%s has no %s:\n%s", page, part, dom)
			}
		}
	}
}

// Who meets a session that does not start is offered to start it again, and can read its last lines.
func TestDeadSessionInABrowser(t *testing.T) {
	h := newHub()
	ts := serve(t, h)
	open(t, ts.URL+specPath)
	h.launch = func(context.Context, int) error {
		return bindery.Errorf(bindery.ErrSessionDied, bindery.User, "Look at its start script. Its last lines were:\none\ntwo", "The session ended")
	}
	h.finish(h.theBuild(t))
	dom := browse(t, ts.URL+"/v2/git/https%3A%2F%2Fexample.org%2Fo%2Fr/main")
	for _, part := range []string{`id="problem-message">The session ended<`, `id="problem-lines" hidden=""><`, "lines were:\none\ntwo</p>", `>Try again<`} {
		if !strings.Contains(dom, part) {
			t.Errorf("the page has no %s:\n%s", part, dom)
		}
	}
}

// TestLostInABrowser loses the connection to a hub and finds it again: the page says nothing any more of its loss.
func TestLostInABrowser(t *testing.T) {
	words, err := fs.ReadFile(web.Overlay(fstest.MapFS{}), "static/words.js")
	if err != nil {
		t.Fatal(err)
	}
	for name, again := range map[string]string{"a line of the log": `{ phase: "building", message: "two\n" }`, "where it stands": `{ phase: "building", run: {} }`} {
		script := `let times = 0;
		window.EventSource = class {
			constructor() {
				const first = times++ === 0;
				const tell = (e) => this.onmessage({ lastEventId: "", data: JSON.stringify(e) });
				setTimeout(() => {
					if (!first) return tell(` + again + `);
					tell({ phase: "building", message: "one\n" });
					tell({ phase: "building", step: { name: "Install it" } });
					setTimeout(() => {
						this.onerror();
						document.body.dataset.lost = document.getElementById("status").textContent;
					}, 100);
				}, 100);
			}
			close() {}
		};
		`
		ts := serve(t, newHub(), func(c *web.Config) {
			c.Files = web.Overlay(fstest.MapFS{"static/words.js": {Data: append([]byte(script), words...)}})
		})
		dom := browse(t, ts.URL+"/v2/git/https%3A%2F%2Fexample.org%2Fo%2Fr/main")
		for _, part := range []string{`data-lost="The connection was lost"`, `aria-live="polite">Building the environment<`, `id="detail">Install it<`} {
			if !strings.Contains(dom, part) {
				t.Errorf("after %s the page has no %s:\n%s", name, part, dom)
			}
		}
	}
}

// A build's own page draws its steps as bars on one axis of time, those that ran side by side below each other.
func TestTimelineInABrowser(t *testing.T) {
	h := newHub()
	ts := serve(t, h, operated(h))
	open(t, ts.URL+specPath)
	id := h.theBuild(t)
	step := func(id, name string, from, to int) bindery.Step {
		return bindery.Step{ID: id, Name: name, Started: now.Add(time.Duration(from) * time.Second), Ended: now.Add(time.Duration(to) * time.Second)}
	}
	begun, cached, failed := step("1", "Install <numpy>", 10, 50), step("2", "Prepare the base", 0, 0), step("4", "Run postBuild", 80, 100)
	begun.Ended, cached.Cached, failed.Failed = time.Time{}, true, true
	h.change(func() {
		for _, s := range []bindery.Step{begun, cached, step("3", "Install package-lock.json", 20, 80), step("1", "Install <numpy>", 10, 50), failed} {
			h.add(id, bindery.Event{Phase: bindery.PhaseBuilding, Step: &s})
		}
	})
	h.fail(id, bindery.Errorf(bindery.ErrStep, bindery.User, "Look at the log.", "postBuild failed"))
	dom := browse(t, ts.URL+"/builds/"+id)
	if strings.Contains(dom, `id="timeline" hidden`) {
		t.Error("the timeline is hidden")
	}
	var rows []string
	for _, m := range regexp.MustCompile(`<tr class="(.*?)"><td>(.*?)</td><td>(.*?)</td><td><span class="bar" style="(.*?)"></span></td></tr>`).FindAllStringSubmatch(dom, -1) {
		rows = append(rows, strings.Join(m[1:], "|"))
	}
	want := "|Install &lt;numpy&gt;|40 s|margin-left: 9.5%; width: 38%;\n" +
		"cached|Prepare the base|from the cache|margin-left: 0%; width: 0.5%;\n" +
		"|Install package-lock.json|1 min|margin-left: 19%; width: 57%;\n" +
		"failed|Run postBuild|failed after 20 s|margin-left: 76%; width: 19%;"
	if got := strings.Join(rows, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s\n%s", got, want, dom)
	}
}

// TestTimelineGoesOn looks at a step that runs: nothing is heard of it, and what its row says of its time goes on. The row
// stays what it was, so nobody loses what they have selected in it.
func TestTimelineGoesOn(t *testing.T) {
	h := newHub()
	words, err := fs.ReadFile(web.Overlay(fstest.MapFS{}), "static/words.js")
	if err != nil {
		t.Fatal(err)
	}
	const script = `window.EventSource = class {
		constructor() {
			const started = new Date(Date.now() - 60_000);
			const row = () => document.getElementById("steps-body").rows[0];
			setTimeout(() => this.onmessage({ lastEventId: "1", data: JSON.stringify({ phase: "building", step: { id: "1", name: "Install it", started } }) }), 100);
			let first, took;
			setTimeout(() => { first = row(); took = first.cells[1].textContent; }, 900);
			setTimeout(() => {
				document.body.dataset.goes = row().cells[1].textContent !== took;
				document.body.dataset.stays = row() === first;
			}, 4500);
		}
		addEventListener() {}
		close() {}
	};
	`
	ts := serve(t, h, operated(h), func(c *web.Config) {
		c.Files = web.Overlay(fstest.MapFS{"static/words.js": {Data: append([]byte(script), words...)}})
	})
	open(t, ts.URL+specPath)
	dom := browse(t, ts.URL+"/builds/"+h.theBuild(t))
	for _, part := range []string{`data-goes="true"`, `data-stays="true"`} {
		if !strings.Contains(dom, part) {
			t.Errorf("the page has no %s:\n%s", part, dom)
		}
	}
}

// TestWhereAVisitorLands follows links into a session. None leads out of it: the session's token goes along.
func TestWhereAVisitorLands(t *testing.T) {
	// Without content the browser stays on the page, which has the address as a link too.
	sessions := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	defer sessions.Close()
	h := newHub()
	ts := serve(t, h, func(c *web.Config) { c.SessionURL = sessions.URL })
	open(t, ts.URL+specPath)
	h.finish(h.theBuild(t))
	landed := regexp.MustCompile(`id="session-link" href="` + regexp.QuoteMeta(sessions.URL) + `/user/s[0-9]+/(.*)token=secret-[0-9]+"`)
	for query, want := range map[string]string{
		"?urlpath=/tree/a?b=c":              "tree/a?b=c&",
		"?labpath=a%20b.ipynb&filepath=x":   "doc/tree/a%20b.ipynb?",
		"?filepath=/n/x.ipynb/&urlpath=lab": "tree/n/x.ipynb?",
		"?urlpath=git-pull%3Frepo%3Dhttps%253A%252F%252Fgithub.com%252Fo%252Fr%26urlpath%3Dlab%252Ftree%252Fr%252Fa.ipynb": "git-pull?repo=https%3A%2F%2Fgithub.com%2Fo%2Fr&urlpath=lab%2Ftree%2Fr%2Fa.ipynb&",
		"?urlpath=https://evil.example/": "?",
		`?urlpath=\\evil.example`:        "?",
		"?urlpath=../../other/":          "?",
	} {
		dom := browse(t, ts.URL+"/v2/git/https%3A%2F%2Fexample.org%2Fo%2Fr/main"+query)
		m := landed.FindStringSubmatch(html.UnescapeString(dom))
		if m == nil || m[1] != want || !strings.Contains(dom, `href="/static/favicon_success.`) {
			t.Errorf("%s landed at %q, want %q\n%s", query, m, want, dom)
		}
	}
}

// TestStartInABrowser pastes addresses into the start page's form. A script of the operator's writes down what the page
// makes of them.
func TestStartInABrowser(t *testing.T) {
	rows := [][2]string{
		{"https://github.com/o/r", "/v2/gh/o/r/HEAD"}, {"http://github.com/o/r/", "/v2/gh/o/r/HEAD"}, {"https://gitlab.com/g/s/r", "/v2/gl/g%2Fs%2Fr/HEAD"},
		{"https://gist.github.com/o/0123", "/v2/gist/o/0123/HEAD"}, {"https://git.example/forge/o/r", "/v2/own/o/r/HEAD"},
		{"https://hub.com/o/r", "/v2/git/https%3A%2F%2Fhub.com%2Fo%2Fr/HEAD"}, {"https://b.com/o/r", "/v2/git/https%3A%2F%2Fb.com%2Fo%2Fr/HEAD"},
		{"https://lab.com/o/r", "/v2/git/https%3A%2F%2Flab.com%2Fo%2Fr/HEAD"}, {"https://githubXcom/o/r", "/v2/git/https%3A%2F%2FgithubXcom%2Fo%2Fr/HEAD"},
		{"https://github.com.evil.example/o/r", "/v2/git/https%3A%2F%2Fgithub.com.evil.example%2Fo%2Fr/HEAD"}, {"https://git.example/o/r", "/v2/git/https%3A%2F%2Fgit.example%2Fo%2Fr/HEAD"},
		{"https://github.com/o/r/tree/main", "/v2/gh/o/r/main"}, {"https://github.com/o/r/tree/f%2Fx/", "/v2/gh/o/r/f/x"}, {"https://github.com/o/tree", "/v2/gh/o/tree/HEAD"},
		{"https://gitlab.com/a/tree/c/-/tree/f/x", "/v2/gl/a%2Ftree%2Fc/f/x"}, {"https://github.com/o/r/tree/100%", "/v2/gh/o/r/100%25"},
		{"https://github.com/o/r?tab=readme-ov-file#use", "/v2/gh/o/r/HEAD"}, {"https://github.com/o/r/tree/main#files", "/v2/gh/o/r/main"}, {"https://hub.com/o/r#x", "/v2/git/https%3A%2F%2Fhub.com%2Fo%2Fr/HEAD"},
	}
	var pasted []string
	for _, r := range rows {
		pasted = append(pasted, r[0])
	}
	list, err := json.Marshal(pasted)
	if err != nil {
		t.Fatal(err)
	}
	script := `addEventListener("DOMContentLoaded", () => {
		const field = document.getElementById("repository");
		document.body.dataset.links = ` + string(list) + `.map((text) => {
			field.value = text;
			field.dispatchEvent(new Event("input", { bubbles: true }));
			return document.getElementById("share").hidden ? "nothing" : document.getElementById("launch-url").textContent;
		}).join(" ");
	});`
	ts := serve(t, newHub(), func(c *web.Config) {
		c.Files = web.Overlay(fstest.MapFS{"static/extra.js": {Data: []byte(script)}})
		c.Providers = append(bindery.DefaultProviders(), bindery.Provider{ID: "own", Kind: bindery.ProviderGitHub, URL: "https://git.example/forge"}.WithDefaults())
	})
	m := regexp.MustCompile(`data-links="(.*?)"`).FindStringSubmatch(browse(t, ts.URL+"/"))
	if m == nil {
		t.Fatal("the page has made no links")
	}
	links := strings.Split(m[1], " ")
	for i, r := range rows {
		if links[i] != ts.URL+r[1] {
			t.Errorf("%s: %s, want %s", r[0], links[i], r[1])
		}
	}
}

// TestPrerenderedInABrowser has a launch page rendered before its visitor wants it, as far as its scripts can tell: it asks
// for nothing until he comes. Chromium without a screen renders nothing ahead by itself.
func TestPrerenderedInABrowser(t *testing.T) {
	h := newHub()
	h.resolve = func(bindery.Source) error {
		return bindery.Errorf(bindery.ErrRepoNotFound, bindery.User, "", "no such repository")
	}
	words, err := fs.ReadFile(web.Overlay(fstest.MapFS{}), "static/words.js")
	if err != nil {
		t.Fatal(err)
	}
	script := `let ahead = true;
	Object.defineProperty(document, "prerendering", { get: () => ahead });
	addEventListener("load", () => setTimeout(async () => {
		await fetch("/came");
		ahead = false;
		document.dispatchEvent(new Event("prerenderingchange"));
	}, 500));
	`
	hub := newServer(t, h, func(c *web.Config) {
		c.Files = web.Overlay(fstest.MapFS{"static/words.js": {Data: append([]byte(script), words...)}})
	}).Public()
	var mu sync.Mutex
	var asked []string
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if what := strings.Split(r.URL.Path, "/")[1]; what == "build" || what == "came" {
			mu.Lock()
			asked = append(asked, what)
			mu.Unlock()
		}
		hub.ServeHTTP(w, r)
	}))
	defer ts.Close()
	dom := browse(t, ts.URL+"/v2/git/https%3A%2F%2Fexample.org%2Fo%2Fr/main")
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(asked, " "); got != "came build" {
		t.Errorf("the page asked for: %s", got)
	}
	if !strings.Contains(dom, `data-phase="failed"`) {
		t.Errorf("the visitor does not see how it ended:\n%s", dom)
	}
}

// TestStandingInABrowser reads from the page where a build stands, and that it has moved up. A script of the operator's
// notes what is shown, and asks for a repository that does not exist to say that it was.
func TestStandingInABrowser(t *testing.T) {
	h := newHub()
	shown := make(chan bool, 10)
	h.resolve = func(src bindery.Source) error {
		if strings.HasPrefix(src.URL, "https://example.org/shown/") {
			shown <- true
			return bindery.Errorf(bindery.ErrRepoNotFound, bindery.User, "", "no")
		}
		return nil
	}
	h.standing = bindery.Standing{Position: 3, Reason: "Every slot is taken (2); 2 builds are ahead",
		From: time.Now().Add(10*time.Minute + 30*time.Second), To: time.Now().Add(20*time.Minute + 30*time.Second)}
	script := `addEventListener("DOMContentLoaded", () => {
		const part = (id) => document.getElementById(id), told = [];
		new MutationObserver(() => {
			const text = [part("position"), part("starts"), part("reason")].map((e) => e.textContent).join(", ");
			if (part("standing").hidden || told.at(-1) === text) return;
			told.push(text);
			document.body.dataset.told = told.join("; ");
			fetch("/build/git/https%3A%2F%2Fexample.org%2Fshown%2F" + told.length + "/main", { headers: { Accept: "text/event-stream" } });
		}).observe(part("standing"), { subtree: true, childList: true, attributes: true });
		new MutationObserver(() => {
			if (part("launch").dataset.phase !== "building") return;
			document.body.dataset.builds = part("standing").hidden ? "alone" : "and waits";
			fetch("/build/git/https%3A%2F%2Fexample.org%2Fshown%2Fbuilding/main", { headers: { Accept: "text/event-stream" } });
		}).observe(part("launch"), { attributes: true });
	});`
	ts := serve(t, h, func(c *web.Config) { c.Files = web.Overlay(fstest.MapFS{"static/extra.js": {Data: []byte(script)}}) })
	go func() {
		<-shown
		h.change(func() {
			h.standing.Position, h.standing.Reason, h.standing.From = 1, "This build is next", time.Now().Add(3*time.Minute)
		})
		<-shown
		h.say(h.theBuild(t), "it builds\n") // for how long nobody knows
		<-shown
		h.fail(h.theBuild(t), bindery.Errorf(bindery.ErrStep, bindery.User, "Look.", "it failed"))
	}()
	dom := browse(t, ts.URL+"/v2/git/https%3A%2F%2Fexample.org%2Fo%2Fr/main")
	m := regexp.MustCompile(`data-told="(.*?)"`).FindStringSubmatch(dom)
	want := "Number 3, in 10 to 21 minutes, Every slot is taken (2); 2 builds are ahead; Next, within 21 minutes, This build is next"
	if m == nil || m[1] != want {
		t.Errorf("the page told %q, want %q", m, want)
	}
	if !strings.Contains(dom, `data-builds="alone"`) {
		t.Errorf("what is built stands in the queue:\n%s", dom)
	}
	if !regexp.MustCompile(`id="standing"[^>]* hidden`).MatchString(dom) {
		t.Errorf("what has failed stands somewhere:\n%s", dom)
	}
}

// TestCourseInABrowser reads from the pages of a launch and of its build how long the build takes: what such builds take, for
// how long this one has run by the page's own clock, and that it takes longer, which the launch page says once to those who
// only hear it. A script of the operator's notes that, and asks for a repository that does not exist to say that it was shown.
func TestCourseInABrowser(t *testing.T) {
	const script = `addEventListener("DOMContentLoaded", () => {
		const part = (id) => document.getElementById(id), text = (id) => part(id).textContent, said = [], seen = [];
		new MutationObserver(() => {
			if (part("status") && said.at(-1) !== text("status")) said.push(text("status"));
			const now = [text("takes-who"), text("takes"), text("ran").replace(/\d(?=,|$)/, "x"), text("done-in")].join(" | ");
			if (!part("course").hidden && part("standing").hidden && seen.at(-1) !== now) {
				seen.push(now);
				fetch("/build/git/https%3A%2F%2Fexample.org%2Fshown%2F" + seen.length + "/main", { headers: { Accept: "text/event-stream" } });
			}
			document.body.dataset.said = said.join("; ");
			document.body.dataset.seen = seen.join("; ");
		}).observe(part("main"), { subtree: true, childList: true, attributes: true });
	});`
	for _, page := range []string{"launch", "build"} {
		t.Run(page, func(t *testing.T) {
			h := newHub()
			shown := make(chan bool, 100)
			h.resolve = func(src bindery.Source) error {
				if strings.HasPrefix(src.URL, "https://example.org/shown/") {
					shown <- true
					return bindery.Errorf(bindery.ErrRepoNotFound, bindery.User, "", "no")
				}
				return nil
			}
			ts := serve(t, h, operated(h), func(c *web.Config) { c.Files = web.Overlay(fstest.MapFS{"static/extra.js": {Data: []byte(script)}}) })
			open(t, ts.URL+specPath)
			id := h.theBuild(t)
			h.say(id, "it builds\n")
			tell := func(ran time.Duration) {
				from := time.Now().Add(-ran)
				h.change(func() {
					h.standing.Run = bindery.Run{Since: from, Least: 2 * time.Minute, Most: 5 * time.Minute, From: time.Now().Add(100 * time.Second), To: time.Now().Add(4*time.Minute - time.Second)}
				})
			}
			tell(84 * time.Second)
			go func() {
				<-shown
				tell(6*time.Minute + 4*time.Second)
				<-shown
				h.fail(id, bindery.Errorf(bindery.ErrStep, bindery.User, "Look.", "it failed"))
			}()
			at, note := "/v2/git/https%3A%2F%2Fexample.org%2Fo%2Fr/main", ""
			said := "Waiting for the build to start; Building the environment; Building the environment. This takes longer than usual; The launch did not work"
			if page == "build" {
				at, said, note = "/builds/"+id, "", ", longer than usual"
			}
			dom := browse(t, ts.URL+at)
			for name, want := range map[string]string{
				"seen": "Such builds take | 2 to 5 minutes | 1:2x | in 1 to 4 minutes; Such builds take | 2 to 5 minutes | 6:0x" + note + " | in 1 to 4 minutes",
				"said": said,
			} {
				if m := regexp.MustCompile(`data-` + name + `="(.*?)"`).FindStringSubmatch(dom); m == nil || m[1] != want {
					t.Errorf("%s: %q, want %q", name, m, want)
				}
			}
			if !regexp.MustCompile(`id="course"[^>]* hidden`).MatchString(dom) {
				t.Errorf("what has failed still takes time:\n%s", dom)
			}
		})
	}
}
