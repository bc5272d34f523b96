package buildkit_test

import (
	"archive/zip"
	"bytes"
	"cmp"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
)

// An index is a package index: it has one package of its own, and sends on to the public one for the others, if it may.
type index struct {
	own    string
	public string // "" sends nobody on

	mu    sync.Mutex
	asked []string
}

// publicIndex is where this machine gets Python packages from.
func publicIndex() string {
	return strings.TrimSuffix(cmp.Or(os.Getenv("UV_DEFAULT_INDEX"), os.Getenv("PIP_INDEX_URL"), "https://pypi.org/simple"), "/")
}

// serveIndex serves an index; its URL ends in /simple.
func serveIndex(own, public string) (ix *index, url string, stop func()) {
	ix = &index{own: own, public: public}
	srv := httptest.NewServer(ix)
	return ix, srv.URL + "/simple", srv.Close
}

// ServeHTTP answers as PEP 503 has it.
func (ix *index) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, page := strings.CutPrefix(strings.TrimSuffix(r.URL.Path, "/"), "/simple/")
	ix.mu.Lock()
	ix.asked = append(ix.asked, name)
	ix.mu.Unlock()
	file := strings.ReplaceAll(ix.own, "-", "_") + "-1.0-py3-none-any.whl"
	switch {
	case page && name == ix.own:
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, "<!DOCTYPE html><html><body><a href=\"/files/%s\">%s</a></body></html>", file, file)
	case page && ix.public != "":
		http.Redirect(w, r, ix.public+"/"+name+"/", http.StatusFound)
	case r.URL.Path == "/files/"+file:
		_, _ = w.Write(wheel(ix.own)) // a client that is gone is no matter
	default:
		http.NotFound(w, r)
	}
}

func (ix *index) wasAsked(name string) bool {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	for _, n := range ix.asked {
		if n == name {
			return true
		}
	}
	return false
}

// wheel is an empty package, which may need others.
func wheel(name string, needs ...string) []byte {
	module := strings.ReplaceAll(name, "-", "_")
	info := module + "-1.0.dist-info/"
	metadata := "Metadata-Version: 2.1\nName: " + name + "\nVersion: 1.0\n"
	for _, n := range needs {
		metadata += "Requires-Dist: " + n + "\n"
	}
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, f := range [][2]string{
		{module + ".py", "here = True\n"},
		{info + "METADATA", metadata},
		{info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
		{info + "RECORD", module + ".py,,\n" + info + "METADATA,,\n" + info + "WHEEL,,\n" + info + "RECORD,,\n"},
	} {
		w, err := z.Create(f[0])
		if err == nil {
			_, err = w.Write([]byte(f[1]))
		}
		if err != nil {
			panic(err) // into memory
		}
	}
	if err := z.Close(); err != nil {
		panic(err) // the same
	}
	return b.Bytes()
}

// The configured index takes the public one's place, under whatever name a repository knows that, and no other's.
func TestIndexes(t *testing.T) {
	e := shared(t)
	theirs, url, stop := serveIndex("only-there", "")
	defer stop()
	for name, tt := range map[string]struct{ text, module string }{
		"the public one by an old name": {"--index-url http://pypi.python.org/pypi\nonly-here==1.0\n", "only_here"},
		"the public one beside another": {"--index-url " + url + "\n--extra-index-url https://pypi.org/simple\nonly-here\nonly-there\n", "only_here"},
		"one of its own":                {"--index-url " + url + "\nonly-there\n", "only_there"},
	} {
		t.Run(name, func(t *testing.T) {
			made := solve(t, e, wants(t, strings.ReplaceAll("index-"+tt.module, "_", "-"), "requirements.txt", tt.text))
			inside(t, e, made.Image.Name, "/srv/conda/envs/notebook/bin/python", "-c", "import "+tt.module)
		})
	}
	if !theirs.wasAsked("only-there") {
		t.Errorf("theirs was asked for %q only", theirs.asked)
	}
}
