package sourcetest

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Archives is one server that speaks the API of each archive, below a path of its kind: /zenodo, /figshare,
// /hydroshare, /dataverse, /ckan, /swh, and of a DOI resolver below /doi.
type Archives struct {
	URL string

	mu       sync.Mutex
	dois     map[string]string            // where each leads to
	sets     map[string]map[string]string // "KIND/ID": files of a data set
	odd      map[string]http.HandlerFunc  // by the beginning of the path
	requests []string
	waits    int // so often a download is still being prepared
}

// StartArchives starts a server on a free port of 127.0.0.1.
func StartArchives(t testing.TB) *Archives {
	a := &Archives{dois: map[string]string{}, sets: map[string]map[string]string{}, odd: map[string]http.HandlerFunc{}}
	srv := httptest.NewServer(a)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	a.URL = srv.URL
	t.Cleanup(srv.Close)
	t.Cleanup(srv.CloseClientConnections)
	return a
}

// Put makes a data set. Figshare's and Dataverse's ids have a version: "12.v3".
func (a *Archives) Put(kind, id string, files map[string]string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sets[kind+"/"+id] = files
}

// DOI makes a DOI that leads to a path of this server, or to a URL elsewhere.
func (a *Archives) DOI(doi, to string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dois[doi] = to
}

// Handle answers requests whose path begins with prefix by h; nil: as usual again.
func (a *Archives) Handle(prefix string, h http.HandlerFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.odd[prefix] = h; h == nil {
		delete(a.odd, prefix)
	}
}

// Wait lets the next n looks at a download find that it is being prepared.
func (a *Archives) Wait(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waits = n
}

// Requests returns "METHOD path AUTHORIZATION" of each request so far.
func (a *Archives) Requests() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.requests)
}

func (a *Archives) waiting() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waits > 0 {
		a.waits--
		return true
	}
	return false
}

func (a *Archives) set(kind, id string) map[string]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sets[kind+"/"+id]
}

func (a *Archives) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	token := r.Header.Get("Authorization")
	if key := r.Header.Get("X-Dataverse-Key"); key != "" {
		token = strings.TrimSpace(token + " key " + key)
	}
	a.requests = append(a.requests, strings.TrimSpace(r.Method+" "+r.URL.RequestURI()+" "+token))
	var odd http.HandlerFunc
	for prefix, h := range a.odd {
		if strings.HasPrefix(r.URL.Path, prefix) {
			odd = h
		}
	}
	to, isDOI := a.dois[strings.TrimPrefix(r.URL.Path, "/doi/")]
	a.mu.Unlock()
	kind, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case odd != nil:
		odd(w, r)
	case isDOI:
		if strings.HasPrefix(to, "/") {
			to = a.URL + to
		}
		http.Redirect(w, r, to, http.StatusFound)
	case kind == "zenodo":
		a.zenodo(w, r, rest)
	case kind == "figshare":
		a.figshare(w, r, rest)
	case kind == "hydroshare":
		a.hydroshare(w, r, rest)
	case kind == "ckan" || strings.HasPrefix(r.URL.Path, "/api/3/"):
		a.ckan(w, r)
	case kind == "swh":
		a.heritage(w, r, rest)
	case strings.HasPrefix(r.URL.Path, "/api/datasets/"), strings.HasPrefix(r.URL.Path, "/api/access/"):
		a.dataverse(w, r)
	case strings.HasPrefix(r.URL.Path, "/dataset.xhtml"), strings.HasPrefix(r.URL.Path, "/citation"):
		fmt.Fprint(w, "<html>")
	default:
		http.NotFound(w, r)
	}
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func sumOf(text string) string {
	sum := md5.Sum([]byte(text))
	return hex.EncodeToString(sum[:])
}

// zenodo: a record names a list of files, which names their contents. A concept leads to its newest record.
func (a *Archives) zenodo(w http.ResponseWriter, r *http.Request, rest string) {
	parts := strings.Split(rest, "/") // api records ID files NAME content
	if len(parts) < 2 || parts[0] != "api" {
		fmt.Fprint(w, "<html>") // a page
		return
	}
	files := a.set("zenodo", parts[2])
	switch {
	case files == nil:
		w.WriteHeader(http.StatusNotFound)
		reply(w, map[string]any{"status": 404, "message": "PID does not exist."})
	case len(parts) == 3:
		reply(w, map[string]any{"id": parts[2], "links": map[string]string{"files": a.URL + r.URL.Path + "/files"}})
	case len(parts) == 4:
		entries := []any{}
		for _, name := range slices.Sorted(maps.Keys(files)) {
			entries = append(entries, map[string]any{
				"key": name, "size": len(files[name]), "checksum": "md5:" + sumOf(files[name]),
				"links": map[string]string{"content": a.URL + r.URL.Path + "/" + name + "/content"},
			})
		}
		reply(w, map[string]any{"enabled": true, "entries": entries})
	default:
		_, _ = io.WriteString(w, files[strings.Join(parts[4:len(parts)-1], "/")])
	}
}

