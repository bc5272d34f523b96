package inventory

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"path"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

func (r *reader) release() {
	for line := range strings.Lines(string(r.read("etc/os-release", maxFile))) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		v = strings.Trim(v, `"`)
		if !wordRE.MatchString(v) {
			continue
		}
		switch k {
		case "ID":
			r.out.Distribution = v + r.out.Distribution
		case "VERSION_ID":
			r.out.Distribution += " " + v
		case "VERSION_CODENAME":
			r.out.Codename = v
		}
	}
}

func (r *reader) debian() {
	text := string(r.read("var/lib/dpkg/status", maxStatus))
	for text != "" {
		var f map[string]string
		f, text = fields(text)
		if strings.HasSuffix(f["Status"], " installed") {
			r.add(Package{Ecosystem: Debian, Name: f["Package"], Version: f["Version"], Arch: f["Architecture"], Place: "/"})
		}
	}
}

// python reads the dist-info directories of a prefix.
func (r *reader) python(prefix string) {
	for _, dir := range r.dirs(path.Join(prefix, "lib")) {
		version, ok := strings.CutPrefix(path.Base(dir), "python")
		if !ok || !versionRE.MatchString(version) {
			continue
		}
		if prefix == notebookEnv {
			r.out.Python = version
		}
		site := path.Join(dir, "site-packages")
		for _, name := range r.names(site) {
			record := "METADATA"
			if strings.HasSuffix(name, ".egg-info") {
				record = "PKG-INFO"
			} else if !strings.HasSuffix(name, ".dist-info") {
				continue
			}
			f, _ := fields(string(r.read(path.Join(site, name, record), maxFile)))
			p := Package{Ecosystem: Python, Name: f["Name"], Version: f["Version"], Place: "/" + prefix}
			p.Source, p.Digest = directURL(r.read(path.Join(site, name, "direct_url.json"), maxFile))
			r.add(p)
		}
	}
}

// directURL reads what an installer notes of a package that came from no index.
func directURL(data []byte) (url, digest string) {
	var d struct {
		URL string `json:"url"`
		VCS struct {
			Name   string `json:"vcs"`
			Commit string `json:"commit_id"`
		} `json:"vcs_info"`
		Archive struct {
			Hash string `json:"hash"` // sha256=HEX
		} `json:"archive_info"`
	}
	if json.Unmarshal(data, &d) != nil || d.URL == "" {
		return "", ""
	}
	if d.VCS.Commit != "" {
		return d.VCS.Name + "+" + d.URL + "@" + d.VCS.Commit, ""
	}
	return d.URL, strings.Replace(d.Archive.Hash, "=", ":", 1)
}

func (r *reader) conda(prefix string) {
	for _, file := range r.dirs(path.Join(prefix, "conda-meta")) {
		if !strings.HasSuffix(file, ".json") {
			continue
		}
		var c struct{ Name, Version, Build, URL, MD5, SHA256 string }
		if json.Unmarshal(r.read(file, 16<<20), &c) != nil {
			continue
		}
		p := Package{Ecosystem: Conda, Name: c.Name, Version: c.Version, Build: c.Build, Source: c.URL, Place: "/" + prefix}
		switch {
		case c.MD5 != "":
			p.Digest = "md5:" + c.MD5
		case c.SHA256 != "":
			p.Digest = "sha256:" + c.SHA256
		}
		r.add(p)
	}
}

