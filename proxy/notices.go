package proxy

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"

	bindery "github.com/bindery-hub/bindery"
)

// A notice is what a visitor is told in place of a session.
type notice struct {
	Status int
	Kind   bindery.Kind
	Title  string
	Text   string
	Retry  int // seconds after which the page loads itself again; 0: it does not
}

var (
	nothingHere = notice{http.StatusNotFound, bindery.ErrNotFound, "There is nothing at this address",
		"Sessions are served here, each under an address of its own. Check the one you have.", 0}
	sessionGone = notice{http.StatusNotFound, bindery.ErrNotFound, "This session has ended",
		"Sessions end when nobody has used them for a while, and their files go with them. Launch the repository again to get a new one.", 0}
	notAnswering = notice{http.StatusServiceUnavailable, bindery.ErrSessionDied, "The session does not answer yet",
		"It may be starting, or very busy. This page tries again every few seconds.", 3}
)

//go:embed notice.html
var noticeHTML string

//go:embed notice.css
var noticeCSS string

// notices writes them. The page is one file with its style in it, which the policy names by its hash: every other path
// on this origin belongs to sessions.
type notices struct {
	page   *template.Template
	hub    string
	policy string
}

func newNotices(hub string) (*notices, error) {
	t, err := template.New("notice").Parse(noticeHTML)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	sum := sha256.Sum256([]byte(noticeCSS))
	policy := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
	return &notices{page: t, hub: hub, policy: policy}, nil
}

func (n *notices) show(w http.ResponseWriter, r *http.Request, what notice) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", n.policy)
	if what.Retry > 0 {
		h.Set("Retry-After", strconv.Itoa(what.Retry))
	}
	if !strings.Contains(r.Header.Get("Accept"), "text/html") {
		h.Set("Content-Type", "application/problem+json")
		w.WriteHeader(what.Status)
		_ = json.NewEncoder(w).Encode(map[string]any{ // a client that has gone is not our error
			"status": what.Status, "kind": what.Kind, "title": http.StatusText(what.Status), "message": what.Title, "remedy": what.Text,
		})
		return
	}
	var b bytes.Buffer
	retry := what.Retry > 0 && (r.Method == http.MethodGet || r.Method == http.MethodHead)
	err := n.page.Execute(&b, map[string]any{"Notice": what, "Retry": retry, "Hub": n.hub, "Style": template.CSS(noticeCSS)})
	if err != nil {
		http.Error(w, what.Title, what.Status)
		return
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(what.Status)
	_, _ = w.Write(b.Bytes()) // likewise
}
