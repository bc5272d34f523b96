package plan_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/plan"
)

// repo makes a repository of files: name and content in turn. A name that ends in a slash is a directory.
func repo(files ...string) fstest.MapFS {
	m := fstest.MapFS{}
	for i := 0; i < len(files); i += 2 {
		if name, dir := strings.CutSuffix(files[i], "/"); dir {
			m[name] = &fstest.MapFile{Mode: fs.ModeDir | 0o755}
			continue
		}
		m[files[i]] = &fstest.MapFile{Data: []byte(files[i+1]), Mode: 0o644}
	}
	return m
}

const packageTOML = "[project]\nname='x'\n[build-system]\nrequires=[]\n"

func TestPacks(t *testing.T) {
	for name, tt := range map[string]struct {
		files fstest.MapFS
		want  string
		fails bool
	}{
		"empty":                           {repo(), "default", false},
		"readme":                          {repo("README.md", ""), "default", false},
		"apt only":                        {repo("apt.txt", "git"), "default", false},
		"postBuild only":                  {repo("postBuild", ""), "default", false},
		"requirements":                    {repo("requirements.txt", "x"), "python", false},
		"runtime":                         {repo("runtime.txt", "python-3.11"), "python", false},
		"other runtime":                   {repo("runtime.txt", "ruby-3.0", "requirements.txt", "x"), "default", false},
		"julia runtime":                   {repo("runtime.txt", "julia-1.6"), "default", false},
		"r runtime without date":          {repo("runtime.txt", "r-4.3"), "default", false},
		"r runtime":                       {repo("runtime.txt", "r-4.3-2024-01-31"), "r", false},
		"r date":                          {repo("runtime.txt", "r-2024-01-31"), "r", false},
		"install.R alone":                 {repo("install.R", ""), "default", false},
		"DESCRIPTION":                     {repo("DESCRIPTION", "Package: x"), "r", false},
		"DESCRIPTION and binder":          {repo("DESCRIPTION", "Package: x", "binder/", ""), "default", false},
		"setup.py":                        {repo("setup.py", ""), "python", false},
		"setup.py and binder":             {repo("setup.py", "", "binder/", ""), "default", false},
		"package":                         {repo("pyproject.toml", packageTOML), "python", false},
		"tool settings":                   {repo("pyproject.toml", "[tool.x]\ny=1\n"), "default", false},
		"project only":                    {repo("pyproject.toml", "[project]\nname='x'\n"), "default", false},
		"bad toml":                        {repo("pyproject.toml", "=", "requirements.txt", ""), "python", true},
		"bad toml beside binder":          {repo("pyproject.toml", "=", "binder/requirements.txt", ""), "python", false},
		"conda":                           {repo("environment.yml", "", "requirements.txt", ""), "conda", false},
		"conda yaml":                      {repo("environment.yaml", ""), "conda", false},
		"pipfile":                         {repo("Pipfile", "", "requirements.txt", "x"), "pipfile", false},
		"pipfile lock":                    {repo("Pipfile.lock", ""), "pipfile", true},
		"pipfile and python":              {repo("Pipfile", "", "runtime.txt", "python-3.11"), "pipfile", false},
		"pipfile and another":             {repo("Pipfile", "", "runtime.txt", "ruby-3.11"), "default", false},
		"conda before pipfile":            {repo("Pipfile", "", "environment.yml", ""), "conda", false},
		"r before conda":                  {repo("DESCRIPTION", "", "environment.yml", ""), "r", false},
		"nix before r":                    {repo("DESCRIPTION", "", "default.nix", ""), "nix", false},
		"julia before nix":                {repo("Project.toml", "", "default.nix", ""), "julia", false},
		"julia project":                   {repo("JuliaProject.toml", ""), "julia", false},
		"julia require":                   {repo("REQUIRE", ""), "julia", true},
		"dockerfile before all":           {repo("Dockerfile", "FROM x", "Project.toml", "", "requirements.txt", ""), "dockerfile", false},
		"lower-case dockerfile":           {repo("dockerfile", "FROM x"), "default", false},
		"dockerfile as directory":         {repo("Dockerfile/", ""), "default", false},
		"binder hides dockerfile":         {repo("Dockerfile", "FROM x", "binder/requirements.txt", "x"), "python", false},
		"binder is empty":                 {repo("requirements.txt", "x", "binder/", ""), "default", false},
		"binder is a file":                {repo("requirements.txt", "x", "binder", ""), "python", false},
		"dot binder":                      {repo(".binder/requirements.txt", "x"), "python", false},
		"binder dockerfile":               {repo("binder/Dockerfile", "FROM x"), "dockerfile", false},
		"legacy base":                     {repo("Dockerfile", "# x\nFROM Andrewosh/binder-base:1\n"), "dockerfile", true},
		"legacy base in spite of binder/": {repo("Dockerfile", "FROM andrewosh/binder-base", "binder/requirements.txt", ""), "dockerfile", true},
		"legacy base in a comment":        {repo("Dockerfile", "FROM x # andrewosh/binder-base"), "dockerfile", false},
		"two binder directories":          {repo("binder/", "", ".binder/", ""), "", true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := plan.Detect(tt.files, plan.Options{})
			if got.Pack != tt.want {
				t.Errorf("pack %q, want %q", got.Pack, tt.want)
			}
			if (err != nil) != tt.fails {
				t.Errorf("error %v, want one: %v", err, tt.fails)
			}
			checkError(t, err)
			if data, _ := json.Marshal(got); strings.Contains(string(data), "null") {
				t.Errorf("null in %s", data)
			}
		})
	}
}

// checkError checks that an error of Detect is the user's, and tells what to do.
func checkError(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	e, ok := errors.AsType[*bindery.Error](err)
	if !ok || e.Kind != bindery.ErrPlan || e.Fault != bindery.User || e.Remedy == "" {
		t.Errorf("not a user's plan error with a remedy: %#v", err)
	}
}

