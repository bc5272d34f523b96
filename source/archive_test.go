package source_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/source"
	"github.com/bindery-hub/bindery/source/sourcetest"
)

// archiveProviders are the archives, all at one server.
func archiveProviders(a *sourcetest.Archives) []bindery.Provider {
	var all []bindery.Provider
	for kind, api := range map[string]string{
		"zenodo": "/zenodo/api", "figshare": "/figshare/v2", "hydroshare": "/hydroshare/hsapi", "swh": "/swh/api/1", "dataverse": "", "ckan": "",
	} {
		p := bindery.Provider{ID: kind, Kind: kind, DOI: a.URL + "/doi"}
		if api != "" {
			p.URL, p.API = a.URL+"/"+kind, a.URL+api
		}
		all = append(all, p.WithDefaults())
	}
	return all
}

func startArchives(t *testing.T, a *sourcetest.Archives, change ...func(*source.Config)) *source.Sources {
	t.Helper()
	return start(t, append([]func(*source.Config){func(c *source.Config) {
		for _, p := range archiveProviders(a) {
			c.Providers = append(c.Providers, source.Provider{Provider: p})
		}
		c.Poll = time.Millisecond
	}}, change...)...)
}

func archived(t *testing.T, a *sourcetest.Archives, kind, spec string) bindery.Source {
	t.Helper()
	for _, p := range archiveProviders(a) {
		if p.Kind == kind {
			src, err := p.ParseSpec(spec)
			if err != nil {
				t.Fatal(err)
			}
			return src
		}
	}
	t.Fatalf("there is no %s", kind)
	return bindery.Source{}
}

// files reads a directory: name and text, with a star after the name of an executable file.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name := strings.TrimPrefix(path, dir+"/")
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(path)
			got[name] = "-> " + target
			return err
		}
		if info.Mode()&0o111 != 0 {
			name += "*"
		}
		got[name] = read(t, path)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return got
}

const hydroID = "142c59757ed54de1816777828c9716e7"

