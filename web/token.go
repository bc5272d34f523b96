package web

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"time"

	"github.com/golang-jwt/jwt/v5"

	bindery "github.com/bindery-hub/bindery"
)

// buildClaims are a build token's, as BinderHub has them: what may be built from where, until when. The audience is one
// string and not a list of one: that is how BinderHub's own tokens are. The ID, which BinderHub's lack, names one
// visitor's launch.
type buildClaims struct {
	Expires  *jwt.NumericDate `json:"exp"`
	Audience string           `json:"aud"`
	Origin   string           `json:"origin"`
	ID       string           `json:"jti,omitempty"`
	User     string           `json:"sub,omitempty"` // who had signed in when the page was made
}

// GetExpirationTime and the other Get methods are what the library reads claims by.
func (c buildClaims) GetExpirationTime() (*jwt.NumericDate, error) { return c.Expires, nil }

// GetIssuedAt has nothing to say.
func (c buildClaims) GetIssuedAt() (*jwt.NumericDate, error) { return nil, nil }

// GetNotBefore has nothing to say.
func (c buildClaims) GetNotBefore() (*jwt.NumericDate, error) { return nil, nil }

// GetIssuer has nothing to say.
func (c buildClaims) GetIssuer() (string, error) { return "", nil }

// GetSubject returns the user.
func (c buildClaims) GetSubject() (string, error) { return c.User, nil }

// GetAudience returns the one spec.
func (c buildClaims) GetAudience() (jwt.ClaimStrings, error) {
	return jwt.ClaimStrings{c.Audience}, nil
}

// buildToken signs a token for one spec and the origin that r came from.
func (s *Server) buildToken(r *http.Request, sp spec) (string, error) {
	claims := buildClaims{
		ID: rand.Text(), User: visitOf(r.Context()).caller.user, Audience: sp.String(), Origin: originOf(r), Expires: jwt.NewNumericDate(s.cfg.Now().Add(s.cfg.TokenLife)),
	}
	return jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(s.cfg.Secret)
}

// checkBuildToken returns the id of the launch that a token names, and the user.
func (s *Server) checkBuildToken(r *http.Request, token string, sp spec) (id, user string, err error) {
	var claims buildClaims
	_, err = jwt.ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) { return s.cfg.Secret, nil },
		jwt.WithValidMethods([]string{"HS256"}), jwt.WithAudience(sp.String()), jwt.WithExpirationRequired(),
		jwt.WithLeeway(5*time.Second), jwt.WithTimeFunc(s.cfg.Now))
	if err != nil || (claims.Origin != originOf(r) && !s.cfg.AnyTokenOrigin) {
		return "", "", bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Load the page again.", "Invalid build token").Because(err)
	}
	if claims.ID == "" {
		return token, claims.User, nil // of a hub that gives none: the token itself names the launch
	}
	return claims.ID, claims.User, nil
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