func TestPythonVersion(t *testing.T) {
	requires := func(spec string) string {
		return "[project]\nname='x'\nrequires-python='" + spec + "'\n"
	}
	for _, tt := range []struct {
		base, runtime, pyproject string
		python, want             string // python: X.Y, and Patches; want: base, or part of the error after "!"
	}{
		{"", "", "", "3.11", "debian:bookworm"},
		{"debian:trixie", "", "", "3.13", "debian:trixie"},
		{"debian:sid", "", "", "", "debian:sid"},
		{"ghcr.io/x/y:1", "", "", "", "ghcr.io/x/y:1"},
		{"ghcr.io/x/y:1", "python-3.10", "", "3.10", "ghcr.io/x/y:1"},
		{"", "python-3", "", "3.11", "debian:bookworm"},
		{"", "python-3.11", "", "3.11", "debian:bookworm"},
		{"", "python-3.9\n", "", "3.9", "debian:bullseye"},
		{"", "python-3.13", "", "3.13", "debian:trixie"},
		{"", "python-3.13.5", "", "3.13", "debian:trixie"},
		{"", "python-3.13-2024-01-31", "", "3.13", "debian:trixie"},
		{"debian:sid", "python-3.9", "", "3.9", "debian:bullseye"},
		{"", "python-3.10", "", "3.10", "debian:bookworm"}, // uv brings it
		{"", "python-3.8", "", "3.8", "debian:bookworm"},
		{"debian:trixie", "python-3.12", "", "3.12", "debian:trixie"},
		{"", "python-3.14", "", "3.14", "debian:forky"},
		{"", "python-3.7", "", "", "!there is only Python 3.8 to 3.14"},
		{"x/y", "python-3.15", "", "", "!there is only Python 3.8 to 3.14"},
		{"", "python-2.7", "", "", "!asks for Python 2.7"},
		{"", "python-2", "", "", "!asks for Python 2,"},
		{"", "python-4", "", "", "!asks for Python 4,"},
		{"", "python", "", "", "!is not NAME-VERSION"},
		{"", "python-3.11\nx", "", "", "!more than one line"},
		{"", "python-x", "", "", "!is not a version"},
		{"", "r-2024-13-01", "", "", "!is not a date"},
		{"", "python-2024-1-1", "", "", "!is not a date"},
		{"", "a-b-c", "", "", "!is not NAME-VERSION"},
		{"", "ruby-3.0", "", "3.11", "debian:bookworm"},
		{"", "", requires(">=3.9"), "3.11", "debian:bookworm"},
		{"", "", requires(">=3.11.4"), "3.14", "debian:forky"},
		{"", "", requires(">=3.12"), "3.14", "debian:forky"},
		{"", "", requires("~=3.11"), "3.11", "debian:bookworm"},
		{"", "", requires(">=3.11.4,<3.12"), "3.11 >=3.11.4,<3.12", "debian:bookworm"}, // Debian's is older, uv brings one
		{"debian:trixie", "", requires("==3.11.*,>=3.11.4"), "3.11 >=3.11.4,<3.12", "debian:trixie"},
		{"", "", requires("~=3.12.3"), "3.12 >=3.12.3,<3.13", "debian:bookworm"},
		{"", "", requires("==3.12.3"), "3.12 >=3.12.3,<=3.12.3", "debian:bookworm"},
		{"", "", requires("==3.12.*,!=3.12.0,!=3.12.5,<3.12.8"), "3.12 >=3.12.6,<=3.12.7", "debian:bookworm"},
		{"", "", requires(">=3.12,<3.12.4"), "3.12 >=3.12.0,<=3.12.3", "debian:bookworm"},
		{"", "", requires("==3.12.99"), "", "!there is only Python"},
		{"", "", requires("~=3.13.2"), "3.13", "debian:trixie"}, // Debian's fits
		{"", "", requires("~=3.13.6"), "3.13 >=3.13.6,<3.14", "debian:bookworm"},
		{"", "", requires("==3.13.1 "), "3.13 >=3.13.1,<=3.13.1", "debian:bookworm"},
		{"", "", requires("~=3.11.1"), "3.11", "debian:bookworm"},
		{"", "", requires(">=3.11,<3.11.2"), "3.11 >=3.11.0,<=3.11.1", "debian:bookworm"},
		{"", "", requires("!=3.11.2"), "3.14", "debian:forky"},
		{"", "", requires("~=3.14.1"), "3.14 >=3.14.1,<3.15", "debian:bookworm"}, // of testing it is not known
		{"", "", requires("<3.10"), "3.9", "debian:bullseye"},
		{"", "", requires("==3.13.*"), "3.13", "debian:trixie"},
		{"", "", requires("!=3.11.*"), "3.14", "debian:forky"},
		{"", "", requires(">=3.12,<3.13"), "3.12", "debian:bookworm"},
		{"", "", requires(">=3.9, !=3.11.*, <3.13"), "3.12", "debian:bookworm"},
		{"", "", requires(">=3.10,<3.11"), "3.10", "debian:bookworm"},
		{"", "", requires(">=3.6,<3.8"), "", "!there is only Python"},
		{"", "", requires("^3.9"), "", "!not a version specifier"},
		{"", "", requires(">=3.11.0rc1"), "3.11", "debian:bookworm"},
		{"", "", "[project]\nrequires-python=3\n", "", "!not a string"},
		{"", "python-3.11", requires(">=3.11.4"), "", "!does not accept"},
		{"", "python-3.13", requires(">=3.12"), "3.13", "debian:trixie"},
		{"x/y", "", requires(">=3.12"), "", "x/y"},
	} {
		files := repo("a", "")
		if tt.runtime != "" {
			files["runtime.txt"] = &fstest.MapFile{Data: []byte(tt.runtime)}
		}
		if tt.pyproject != "" {
			files["pyproject.toml"] = &fstest.MapFile{Data: []byte(tt.pyproject)}
		}
		got, err := plan.Detect(files, plan.Options{Base: tt.base})
		checkError(t, err)
		if text, fails := strings.CutPrefix(tt.want, "!"); fails {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%q %q %q: error %v, want one with %q", tt.base, tt.runtime, tt.pyproject, err, text)
			}
			continue
		}
		python, patches, _ := strings.Cut(tt.python, " ")
		if err != nil || got.Python != python || got.Patches != patches || got.Base != tt.want {
			t.Errorf("%q %q %q: Python %q on %q, %v; want %q on %q", tt.base, tt.runtime, tt.pyproject, got.Python, got.Base, err, tt.python, tt.want)
		}
	}
}