// figshare: an article has versions, each of which has files.
func (a *Archives) figshare(w http.ResponseWriter, r *http.Request, rest string) {
	parts := strings.Split(rest, "/") // v2 articles ID versions V; v2 file ID.vV NAME
	switch {
	case len(parts) == 4 && parts[1] == "articles":
		versions := []any{}
		for v := 1; a.set("figshare", fmt.Sprintf("%s.v%d", parts[2], v)) != nil; v++ {
			versions = append(versions, map[string]any{"version": v, "url": "x"})
		}
		reply(w, versions)
	case len(parts) == 5 && parts[1] == "articles":
		id := parts[2] + ".v" + parts[4]
		set := a.set("figshare", id)
		if set == nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		files := []any{map[string]any{"name": "elsewhere", "is_link_only": true, "download_url": "http://10.0.0.1/"}}
		for _, name := range slices.Sorted(maps.Keys(set)) {
			files = append(files, map[string]any{
				"name": name, "size": len(set[name]), "computed_md5": sumOf(set[name]), "is_link_only": false,
				"download_url": a.URL + "/figshare/v2/file/" + id + "/" + name,
			})
		}
		reply(w, map[string]any{"id": parts[2], "files": files})
	case len(parts) == 4 && parts[1] == "file":
		_, _ = io.WriteString(w, a.set("figshare", parts[2])[parts[3]])
	default:
		fmt.Fprint(w, "<html>")
	}
}

// hydroshare: a resource has a time, and a bag that has to be packed first.
func (a *Archives) hydroshare(w http.ResponseWriter, r *http.Request, rest string) {
	if id, ok := strings.CutPrefix(rest, "hsapi/resource/"); ok {
		id, _, _ = strings.Cut(id, "/")
		if a.set("hydroshare", id) == nil {
			http.NotFound(w, r)
			return
		}
		reply(w, map[string]any{"dates": []any{
			map[string]any{"type": "created", "start_date": "2018-01-01T00:00:00Z"},
			map[string]any{"type": "modified", "start_date": "2018-12-27T18:23:28.123456Z"},
		}})
		return
	}
	if strings.HasPrefix(rest, "s3/bags/") {
		id := strings.TrimSuffix(strings.TrimPrefix(rest, "s3/bags/"), ".zip")
		bag := map[string]string{id + "/bagit.txt": "BagIt-Version: 0.96\n"}
		list := ""
		for name, text := range a.set("hydroshare", id) {
			bag[id+"/data/contents/"+name] = text
			list += sumOf(text) + "   data/contents/" + name + "\n"
		}
		bag[id+"/manifest-md5.txt"] = list
		bag[id+"/data/resourcemap.xml"] = "<x/>"
		_, _ = w.Write(Zip(bag))
		return
	}
	if a.waiting() {
		fmt.Fprint(w, "<html>one moment")
		return
	}
	http.Redirect(w, r, a.URL+"/hydroshare/s3/bags/"+strings.TrimPrefix(rest, "django_s3/download/bags/"), http.StatusFound)
}

