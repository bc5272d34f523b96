package plan_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/plan"
)

const (
	sha = "1111111111111111111111111111111111111111111111111111111111111111"
	md5 = "22222222222222222222222222222222"
)

// condaLock is a conda-lock.yml with Python, greet for conda, and two packages for pip.
const condaLock = `version: 1
metadata:
  channels:
  - url: conda-forge
    used_env_vars: []
  platforms: [linux-64, osx-64]
package:
- {name: python, version: 3.11.9, manager: conda, platform: linux-64, url: "https://conda.anaconda.org/conda-forge/linux-64/python-3.11.9-h1_0_cpython.conda", hash: {md5: ` + md5 + `, sha256: ` + sha + `}, category: main}
- {name: greet, version: "2.0", manager: conda, platform: linux-64, url: "https://conda.anaconda.org/conda-forge/noarch/greet-2.0-py_0.tar.bz2", hash: {md5: ` + md5 + `}, category: main}
- {name: greet, version: "2.0", manager: conda, platform: osx-64, url: "https://conda.anaconda.org/conda-forge/noarch/greet-2.0-py_0.tar.bz2", hash: {md5: ` + md5 + `}, category: main}
- {name: docs, version: "1", manager: conda, platform: linux-64, url: "https://conda.anaconda.org/conda-forge/noarch/docs-1-0.conda", hash: {md5: ` + md5 + `}, category: docs}
- {name: six, version: 1.16.0, manager: pip, platform: linux-64, url: "https://files.pythonhosted.org/packages/six-1.16.0-py2.py3-none-any.whl", hash: {sha256: ` + sha + `}, category: dev}
- {name: own, version: "1", manager: pip, platform: linux-64, url: "https://example.org/own-1-py3-none-any.whl", hash: {sha256: ` + sha + `}}
`

// withPip is an environment.yml with these lines for pip.
func withPip(lines ...string) string {
	text := environment("python=3.11") + "- pip:\n"
	for _, l := range lines {
		text += "  - \"" + l + "\"\n"
	}
	return text
}

func TestCondaLock(t *testing.T) {
	locked := []plan.Install{
		{Tool: plan.ToolConda, Files: []string{}, Version: "3.11", Conda: &plan.CondaEnvironment{Channels: []string{"conda-forge"}, File: "conda-lock.yml", Locked: []plan.CondaPackage{
			{URL: "https://conda.anaconda.org/conda-forge/linux-64/python-3.11.9-h1_0_cpython.conda", SHA256: sha, MD5: md5},
			{URL: "https://conda.anaconda.org/conda-forge/noarch/greet-2.0-py_0.tar.bz2", MD5: md5},
		}}},
		{Tool: plan.ToolCondaPip, Files: []string{}, From: "conda-lock.yml", Args: []string{"--no-deps"}, Lines: []string{
			"six==1.16.0 --hash=sha256:" + sha, "own @ https://example.org/own-1-py3-none-any.whl --hash=sha256:" + sha,
		}},
	}
	for name, tt := range map[string]struct {
		environment string // beside it; none if empty
		counts      bool
	}{
		"alone":            {"", true},
		"with its file":    {environment("python=3.11", "greet>=2,<3"), true},
		"another version":  {environment("python=3.11", "greet>=3"), false},
		"another package":  {environment("python=3.11", "greet", "numpy"), false},
		"another channel":  {environment("python", "lab::greet"), true},
		"build of a spec":  {environment("python=3.11=*_cpython"), true},
		"letters in specs": {environment("python>=3.11.0a1"), true},
		"after a release":  {environment("greet>=2.0.post1"), false},
		"build after ==":   {environment("python==3.11.9=*_cpython"), true},
		"channels":         {"channels: [bioconda]\ndependencies: [greet]\n", true}, // where packages come from, the lock file says
		"pip":              {withPip("six", "Own>=1", "SIX~=1.16", "greet"), true},
		"pip with extras":  {withPip("six[fast]==1.*"), true},
		"another for pip":  {withPip("six", "newpkg"), false},
		"new with extras":  {withPip("newpkg[x]>=1"), false},
		"new with a hash":  {withPip("newpkg==1 --hash=sha256:" + sha), false},
		"new by its URL":   {withPip("newpkg @ https://example.org/newpkg-1.tar.gz"), false},
		"new in a file":    {withPip("-r more.txt"), false},
		"a version of pip": {withPip("six>=1.17"), false},
		"pip by its URL":   {withPip("six @ https://example.org/six-2.tar.gz"), true},
		"of other systems": {environment("python=3.11", "pywin32  # [win]", "greet  # [linux]"), true},
		"other line ends":  {"# \u2028\u2028\ndependencies:\n- greet", true},
		"of this system":   {environment("python=3.11", "newpkg  # [unix]"), false},
		"what pip may not": {withPip("newpkg; python_version<'3'", "six<1; python_version<'3'", "https://example.org/x-1.whl", "-c more.txt", "six===odd"), true},
	} {
		t.Run(name, func(t *testing.T) {
			files := repo("conda-lock.yml", condaLock)
			if tt.environment != "" {
				files = repo("conda-lock.yml", condaLock, "environment.yml", tt.environment, "more.txt", "six\n-r more.txt\nnewpkg\n")
			}
			got, err := plan.Detect(files, plan.Options{})
			if err != nil {
				t.Fatal(err)
			}
			diff := cmp.Diff(locked, got.Env, cmpopts.IgnoreFields(plan.Install{}, "Numbers"))
			if tt.counts && diff != "" || !tt.counts && got.Env[0].Conda.Locked != nil {
				t.Error(diff)
			}
			if said := strings.Contains(ignoredText(got), "conda-lock.yml: it has nothing for"); said == tt.counts {
				t.Errorf("ignored: %v", got.Ignored)
			}
			if tt.counts && (got.Python != "3.11" || got.Pack != plan.PackConda) {
				t.Errorf("%s, Python %s", got.Pack, got.Python)
			}
		})
	}
}