func TestArchives(t *testing.T) {
	a := sourcetest.StartArchives(t)
	plain := map[string]string{"index.ipynb": "{}", "requirements.txt": "numpy\n"}
	a.Put("zenodo", "3242074", plain)
	a.DOI("10.5281/zenodo.3242073", "/zenodo/records/3242074") // a concept's leads to its newest version
	a.Put("zenodo", "77", map[string]string{"repo.zip": string(sourcetest.Zip(map[string]string{"repo-1/README": "hi", "repo-1/run": "#!/bin/sh\n", "repo-1/repo-1/x": "y"}))})
	a.DOI("10.5281/zenodo.77", "/zenodo/doi/10.5281/zenodo.77")
	a.Put("zenodo", "78", map[string]string{"not.zip": "PK but not quite"})
	a.DOI("10.5281/zenodo.78", "/zenodo/records/78")
	for v := 1; v <= 3; v++ {
		a.Put("figshare", fmt.Sprintf("9782777.v%d", v), map[string]string{"a.txt": fmt.Sprint("version ", v), "b.zip": string(sourcetest.Zip(plain))})
	}
	a.DOI("10.6084/m9.figshare.9782777", "/figshare/articles/dataset/a_title/9782777/3")
	a.DOI("10.6084/m9.figshare.9782777.v1", "/figshare/articles/code/a_title/9782777/1")
	a.Put("hydroshare", hydroID, map[string]string{"in dir/a.txt": "a", "b": "b"})
	a.Put("dataverse", "10.7910/DVN/TJCLKP", map[string]string{"code/run.py": "print()", "data/table.csv": "a,b\n", "notes": "n"})
	a.DOI("10.7910/DVN/TJCLKP", "/citation?persistentId=doi:10.7910/DVN/TJCLKP")
	a.Put("ckan", "sea-turtles", plain)
	a.Put("ckan", "93df7fd0", map[string]string{"old.txt": "old"})
	repo := sourcetest.Start(t).Repo("swh")
	rev := repo.Commit("main", map[string]string{"a.txt": "a", "a/b": "#!/bin/sh\n", "a-b": "x"})
	tree := repo.Git("rev-parse", rev+"^{tree}")
	a.Put("swh", tree, map[string]string{"a.txt": "a", "a/b": "#!/bin/sh\n", "a-b": "x"})
	a.Put("swh", rev, map[string]string{tree: ""})
	a.Wait(2)

	s := startArchives(t, a)
	at := func(path string) string {
		return strings.NewReplacer(":", "%3A", "/", "%2F", "?", "%3F", "=", "%3D").Replace(a.URL + path)
	}
	for _, c := range []struct {
		kind, spec, want string
		files            map[string]string
	}{
		{"zenodo", "10.5281/zenodo.3242073", "3242074", plain},
		{"zenodo", "10.5281/zenodo.77", "77", map[string]string{"README": "hi", "run*": "#!/bin/sh\n", "repo-1/x": "y"}},
		{"zenodo", "10.5281/zenodo.78", "78", map[string]string{"not.zip": "PK but not quite"}},
		{"figshare", "10.6084/m9.figshare.9782777", "9782777.v3", map[string]string{"a.txt": "version 3", "b.zip": string(sourcetest.Zip(plain))}},
		{"figshare", "10.6084/m9.figshare.9782777.v1", "9782777.v1", map[string]string{"a.txt": "version 1", "b.zip": string(sourcetest.Zip(plain))}},
		{"hydroshare", hydroID, hydroID + ".v1545935008", map[string]string{"in dir/a.txt": "a", "b": "b"}},
		{"dataverse", "10.7910/DVN/TJCLKP", "3035124.v4.0", map[string]string{"code/run.py": "print()", "data/table.csv": "a,b\n", "notes": "n"}},
		{"ckan", at("/ckan/dataset/sea-turtles"), "sea-turtles.v1712001831", plain},
		{"ckan", at("/ckan/dataset/sea-turtles?activity_id=93df7fd0"), "sea-turtles.v1712001831", map[string]string{"old.txt": "old"}},
		{"ckan", at("/ckan/dataset/sea-turtles/history/93df7fd0"), "sea-turtles.v1712001831", map[string]string{"old.txt": "old"}},
		{"swh", "swh:1:rev:" + rev, "swh:1:dir:" + tree, map[string]string{"a.txt": "a", "a/b*": "#!/bin/sh\n", "a-b": "x"}},
		{"swh", "swh:1:dir:" + tree + ";path=/x", "swh:1:dir:" + tree, map[string]string{"a.txt": "a", "a/b*": "#!/bin/sh\n", "a-b": "x"}},
	} {
		src, err := s.Resolve(t.Context(), archived(t, a, c.kind, c.spec))
		if err != nil || src.Commit != c.want || !strings.HasPrefix(src.URL, a.URL) || strings.Contains(src.URL, "/doi/") {
			t.Errorf("%s/%s is %+v, %v; want %s", c.kind, c.spec, src, err, c.want)
			continue
		}
		dir, err := s.Fetch(t.Context(), src, t.TempDir(), nil)
		if err != nil {
			t.Errorf("%s/%s: %v", c.kind, c.spec, err)
			continue
		}
		if diff := cmp.Diff(c.files, files(t, dir)); diff != "" {
			t.Errorf("%s/%s (-want +got):\n%s", c.kind, c.spec, diff)
		}
	}
}

