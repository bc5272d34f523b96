// Package oauth has people say who they are at a server of OAuth 2: a JupyterHub, a forge, an identity provider.
package oauth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// Config configures a Server.
type Config struct {
	AuthorizeURL string // where people sign in. required
	TokenURL     string // where a code becomes a token. required
	UserURL      string // that tells whose a token is. required
	UserField    string // of its answer: the one that names the person. required
	ClientID     string // required
	SecretFile   string // holds the client's secret; read when it is needed. required
	Scope        string // that is asked for; default: none

	Client *http.Client // default: by the machine's proxies, 10 seconds
}

// A Server is one that people sign in at.
type Server struct {
	cfg    Config
	client *http.Client
}

// New makes a Server.
func New(cfg Config) (*Server, error) {
	for _, u := range []string{cfg.AuthorizeURL, cfg.TokenURL, cfg.UserURL} {
		if p, err := url.Parse(u); err != nil || (p.Scheme != "http" && p.Scheme != "https") || p.Host == "" {
			return nil, fmt.Errorf("oauth: %q is not an http or https URL", u)
		}
	}
	if cfg.UserField == "" || cfg.ClientID == "" || cfg.SecretFile == "" {
		return nil, errors.New("oauth: Config needs UserField, ClientID and SecretFile")
	}
	client := cmp.Or(cfg.Client, &http.Client{Timeout: 10 * time.Second})
	own := *client
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // secrets go nowhere else
	return &Server{cfg, &own}, nil
}

// SignIn is where a browser is sent. It comes back to redirect with the state and a code, which verifier is needed for.
func (s *Server) SignIn(redirect, state, verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	q := url.Values{
		"response_type": {"code"}, "client_id": {s.cfg.ClientID}, "redirect_uri": {redirect}, "state": {state},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}
	if s.cfg.Scope != "" {
		q.Set("scope", s.cfg.Scope)
	}
	sep := "?"
	if strings.Contains(s.cfg.AuthorizeURL, "?") {
		sep = "&"
	}
	return s.cfg.AuthorizeURL + sep + q.Encode()
}

// User exchanges a code for a token, and that for the name of the person. The token is not kept.
func (s *Server) User(ctx context.Context, redirect, code, verifier string) (string, error) {
	secret, err := os.ReadFile(s.cfg.SecretFile)
	if err != nil {
		return "", unusable("The client's secret cannot be read").Because(err)
	}
	form := url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {redirect}, "code_verifier": {verifier},
		"client_id": {s.cfg.ClientID}, "client_secret": {strings.TrimSpace(string(secret))},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.cfg.TokenURL, strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	var token struct {
		AccessToken string `json:"access_token"`
		Error       string `json:"error"`
	}
	if err := s.ask(req, &token); err != nil {
		return "", err
	}
	if token.AccessToken == "" { // forges say it with a status of 200
		return "", refused().Because(fmt.Errorf("the token's URL says %q", token.Error))
	}
	return s.userOf(ctx, token.AccessToken)
}

func (s *Server) userOf(ctx context.Context, token string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.cfg.UserURL, http.NoBody)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	var user map[string]any
	if err := s.ask(req, &user); err != nil {
		return "", err
	}
	switch name := user[s.cfg.UserField].(type) {
	case string:
		return name, nil
	case json.Number:
		return name.String(), nil
	}
	return "", unusable("The server that you signed in at does not say who you are").Because(fmt.Errorf("its answer has no %q", s.cfg.UserField))
}

// ask reads JSON. What a server says of a mistake is for the log only.
func (s *Server) ask(req *http.Request, into any) error {
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "Bindery")
	resp, err := s.client.Do(req)
	if err != nil {
		return bindery.Errorf(bindery.ErrUnreachable, bindery.Transient, "Try again in a minute.", "The server that you signed in at does not answer").Because(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	switch {
	case err != nil || resp.StatusCode >= 500:
		return bindery.Errorf(bindery.ErrUnreachable, bindery.Transient, "Try again in a minute.", "The server that you signed in at does not answer").
			Because(errors.Join(err, fmt.Errorf("%s answers %s", req.URL.Host, resp.Status)))
	case resp.StatusCode >= 400:
		return refused().Because(fmt.Errorf("%s answers %s: %.200q", req.URL.Host, resp.Status, text))
	}
	dec := json.NewDecoder(strings.NewReader(string(text)))
	dec.UseNumber()
	if err := dec.Decode(into); err != nil || resp.StatusCode != http.StatusOK {
		return unusable("The answer of the server that you signed in at cannot be read").Because(errors.Join(err, fmt.Errorf("%s answers %s", req.URL.Host, resp.Status)))
	}
	return nil
}

func refused() *bindery.Error {
	return bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Begin again at the start page.", "The server that you signed in at does not confirm it")
}

func unusable(msg string) *bindery.Error {
	return bindery.Errorf(bindery.ErrInternal, bindery.Ours, "Tell the operator of this hub.", "%s", msg)
}
