package web

import (
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"net/textproto"
	"path"
	"slices"
	"strings"
)

// fixedHeaders are ours to say: they tell what an answer is, or what a page of ours may do. Access-Control-Allow-Origin
// has a setting of its own.
var fixedHeaders = []string{
	"Access-Control-Allow-Credentials", "Access-Control-Allow-Origin", "Cache-Control", "Connection", "Content-Encoding", "Content-Length", "Content-Range",
	"Content-Security-Policy", "Content-Type", "Date", "Etag", "Location", "Set-Cookie", "Trailer", "Transfer-Encoding", "Upgrade", "Www-Authenticate",
	"X-Content-Type-Options", "X-Request-Id",
}

// CheckHeaders refuses what cannot be Config.Headers.
func CheckHeaders(all map[string]string) error {
	for name, value := range all {
		bad := strings.ContainsFunc(name, func(r rune) bool {
			return !strings.ContainsRune("!#$%&'*+-.^_`|~", r) && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
		})
		switch {
		case name == "" || bad || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
			return fmt.Errorf("%q is not the name and value of a header", name)
		case slices.Contains(fixedHeaders, textproto.CanonicalMIMEHeaderKey(name)):
			return fmt.Errorf("the header %s is not for the configuration to say", textproto.CanonicalMIMEHeaderKey(name))
		}
	}
	return nil
}

// extraStatic serves a regular file of the operator's directory. There are no listings, and no link leads out of it.
func (s *Server) extraStatic(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("file")
	info, err := fs.Stat(s.cfg.Static, name)
	if err != nil || !info.Mode().IsRegular() {
		return notFound(w, r)
	}
	f, err := s.cfg.Static.Open(name)
	if err != nil {
		return notFound(w, r)
	}
	defer f.Close()
	file, ok := f.(io.ReadSeeker)
	if !ok {
		return notFound(w, r)
	}
	kind := mimeOf(path.Ext(name))
	if known := mime.TypeByExtension(path.Ext(name)); kind == mimeOf("") && known != "" {
		kind = known
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "public, max-age=3600")
	http.ServeContent(w, r, "", info.ModTime(), file)
	return nil
}