// An operator may keep the base, or some suites out; uv then brings what they would have had.
func TestSuites(t *testing.T) {
	for _, tt := range []struct {
		suites     []string
		runtime    string
		base, says string
	}{
		{nil, "python-3.9", "debian:bullseye", "so the base is Debian bullseye"},
		{[]string{}, "python-3.9", "debian:bookworm", "uv brings"},
		{[]string{"bullseye", "trixie"}, "python-3.14", "debian:bookworm", "uv brings"},
		{[]string{"bullseye", "trixie"}, "python-3.13", "debian:trixie", "so the base is"},
		{[]string{}, "python-3.11", "debian:bookworm", "the base's own"},
	} {
		got, err := plan.Detect(repo("runtime.txt", tt.runtime), plan.Options{Suites: tt.suites})
		if err != nil || got.Base != tt.base || !strings.Contains(got.Why[0].Text, tt.says) {
			t.Errorf("%q %s: %s, %v, %v", tt.suites, tt.runtime, got.Base, got.Why, err)
		}
	}
}

func TestRequirements(t *testing.T) {
	for line, local := range map[string]bool{
		"numpy":                              false,
		"numpy==1.26.4 --hash=sha256:ab":     false,
		"numpy[dev]>=1 ; python_version<'4'": false,
		"x ; extra == 'a/b'":                 false,
		"--pre":                              false,
		"-i https://pypi.org/simple":         false,
		"--extra-index-url https://h/s":      false,
		"--index-url=./index":                true,
		"-i file:///srv/index":               true,
		"--trusted-host h":                   false,
		"git+https://h/o/r@v1#egg=x":         false,
		"x @ git+https://h/o/r":              false,
		"-e git+https://h/o/r#egg=x":         false,
		"x @ https://h/x.whl":                false,
		"https://h/x.tar.gz":                 false,
		"git+ssh://git@h/o/r":                false,
		"git+file:///x":                      true,
		"x @ file:///x":                      true,
		"x @ ./x":                            true,
		"x @ wheels/x.whl":                   true,
		"wheels/x.whl":                       true,
		"x.whl":                              true,
		"x-1.0.tar.gz":                       true,
		".":                                  true,
		".[dev]":                             true,
		"./foo":                              true,
		"../foo":                             true,
		"/srv/foo":                           true,
		"-e .":                               true,
		"-e.":                                true,
		"--editable=.":                       true,
		"-e foo":                             true,
		"-f ./wheels":                        true,
		"--find-links wheels":                true,
		"--find-links=https://h/w":           false,
		"${HERE}/x":                          true,
		"-r https://h/r.txt":                 true,
		"-r ../r.txt":                        true,
		"-r /r.txt":                          true,
		"-r ${X}.txt":                        true,
		"# -e .":                             false,
		"numpy # ./x":                        false,
		"numpy \\\n  ; python_version<'4'":   false,
		"-e \\\n .":                          true,
		// Several options on a line.
		"-i https://h/s --find-links ./wheels":                true,
		"-i https://h/s --find-links https://h/w":             false,
		"--index-url https://h/s --extra-index-url ./s":       true,
		"--index-url https://h/s --extra-index-url=file:///s": true,
		"-i https://pypi.org/simple --trusted-host h":         false,
		"--trusted-host h -e .":                               true,
		"--pre -f 'https://h/my wheels' --prefer-binary":      false,
		"--pre -f\"my wheels\"":                               true,
		"--trusted-host -f ./wheels":                          false, // -f is the host
		"--find ./wheels":                                     true,
		"--extra=./s":                                         true,
		"-e git+https://h/o/r#egg=x -f ./wheels":              false, // -f has no effect
		"--unknown ./x":                                       false,
	} {
		got, err := plan.Detect(repo("requirements.txt", "six\n"+line+"\n"), plan.Options{})
		if err != nil {
			t.Errorf("%q: %v", line, err)
			continue
		}
		if isLocal := len(got.Content) == 1; isLocal != local || len(got.Env)+len(got.Content) != 1 {
			t.Errorf("%q: local %v, want %v (%+v)", line, isLocal, local, got)
		}
	}
}

