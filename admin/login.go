package admin

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

const (
	cookieName = "bindery_admin"
	ticketLife = time.Hour      // without a page being opened
	ticketAge  = 12 * time.Hour // since signing in
	mostTries  = 8              // of signing in from one block of addresses, in triesFor
	triesFor   = 5 * time.Minute
)

// A ticket is what the cookie holds, signed: that somebody had a token when he signed in. The token itself is kept
// nowhere; when it leaves the configuration, its tickets are void.
type ticket struct {
	Name  string `json:"n"`
	Print string `json:"p"`
	ID    string `json:"i"`
	Began int64  `json:"b"` // seconds
	Until int64  `json:"u"`
}

func (s *Server) sign(text string) string {
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(text)) // a hash never fails
	return hex.EncodeToString(mac.Sum(nil))
}

func (s *Server) formToken(t ticket) string { return s.sign("form " + t.ID) }

func (s *Server) seal(t ticket) string {
	b, err := json.Marshal(t)
	if err != nil {
		return "" // strings and numbers
	}
	body := base64.RawURLEncoding.EncodeToString(b)
	return body + "." + s.sign("ticket "+body)
}

// ticketOf is the ticket that a request carries, if it is ours and counts still.
func (s *Server) ticketOf(r *http.Request) (t ticket, ok bool) {
	for _, c := range r.CookiesNamed(cookieName) { // a session's page may have set one more, which is none of ours
		body, mac, _ := strings.Cut(c.Value, ".")
		if !hmac.Equal([]byte(mac), []byte(s.sign("ticket "+body))) {
			continue
		}
		b, err := base64.RawURLEncoding.DecodeString(body)
		if err != nil || json.Unmarshal(b, &t) != nil {
			continue
		}
		now := s.cfg.Now()
		if now.Before(time.Unix(t.Until, 0)) && s.cfg.Hub.Stands(t.Name, t.Print) && !s.revoked.has(t.ID, now) {
			return t, true
		}
	}
	return ticket{}, false
}

func (s *Server) setCookie(w http.ResponseWriter, r *http.Request, value string, age int) {
	_, secure := s.cfg.Hub.Visitor(r)
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: value, Path: s.cfg.Base + "/admin", MaxAge: age, HttpOnly: true, Secure: secure, SameSite: http.SameSiteStrictMode,
	})
}

// renew lets a ticket last while pages are opened. That one looks at itself by its script opens nothing.
func (s *Server) renew(w http.ResponseWriter, r *http.Request, t ticket) {
	now := s.cfg.Now()
	if r.Header.Get("X-Live") != "" || time.Unix(t.Until, 0).Sub(now) > ticketLife-5*time.Minute {
		return
	}
	until := min(now.Add(ticketLife).Unix(), t.Began+int64(ticketAge/time.Second))
	if until > t.Until {
		t.Until = until
		s.setCookie(w, r, s.seal(t), int(until-now.Unix()))
	}
}

type loginBody struct{ Next, Problem string }

func (s *Server) loginPage(w http.ResponseWriter, r *http.Request) {
	s.showLogin(w, r, http.StatusOK, loginBody{Next: nextOf(r.URL.Query().Get("next"))})
}

func (s *Server) showLogin(w http.ResponseWriter, r *http.Request, status int, b loginBody) {
	if err := s.write(w, nil, status, "login", data{Title: "Sign in", Body: b}); err != nil {
		s.problem(w, r, nil, err)
	}
}

// nextOf is a page of ours, whatever an address says.
func nextOf(next string) string {
	if i := strings.Index(next, "/admin/"); i < 0 || i > 0 && !strings.HasPrefix(next, "/") || strings.ContainsAny(next, "\\\r\n") ||
		strings.HasPrefix(next, "//") || strings.HasPrefix(next, "/admin/login") || strings.HasPrefix(next, "/admin/logout") {
		return "/admin/queue"
	}
	return next[strings.Index(next, "/admin/"):]
}

// login exchanges a token for a cookie.
func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	addr, _ := s.cfg.Hub.Visitor(r)
	now := s.cfg.Now()
	next := nextOf(r.PostFormValue("next"))
	if wait := s.tries.wait(addr, now); wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
		s.showLogin(w, r, http.StatusTooManyRequests, loginBody{next, "Too many tries from your network. Wait " + seconds(wait) + ", then try again."})
		return
	}
	name, print, ok := s.cfg.Hub.Operator(strings.TrimSpace(r.PostFormValue("token")))
	if !ok {
		s.tries.failed(addr, now)
		s.cfg.Log.WarnContext(r.Context(), "somebody could not sign in to the admin pages", "address", addr)
		s.showLogin(w, r, http.StatusForbidden, loginBody{next, "This is no token of the scope admin. The hub's configuration lists them under api_tokens."})
		return
	}
	t := ticket{Name: name, Print: print, ID: rand.Text(), Began: now.Unix(), Until: now.Add(ticketLife).Unix()}
	s.cfg.Log.InfoContext(r.Context(), "an operator signed in", "who", name, "address", addr)
	s.setCookie(w, r, s.seal(t), int(ticketLife/time.Second))
	http.Redirect(w, r, s.cfg.Base+next, http.StatusSeeOther)
}

func (s *Server) logout(v *visit) error {
	if t, ok := s.ticketOf(v.r); ok {
		s.revoked.add(t.ID, time.Unix(t.Began, 0).Add(ticketAge))
	}
	s.setCookie(v.w, v.r, "", -1)
	http.Redirect(v.w, v.r, s.cfg.Base+"/admin/login", http.StatusSeeOther)
	return nil
}

// revoked are tickets that were given back before their time.
type revoked struct {
	mu  sync.Mutex
	all map[string]time.Time // until when they would have counted
}

func (x *revoked) add(id string, until time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.all == nil {
		x.all = map[string]time.Time{}
	}
	x.all[id] = until
}

func (x *revoked) has(id string, now time.Time) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	for other, until := range x.all { // few: one for each time that somebody signed out
		if until.Before(now) {
			delete(x.all, other)
		}
	}
	_, ok := x.all[id]
	return ok
}

// tries counts who failed to sign in, by the block that an address is in.
type tries struct {
	mu  sync.Mutex
	all map[netip.Prefix][]time.Time
}

func blockOf(addr string) netip.Prefix {
	a, err := netip.ParseAddr(addr)
	if err != nil {
		return netip.Prefix{} // one block for all of whom nothing is known
	}
	p, err := a.Prefix(bindery.AddressBits(a))
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// wait is how long a block has to wait for its next try.
func (x *tries) wait(addr string, now time.Time) time.Duration {
	x.mu.Lock()
	defer x.mu.Unlock()
	at := x.all[blockOf(addr)]
	for len(at) > 0 && now.Sub(at[0]) >= triesFor {
		at = at[1:]
	}
	if len(at) < mostTries {
		return 0
	}
	return at[0].Add(triesFor).Sub(now)
}

func (x *tries) failed(addr string, now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	const most = 10_000
	if x.all == nil || len(x.all) >= most { // a flood from everywhere is not stopped here; tokens are long
		x.all = map[netip.Prefix][]time.Time{}
	}
	b := blockOf(addr)
	at := append(x.all[b], now)
	x.all[b] = at[max(len(at)-mostTries, 0):]
}