// r reads R's libraries: the user's, Debian's, and those of an R that was installed beside Debian's.
func (r *reader) r() {
	libraries := []string{"srv/rlibs", "usr/local/lib/R/site-library", "usr/lib/R/site-library", "usr/lib/R/library", notebookEnv + "/lib/R/library"}
	for _, dir := range r.dirs("opt/R") {
		libraries = append(libraries, path.Join(dir, "lib/R/library"))
	}
	for _, lib := range libraries {
		for _, dir := range r.dirs(lib) {
			f, _ := fields(string(r.read(path.Join(dir, "DESCRIPTION"), maxFile)))
			if f["Priority"] == "base" { // R itself
				if f["Package"] == "base" && r.out.RVersion == "" && versionRE.MatchString(f["Version"]) {
					r.out.RVersion = f["Version"]
				}
				continue
			}
			p := Package{Ecosystem: R, Name: f["Package"], Version: f["Version"], Place: "/" + lib}
			if sha := f["RemoteSha"]; sha != "" && f["RemoteRepo"] != "" {
				p.Source = f["RemoteType"] + "::" + f["RemoteUsername"] + "/" + f["RemoteRepo"] + "@" + sha
			}
			r.add(p)
		}
	}
}

// npm reads what was installed globally.
func (r *reader) npm(dir string) {
	for _, name := range r.names(dir) {
		if strings.HasPrefix(name, "@") && !strings.Contains(dir, "@") {
			r.npm(path.Join(dir, name))
			continue
		}
		var p struct{ Name, Version string }
		if json.Unmarshal(r.read(path.Join(dir, name, "package.json"), maxFile), &p) == nil {
			r.add(Package{Ecosystem: NPM, Name: p.Name, Version: p.Version, Place: globalNPM})
		}
	}
}

// node reads what npm took down beside what it installed for the repository, and keeps the lock file that it went by.
func (r *reader) node() {
	const modules = "node_modules/"
	for _, dir := range []string{"home/jovyan/binder", "home/jovyan/.binder", "home/jovyan"} {
		place := path.Join(dir, "node_modules")
		var installed struct {
			Packages map[string]struct {
				Version, Resolved, Integrity string
				Link                         bool
			}
		}
		if json.Unmarshal(r.read(path.Join(place, ".package-lock.json"), maxStatus), &installed) != nil {
			continue
		}
		if r.out.node = r.read(path.Join(dir, "npm-shrinkwrap.json"), maxStatus); r.out.node == nil {
			r.out.node = r.read(path.Join(dir, "package-lock.json"), maxStatus)
		}
		for at, p := range installed.Packages {
			if i := strings.LastIndex(at, modules); i >= 0 && !p.Link { // a link leads to what is the repository's own
				r.add(Package{Ecosystem: NPM, Name: at[i+len(modules):], Version: p.Version, Source: p.Resolved, Digest: integrity(p.Integrity), Place: "/" + place})
			}
		}
		return
	}
}

// integrity turns what npm writes, sha512-BASE64, into ALGORITHM:HEX.
func integrity(s string) string {
	algorithm, sum, _ := strings.Cut(s, "-")
	raw, err := base64.StdEncoding.DecodeString(sum)
	if err != nil || len(raw) == 0 {
		return ""
	}
	return algorithm + ":" + hex.EncodeToString(raw)
}

// julia reads the manifest that a Julia environment was instantiated from.
func (r *reader) julia() {
	if _, err := r.fsys.Open("srv/julia"); err != nil {
		return
	}
	for _, file := range []string{"home/jovyan/binder/Manifest.toml", "home/jovyan/.binder/Manifest.toml", "home/jovyan/Manifest.toml"} {
		data := r.read(file, maxFile)
		var m struct {
			Deps map[string][]struct {
				Version string `toml:"version"`
				Tree    string `toml:"git-tree-sha1"`
			} `toml:"deps"`
		}
		if data == nil || strings.Count(string(data), "[") > maxPackages || toml.Unmarshal(data, &m) != nil {
			continue
		}
		r.out.julia = data
		for name, all := range m.Deps {
			for _, d := range all {
				digest := ""
				if d.Tree != "" {
					digest = "git-tree-sha1:" + d.Tree
				}
				r.add(Package{Ecosystem: Julia, Name: name, Version: d.Version, Digest: digest, Place: "/srv/julia"})
			}
		}
		return
	}
}
