// Package oauthtest is a server of OAuth 2 by the book, for the tests of several packages.
package oauthtest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// The one client that a Server knows.
const (
	ClientID = "hub"
	Secret   = "the-client's-secret"
	Scope    = "who"
)

// A Server gives out codes that are for one client, one redirect and one verifier, once. It takes everybody who comes for
// the person that it was told last, jane at first. It has /authorize, /token and /user, whose answer names the person in
// "username".
type Server struct {
	*httptest.Server
	SecretFile string

	mu       sync.Mutex
	redirect string
	person   string // empty: they give up
	codes    map[string]url.Values
	tokens   map[string]string
}

// Start runs a Server until the test ends. Allow must say where it sends browsers back to.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{SecretFile: filepath.Join(t.TempDir(), "secret"), person: "jane", codes: map[string]url.Values{}, tokens: map[string]string{}}
	if err := os.WriteFile(s.SecretFile, []byte(Secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /authorize", s.authorize)
	mux.HandleFunc("POST /token", s.token)
	mux.HandleFunc("GET /user", s.user)
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// Allow sets where browsers may be sent back to.
func (s *Server) Allow(redirect string) { s.mu.Lock(); defer s.mu.Unlock(); s.redirect = redirect }

// Be sets who those are that come from now on; "": they give up.
func (s *Server) Be(person string) { s.mu.Lock(); defer s.mu.Unlock(); s.person = person }

func (s *Server) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.Get("client_id") != ClientID || q.Get("response_type") != "code" || q.Get("redirect_uri") != s.redirect || q.Get("code_challenge_method") != "S256" || q.Get("scope") != Scope {
		http.Error(w, "unknown client", http.StatusBadRequest)
		return
	}
	back := url.Values{"state": {q.Get("state")}}
	if s.person == "" {
		back.Set("error", "access_denied")
	} else {
		code := rand.Text()
		s.codes[code] = q
		back.Set("code", code)
	}
	http.Redirect(w, r, s.redirect+"?"+back.Encode(), http.StatusFound)
}

func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	code := r.PostFormValue("code")
	q, ok := s.codes[code]
	delete(s.codes, code)
	sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	if !ok || r.PostFormValue("client_secret") != Secret || r.PostFormValue("client_id") != ClientID || r.PostFormValue("grant_type") != "authorization_code" ||
		r.PostFormValue("redirect_uri") != q.Get("redirect_uri") || base64.RawURLEncoding.EncodeToString(sum[:]) != q.Get("code_challenge") {
		answer(w, http.StatusBadRequest, map[string]string{"error": "invalid_grant"})
		return
	}
	token := rand.Text()
	s.tokens[token] = s.person
	answer(w, http.StatusOK, map[string]string{"access_token": token, "token_type": "bearer"})
}

func (s *Server) user(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for token, person := range s.tokens {
		if r.Header.Get("Authorization") == "Bearer "+token {
			answer(w, http.StatusOK, map[string]string{"username": person})
			return
		}
	}
	answer(w, http.StatusUnauthorized, map[string]string{"error": "invalid_token"})
}

func answer(w http.ResponseWriter, status int, v map[string]string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // whoever has gone needs no answer
}
