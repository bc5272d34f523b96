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
// visitor's launch; where and when the page was shown is for the limit.
type buildClaims struct {
	Expires  *jwt.NumericDate `json:"exp"`
	Audience string           `json:"aud"`
	Origin   string           `json:"origin"`
	ID       string           `json:"jti,omitempty"`
	User     string           `json:"sub,omitempty"` // who had signed in when the page was made
	Made     *jwt.NumericDate `json:"iat,omitempty"`
	Net      string           `json:"net,omitempty"` // block of the address that the page was sent to
}

// GetExpirationTime and the other Get methods are what the library reads claims by.
func (c buildClaims) GetExpirationTime() (*jwt.NumericDate, error) { return c.Expires, nil }

// GetIssuedAt returns when the page was made.
func (c buildClaims) GetIssuedAt() (*jwt.NumericDate, error) { return c.Made, nil }

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
	c, now := visitOf(r.Context()).caller, s.cfg.Now()
	claims := buildClaims{
		ID: rand.Text(), User: c.user, Audience: sp.String(), Origin: originOf(r), Expires: jwt.NewNumericDate(now.Add(s.cfg.TokenLife)),
		Made: jwt.NewNumericDate(now), Net: block(c.addr),
	}
	return jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(s.cfg.Secret)
}

// pageFresh is how long after its page was made a token begins a launch that is not counted as a program's. The page
// uses it at once, and a page that is loaded again has another.
const pageFresh = 10 * time.Minute

// fresh reports whether the page was made not long ago.
func (c buildClaims) fresh(now time.Time) bool {
	return c.Made != nil && now.Sub(c.Made.Time) < pageFresh
}

// checkBuildToken returns what a token says. Its ID names a launch.
func (s *Server) checkBuildToken(r *http.Request, token string, sp spec) (claims buildClaims, err error) {
	_, err = jwt.ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) { return s.cfg.Secret, nil },
		jwt.WithValidMethods([]string{"HS256"}), jwt.WithAudience(sp.String()), jwt.WithExpirationRequired(),
		jwt.WithLeeway(5*time.Second), jwt.WithTimeFunc(s.cfg.Now))
	if err != nil || (claims.Origin != originOf(r) && !s.cfg.AnyTokenOrigin) {
		return claims, bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Load the page again.", "Invalid build token").Because(err)
	}
	if claims.ID == "" {
		claims.ID = token // of a hub that gives none: the token itself names the launch
	}
	return claims, nil
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