func TestArchiveRefusals(t *testing.T) {
	a, other := sourcetest.StartArchives(t), sourcetest.StartArchives(t)
	a.DOI("10.5281/zenodo.1", "/zenodo/records/1")
	a.DOI("10.5281/zenodo.2", other.URL+"/zenodo/records/2")        // somebody else's
	a.DOI("10.5281/zenodo.3", "http://169.254.169.254/records/3")   // the cloud's metadata
	a.DOI("10.5281/zenodo.4", "/doi/10.5281/zenodo.4")              // itself
	a.DOI("10.5281/zenodo.5", "/zenodo/records/..%2f..%2fusers")    // no record
	a.DOI("10.7910/DVN/FILE", "/file.xhtml?fileId=3")               // not a dataset
	a.DOI("10.7910/DVN/NONE", "/citation?persistentId=doi:10.7/NO") // not there
	a.DOI("10.6084/m9.figshare.5", "/figshare/collections/5")
	s := startArchives(t, a)
	for _, c := range []struct {
		kind, spec string
		want       bindery.Kind
		fault      bindery.Fault
	}{
		{"zenodo", "10.5281/zenodo.99", bindery.ErrRefNotFound, bindery.User}, {"zenodo", "10.5281/zenodo.2", bindery.ErrRefNotFound, bindery.User},
		{"zenodo", "10.5281/zenodo.3", bindery.ErrNotAllowed, bindery.User}, {"zenodo", "10.5281/zenodo.4", bindery.ErrUnreachable, bindery.Transient},
		{"zenodo", "10.5281/zenodo.5", bindery.ErrUnreachable, bindery.Transient},
		{"dataverse", "10.7910/DVN/FILE", bindery.ErrRefNotFound, bindery.User}, {"dataverse", "10.7910/DVN/NONE", bindery.ErrRepoNotFound, bindery.User},
		{"figshare", "10.6084/m9.figshare.5", bindery.ErrUnreachable, bindery.Transient},
		{"hydroshare", hydroID, bindery.ErrRepoNotFound, bindery.User},
		{"ckan", "http%3A%2F%2F10.1.2.3%2Fdataset%2Fx", bindery.ErrNotAllowed, bindery.User},
		{"ckan", strings.ReplaceAll(strings.ReplaceAll(a.URL, ":", "%3A"), "/", "%2F") + "%2Fdataset%2Fnosuchdataset", bindery.ErrRefNotFound, bindery.User},
		{"swh", "swh:1:rev:" + strings.Repeat("a", 40), bindery.ErrRepoNotFound, bindery.User},
	} {
		got, err := s.Resolve(t.Context(), archived(t, a, c.kind, c.spec))
		if err == nil {
			t.Errorf("%s/%s is %+v", c.kind, c.spec, got)
			continue
		}
		wantError(t, err, c.want, c.fault)
	}
	// A record that is resolved and has nothing, or not what it says.
	src, err := s.Resolve(t.Context(), archived(t, a, "zenodo", "10.5281/zenodo.1"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Fetch(t.Context(), src, t.TempDir(), nil)
	wantError(t, err, bindery.ErrRepoNotFound, bindery.User)
	a.Put("zenodo", "1", map[string]string{})
	_, err = s.Fetch(t.Context(), src, t.TempDir(), nil)
	wantError(t, err, bindery.ErrRepoNotFound, bindery.User)
	a.Put("zenodo", "1", map[string]string{"a": "text"})
	for name, h := range map[string]http.HandlerFunc{
		"another text": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "TEXT") },
		"half": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "4")
			fmt.Fprint(w, "te")
		},
		"503": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) },
		"429": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) },
	} {
		a.Handle("/zenodo/api/records/1/files/a/", h)
		_, err := s.Fetch(t.Context(), src, t.TempDir(), nil)
		if err == nil {
			t.Errorf("%s was taken for the file", name)
			continue
		}
		wantError(t, err, bindery.ErrUnreachable, bindery.Transient)
	}
	a.Handle("/zenodo/api/records/1/files/a/", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://10.0.0.1/", http.StatusFound)
	})
	_, err = s.Fetch(t.Context(), src, t.TempDir(), nil)
	wantError(t, err, bindery.ErrNotAllowed, bindery.User)
}

