package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/source/sourcetest"
)

// TestProviders builds by links of several providers, all at servers of our own that a configuration names: a forge with
// an API, one whose repositories are private, an archive's zip file. The Dockerfile proves that the files are there.
func TestProviders(t *testing.T) {
	srv, archives := sourcetest.Start(t), sourcetest.StartArchives(t)
	srv.Forge()
	files := func(text string) map[string]string {
		return map[string]string{"Dockerfile": "FROM debian:bookworm\nCOPY . /data\nRUN grep -x '" + text + "' /data/text\n", "text": text + "\n"}
	}
	const token = "a-token-that-nobody-sees"
	dir := filepath.Join(shared.dir, "providers")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(dir, "token")
	if err := os.WriteFile(secret, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	srv.Repo("ann/demo").Commit("main", files("forge"))
	if err := os.MkdirAll(filepath.Join(srv.Root, "gh/ann"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(srv.Root, "ann/demo.git"), filepath.Join(srv.Root, "gh/ann/demo.git")); err != nil {
		t.Fatal(err)
	}
	srv.Repo("lab/group/demo").Commit("main", files("private"))
	srv.Protect("/lab/", func(r *http.Request) bool {
		user, pass, _ := r.BasicAuth()
		return user == "oauth2" && pass == token
	})
	archives.Put("zenodo", "3242074", map[string]string{"demo.zip": string(sourcetest.Zip(below("demo-1.0/", files("archive"))))})
	archives.DOI("10.5281/zenodo.3242073", "/zenodo/records/3242074")

	h, err := newHub(filepath.Join(dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(h.config)
	if err != nil {
		t.Fatal(err)
	}
	more := strings.NewReplacer("SRV", srv.URL, "ARCHIVES", archives.URL, "TOKEN", secret).Replace(`enable_api_only_mode: true
providers:
  gh: {url: SRV/gh, api: SRV/api/v3}
  lab: {kind: gl, url: SRV/lab, token_file: TOKEN}
  zenodo: {url: ARCHIVES/zenodo, doi: ARCHIVES/doi}
`)
	if err := os.WriteFile(h.config, append(config, more...), 0o600); err != nil {
		t.Fatal(err)
	}
	h.start(t)
	t.Cleanup(h.destroy)
	for spec, want := range map[string]string{
		"gh/ann/demo/main":              string(bindery.PhaseReady),
		"gh/ann/demo.git/HEAD":          string(bindery.PhaseReady),
		"lab/group%2Fdemo/main":         string(bindery.PhaseReady),
		"zenodo/10.5281/zenodo.3242073": string(bindery.PhaseReady),
		"gh/ann/demo/nosuchref":         "Could not resolve ref for gh:ann/demo/nosuchref. Double check your URL and that your repo is public.",
		"gh/ann/nothing/main":           "Could not resolve ref for gh:ann/nothing/main. Double check your URL and that your repo is public.",
		"zenodo/10.5281/zenodo.99":      "Could not resolve ref for zenodo:10.5281/zenodo.99. Double check your URL and that your repo is public.",
		"gh/ann/demo":                   `Spec is not of the form "user/repo/ref", provided: "ann/demo". Did you mean "ann/demo/HEAD"?`,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		all, err := follow(ctx, "http://"+h.listen+"/build/"+spec+"?build_only=true", nil)
		cancel()
		last := all.last()
		if string(last.Phase) != want && !strings.HasPrefix(last.Message, want) {
			t.Errorf("%s ended %s: %s, %v\n%s", spec, last.Phase, last.Message, err, all.text())
		}
		if strings.Contains(all.text(), token) {
			t.Errorf("%s shows the token", spec)
		}
	}
	if strings.Contains(h.tail(), token) {
		t.Error("the log shows the token")
	}
	for _, p := range h.mine() {
		env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.pid)) // gone: nothing
		if strings.Contains(strings.Join(p.args, " ")+string(env), token) {
			t.Errorf("process %d shows the token", p.pid)
		}
	}
}

func below(dir string, files map[string]string) map[string]string {
	out := map[string]string{}
	for name, text := range files {
		out[dir+name] = text
	}
	return out
}