// dataverse: it is found by a persistent id, its files by numbers.
func (a *Archives) dataverse(w http.ResponseWriter, r *http.Request) {
	id := strings.TrimPrefix(r.URL.Query().Get("persistentId"), "doi:")
	if rest, ok := strings.CutPrefix(r.URL.Path, "/api/access/datafile/"); ok {
		var n int
		_, _ = fmt.Sscan(rest, &n)
		a.mu.Lock()
		defer a.mu.Unlock()
		for key, set := range a.sets {
			if strings.HasPrefix(key, "dataverse/") && n <= len(set) && r.URL.Query().Get("format") == "original" {
				_, _ = io.WriteString(w, set[slices.Sorted(maps.Keys(set))[n-1]])
			}
		}
		return
	}
	set := a.set("dataverse", id)
	if set == nil {
		w.WriteHeader(http.StatusNotFound)
		reply(w, map[string]any{"status": "ERROR", "message": "not found"})
		return
	}
	files := []any{}
	for i, name := range slices.Sorted(maps.Keys(set)) {
		dir, base := "", name
		if j := strings.LastIndexByte(name, '/'); j >= 0 {
			dir, base = name[:j], name[j+1:]
		}
		data := map[string]any{"id": i + 1, "filename": base, "md5": sumOf(set[name]), "filesize": len(set[name])}
		if strings.HasSuffix(base, ".csv") { // Dataverse makes a table of its own of it
			data["filename"], data["originalFileName"], data["filesize"], data["originalFileSize"] = strings.TrimSuffix(base, ".csv")+".tab", base, 1<<40, len(set[name])
			base = strings.TrimSuffix(base, ".csv") + ".tab"
		}
		files = append(files, map[string]any{"label": base, "directoryLabel": dir, "dataFile": data})
	}
	reply(w, map[string]any{"status": "OK", "data": map[string]any{
		"id": 3035124, "persistentUrl": "https://doi.org/" + id,
		"latestVersion": map[string]any{"versionNumber": 4, "versionMinorNumber": 0, "files": files},
	}})
}

// ckan: below /ckan, and at the top.
func (a *Archives) ckan(w http.ResponseWriter, r *http.Request) {
	prefix, action, ok := strings.Cut(r.URL.Path, "/api/3/action/")
	if !ok {
		if i := strings.LastIndex(r.URL.Path, "/file/"); i >= 0 {
			id, name, _ := strings.Cut(r.URL.Path[i+len("/file/"):], "/")
			_, _ = io.WriteString(w, a.set("ckan", id)[name])
			return
		}
		fmt.Fprint(w, "<html>")
		return
	}
	id := r.URL.Query().Get("id")
	set := a.set("ckan", id)
	if set == nil {
		w.WriteHeader(http.StatusNotFound)
		reply(w, map[string]any{"success": false})
		return
	}
	var resources []any
	for _, name := range slices.Sorted(maps.Keys(set)) {
		resources = append(resources, map[string]any{"url": a.URL + prefix + "/file/" + id + "/" + name, "hash": sumOf(set[name])})
	}
	reply(w, map[string]any{"success": true, "help": action, "result": map[string]any{
		"name": id, "metadata_modified": "2024-04-01T20:03:51.123456", "resources": resources,
	}})
}

// heritage: a revision has a directory, which is cooked on request.
func (a *Archives) heritage(w http.ResponseWriter, r *http.Request, rest string) {
	rest = strings.TrimSuffix(strings.TrimPrefix(rest, "api/1/"), "/")
	if rev, ok := strings.CutPrefix(rest, "revision/"); ok {
		for dir := range a.set("swh", rev) {
			reply(w, map[string]any{"id": rev, "directory": dir})
			return
		}
		http.NotFound(w, r)
		return
	}
	if dir, ok := strings.CutPrefix(rest, "vault/directory/"); ok {
		status := "done"
		if a.waiting() {
			status = "pending"
		}
		reply(w, map[string]any{"status": status, "fetch_url": a.URL + "/swh/api/1/raw/" + dir + "/"})
		return
	}
	if dir, ok := strings.CutPrefix(rest, "raw/"); ok {
		_, _ = w.Write(Tar(dir, a.set("swh", dir)))
		return
	}
	http.NotFound(w, r)
}

// Zip packs files. A text that begins with "#!" is that of an executable file.
func Zip(files map[string]string) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		h := &zip.FileHeader{Name: name, Method: zip.Deflate}
		h.SetMode(0o644)
		if strings.HasPrefix(files[name], "#!") {
			h.SetMode(0o755)
		}
		f, err := z.CreateHeader(h)
		if err == nil {
			_, err = io.WriteString(f, files[name])
		}
		if err != nil {
			panic(err) // it writes to memory
		}
	}
	_ = z.Close()
	return b.Bytes()
}

// Tar packs files below the directory dir, compressed.
func Tar(dir string, files map[string]string) []byte {
	var b bytes.Buffer
	zipped := gzip.NewWriter(&b)
	w := tar.NewWriter(zipped)
	_ = w.WriteHeader(&tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o755})
	for _, name := range slices.Sorted(maps.Keys(files)) {
		h := &tar.Header{Name: dir + "/" + name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(files[name]))}
		if strings.HasPrefix(files[name], "#!") {
			h.Mode = 0o755
		}
		_ = w.WriteHeader(h)
		_, _ = io.WriteString(w, files[name])
	}
	_ = w.Close()
	_ = zipped.Close()
	return b.Bytes()
}
