package sourcetest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// A Forge answers for a Server's repositories as GitHub's, its gists' and GitLab's APIs do, below /api/v3 and /api/v4.
type Forge struct {
	s *Server

	mu     sync.Mutex
	asked  []string // "PATH STATUS", Authorization in front when there was one
	answer http.HandlerFunc
	left   int // questions that are answered before the limit; below zero: any number
	secret map[string]bool
}

// Forge makes the Server answer such questions.
func (s *Server) Forge() *Forge {
	f := &Forge{s: s, left: -1, secret: map[string]bool{}}
	s.Handle("/api/v3/", f.serve)
	s.Handle("/api/v4/", f.serve)
	return f
}

// Limit lets the forge answer n more questions; after them it says that the hour's are used up.
func (f *Forge) Limit(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left = n
}

// Answer lets h answer all questions; nil: the forge does again.
func (f *Forge) Answer(h http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = h
}

// Secret makes a gist one that is not listed.
func (f *Forge) Secret(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.secret[id] = true
}

// Asked returns the questions so far: their paths, and the status of the answers.
func (f *Forge) Asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.asked...)
}

type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (f *Forge) serve(rw http.ResponseWriter, r *http.Request) {
	w := &recorder{rw, http.StatusOK}
	defer func() {
		line := fmt.Sprintf("%s %d", r.URL.EscapedPath(), w.status)
		if a := r.Header.Get("Authorization"); a != "" {
			line = a + " " + line
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.asked = append(f.asked, line)
	}()
	f.mu.Lock()
	answer, left := f.answer, f.left
	if left > 0 {
		f.left--
	}
	f.mu.Unlock()
	switch {
	case answer != nil:
		answer(w, r)
		return
	case left == 0:
		w.Header().Set("X-RateLimit-Limit", "60")
		w.Header().Set("X-RateLimit-Remaining", "0")
		http.Error(w, `{"message":"API rate limit exceeded"}`, http.StatusForbidden)
		return
	}
	path := r.URL.EscapedPath()
	if rest, ok := strings.CutPrefix(path, "/api/v4/projects/"); ok {
		f.gitlab(w, r, rest)
		return
	}
	if id, ok := strings.CutPrefix(path, "/api/v3/gists/"); ok {
		f.gist(w, r, id)
		return
	}
	f.github(w, r, strings.TrimPrefix(path, "/api/v3/repos/"))
}

// say answers with v, or with 304 when the client has it.
func say(w http.ResponseWriter, r *http.Request, etag string, v any) {
	w.Header().Set("ETag", `W/"`+etag+`"`)
	w.Header().Set("X-RateLimit-Remaining", "4321")
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	if r.Header.Get("If-None-Match") == `W/"`+etag+`"` {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_ = json.NewEncoder(w).Encode(v)
}

func (f *Forge) github(w http.ResponseWriter, r *http.Request, rest string) {
	name, ref, ok := strings.Cut(rest, "/commits/")
	ref, err := url.PathUnescape(ref)
	if !ok || err != nil || !f.s.has(name) {
		http.Error(w, `{"message":"Not Found"}`, http.StatusNotFound)
		return
	}
	sha := f.s.commit(name, ref)
	if sha == "" {
		http.Error(w, fmt.Sprintf(`{"message":"No commit found for SHA: %s"}`, ref), http.StatusUnprocessableEntity)
		return
	}
	say(w, r, sha, map[string]any{"sha": sha, "node_id": "x", "commit": map[string]any{"message": "m"}})
}

func (f *Forge) gitlab(w http.ResponseWriter, r *http.Request, rest string) {
	name, ref, ok := strings.Cut(rest, "/repository/commits/")
	name, err := url.PathUnescape(name)
	ref, err2 := url.PathUnescape(ref)
	if !ok || err != nil || err2 != nil || !f.s.has(name) {
		http.Error(w, `{"message":"404 Project Not Found"}`, http.StatusNotFound)
		return
	}
	sha := f.s.commit(name, ref)
	if sha == "" {
		http.Error(w, `{"message":"404 Commit Not Found"}`, http.StatusNotFound)
		return
	}
	say(w, r, sha, map[string]any{"id": sha, "short_id": sha[:8]})
}

// gist answers for the repository OWNER/ID, whoever asks for ID.
func (f *Forge) gist(w http.ResponseWriter, r *http.Request, id string) {
	found, _ := filepath.Glob(filepath.Join(f.s.Root, "*", id+".git"))
	found = slices.DeleteFunc(found, func(at string) bool { return filepath.Base(filepath.Dir(at)) == "gist" }) // its address, not its owner
	if len(found) != 1 {
		http.Error(w, `{"message":"Not Found"}`, http.StatusNotFound)
		return
	}
	owner := filepath.Base(filepath.Dir(found[0]))
	var history []map[string]string
	for _, sha := range strings.Fields(f.s.ask(owner+"/"+id, "rev-list", "HEAD")) {
		history = append(history, map[string]string{"version": sha})
	}
	f.mu.Lock()
	secret := f.secret[id]
	f.mu.Unlock()
	say(w, r, history[0]["version"], map[string]any{"id": id, "public": !secret, "owner": map[string]string{"login": owner}, "history": history})
}

func (s *Server) has(name string) bool {
	return s.ask(name, "rev-parse", "--git-dir") != ""
}

func (s *Server) commit(name, ref string) string {
	return s.ask(name, "rev-parse", "--verify", "--quiet", "--end-of-options", ref+"^{commit}")
}

// ask runs git in a repository and returns what it says, nothing when it fails.
func (s *Server) ask(name string, args ...string) string {
	if !filepath.IsLocal(name) {
		return ""
	}
	cmd := exec.Command(s.git, append([]string{"-c", "safe.directory=*", "--git-dir", filepath.Join(s.Root, name+".git")}, args...)...)
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}
