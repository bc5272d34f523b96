// Package sourcetest is a Git server for tests: the real `git http-backend` behind net/http, with repositories made to order.
package sourcetest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// A Server serves repositories at URL/NAME and URL/NAME.git until the test ends.
type Server struct {
	URL    string
	Root   string // NAME.git for each repository
	CAFile string // certificate to trust, of a server with TLS

	t   testing.TB
	git string

	mu       sync.Mutex
	requests []string
	handlers map[string]http.HandlerFunc
	lfs      map[string][]byte
	exact    bool
	old      bool

	protected []protection
}

// Start starts a server on a free port of 127.0.0.1.
func Start(t testing.TB) *Server {
	t.Helper()
	s := newServer(t)
	s.serve(httptest.NewServer(s))
	return s
}

// StartTLS starts a server that speaks https, with a certificate for 127.0.0.1 and example.com.
func StartTLS(t testing.TB) *Server {
	t.Helper()
	s := newServer(t)
	srv := httptest.NewTLSServer(s)
	s.CAFile = filepath.Join(t.TempDir(), "ca.crt")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := os.WriteFile(s.CAFile, block, 0o644); err != nil {
		t.Fatal(err)
	}
	s.serve(srv)
	return s
}

func newServer(t testing.TB) *Server {
	t.Helper()
	git, err := exec.LookPath("git")
	if err != nil {
		t.Fatalf("this test needs git: %v", err)
	}
	return &Server{Root: t.TempDir(), t: t, git: git, handlers: map[string]http.HandlerFunc{}, lfs: map[string][]byte{}}
}

func (s *Server) serve(srv *httptest.Server) {
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.URL = srv.URL
	s.t.Cleanup(srv.Close)
	s.t.Cleanup(srv.CloseClientConnections)
}

// Handle answers requests whose path begins with prefix by h.
func (s *Server) Handle(prefix string, h http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handlers[prefix] = h
}

// Fail answers requests below prefix with status.
func (s *Server) Fail(prefix string, status int) {
	s.Handle(prefix, func(w http.ResponseWriter, _ *http.Request) {
		if status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		}
		http.Error(w, http.StatusText(status), status)
	})
}

// Redirect sends requests below prefix to base and the rest of their path.
func (s *Server) Redirect(prefix, base string) {
	s.Handle(prefix, func(w http.ResponseWriter, r *http.Request) {
		to := base + strings.TrimPrefix(r.URL.Path, prefix)
		if r.URL.RawQuery != "" {
			to += "?" + r.URL.RawQuery
		}
		http.Redirect(w, r, to, http.StatusFound)
	})
}

// Stall lets requests below prefix wait until the client gives up or the test ends.
func (s *Server) Stall(prefix string) {
	done := make(chan struct{})
	s.t.Cleanup(func() { close(done) })
	s.Handle(prefix, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-done:
		}
	})
}

// Protect asks for a password below prefix unless allowed likes the request.
func (s *Server) Protect(prefix string, allowed func(*http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.protected = append(s.protected, protection{prefix, allowed})
}

type protection struct {
	prefix  string
	allowed func(*http.Request) bool
}

// Exact makes the server know repositories by NAME.git only.
func (s *Server) Exact() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.exact = true
}

// Old makes the server speak the first version of the protocol only, in which a commit that is not the tip of a ref
// is not served.
func (s *Server) Old() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.old = true
}

// Requests returns "METHOD path" of each request so far.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.requests...)
}

// ServeHTTP finds the repository of a request and hands it to git.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	var handler http.HandlerFunc
	longest := -1
	for prefix, h := range s.handlers {
		if strings.HasPrefix(r.URL.Path, prefix) && len(prefix) > longest {
			handler, longest = h, len(prefix)
		}
	}
	for _, p := range s.protected {
		if strings.HasPrefix(r.URL.Path, p.prefix) && !p.allowed(r) {
			handler = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
				http.Error(w, "who are you", http.StatusUnauthorized)
			}
		}
	}
	exact := s.exact
	if s.old {
		r.Header.Del("Git-Protocol")
	}
	s.mu.Unlock()
	if handler != nil {
		handler(w, r)
		return
	}
	if oid, ok := strings.CutPrefix(r.URL.Path, "/lfs/"); ok {
		s.serveLFS(w, oid)
		return
	}
	for _, tail := range []string{"/info/refs", "/git-upload-pack", "/info/lfs/objects/batch", "/HEAD", "/objects/"} {
		name, rest, ok := strings.Cut(r.URL.Path, tail)
		if !ok {
			continue
		}
		name, suffixed := strings.CutSuffix(strings.Trim(name, "/"), ".git")
		if _, err := os.Stat(filepath.Join(s.Root, name+".git")); err != nil || (exact && !suffixed) {
			break
		}
		if strings.HasPrefix(tail, "/info/lfs") {
			s.serveBatch(w, r)
			return
		}
		s.backend(w, r, "/"+name+".git"+tail+rest)
		return
	}
	http.NotFound(w, r)
}

func (s *Server) backend(w http.ResponseWriter, r *http.Request, path string) {
	r2 := r.Clone(r.Context())
	r2.URL.Path = path
	if r.ContentLength < 0 { // CGI needs a length
		body, err := io.ReadAll(io.LimitReader(r.Body, 256<<20))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r2.Body, r2.ContentLength, r2.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	}
	h := &cgi.Handler{
		Path: s.git, Args: []string{"http-backend"}, Dir: s.Root, Root: "/", Stderr: io.Discard,
		Env: []string{"GIT_PROJECT_ROOT=" + s.Root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
			"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"},
	}
	h.ServeHTTP(w, r2)
}

// LFS stores content as an object of Git LFS and returns the text of its pointer.
func (s *Server) LFS(content string) string {
	sum := sha256.Sum256([]byte(content))
	oid := hex.EncodeToString(sum[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lfs[oid] = []byte(content)
	return fmt.Sprintf("version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n", oid, len(content))
}

func (s *Server) serveLFS(w http.ResponseWriter, oid string) {
	s.mu.Lock()
	content, ok := s.lfs[oid]
	s.mu.Unlock()
	if !ok {
		http.Error(w, "no such object", http.StatusNotFound)
		return
	}
	_, _ = w.Write(content)
}

func (s *Server) serveBatch(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		Objects []map[string]any `json:"objects"`
	}
	if err := json.NewDecoder(r.Body).Decode(&ask); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	for _, o := range ask.Objects {
		o["actions"] = map[string]any{"download": map[string]any{"href": fmt.Sprintf("%s://%s/lfs/%s", scheme, r.Host, o["oid"])}}
	}
	w.Header().Set("Content-Type", "application/vnd.git-lfs+json")
	_ = json.NewEncoder(w).Encode(map[string]any{"transfer": "basic", "objects": ask.Objects})
}
