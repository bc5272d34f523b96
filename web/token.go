package web

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"time"

	"github.com/golang-jwt/jwt/v5"

	bindery "github.com/bindery-hub/bindery"
)

// buildClaims are a build token's: who may build what from where, until when. The ID names one visitor's launch.
type buildClaims struct {
	Origin string `json:"origin"`
	jwt.RegisteredClaims
}

// buildToken signs a token for one spec and the origin that r came from.
func (s *Server) buildToken(r *http.Request, sp spec) (string, error) {
	claims := buildClaims{Origin: originOf(r), RegisteredClaims: jwt.RegisteredClaims{
		ID:        rand.Text(),
		Audience:  jwt.ClaimStrings{sp.String()},
		ExpiresAt: jwt.NewNumericDate(s.cfg.Now().Add(s.cfg.TokenLife)),
	}}
	return jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(s.cfg.Secret)
}

// checkBuildToken returns the id of the launch that a token names.
func (s *Server) checkBuildToken(r *http.Request, token string, sp spec) (string, error) {
	var claims buildClaims
	_, err := jwt.ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) { return s.cfg.Secret, nil },
		jwt.WithValidMethods([]string{"HS256"}), jwt.WithAudience(sp.String()), jwt.WithExpirationRequired(),
		jwt.WithLeeway(5*time.Second), jwt.WithTimeFunc(s.cfg.Now))
	if err != nil || claims.Origin != originOf(r) {
		return "", bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Load the page again.", "Invalid build token").Because(err)
	}
	return claims.ID, nil
}

// originOf is the host and port of the page that asks, else the host that is asked.
func originOf(r *http.Request) string {
	if o := r.Header.Get("Origin"); o != "" {
		if u, err := url.Parse(o); err == nil {
			return u.Host
		}
	}
	return r.Host
}