func TestIncludes(t *testing.T) {
	files := repo(
		"binder/requirements.txt", "-r ../common/a.txt\n-cconstraints.txt\n",
		"binder/constraints.txt", "six<2\n",
		"common/a.txt", "--requirement=b.txt\n-r ../binder/requirements.txt\n",
		"common/b.txt", "six\n",
	)
	got, err := plan.Detect(files, plan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := []plan.Install{{Tool: "pip", Files: []string{"binder/requirements.txt"}, Includes: []string{"common/a.txt", "common/b.txt", "binder/constraints.txt"}}}
	if diff := cmp.Diff(want, got.Env); diff != "" {
		t.Error(diff)
	}
	reads := []string{"binder/constraints.txt", "binder/requirements.txt", "common/a.txt", "common/b.txt"}
	if diff := cmp.Diff(reads, got.Reads); diff != "" {
		t.Error(diff)
	}

	files["common/b.txt"].Data = []byte("-e .\n")
	if got, err = plan.Detect(files, plan.Options{}); err != nil || len(got.Env) != 0 || len(got.Content) != 1 || len(got.Reads) != 0 {
		t.Errorf("a local line in an included file: %+v, %v", got, err)
	}

	delete(files, "common/b.txt")
	_, err = plan.Detect(files, plan.Options{})
	checkError(t, err)
	if err == nil || !strings.Contains(err.Error(), "common/a.txt, line 1: there is no common/b.txt") {
		t.Errorf("a missing file: %v", err)
	}
}

// Of a line with several options, pip reads one file.
func TestOneFileOfALine(t *testing.T) {
	for line, want := range map[string][]string{
		"-r a.txt -c b.txt":                     {"a.txt"},
		"-c b.txt -r a.txt":                     {"a.txt"},
		"-ra.txt --requirement=none.txt":        {"a.txt"},
		"-c b.txt -i https://h.example/simple":  {"b.txt"},
		"--pre --requirem a.txt":                {"a.txt"},
		"-r 'c d.txt' --pre":                    {"c d.txt"},
		`--constraint c\ d.txt --prefer-binary`: {"c d.txt"},
	} {
		got, err := plan.Detect(repo("requirements.txt", "six\n"+line+"\n", "a.txt", "x", "b.txt", "y<2", "c d.txt", "z"), plan.Options{})
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if diff := cmp.Diff(want, got.Env[0].Includes); diff != "" {
			t.Errorf("%s: %s", line, diff)
		}
		if len(got.Ignored) != 1 || !strings.HasPrefix(got.Ignored[0].Text, "line 2: pip takes one") {
			t.Errorf("%s: nobody says that the rest has no effect: %v", line, got.Ignored)
		}
	}
}

func TestEncodings(t *testing.T) {
	for encoding, data := range map[string]string{
		"utf-16":    "\xff\xfes\x00i\x00x\x00\r\x00\n\x00-\x00e\x00 \x00.\x00",
		"utf-8-sig": "\xef\xbb\xbf-e .",
		"latin-1":   "# caf\xe9\n-e .",
	} {
		got, err := plan.Detect(repo("requirements.txt", data), plan.Options{})
		if err != nil || len(got.Content) != 1 || got.Content[0].Encodings["requirements.txt"] != encoding {
			t.Errorf("%s: %+v, %v", encoding, got.Content, err)
		}
	}
	got, err := plan.Detect(repo("runtime.txt", "\xfe\xff\x00p\x00y\x00t\x00h\x00o\x00n\x00-\x003\x00.\x009"), plan.Options{})
	if err != nil || got.Python != "3.9" {
		t.Errorf("runtime.txt in UTF-16: %+v, %v", got, err)
	}
}

func TestApt(t *testing.T) {
	got, err := plan.Detect(repo("apt.txt", "# tools\n\nzlib1g-dev  # last\r\ng++ git\ngit\nlibx=1:2.3-4~deb12u1+b1\nliby:amd64\nlibz/bookworm-backports\n"), plan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"g++", "git", "libx=1:2.3-4~deb12u1+b1", "liby:amd64", "libz/bookworm-backports", "zlib1g-dev"}
	if diff := cmp.Diff(want, got.Apt); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{"a;b", "git;touch", "$(id)", "`id`", "-y", "--force", "a|b", "a&b", "a>b", "Git", "a*", "a'", "git-", "../x.deb", "./x.deb", "a=", "é", "a\x00b"} {
		_, err := plan.Detect(repo("apt.txt", "git\n"+bad+"\n"), plan.Options{})
		checkError(t, err)
		if err == nil || !strings.Contains(err.Error(), "apt.txt, line 2") {
			t.Errorf("%q: error %v", bad, err)
		}
	}
}

// An error says in which line of which file its cause is, and in our words.
func TestErrorsNameLines(t *testing.T) {
	pixi := func(text string) []string {
		return []string{"pixi.toml", "[dependencies]\npython='3.12.*'\n[workspace]\nchannels=['a']\n", "pixi.lock", text}
	}
	for name, tt := range map[string]struct {
		files []string
		want  string // the whole message
	}{
		"pixi without channels":   {[]string{"pixi.toml", "[tasks]\na='b'\n[workspace]\n"}, "pixi.toml: line 3: [workspace] names no channels"},
		"old pixi":                {[]string{"pixi.toml", "[tasks]\na='b'\n[project]\n"}, "pixi.toml: line 3: [project] names no channels"},
		"channels of pixi":        {[]string{"pixi.toml", "[workspace]\nchannels=[1]\n"}, "pixi.toml: line 2: channels should be names or URLs"},
		"a channel of pixi":       {[]string{"pixi.toml", "[workspace]\nchannels=['a',\n'--b']\n"}, `pixi.toml: line 3: "--b" is not a channel: it has a name, such as conda-forge, or a URL`},
		"platforms of pixi":       {[]string{"pixi.toml", "[workspace]\nchannels=['a']\nplatforms=['win-64']\n"}, "pixi.toml: line 3: it is not for linux-64: add that to platforms"},
		"version of a conda-lock": {[]string{"conda-lock.yml", "metadata: {}\nversion: 2\n"}, "conda-lock.yml: line 2: it is not a lock file of version 1, as conda-lock writes it"},
		"a URL of a conda-lock":   {[]string{"conda-lock.yml", strings.ReplaceAll(condaLock, "https://conda.", "ftp://conda.")}, `conda-lock.yml: line 8: "ftp://conda.anaconda.org/conda-forge/linux-64/python-3.11.9-h1_0_cpython.conda" is not the URL of a package`},
		"a file of a conda-lock":  {[]string{"conda-lock.yml", strings.ReplaceAll(condaLock, "py_0.tar.bz2", "py_0.zip")}, `conda-lock.yml: line 10: "https://conda.anaconda.org/conda-forge/noarch/greet-2.0-py_0.zip" is not the URL of a conda package`},
		"a hash of a conda-lock":  {[]string{"conda-lock.yml", strings.Replace(strings.ReplaceAll(condaLock, md5, "''"), sha, sha[1:], 1)}, "conda-lock.yml: line 8: python has no hash that can be checked"},
		"pip of a conda-lock":     {[]string{"conda-lock.yml", strings.ReplaceAll(condaLock, "name: six", "name: '--six'")}, "conda-lock.yml: line 12: --six, a package for pip, has no name, version or hash that can be checked"},
		"a pip URL":               {[]string{"conda-lock.yml", strings.ReplaceAll(condaLock, "https://example.org", "ftp://example.org")}, `conda-lock.yml: line 13: "ftp://example.org/own-1-py3-none-any.whl" is not the URL of a package`},
		"platforms of conda-lock": {[]string{"conda-lock.yml", strings.ReplaceAll(condaLock, "linux-64,", "win-64,")}, "conda-lock.yml: line 6: it has no packages for linux-64: add the platform, and lock again"},
		"version of a pixi.lock":  {pixi("# x\nversion: 99\n"), "pixi.lock: line 2: it is of version 99, and 4 to 6 are known: write it with a pixi of those"},
		"no default":              {pixi("version: 6\nenvironments: {}\n"), "pixi.lock: line 2: it has no environment called default"},
		"an unknown package":      {pixi("version: 6\nenvironments:\n  default: {packages: {linux-64: [{conda: 'https://x/y'}]}}\n"), `pixi.lock: line 3: it names "https://x/y" without saying what it is`},
		"a source of pixi":        {pixi("version: 6\nenvironments: {default: {packages: {linux-64: [{conda: ./x}]}}}\npackages:\n- conda: ./x\n"), `pixi.lock: line 4: pixi builds "./x" from source: that is not supported`},
		"a path of pixi":          {pixi("version: 6\nenvironments: {default: {packages: {linux-64: [{pypi: /x}]}}}\npackages:\n- pypi: /x\n"), `pixi.lock: line 4: "/x" is not a directory of the repository`},
		"a channel above":         {[]string{"environment.yml", "dependencies: []\nchannels:\n- file:///home/jovyan/../x\n"}, "environment.yml, line 3: the channel file:///home/jovyan/../x is not a directory of the repository"},
		"no channel":              {[]string{"binder/environment.yml", "dependencies: []\nchannels: [./x]\n"}, "binder/environment.yml, line 2: there is no channel in the directory binder/x"},
		"compat of Julia":         {[]string{"Project.toml", "[deps]\n[compat]\njulia = '1.x'\n"}, `Project.toml, line 3: "1.x" is not a version of Julia`},
		"no such Julia":           {[]string{"Project.toml", "[deps]\n[compat]\njulia = '9'\n"}, "Project.toml, line 3: there is no Julia 9"},
		"compat a number":         {[]string{"Project.toml", "[compat]\njulia = 1\n"}, "Project.toml: line 2: [compat] julia is not a string"},
		"Julia of a manifest":     {[]string{"Project.toml", "", "Manifest.toml", "# x\njulia_version = 'x'\n"}, `Manifest.toml: line 2: julia_version "x" is not a release`},
		"a pattern":               {[]string{".dockerignore", "# x\n*.log\n[\n"}, `.dockerignore, line 3: "[" is no pattern`},
		"a bare exclamation mark": {[]string{".dockerignore", "*.log\n!\n[a\n"}, `.dockerignore, line 3: "[a" is no pattern`},
		"requires-python":         {[]string{"pyproject.toml", "[project]\nname='x'\nrequires-python='^3'\n"}, `pyproject.toml, line 3: requires-python: "^3" is not a version specifier`},
		"requires a number":       {[]string{"pyproject.toml", "[project]\nname='x'\nrequires-python=3\n"}, "pyproject.toml: line 3: requires-python is not a string"},
		"requires too much":       {[]string{"pyproject.toml", "[project]\nrequires-python='<3'\n"}, `pyproject.toml, line 2: requires-python is "<3", and there is only Python 3.8 to 3.14`},
		"two that differ":         {[]string{"runtime.txt", "python-3.11", "pyproject.toml", "[project]\nrequires-python='<3.11'\n"}, `runtime.txt asks for Python 3.11, which pyproject.toml, line 2 (requires-python "<3.11") does not accept`},
		"pinned":                  {[]string{"uv.lock", "[[package]]\nname='x'\nsource={virtual='.'}\n", "pyproject.toml", "[project]\nname='x'\n", ".python-version", "# x\n3.7\n"}, ".python-version, line 2 asks for Python 3.7, and there is only Python 3.8 to 3.14"},
		"a Pipfile's Python":      {[]string{"Pipfile", "[packages]\n[requires]\npython_version='3.6'\n"}, "Pipfile, line 3 asks for Python 3.6, and there is only Python 3.8 to 3.14"},
		"a lock's Python":         {[]string{"Pipfile.lock", "{\"_meta\":\n{\"requires\":\n{\"python_full_version\": \"3.6.1\"}}}"}, "Pipfile.lock, line 3 asks for Python 3.6, and there is only Python 3.8 to 3.14"},
		"a Pipfile's source":      {[]string{"Pipfile", "[packages]\n[[source]]\nurl='-r x'\n"}, `Pipfile, line 3: source "-r x" is no http or https URL`},
		"a source without a URL":  {[]string{"Pipfile", "[packages]\n[[source]]\nname='x'\n"}, `Pipfile, line 2: source "" is no http or https URL`},
		"a Pipfile.lock":          {[]string{"Pipfile.lock", "{\n\"a\": 1,\n}"}, "Pipfile.lock: line 3 is not JSON"},
		"a list as Pipfile.lock":  {[]string{"Pipfile.lock", "\n[]"}, "Pipfile.lock: line 2: there should be keys and values, not a list"},
		"an empty Pipfile.lock":   {[]string{"Pipfile.lock", ""}, "Pipfile.lock: line 1 is not JSON"},
		"package.json":            {[]string{"package.json", "{\n\"a\": x}", "package-lock.json", "{}"}, "package.json: line 2 is not JSON"},
		"a list as package.json":  {[]string{"package.json", "[]", "package-lock.json", "{}"}, "package.json: line 1: there should be keys and values, not a list"},
		"scripts":                 {[]string{"package.json", "{\n\"scripts\": [\"x\"]}", "package-lock.json", "{}"}, "package.json: line 2: scripts should be keys and values, not a list"},
		"package-lock.json":       {[]string{"package.json", "{}", "package-lock.json", "{\n\n"}, "package-lock.json: line 2 is not JSON"},
		"a version of npm's":      {[]string{"package.json", "{}", "package-lock.json", "{\n\"lockfileVersion\": \"3\"}"}, "package-lock.json: line 2: lockfileVersion should be a whole number, not text"},
		"half a version of npm's": {[]string{"package.json", "{}", "package-lock.json", "{\n\"lockfileVersion\": 2.5}"}, "package-lock.json: line 2: lockfileVersion should be a whole number, not 2.5"},
		"a link of npm's":         {[]string{"package.json", "{}", "package-lock.json", "{\"packages\": {\"x\":\n{\"link\": \"yes\"}}}"}, "package-lock.json: line 2: packages.link should be true or false, not text"},
		"renv.lock":               {[]string{"renv.lock", "{\n\"R\": []}"}, "renv.lock: line 2: R should be keys and values, not a list"},
		"R of a renv.lock":        {[]string{"renv.lock", "{\n\"R\": {\"Version\": \"x\"}}"}, `renv.lock, line 2: R's version is "x"`},
		"a directory":             {[]string{"requirements.txt", "six\n-r sub\n", "sub/a", ""}, "requirements.txt, line 2: sub is not an ordinary file"},
		"a directory of more":     {[]string{"requirements.txt", "-r more.txt\n", "more.txt", "\n-c sub\n", "sub/a", ""}, "more.txt, line 2: sub is not an ordinary file"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := plan.Detect(repo(tt.files...), plan.Options{})
			checkError(t, err)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestIgnoredIsSaid(t *testing.T) {
	const (
		binder  = "configuration is read from binder/ only"
		env     = "environment.yml counts before it"
		project = "[project]\nname='x'\n"
		lock    = "[[package]]\nname='x'\nsource={virtual='.'}\n"
		npm     = "{\"lockfileVersion\":3}"
	)
	for name, tt := range map[string]struct {
		files fstest.MapFS
		want  []plan.Decision
	}{
		"binder": {
			repo("binder/requirements.txt", "six", "binder/setup.py", "", "binder/Apt.txt", "", "binder/start", "#!/bin/sh\nexec \"$@\"\n",
				"requirements.txt", "", "Dockerfile", "FROM x", "uv.lock", "", "notebook.ipynb", ""),
			[]plan.Decision{
				{"binder/Apt.txt", "file names count exactly: it would have to be apt.txt"}, {"binder/setup.py", "a package is installed from the root only"},
				{"Dockerfile", binder}, {"requirements.txt", binder}, {"uv.lock", binder},
			},
		},
		"conda": {
			repo("environment.yml", "", "environment.yaml", "", "runtime.txt", "python-3.7", "pyproject.toml", packageTOML, "setup.py", "", "uv.lock", "",
				"requirements.txt", "", "Pipfile", "", ".python-version", "", "pixi.toml", "", "pixi.lock", ""),
			[]plan.Decision{
				{".python-version", env}, {"Pipfile", env}, {"environment.yaml", env}, {"pixi.lock", env}, {"pixi.toml", env}, {"pyproject.toml", env},
				{"requirements.txt", env}, {"runtime.txt", "the conda environment has a Python of its own"}, {"setup.py", env}, {"uv.lock", env},
			},
		},
		"conda and R": {
			repo("environment.yml", "", "DESCRIPTION", "", "runtime.txt", "python-3.11"),
			[]plan.Decision{{"runtime.txt", "the conda environment has a Python of its own"}},
		},
		"conda's lock": {
			repo("conda-lock.yml", condaLock, "runtime.txt", "ruby-3.0"),
			[]plan.Decision{
				{"conda-lock.yml", "1 package of categories other than main and dev are not installed"},
				{"runtime.txt", "the conda environment has a Python of its own"},
			},
		},
		"pipenv": {
			repo("Pipfile", "", "runtime.txt", "python-3.9", "pyproject.toml", packageTOML, "uv.lock", "", "requirements.txt", ""),
			[]plan.Decision{
				{"pyproject.toml", "Pipfile counts before it"}, {"requirements.txt", "Pipfile counts before it"},
				{"runtime.txt", "Pipfile counts before it"}, {"uv.lock", "Pipfile counts before it"},
			},
		},
		"another runtime": {
			repo("Pipfile", "", "runtime.txt", "ruby-3.0"),
			[]plan.Decision{{"runtime.txt", `"ruby" does not name a Python`}, {"Pipfile", "runtime.txt asks for something other than Python"}},
		},
		"R": {
			repo("DESCRIPTION", "", "Pipfile", "", "default.nix/", ""),
			[]plan.Decision{{"Pipfile", "DESCRIPTION counts before it"}, {"default.nix", "it is a directory"}},
		},
		"julia": {
			repo("JuliaProject.toml", "", "Project.toml", "", "REQUIRE", "", "default.nix", "", "DESCRIPTION", "", "JuliaManifest.toml", "julia_version='1.10.0'", "Manifest.toml", "", "Pipfile", ""),
			[]plan.Decision{
				{"DESCRIPTION", "JuliaProject.toml counts before it"}, {"Manifest.toml", "JuliaManifest.toml counts before it"},
				{"Pipfile", "JuliaProject.toml counts before it"}, {"Project.toml", "JuliaProject.toml counts before it"},
				{"REQUIRE", "JuliaProject.toml counts before it"}, {"default.nix", "JuliaProject.toml counts before it"},
			},
		},
		"nix": {
			repo("default.nix", "", "requirements.txt", "", "runtime.txt", "python-3.11", "package.json", "{}", "package-lock.json", npm),
			[]plan.Decision{
				{"package.json", "a Nix environment brings its own Node"}, {"package-lock.json", "default.nix counts before it"},
				{"requirements.txt", "default.nix counts before it"}, {"runtime.txt", "default.nix counts before it"},
			},
		},
		"no package": {
			repo("pyproject.toml", "[tool.x]\n", "pixi.lock", "", "install.R", "", "requirements3.txt", "", "poetry.lock", ""),
			[]plan.Decision{
				{"install.R", "R packages are installed only where runtime.txt asks for R with a date"},
				{"pixi.lock", "there is no pixi.toml beside it"}, {"poetry.lock", "no rule of repo2docker reads it"},
				{"pyproject.toml", "it is no package: a package has both [project] and [build-system], in the root, with no binder directory"},
				{"requirements3.txt", "it is for servers beside a Python older than 3.7, and runtime.txt may not ask for that here"},
			},
		},
		"a package, twice":      {repo("pyproject.toml", packageTOML, "setup.py", ""), nil},
		"settings of a package": {repo("pyproject.toml", "[tool.x]\n", "setup.py", ""), nil},
		"pixi and requirements": {
			repo("requirements.txt", "", "pixi.toml", "", "pixi.lock", "", "conda-lock.yml", ""),
			[]plan.Decision{
				{"conda-lock.yml", "it counts only where no file that repo2docker knows says what to install, and beside an environment.yml that it is a lock of"},
				{"pixi.lock", "it counts only where no file that repo2docker knows says what to install"},
				{"pixi.toml", "it counts only where no file that repo2docker knows says what to install"},
			},
		},
		"locks": {
			repo("requirements.txt", "", "uv.lock", "", "pyproject.toml", project, ".python-version", "3.12", "package.json", "{}", "package-lock.json", npm, "npm-shrinkwrap.json", npm, "yarn.lock", ""),
			[]plan.Decision{
				{".python-version", "requirements.txt counts before it"}, {"package-lock.json", "npm-shrinkwrap.json counts before it"},
				{"pyproject.toml", "it is no package: a package has both [project] and [build-system], in the root, with no binder directory"},
				{"uv.lock", "requirements.txt counts before it"}, {"yarn.lock", "Node packages are installed by npm, from a package-lock.json"},
			},
		},
		"a Python named twice": {
			repo("uv.lock", lock, "pyproject.toml", project, ".python-version", "3.12", "runtime.txt", "python-3.11", "package-lock.json", npm),
			[]plan.Decision{{".python-version", "runtime.txt counts before it"}, {"package-lock.json", "there is no package.json beside it"}},
		},
	} {
		got, err := plan.Detect(tt.files, plan.Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(tt.want, got.Ignored, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestIgnorePatterns(t *testing.T) {
	got, err := plan.Detect(repo(".dockerignore", "# no data\n/data\n!/data/keep\n\n", ".containerignore", "*.log\n"), plan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"data", "!data/keep", "*.log", "!Dockerfile"}, got.Ignore); diff != "" {
		t.Error(diff)
	}
	g, err := plan.NewIgnorer(got.Ignore)
	if err != nil {
		t.Fatal(err)
	}
	data, _ := g.Match("data", plan.Verdict{})
	big, _ := g.Match("data/big", data)
	keep, _ := g.Match("data/keep", data)
	log, _ := g.Match("x.log", plan.Verdict{})
	if !data.Out() || !big.Out() || keep.Out() || !log.Out() || g.Prunes("data") || !g.Prunes("log") || g.About(".git") || !g.About("data") {
		t.Error("the patterns do not mean what they should")
	}
	for _, file := range []string{".dockerignore", "binder/.containerignore"} {
		_, err = plan.Detect(repo(file, "# no data\n/data\n\n[\n"), plan.Options{})
		checkError(t, err)
		if err == nil || !strings.Contains(err.Error(), file+`, line 4: "[" is no pattern`) {
			t.Errorf("a broken pattern: %v", err)
		}
	}
}

// TestHostileTree uses a real directory: links that leave it, a pipe, a file too large.
func TestHostileTree(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "requirements.txt")
	if err := os.WriteFile(outside, []byte("six"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, create := range map[string]func(file string) error{
		"link out":      func(f string) error { return os.Symlink(outside, f) },
		"relative link": func(f string) error { return os.Symlink("../../../../../../../../etc/passwd", f) },
		"link to self":  func(f string) error { return os.Symlink("requirements.txt", f) },
		"pipe":          func(f string) error { return syscall.Mkfifo(f, 0o644) },
		"too large":     func(f string) error { return os.WriteFile(f, make([]byte, 8<<20+1), 0o644) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := create(filepath.Join(dir, "requirements.txt")); err != nil {
				t.Fatal(err)
			}
			root, err := os.OpenRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			_, err = plan.Detect(root.FS(), plan.Options{})
			if checkError(t, err); err == nil {
				t.Error("accepted")
			}
			if err != nil && strings.Contains(bindery.AsError(err).Msg, outside) {
				t.Errorf("the message shows where the link leads: %v", err)
			}
		})
	}
	// What is beside a binder directory is not configuration, whatever it is.
	for name, create := range map[string]func(file string) error{
		"a Dockerfile that links out":    func(f string) error { return os.Symlink(outside, f) },
		"a Dockerfile that is a pipe":    func(f string) error { return syscall.Mkfifo(f, 0o644) },
		"a Dockerfile that is too large": func(f string) error { return os.WriteFile(f, make([]byte, 8<<20+1), 0o644) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "binder"), 0o755); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, "Dockerfile")
			if err := create(file); err != nil {
				t.Fatal(err)
			}
			detect := func() (plan.Plan, error) {
				root, err := os.OpenRoot(dir)
				if err != nil {
					t.Fatal(err)
				}
				defer root.Close()
				return plan.Detect(root.FS(), plan.Options{})
			}
			if got, err := detect(); err != nil || got.Pack != plan.PackDefault || len(got.Ignored) != 1 {
				t.Errorf("beside a binder directory: %q, %v, %v", got.Pack, got.Ignored, err)
			}
			if err := os.Remove(filepath.Join(dir, "binder")); err != nil {
				t.Fatal(err)
			}
			if _, err := detect(); err == nil {
				t.Error("accepted as the configuration")
			}
		})
	}
	t.Run("included", func(t *testing.T) {
		dir := t.TempDir()
		long := strings.Repeat("a", 300)
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		for _, name := range []string{"six.txt/b", long} {
			for file, text := range map[string]string{"six.txt": "six", "requirements.txt": "\n-r " + name + "\n"} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			_, err := plan.Detect(root.FS(), plan.Options{})
			checkError(t, err)
			if err == nil || !strings.HasPrefix(err.Error(), "requirements.txt, line 2: "+name[:9]) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	t.Run("link inside", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "r.txt"), []byte("six"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("r.txt", filepath.Join(dir, "requirements.txt")); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		if got, err := plan.Detect(root.FS(), plan.Options{}); err != nil || got.Pack != plan.PackPython {
			t.Errorf("%q, %v", got.Pack, err)
		}
	})
}

func TestEnvKey(t *testing.T) {
	key := func(generation string, files fstest.MapFS) string {
		t.Helper()
		p, err := plan.Detect(files, plan.Options{})
		if err != nil {
			t.Fatal(err)
		}
		k, err := p.EnvKey(generation, files)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	base := key("g", repo("requirements.txt", "six", "apt.txt", "git"))
	for name, files := range map[string]fstest.MapFS{
		"a notebook": repo("requirements.txt", "six", "apt.txt", "git", "x.ipynb", "{}"),
		"postBuild":  repo("requirements.txt", "six", "apt.txt", "git", "postBuild", "true"),
		"a comment":  repo("requirements.txt", "six", "apt.txt", "git # tool"),
	} {
		if key("g", files) != base {
			t.Errorf("%s changes the environment", name)
		}
	}
	for name, files := range map[string]fstest.MapFS{
		"a requirement": repo("requirements.txt", "six==1", "apt.txt", "git"),
		"a package":     repo("requirements.txt", "six", "apt.txt", "git less"),
		"a version":     repo("requirements.txt", "six", "apt.txt", "git", "runtime.txt", "python-3.9"),
		"a constraint":  repo("requirements.txt", "six", "apt.txt", "git", "binder/", ""),
	} {
		if key("g", files) == base {
			t.Errorf("%s does not change the environment", name)
		}
	}
	patch := func(spec string) string {
		return key("g", repo("pyproject.toml", "[project]\nname='x'\nrequires-python='"+spec+"'\n"))
	}
	if patch("~=3.12.3") == patch("~=3.12.4") || patch("~=3.12.3") != patch(">=3.12.3,<3.13") {
		t.Error("an environment does not go by the patches of Python that will do")
	}
	if key("h", repo("requirements.txt", "six", "apt.txt", "git")) == base {
		t.Error("the generation does not change the environment")
	}
	included := repo("requirements.txt", "-c c.txt", "c.txt", "six<2")
	before := key("g", included)
	included["c.txt"].Data = []byte("six<3")
	if key("g", included) == before {
		t.Error("an included file does not change the environment")
	}
}

func FuzzDetect(f *testing.F) {
	f.Add("six\n-r a\n-e .", "python-3.11", "git g++", packageTOML, "*.x\n!y")
	f.Add("\xff\xfes\x00", "r-2024-01-31", "a=1", "[project]\nrequires-python='>=3,<4'", "[a-z]**/x")
	f.Fuzz(func(t *testing.T, requirements, runtime, apt, pyproject, ignore string) {
		files := repo("requirements.txt", requirements, "runtime.txt", runtime, "apt.txt", apt, "pyproject.toml", pyproject, ".dockerignore", ignore, "a", "six")
		p, err := plan.Detect(files, plan.Options{})
		checkError(t, err)
		if err != nil {
			return
		}
		for _, name := range p.Apt {
			if strings.HasPrefix(name, "-") || strings.ContainsAny(name, " ;|&$`<>()'\"\\*?[]{}!\n\x00") {
				t.Errorf("apt would be given %q", name)
			}
		}
		if _, err := p.EnvKey("g", files); err != nil {
			t.Errorf("EnvKey: %v", err)
		}
		if _, err := plan.NewIgnorer(p.Ignore); err != nil {
			t.Errorf("NewIgnorer: %v", err)
		}
	})
}
