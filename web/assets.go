package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed templates static
var embedded embed.FS

// assets are the static files, each under a name that holds the hash of its content, so that browsers may keep them
// for good.
type assets struct {
	byName map[string]asset // as in static/
	byHash map[string]asset // as served
}

type asset struct {
	name string // as served
	mime string
	data []byte
}

func newAssets(files fs.FS) (*assets, error) {
	names, err := fs.Glob(files, "static/*")
	if err != nil || len(names) == 0 {
		return nil, fmt.Errorf("web: no static files: %w", err)
	}
	a := &assets{byName: map[string]asset{}, byHash: map[string]asset{}}
	for _, name := range names {
		data, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("web: %w", err)
		}
		base, ext := path.Base(name), path.Ext(name)
		sum := sha256.Sum256(data)
		hashed := strings.TrimSuffix(base, ext) + "." + hex.EncodeToString(sum[:6]) + ext
		as := asset{name: hashed, mime: mimeOf(ext), data: data}
		a.byName[base], a.byHash[hashed] = as, as
	}
	return a, nil
}

// mimeOf does not ask the machine's own table: answers are the same everywhere.
func mimeOf(ext string) string {
	switch ext {
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".png":
		return "image/png"
	case ".ico":
		return "image/x-icon"
	case ".txt":
		return "text/plain; charset=utf-8"
	}
	return "application/octet-stream"
}

// url is where the file is served, for templates.
func (a *assets) url(name string) (string, error) {
	as, ok := a.byName[name]
	if !ok {
		return "", fmt.Errorf("no static file %q", name)
	}
	return "/static/" + as.name, nil
}

// has reports whether there is such a file: an operator may add some.
func (a *assets) has(name string) bool {
	_, ok := a.byName[name]
	return ok
}

func (a *assets) serve(w http.ResponseWriter, r *http.Request) error {
	as, ok := a.byHash[r.PathValue("name")]
	if !ok {
		return notFound(w, r)
	}
	as.write(w, r, "public, max-age=31536000, immutable")
	return nil
}

// plain serves a file under its own name, where others link to it: badges, icons.
func (a *assets) plain(name string) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		as, ok := a.byName[name]
		if !ok {
			return notFound(w, r)
		}
		w.Header().Set("Cross-Origin-Resource-Policy", "cross-origin") // badges are shown by other sites
		w.Header().Set("Access-Control-Allow-Origin", "*")
		as.write(w, r, "public, max-age=3600")
		return nil
	}
}

func (as asset) write(w http.ResponseWriter, r *http.Request, cache string) {
	h := w.Header()
	h.Set("Content-Type", as.mime)
	h.Set("Cache-Control", cache)
	h.Set("Etag", `"`+as.name+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(as.data))
}
