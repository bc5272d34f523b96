package admin

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"net/http"
	"path"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

//go:embed templates static
var embedded embed.FS

// A file is a static one; its name holds the hash of its content, so that browsers may keep it for good.
type file struct {
	name, mime string
	text       []byte
}

func staticFiles() (map[string]file, error) {
	out := map[string]file{}
	entries, err := embedded.ReadDir("static")
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	for _, e := range entries {
		text, err := embedded.ReadFile("static/" + e.Name())
		if err != nil {
			return nil, fmt.Errorf("admin: %w", err)
		}
		sum, ext := sha256.Sum256(text), path.Ext(e.Name())
		f := file{name: strings.TrimSuffix(e.Name(), ext) + "." + hex.EncodeToString(sum[:6]) + ext, mime: "text/css; charset=utf-8", text: text}
		if ext == ".js" {
			f.mime = "text/javascript; charset=utf-8"
		}
		out[e.Name()] = f
	}
	return out, nil
}

func (s *Server) static(w http.ResponseWriter, r *http.Request) {
	for _, f := range s.files {
		if f.name == r.PathValue("name") {
			w.Header().Set("Content-Type", f.mime)
			w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
			_, _ = w.Write(f.text) // a client that has gone is not our error
			return
		}
	}
	http.NotFound(w, r)
}

// data is what every page gets.
type data struct {
	Title   string
	Here    string // of the navigation
	Live    bool   // it looks at itself again and again
	Who     string
	Form    string // token of its forms
	Done    string
	Version string
	Nav     [][2]string
	Body    any
}

func (s *Server) parse() (map[string]*template.Template, error) {
	out := map[string]*template.Template{}
	names, err := embedded.ReadDir("templates")
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	for _, e := range names {
		name := strings.TrimSuffix(e.Name(), ".html")
		if name == "layout" {
			continue
		}
		t, err := template.New("layout.html").Funcs(s.funcs()).ParseFS(embedded, "templates/layout.html", "templates/"+e.Name())
		if err != nil {
			return nil, fmt.Errorf("admin: %w", err)
		}
		out[name] = t
	}
	return out, nil
}

func (s *Server) funcs() template.FuncMap {
	return template.FuncMap{
		"url":    func(p string) string { return s.cfg.Base + p },
		"asset":  func(name string) (string, error) { p, err := s.cfg.Hub.Asset(name); return s.cfg.Base + p, err },
		"own":    func(name string) string { return s.cfg.Base + "/admin/static/" + s.files[name].name },
		"took":   seconds,
		"at":     stamp,
		"ago":    func(t time.Time) string { return seconds(s.cfg.Now().Sub(t)) },
		"in":     func(t time.Time) string { return seconds(t.Sub(s.cfg.Now())) },
		"spec":   specOf,
		"bytes":  bytesText,
		"commit": func(c string) string { return c[:min(len(c), 10)] },
		"act": func(form, to, verb, text string, fields ...string) act {
			return act{form, s.cfg.Base + to, verb, text, fields}
		},
		"pct": func(part, whole float64) string {
			return fmt.Sprintf("%.0f", 100*min(max(part/max(whole, 1e-9), 0), 1))
		},
		"float":   func(d any) float64 { return number(d) },
		"short":   func(image string) string { return strings.TrimPrefix(image, "bindery/") },
		"buildid": buildID,
		"share":   func(x float64) string { return fmt.Sprintf("%.0f %%", 100*x) },
	}
}

// buildID is the build that a row of a table is about.
func buildID(x any) string {
	switch b := x.(type) {
	case bindery.Build:
		return b.ID
	case bindery.QueuedBuild:
		return b.ID
	case bindery.ImageRecord:
		return b.Build
	}
	return ""
}

// An act is a form that does one thing, folded until it is wanted.
type act struct {
	Form, To, Verb, Text string
	Fields               []string // "reason": it asks why; "must": it must be told
}

// Has reports whether the form asks for something.
func (a act) Has(field string) bool {
	for _, f := range a.Fields {
		if f == field {
			return true
		}
	}
	return false
}

func number(d any) float64 {
	switch x := d.(type) {
	case time.Duration:
		return x.Seconds()
	case int:
		return float64(x)
	case int64:
		return float64(x)
	case float64:
		return x
	}
	return 0
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}

// specOf names a source as operators write it; of a directory and of what is not known all that there is.
func specOf(src bindery.Source) string {
	if src.URL == "" {
		return "not shown"
	}
	return strings.TrimPrefix(src.Link(), bindery.ProviderGit+":")
}

func bytesText(n int64) string {
	x := float64(n)
	for _, unit := range []string{"B", "KB", "MB", "GB"} {
		if x < 1000 {
			return fmt.Sprintf("%.3g %s", x, unit)
		}
		x /= 1000
	}
	return fmt.Sprintf("%.3g TB", x)
}

// nav are the pages, in the order of the navigation.
func nav() [][2]string {
	return [][2]string{
		{"/admin/queue", "Queue"}, {"/admin/builds", "Builds"}, {"/admin/sessions", "Sessions"}, {"/admin/workers", "Workers"},
		{"/admin/generations", "Generations"}, {"/admin/images", "Images"},
		{"/admin/rules", "Rules"}, {"/admin/audit", "Audit"},
	}
}

// write renders the whole page before it sends the first byte.
func (s *Server) write(w http.ResponseWriter, v *visit, status int, name string, d data) error {
	d.Version = s.cfg.Version
	if v != nil {
		d.Who, d.Form, d.Nav = v.who, v.form, nav()
		if d.Done == "" {
			d.Done = done[v.r.URL.Query().Get("done")]
		}
	}
	var b bytes.Buffer
	if err := s.pages[name].Execute(&b, d); err != nil {
		return fmt.Errorf("render %s: %w", name, err)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // a client that has gone is not our error
	return nil
}

func (v *visit) show(name string, d data) error { return v.s.write(v.w, v, http.StatusOK, name, d) }