// Whatever an archive answers where something else is expected, nobody is harmed and the visitor learns whose fault it is.
func TestArchiveGarbage(t *testing.T) {
	a := sourcetest.StartArchives(t)
	a.Put("zenodo", "1", map[string]string{"a": "text"})
	a.DOI("10.5281/zenodo.1", "/zenodo/records/1")
	s := startArchives(t, a, func(c *source.Config) { c.FetchTimeout = 20 * time.Second })
	src, err := s.Resolve(t.Context(), archived(t, a, "zenodo", "10.5281/zenodo.1"))
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{
		"html": "<html>", "empty": "", "list": "[]", "null": "null", "numbers": `{"links":{"files":3}}`,
		"no link": `{"files":[{"key":"a","links":{}}]}`, "file": `{"files":[{"key":"a","links":{"self":"file:///etc/passwd"}}]}`,
		"up":     `{"files":[{"key":"../../a","links":{"self":"` + a.URL + `/zenodo/x"}}]}`,
		"slash":  `{"files":[{"key":"/etc/cron.d/a","links":{"self":"` + a.URL + `/zenodo/x"}}]}`,
		"nul":    `{"files":[{"key":"a\u0000b","links":{"self":"` + a.URL + `/zenodo/x"}}]}`,
		"empty2": `{"files":[{"key":"","links":{"self":"` + a.URL + `/zenodo/x"}}]}`,
		"dot":    `{"files":[{"key":".","links":{"self":"` + a.URL + `/zenodo/x"}}]}`,
		"twice":  `{"files":[{"key":"a/b","links":{"self":"` + a.URL + `/zenodo/x"}},{"key":"a","links":{"self":"` + a.URL + `/zenodo/x"}}]}`,
		"size":   `{"files":[{"key":"a","size":99999999999999,"links":{"self":"` + a.URL + `/zenodo/x"}}]}`,
	} {
		a.Handle("/zenodo/api/records/1", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) })
		scratch := t.TempDir()
		_, err := s.Fetch(t.Context(), src, scratch, nil)
		if e := bindery.AsError(err); err == nil || e.Fault == bindery.Ours || e.Remedy == "" {
			t.Errorf("%s: %#v", name, err)
		}
		if left, _ := filepath.Glob(filepath.Join(scratch, "*")); len(left) > 0 {
			t.Errorf("%s leaves %q", name, left)
		}
	}
}

// zipOf packs one entry with a mode of one's choice.
func zipOf(name string, mode fs.FileMode, text string) string {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	h := &zip.FileHeader{Name: name, Method: zip.Deflate}
	h.SetMode(mode)
	if f, err := z.CreateHeader(h); err == nil {
		_, _ = io.WriteString(f, text)
	}
	_ = z.Close()
	return b.String()
}

