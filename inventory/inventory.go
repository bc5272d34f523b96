// Package inventory lists what an image has installed by reading the records that package managers leave, never by running them.
package inventory

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Ecosystems, by the names that package URLs (purl) have for them.
const (
	Debian = "deb"
	Python = "pypi"
	Conda  = "conda"
	R      = "cran"
	NPM    = "npm"
	Julia  = "julia"
)

// A Package is one thing that is installed.
type Package struct {
	Ecosystem string `json:"ecosystem"`
	Name      string `json:"name"`
	Version   string `json:"version"`
	Arch      string `json:"arch,omitempty"`   // of Debian's
	Build     string `json:"build,omitempty"`  // of conda's
	Source    string `json:"source,omitempty"` // URL that it came from, where its record says so
	Digest    string `json:"digest,omitempty"` // ALGORITHM:HEX of what came from there
	Place     string `json:"place"`            // directory of the environment that has it
}

// An Inventory is everything that was found in one image, sorted.
type Inventory struct {
	Distribution string    `json:"distribution,omitempty"` // "debian 12"
	Codename     string    `json:"codename,omitempty"`     // "bookworm"
	Python       string    `json:"python,omitempty"`       // version of the notebook environment's interpreter
	RVersion     string    `json:"r,omitempty"`
	Packages     []Package `json:"packages"`

	julia []byte // the Manifest.toml that Julia's environment was made from
	node  []byte // the lock file that the repository's node_modules was made from
}

// notebookEnv is the environment that the image's Jupyter runs in; kernelEnv is beside it where the repository asks for a
// Python that Jupyter does not run with.
const (
	notebookEnv = "srv/conda/envs/notebook"
	kernelEnv   = "srv/conda/envs/kernel"
	globalNPM   = "/srv/npm"
)

// An image is a stranger's: what is read of it is bounded, and what does not look like a name or a version is left out.
const (
	maxFile     = 4 << 20
	maxStatus   = 64 << 20
	maxPackages = 50_000
)

var (
	nameRE    = regexp.MustCompile(`^@?[A-Za-z0-9][A-Za-z0-9._+/-]*$`)
	versionRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+!:~-]*$`)
	wordRE    = regexp.MustCompile(`^[\x21-\x7e]*$`)
)

// Read lists what the image whose root file system is fsys has. fsys must refuse links that leave it, as that of an
// os.Root does; whatever a record says, nothing else is opened.
func Read(fsys fs.FS) (Inventory, error) {
	r := &reader{fsys: fsys}
	r.release()
	r.debian()
	for _, dir := range append(r.dirs("srv/conda/envs"), "srv/conda") {
		r.python(dir)
		r.conda(dir)
	}
	r.r()
	r.npm("srv/npm/lib/node_modules")
	r.node()
	r.julia()
	slices.SortFunc(r.out.Packages, func(a, b Package) int {
		return cmp.Or(strings.Compare(a.Ecosystem, b.Ecosystem), strings.Compare(a.Place, b.Place), strings.Compare(a.Name, b.Name),
			strings.Compare(a.Arch, b.Arch), strings.Compare(a.Version, b.Version))
	})
	r.out.Packages = slices.Compact(r.out.Packages)
	if r.out.Packages == nil {
		r.out.Packages = []Package{}
	}
	return r.out, r.err
}

type reader struct {
	fsys fs.FS
	out  Inventory
	err  error
}

// add takes note of a package, unless its record is no record.
func (r *reader) add(p Package) {
	if len(r.out.Packages) >= maxPackages {
		r.err = errors.New("inventory: the image claims too many packages")
		return
	}
	if len(p.Name) > 200 || len(p.Version) > 200 || !nameRE.MatchString(p.Name) || !versionRE.MatchString(p.Version) || strings.Contains(p.Name, "..") {
		return
	}
	for _, s := range []string{p.Arch, p.Build, p.Source, p.Digest} {
		if len(s) > 2000 || !wordRE.MatchString(s) {
			return
		}
	}
	r.out.Packages = append(r.out.Packages, p)
}

// read returns a file, or nothing if it is not there, is no ordinary file, or is larger than limit.
func (r *reader) read(name string, limit int64) []byte {
	info, err := fs.Stat(r.fsys, name)
	if err != nil || !info.Mode().IsRegular() || info.Size() > limit {
		return nil
	}
	f, err := r.fsys.Open(name)
	if err != nil {
		return nil
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return nil
	}
	return data
}

// names lists a directory: nothing if there is none.
func (r *reader) names(dir string) []string {
	entries, err := fs.ReadDir(r.fsys, dir)
	if err != nil {
		return nil
	}
	out := make([]string, 0, len(entries))
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// dirs are the paths of what is in a directory.
func (r *reader) dirs(dir string) []string {
	names := r.names(dir)
	for i, n := range names {
		names[i] = path.Join(dir, n)
	}
	return names
}

// fields reads the head of a record as Debian, Python and R write them: "Key: value", continued by indented lines, to
// the first empty one. It returns what follows that.
func fields(text string) (map[string]string, string) {
	out, key := map[string]string{}, ""
	for text != "" {
		var line string
		line, text, _ = strings.Cut(text, "\n")
		line = strings.TrimSuffix(line, "\r")
		if line == "" {
			break
		}
		if line[0] == ' ' || line[0] == '\t' {
			if key != "" {
				out[key] += " " + strings.TrimSpace(line)
			}
			continue
		}
		k, v, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		key = k
		if _, twice := out[k]; !twice { // the first Name counts, not one in a description
			out[k] = strings.TrimSpace(v)
		}
	}
	return out, text
}