// Conda and pip may have other names for one package, and a lock file says neither's: it counts where conda's may be meant,
// and pip looks in the finished environment.
func TestCondaLockByOtherNames(t *testing.T) {
	brought := func(name, version, depends string) string {
		return condaLock + "- {name: " + name + ", version: \"" + version + "\", manager: conda, platform: linux-64, dependencies: {" + depends + "}, url: \"https://conda.anaconda.org/conda-forge/linux-64/" + name + "-" + version + "-0.conda\", hash: {md5: " + md5 + "}}\n"
	}
	for name, tt := range map[string]struct {
		conda, version, depends string
		pip                     []string
		asks                    []string // of pip, after the lock; nil if the lock does not count
	}{
		"torch":              {"pytorch", "2.1.0", "python: ''", []string{"--extra-index-url https://i.example/", "six", "torch>=2"}, []string{"--extra-index-url https://i.example/", "torch>=2"}},
		"another version":    {"pytorch", "2.1.0", "python: ''", []string{"torch>=2.2"}, nil},
		"tables":             {"pytables", "3.9", "python: ''", []string{"Tables"}, []string{"Tables"}},
		"opencv":             {"opencv", "4.8", "python: ''", []string{"opencv-python-headless"}, []string{"opencv-python-headless"}},
		"xgboost":            {"py-xgboost", "2.0", "python: ''", []string{"xgboost"}, []string{"xgboost"}},
		"msgpack":            {"msgpack-python", "1.0", "python: ''", []string{"msgpack"}, []string{"msgpack"}},
		"matplotlib":         {"matplotlib-base", "3.8", "python: ''", []string{"matplotlib~=3.8"}, []string{"matplotlib~=3.8"}},
		"same name":          {"numpy", "1.26", "python: ''", []string{"numpy"}, []string{}},
		"not of Python":      {"graphviz", "9.0", "libgd: ''", []string{"graphviz"}, nil},
		"nor by its stem":    {"python-x", "9.0", "", []string{"x"}, nil},
		"similar is no name": {"pytorch", "2.1.0", "python: ''", []string{"torchvision"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := plan.Detect(repo("conda-lock.yml", brought(tt.conda, tt.version, tt.depends), "environment.yml", withPip(tt.pip...)), plan.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if counts := got.Env[0].Conda.Locked != nil; counts != (tt.asks != nil) {
				t.Fatalf("the lock file counts: %v; ignored: %v", counts, got.Ignored)
			}
			var asks []string
			for _, in := range got.Env {
				if in.From == "environment.yml" {
					asks = in.Lines
				}
			}
			if tt.asks != nil && !slices.Equal(asks, tt.asks) {
				t.Errorf("pip is asked for %q, want %q", asks, tt.asks)
			}
		})
	}
}

// A lock file that notes its sources' sums is as new as they say, whatever its names are.
func TestCondaLockKnowsItsSource(t *testing.T) {
	const text = "channels: [conda-forge]\ndependencies:\n- python=3.11\n- pip: [odd-name]\n"
	lock := strings.Replace(condaLock, "  channels:\n", fmt.Sprintf("  inputs_metadata:\n    environment.yml: {md5: null, sha256: %x}\n  channels:\n", sha256.Sum256([]byte(text))), 1)
	for environment, counts := range map[string]bool{text: true, strings.ReplaceAll(text, "\n", "\r\n"): true, text + "# more\n": false} {
		got, err := plan.Detect(repo("conda-lock.yml", lock, "environment.yml", environment), plan.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if locked := got.Env[0].Conda.Locked != nil; locked != counts {
			t.Errorf("with %q the lock file counts: %v", environment, locked)
		}
	}
}

// ignoredText is all that a plan says to have no effect, by line.
func ignoredText(p plan.Plan) string {
	var text strings.Builder
	for _, i := range p.Ignored {
		text.WriteString(i.File + ": " + i.Text + "\n")
	}
	return text.String()
}

// No lock file of conda-lock's has what pip installs editable, so that is installed beside it.
func TestCondaLockLeavesEditables(t *testing.T) {
	got, err := plan.Detect(repo("conda-lock.yml", condaLock, "environment.yml", withPip("six", "-e git+https://example.org/x#egg=x", "-e ./lib")), plan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"-e git+https://example.org/x#egg=x", "-e ./lib"}, got.Content[0].Lines); diff != "" {
		t.Error(diff)
	}
}

func TestCondaLockComesAfterRepo2dockersFiles(t *testing.T) {
	for file, pack := range map[string]string{"requirements.txt": plan.PackPython, "Pipfile": plan.PackPipfile, "setup.py": plan.PackPython} {
		got, _ := plan.Detect(repo("conda-lock.yml", condaLock, "pixi.toml", "[workspace]\nchannels=['a']\n", file, ""), plan.Options{})
		if got.Pack != pack {
			t.Errorf("with %s: %s", file, got.Pack)
		}
	}
}

const pixiTOML = `[workspace]
name = "x"
channels = ["conda-forge", {channel = "https://conda.example.org/lab", priority = 1}]
platforms = ["linux-64", "linux-aarch64", "win-64"]

[tasks]
start = "rm -rf /"

[dependencies]
python = ">=3.9, <3.12"
numpy = "*"
greet = {version = "2.*", build = "py_*", channel = "lab"}

[target.linux.dependencies]
libgreet = "3"

[target.win.dependencies]
wingreet = "3"

[pypi-dependencies]
six = "*"
requests = {version = ">=2", extras = ["socks", "use-chardet"]}
own = {git = "https://example.org/own.git", rev = "abc", subdirectory = "py"}
here = {path = "lib", editable = true}

[activation.env]
GREETING = "good day"

[feature.test.dependencies]
pytest = "*"

[environments]
test = ["test"]
`

func TestPixi(t *testing.T) {
	got, err := plan.Detect(repo("pixi.toml", pixiTOML), plan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	env := []plan.Install{
		{Tool: plan.ToolConda, Files: []string{}, Version: "3.10", Conda: &plan.CondaEnvironment{
			Channels:    []string{"conda-forge", "https://conda.example.org/lab"},
			Specs:       []string{"lab::greet 2.* py_*", "numpy", "python >=3.9,<3.12", "libgreet 3"},
			Python:      "3.10",
			Constraints: []string{"python >=3.9,<3.15"},
			Variables:   []plan.Variable{{Name: "GREETING", Value: "good day"}},
			Lines:       map[string]int{"lab::greet 2.* py_*": 12, "numpy": 11, "python >=3.9,<3.12": 10, "libgreet 3": 15},
			File:        "pixi.toml",
		}},
		{Tool: plan.ToolCondaPip, Files: []string{}, From: "pixi.toml", Lines: []string{"own @ git+https://example.org/own.git@abc#subdirectory=py", "requests[socks,use-chardet]>=2", "six"}},
	}
	content := []plan.Install{{Tool: plan.ToolCondaPip, Files: []string{}, From: "pixi.toml", Lines: []string{"-e ./lib"}}}
	if diff := cmp.Diff(env, got.Env, cmpopts.IgnoreFields(plan.Install{}, "Numbers")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(content, got.Content, cmpopts.IgnoreFields(plan.Install{}, "Numbers")); diff != "" {
		t.Error(diff)
	}
}

const pixiLock = `version: 6
environments:
  default:
    channels:
    - url: https://conda.anaconda.org/conda-forge/
    indexes: [https://pypi.org/simple]
    packages:
      linux-64:
      - conda: https://conda.anaconda.org/conda-forge/linux-64/python-3.12.9-h1_0_cpython.conda
      - pypi: https://files.pythonhosted.org/packages/six-1.16.0-py2.py3-none-any.whl
      - pypi: ./
packages:
- conda: https://conda.anaconda.org/conda-forge/linux-64/python-3.12.9-h1_0_cpython.conda
  sha256: ` + sha + `
  md5: ` + md5 + `
  depends: [x]
- pypi: https://files.pythonhosted.org/packages/six-1.16.0-py2.py3-none-any.whl
  name: six
  version: 1.16.0
  sha256: ` + sha + `
- pypi: ./
  name: own
  version: 0.1.0
  sha256: ` + sha + `
  editable: true
`

func TestPixiLock(t *testing.T) {
	const project = "[project]\nname='own'\n[build-system]\nrequires=[]\n[tool.pixi.workspace]\nchannels=['conda-forge']\n[tool.pixi.dependencies]\npython='3.12.*'\n"
	got, err := plan.Detect(repo("pyproject.toml", project, "pixi.lock", pixiLock), plan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	env := []plan.Install{
		{Tool: plan.ToolConda, Files: []string{}, Version: "3.12", Conda: &plan.CondaEnvironment{
			Channels: []string{"https://conda.anaconda.org/conda-forge"}, File: "pixi.lock",
			Locked: []plan.CondaPackage{{URL: "https://conda.anaconda.org/conda-forge/linux-64/python-3.12.9-h1_0_cpython.conda", SHA256: sha, MD5: md5}},
		}},
		{Tool: plan.ToolCondaPip, Files: []string{}, From: "pixi.lock", Args: []string{"--no-deps"}, Lines: []string{"six==1.16.0 --hash=sha256:" + sha}},
	}
	content := []plan.Install{{Tool: plan.ToolCondaPip, Files: []string{}, From: "pixi.lock", Args: []string{"--no-deps"}, Lines: []string{"-e ./"}}}
	if diff := cmp.Diff(env, got.Env, cmpopts.IgnoreFields(plan.Install{}, "Numbers")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(content, got.Content, cmpopts.IgnoreFields(plan.Install{}, "Numbers")); diff != "" {
		t.Error(diff)
	}
}

func TestPixiLockIsStale(t *testing.T) {
	lock := strings.Replace(pixiLock, "  depends: [x]\n", "  purls: ['pkg:pypi/Py-Thing?source=hash-mapping', 'pkg:generic/x']\n", 1)
	for dependencies, counts := range map[string]bool{
		"six = '*'":                                       true,
		"Six = '>=1.16,<2'":                               true,
		"py_thing = '*'":                                  true, // conda brings it
		"own = '>=2'":                                     true, // it is in the repository
		"own = {path = '.', editable = true}":             true,
		"six = {git = 'https://example.org/six'}":         true,
		"newpkg = '*'":                                    false,
		"newpkg = {git = 'https://example.org/x'}":        false,
		"newpkg = {path = 'lib', editable = true}":        false,
		"six = '>=1.17'":                                  false,
		"py-newpkg = '*'":                                 false,
		"six = '*'\n[dependencies]\nnewconda = '*'":       false,
		"six = '*'\n[feature.x.pypi-dependencies]\ny='*'": true, // of no environment that is installed
	} {
		got, err := plan.Detect(repo("pixi.toml", "[workspace]\nchannels=['conda-forge']\n[pypi-dependencies]\n"+dependencies+"\n", "pixi.lock", lock), plan.Options{})
		if err != nil {
			t.Errorf("%s: %v", dependencies, err)
			continue
		}
		said := strings.Contains(ignoredText(got), "pixi.lock: it has nothing for")
		if locked := got.Env[0].Conda.Locked != nil; locked != counts || said == counts {
			t.Errorf("%s: the lock file counts: %v; ignored: %v", dependencies, locked, got.Ignored)
		}
	}
}

// The options that pixi gives pip are lines before the requirements; a directory of archives makes them wait for the files.
func TestPixiOptions(t *testing.T) {
	const text = `[workspace]
channels = ["conda-forge"]
[workspace.pypi-options]
index-url = "https://base.example/simple"
extra-index-urls = ["https://more.example/simple"]
[dependencies]
python = "3.12.*"
[pypi-options]
index-url = "https://own.example/simple"
extra-index-urls = ["https://two.example/simple", {url = "https://three.example/simple"}]
find-links = [{url = "https://links.example/"}]
no-index = false
index-strategy = "first-index"
[pypi-dependencies]
own = {version = "*", index = "https://four.example/simple", env-markers = "x"}
here = {path = "lib"}
`
	got, err := plan.Detect(repo("pixi.toml", text), plan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	options := []string{
		"--extra-index-url https://more.example/simple", "--extra-index-url https://two.example/simple",
		"--extra-index-url https://three.example/simple", "--find-links https://links.example/", "--index-url https://own.example/simple", "--extra-index-url https://four.example/simple",
	}
	env := plan.Install{Tool: plan.ToolCondaPip, Files: []string{}, From: "pixi.toml", Lines: append(slices.Clone(options), "own"), Numbers: []int{5, 10, 10, 11, 9, 15, 15}}
	if diff := cmp.Diff(env, got.Env[1]); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(append(options, "./lib"), got.Content[0].Lines); diff != "" {
		t.Error(diff)
	}
	for _, want := range []string{"line 13: index-strategy has no effect", "line 15: env-markers of own has no effect"} {
		if !strings.Contains(ignoredText(got), want) {
			t.Errorf("no %q in\n%s", want, ignoredText(got))
		}
	}
	got, err = plan.Detect(repo("pixi.toml", strings.Replace(strings.Replace(text, `{url = "https://links.example/"}`, `{path = "wheels"}`, 1), "no-index = false", "no-index = true", 1)), plan.Options{})
	if err != nil || len(got.Env) != 1 || !slices.Contains(got.Content[0].Lines, "--find-links ./wheels") || !slices.Contains(got.Content[0].Lines, "--no-index") {
		t.Errorf("%+v, %v", got.Content, err)
	}
}

// What of a pixi.toml has no effect is said, also where its lock file counts.
func TestPixiIgnores(t *testing.T) {
	const text = "[activation]\nscripts = ['x.sh']\n[system-requirements]\ncuda = '12'\n[feature.dev.tasks]\na = 'b'\n[feature.other.tasks]\na = 'b'\n" +
		"[environments]\ndefault = ['dev']\nother = ['other']\n[package.build]\nbackend = 'x'\n"
	want := []string{
		"line 14: package has no effect", "line 5: system-requirements has no effect", "line 3: activation scripts are not run", "line 7: tasks has no effect",
		"line 13: of the environments only default counts",
	}
	for name, lock := range map[string]string{"pixi.lock": pixiLock, "README.md": ""} {
		got, err := plan.Detect(repo("pixi.toml", "[workspace]\nchannels=['conda-forge']\n"+text, name, lock), plan.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range want {
			if !strings.Contains(ignoredText(got), "pixi.toml: "+want+"\n") {
				t.Errorf("no %q in\n%s", want, ignoredText(got))
			}
		}
		if len(got.Ignored) != len(want) {
			t.Errorf("ignored: %v", got.Ignored)
		}
	}
}

func TestLockFaults(t *testing.T) {
	pixi := func(text string) []string { return []string{"pixi.toml", "[workspace]\nchannels=['a']\n" + text} }
	for name, tt := range map[string]struct {
		files []string
		want  string
	}{
		"no yaml":            {[]string{"conda-lock.yml", "a: ["}, "conda-lock.yml: line 1"},
		"another version":    {[]string{"conda-lock.yml", "version: 9\npackage: []\n"}, "not a lock file of version 1"},
		"another platform":   {[]string{"conda-lock.yml", strings.ReplaceAll(condaLock, "linux-64,", "win-64,")}, "no packages for linux-64"},
		"no hash":            {[]string{"conda-lock.yml", strings.ReplaceAll(strings.ReplaceAll(condaLock, sha, `""`), md5, `""`)}, "no hash"},
		"another scheme":     {[]string{"conda-lock.yml", strings.ReplaceAll(condaLock, "https://conda.", "ftp://conda.")}, "not the URL of a package"},
		"an option":          {[]string{"conda-lock.yml", strings.ReplaceAll(condaLock, "name: six", `name: "--six"`)}, "no name, version or hash"},
		"lock of the future": {append(pixi(""), "pixi.lock", "version: 99\n"), "pixi.lock: line 1: it is of version 99"},
		"no default":         {append(pixi(""), "pixi.lock", "version: 6\n"), "no environment called default"},
		"unknown package":    {append(pixi(""), "pixi.lock", "version: 6\nenvironments: {default: {packages: {linux-64: [{conda: 'https://x/y'}]}}}\n"), "without saying what it is"},
		"bad toml":           {[]string{"pixi.toml", "[workspace\n"}, "pixi.toml: line 1 is not TOML"},
		"no workspace":       {[]string{"pixi.toml", "[tasks]\na='b'\n"}, "no [workspace]"},
		"no channels":        {[]string{"pixi.toml", "[workspace]\nname='x'\n"}, "names no channels"},
		"other platforms":    {[]string{"pixi.toml", "[workspace]\nchannels=['a']\nplatforms=['win-64']\n"}, "not for linux-64"},
		"source dependency":  {pixi("[dependencies]\nx={path='y'}\n"), "line 4: x: \"path\" is not supported"},
		"option as path":     {pixi("[pypi-dependencies]\nx={path='-x y'}\n"), "line 4: x: \"-x y\" is not a directory"},
		"option as version":  {pixi("[pypi-dependencies]\nx=\"1 \\n--hash\"\n"), "is not a version"},
		"index":              {pixi("[pypi-options]\nindex-url='-r x'\n"), "line 4: index-url: \"-r x\" is not the URL of an index"},
		"more indexes":       {pixi("[pypi-options]\nextra-index-urls=['http://h/ --pre']\n"), "line 4: extra-index-urls: \"http://h/ --pre\" is not the URL"},
		"index of a package": {pixi("[pypi-dependencies]\nx={version='*',index='file:///x'}\n"), "line 4: index: \"file:///x\" is not the URL"},
		"links":              {pixi("[pypi-options]\nfind-links=[{path='/x'}]\n"), "line 4: find-links: \"/x\" is not a directory of the repository"},
		"variable":           {pixi("[activation.env]\n\"A B\"='x'\n"), "is not a variable"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := plan.Detect(repo(tt.files...), plan.Options{})
			e, ok := errors.AsType[*bindery.Error](err)
			if !ok || !strings.Contains(e.Msg, tt.want) {
				t.Errorf("got %v", err)
			}
			checkError(t, err)
		})
	}
}

func FuzzCondaLock(f *testing.F) {
	f.Add(condaLock)
	f.Fuzz(func(t *testing.T, text string) {
		_, err := plan.Detect(repo("conda-lock.yml", text), plan.Options{})
		checkError(t, err)
	})
}

func FuzzPixi(f *testing.F) {
	f.Add(pixiTOML, pixiLock)
	f.Fuzz(func(t *testing.T, manifest, lock string) {
		_, err := plan.Detect(repo("pixi.toml", manifest, "pixi.lock", lock), plan.Options{})
		checkError(t, err)
	})
}