func TestHostileZip(t *testing.T) {
	a := sourcetest.StartArchives(t)
	a.DOI("10.5281/zenodo.1", "/zenodo/records/1")
	s := startArchives(t, a, func(c *source.Config) { c.MaxBytes, c.MaxFiles = 1<<20, 100 })
	src, err := s.Resolve(t.Context(), archived(t, a, "zenodo", "10.5281/zenodo.1"))
	if err != nil {
		t.Fatal(err)
	}
	many := map[string]string{}
	for i := range 200 {
		many[fmt.Sprint("d/", i)] = ""
	}
	outside := filepath.Join(t.TempDir(), "outside")
	for name, c := range map[string]struct {
		zip  string
		want bindery.Kind
	}{
		"up":             {zipOf("../../outside", 0o644, "x"), bindery.ErrNotAllowed},
		"up inside":      {zipOf("a/../../outside", 0o644, "x"), bindery.ErrNotAllowed},
		"absolute":       {zipOf(outside, 0o644, "x"), bindery.ErrNotAllowed},
		"backslash":      {zipOf(`..\outside`, 0o644, "x"), bindery.ErrNotAllowed},
		"link out":       {zipOf("link", fs.ModeSymlink|0o777, "../../../etc"), bindery.ErrNotAllowed},
		"absolute link":  {zipOf("link", fs.ModeSymlink|0o777, "/etc/passwd"), bindery.ErrNotAllowed},
		"device":         {zipOf("dev", fs.ModeDevice|0o666, ""), bindery.ErrNotAllowed},
		"pipe":           {zipOf("pipe", fs.ModeNamedPipe|0o666, ""), bindery.ErrNotAllowed},
		"bomb":           {zipOf("zeros", 0o644, strings.Repeat("\x00", 64<<20)), bindery.ErrInvalid},
		"too many files": {string(sourcetest.Zip(many)), bindery.ErrInvalid},
	} {
		a.Put("zenodo", "1", map[string]string{"a.zip": c.zip})
		scratch := t.TempDir()
		_, err := s.Fetch(t.Context(), src, scratch, nil)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		wantError(t, err, c.want, bindery.User)
		if left, _ := filepath.Glob(filepath.Join(scratch, "*")); len(left) > 0 {
			t.Errorf("%s leaves %q", name, left)
		}
	}
	if _, err := os.Lstat(outside); err == nil {
		t.Error("a file was written outside")
	}
	a.Put("zenodo", "1", map[string]string{"a.zip": zipOf("suid", fs.ModeSetuid|0o4755, "x")})
	dir, err := s.Fetch(t.Context(), src, t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "suid")); err != nil || info.Mode()&fs.ModeSetuid != 0 || info.Mode().Perm() != 0o755 {
		t.Errorf("a file that sets its user: %v, %v", info, err)
	}
}

// A link and then a file through it: the second must not go where the first leads.
func TestHostileTar(t *testing.T) {
	a := sourcetest.StartArchives(t)
	dir := strings.Repeat("a", 40)
	s := startArchives(t, a)
	src, err := s.Resolve(t.Context(), archived(t, a, "swh", "swh:1:dir:"+dir))
	if err != nil {
		t.Fatal(err)
	}
	a.Put("swh", dir, map[string]string{"a": "not what the name says"})
	_, err = s.Fetch(t.Context(), src, t.TempDir(), nil)
	wantError(t, err, bindery.ErrUnreachable, bindery.Transient)
	for name, headers := range map[string][]tar.Header{
		"up":           {{Name: dir + "/../../x", Typeflag: tar.TypeReg}},
		"link out":     {{Name: dir + "/l", Typeflag: tar.TypeSymlink, Linkname: "../.."}},
		"through link": {{Name: dir + "/l", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, {Name: dir + "/l/x", Typeflag: tar.TypeReg}},
		"hard link":    {{Name: dir + "/l", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}},
		"device":       {{Name: dir + "/d", Typeflag: tar.TypeBlock, Devmajor: 8}},
		"pipe":         {{Name: dir + "/d", Typeflag: tar.TypeFifo}},
		"top":          {{Name: dir, Typeflag: tar.TypeSymlink, Linkname: "/etc"}},
	} {
		a.Handle("/swh/api/1/raw/", func(w http.ResponseWriter, _ *http.Request) {
			z := gzip.NewWriter(w)
			tw := tar.NewWriter(z)
			for _, h := range headers {
				_ = tw.WriteHeader(&h)
			}
			_, _ = tw.Close(), z.Close()
		})
		_, err := s.Fetch(t.Context(), src, t.TempDir(), nil)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		wantError(t, err, bindery.ErrNotAllowed, bindery.User)
	}
}

// The token goes to the archive's own addresses, not to those that it names.
func TestArchiveToken(t *testing.T) {
	a, other := sourcetest.StartArchives(t), sourcetest.StartArchives(t)
	a.Put("zenodo", "1", map[string]string{"a": "text"})
	a.DOI("10.5281/zenodo.1", "/zenodo/records/1")
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("t0ken"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startArchives(t, a, func(c *source.Config) {
		for i := range c.Providers {
			c.Providers[i].TokenFile = file
		}
	})
	src, err := s.Resolve(t.Context(), archived(t, a, "zenodo", "10.5281/zenodo.1"))
	if err != nil {
		t.Fatal(err)
	}
	a.Handle("/zenodo/api/records/1/files/a/", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+"/zenodo/x", http.StatusFound)
	})
	_, _ = s.Fetch(t.Context(), src, t.TempDir(), nil)
	if got := strings.Join(a.Requests(), "\n"); !strings.Contains(got, "GET /zenodo/api/records/1 Bearer t0ken") || strings.Contains(got, "/doi/10.5281/zenodo.1 Bearer") {
		t.Errorf("requests:\n%s", got)
	}
	if got := strings.Join(other.Requests(), "\n"); got == "" || strings.Contains(got, "t0ken") {
		t.Errorf("the other host was asked:\n%s", got)
	}
}

