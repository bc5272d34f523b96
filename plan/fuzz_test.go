package plan_test

import (
	"encoding/json"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/bindery-hub/bindery/plan"
)

// seeds are the files that a parser of this package reads, each with what it looks like.
func seeds() map[string]string {
	return map[string]string{
		"requirements.txt": "-i https://pypi.org/simple\nnumpy==1.26 ; python_version < '3.9' # x\n-r more.txt\n-e .\nx @ git+https://h/o/r@v1#egg=x\nsix \\\n --hash=sha256:ab\n",
		"pyproject.toml":   "[project]\nname='x'\nrequires-python='>=3.9,<4'\ndependencies=['six>=1', 'x @ https://h/x.whl']\n[build-system]\nrequires=[]\n",
		"runtime.txt":      "python-3.11-2024-01-31\n",
		"Pipfile":          "[[source]]\nurl='https://pypi.org/simple'\n[packages]\nsix='*'\na={version='>=1',extras=['b'],markers=\"os_name=='x'\"}\nm={path='.',editable=true}\ng={git='git@h:o/r',ref='v1'}\n[requires]\npython_version='3.11'\n",
		"Pipfile.lock":     `{"_meta":{"requires":{"python_version":"3.11"},"sources":[{"url":"https://pypi.org/simple"}]},"default":{"six":{"version":"==1.16","hashes":["sha256:ab"]}},"develop":{"m":{"path":"."}}}`,
		"uv.lock":          "version=1\n[[package]]\nname='x'\nsource={editable='.'}\ndependencies=[{name='y'}]\n[[package]]\nname='y'\nsource={directory='y'}\n[[package]]\nname='z'\nsource={registry='https://h/s'}\n",
		".python-version":  "# x\n3.12.1\n",
		"package.json":     `{"name":"x","scripts":{"postinstall":"y"}}`,
		"package-lock.json": `{"lockfileVersion":3,"packages":{"":{"name":"x"},"node_modules/y":{"version":"1.0.0","hasInstallScript":true},"z":{"link":true}},
			"dependencies":{"q":{"version":"file:q"}}}`,
		"apt.txt":         "git # x\nlibx=1:2~3\n",
		".dockerignore":   "*.log\n!/keep\n# x\n[a-",
		"setup.py":        "",
		"environment.yml": "name: a\nchannels: [b, ./lab]\ndependencies:\n- python>=3.9\n- &x numpy=1.*\n- *x\n- r-base=4.1\n- conda-forge::scipy[version='>=1']\n- pip:\n  - -r more.txt\n  - |\n    six\nvariables: {A: b}\n",
		"conda-lock.yml":  condaLock,
		"pixi.toml":       pixiTOML,
		"pixi.lock":       pixiLock,
		"Project.toml":    "name='x'\nuuid='y'\n[deps]\nA='7876af07-990d-54b4-ab0e-23690620f79a'\n[compat]\njulia='1.6, 1.8 - 1.10, ~1.9'\n[sources]\nA={path='../a'}\n",
		"Manifest.toml":   "julia_version='1.10.4'\nmanifest_format='2.0'\n[[deps.A]]\npath='a'\nuuid='7876af07-990d-54b4-ab0e-23690620f79a'\n",
		"DESCRIPTION":     "Package: x\nDepends: R (>= 4.0)\nImports:\n  digest (>= 0.6),\n  jsonlite\nRemotes: a/b\n",
		"renv.lock":       `{"R":{"Version":"4.2.2","Repositories":[{"Name":"CRAN","URL":"https://cloud.r-project.org"}]},"Packages":{"digest":{"Package":"digest","Version":"0.6.31","Source":"Repository","Repository":"CRAN","Requirements":["R"]}}}`,
		"install.R":       "install.packages(c('digest', \"jsonlite\"), repos='x') # 'no'\nremotes::install_github('a/b')\nlibrary(x)\n",
		"default.nix":     "{ pkgs ? import <nixpkgs> {} }:\n# ./no\npkgs.mkShell { buildInputs = [ (import ./pinned.nix) ]; x = ''./${y}''; }\n",
		"Dockerfile":      "# syntax=x\nFROM base:1 AS x\nARG A=b\nFROM $A\nCOPY --from=x / /\n",
	}
}