// A name that has two answers is dialled at the one that was checked; both families are looked at.
func TestArchiveRebinding(t *testing.T) {
	a := sourcetest.StartArchives(t)
	for _, bad := range []string{"10.0.0.1", "169.254.169.254", "::1", "fd00::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "0.0.0.0", "fe80::1"} {
		s := startArchives(t, a, func(c *source.Config) {
			c.Policy = source.Policy{}
			c.Proxy = nil
			c.Lookup = func(context.Context, string) ([]netip.Addr, error) {
				return []netip.Addr{netip.MustParseAddr(bad)}, nil
			}
		})
		for _, spec := range []string{"http%3A%2F%2Frebind.example%2Fdataset%2Fx", "https%3A%2F%2Frebind.example%2Fdataset%2Fx"} {
			_, err := s.Resolve(t.Context(), archived(t, a, "ckan", spec))
			wantError(t, err, bindery.ErrNotAllowed, bindery.User)
		}
	}
	if len(a.Requests()) != 0 {
		t.Errorf("requests: %q", a.Requests())
	}
}

// Dataverse takes tokens by a header of its own, which stays with it too.
func TestDataverseToken(t *testing.T) {
	a, other := sourcetest.StartArchives(t), sourcetest.StartArchives(t)
	a.Put("dataverse", "10.7910/DVN/A", map[string]string{"a": "text"})
	a.DOI("10.7910/DVN/A", "/citation?persistentId=doi:10.7910/DVN/A")
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("t0ken"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := bindery.Provider{ID: "dataverse", Kind: "dataverse", URL: a.URL, DOI: a.URL + "/doi"}.WithDefaults()
	s := start(t, func(c *source.Config) { c.Providers = []source.Provider{{Provider: p, TokenFile: file}} })
	src, err := p.ParseSpec("10.7910/DVN/A")
	if err != nil {
		t.Fatal(err)
	}
	if src, err = s.Resolve(t.Context(), src); err != nil {
		t.Fatal(err)
	}
	a.Handle("/api/access/", func(w http.ResponseWriter, r *http.Request) { // files lie in a store elsewhere
		http.Redirect(w, r, other.URL+"/x", http.StatusFound)
	})
	_, _ = s.Fetch(t.Context(), src, t.TempDir(), nil)
	got := strings.Join(a.Requests(), "\n")
	for _, path := range []string{"/api/datasets/:persistentId", "/api/access/datafile/1"} {
		if !strings.Contains(got, path) {
			t.Errorf("%s was not asked:\n%s", path, got)
		}
	}
	for line := range strings.Lines(got) {
		if strings.Contains(line, "/api/") != strings.HasSuffix(strings.TrimSpace(line), "key t0ken") && !strings.Contains(line, "/doi/") {
			t.Errorf("with or without the token: %s", line)
		}
	}
	if got := strings.Join(other.Requests(), "\n"); got == "" || strings.Contains(got, "t0ken") {
		t.Errorf("the other host was asked:\n%s", got)
	}
}