// beside are the files that make a parser run: a lock file counts only with its project.
func beside(name string) []string {
	switch name {
	case "uv.lock", ".python-version":
		return []string{"pyproject.toml", "uv.lock"}
	case "package-lock.json":
		return []string{"package.json"}
	case "package.json":
		return []string{"package-lock.json"}
	case "conda-lock.yml":
		return []string{"environment.yml"}
	case "pixi.lock":
		return []string{"pixi.toml"}
	case "Manifest.toml":
		return []string{"Project.toml"}
	case "install.R":
		return []string{"DESCRIPTION"}
	}
	return nil
}

// optionRE are the options that a plan may write.
var optionRE = regexp.MustCompile(`^(-e \./\S*|--index-url https?://\S+|--extra-index-url https?://\S+)( # .*)?$`)

// wrong is the parser's way to write requirements down: conda's pip sections are pip's to read.
func wrong(tool, line string) bool {
	if tool == plan.ToolCondaPip {
		return strings.ContainsAny(line, "\x00")
	}
	return strings.ContainsAny(line, "\n\r\x00") || strings.HasPrefix(line, "-") && !optionRE.MatchString(line)
}

// checkParsed plans a repository whose file called name has content, and checks what must hold whatever that is.
func checkParsed(t *testing.T, name, content string) {
	t.Helper()
	files := fstest.MapFS{}
	for _, other := range beside(name) {
		files[other] = &fstest.MapFile{Data: []byte(seeds()[other])}
	}
	files[name] = &fstest.MapFile{Data: []byte(content)}
	got, err := plan.Detect(files, plan.Options{})
	checkError(t, err)
	for _, in := range append(got.Env, got.Content...) {
		for _, line := range in.Lines {
			if wrong(in.Tool, line) {
				t.Errorf("%s %q: wrote %q", name, content, line)
			}
		}
		for _, file := range append(in.Files, in.Includes...) {
			if strings.HasPrefix(file, "/") || strings.HasPrefix(file, "../") {
				t.Errorf("%s %q: reads %q", name, content, file)
			}
		}
	}
	if _, err := json.Marshal(got); err != nil {
		t.Error(err)
	}
}

// A thousand damaged files for each parser: none panics, every complaint is the author's to mend.
func TestParsersBearAnything(t *testing.T) {
	for name, seed := range seeds() {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, uint64(len(name))))
			for range 1000 {
				checkParsed(t, name, damage(r, seed))
			}
		})
	}
}

// damage cuts, doubles, swaps and overwrites pieces of text.
func damage(r *rand.Rand, text string) string {
	b := []byte(text + text)
	for range 1 + r.IntN(8) {
		if len(b) == 0 {
			break
		}
		i, j := r.IntN(len(b)), r.IntN(len(b))
		i, j = min(i, j), max(i, j)
		switch r.IntN(5) {
		case 0:
			b = append(b[:i], b[j:]...)
		case 1:
			b = append(b[:j], b[i:]...)
		case 2:
			b[i] = byte(r.Uint32())
		case 3:
			const marks = "[]{}()'\"\\,;:=#@-./\n\r\t \x00\xff*$"
			b[i] = marks[r.IntN(len(marks))]
		case 4:
			b = append(b[:i], append([]byte(strings.Repeat(string(b[i]), r.IntN(50))), b[i:]...)...)
		}
	}
	return string(b)
}

func FuzzParsers(f *testing.F) {
	for name, seed := range seeds() {
		f.Add(name, seed)
	}
	f.Fuzz(func(t *testing.T, name, content string) {
		if _, known := seeds()[name]; !known {
			return
		}
		checkParsed(t, name, content)
	})
}
