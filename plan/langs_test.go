package plan_test

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/bindery-hub/bindery/plan"
)

func TestJuliaVersion(t *testing.T) {
	for compat, want := range map[string]string{
		"":            "1.12.1",
		"1":           "1.12.1",
		"1.6":         "1.12.1",
		"^1.6.2":      "1.12.1",
		"~1.6":        "1.6.7",
		"~1.6.3":      "1.6.7",
		"~1":          "1.12.1",
		"=1.3":        "1.3.0",
		"=1.10.4":     "1.10.4",
		">= 1.6":      "1.12.1",
		"≥1.6":        "1.12.1",
		"< 1.7":       "1.6.7",
		"<=1.8.5":     "1.8.5",
		">1.12.1":     "!there is no Julia",
		"1.2 - 1.5":   "1.5.4",
		"1.6.0 - 1":   "1.12.1",
		"~1.6, ~1.9":  "1.9.4",
		"~1.9 , 0.7":  "1.9.4",
		"=1.0.5, 0.7": "1.0.5",
		"0.7":         "!there is no Julia",
		"2":           "!there is no Julia",
		"1.x":         "!not a version",
		"$(id)":       "!not a version",
		"1.2.3.4":     "!not a version",
	} {
		p, err := plan.Detect(repo("Project.toml", "[compat]\njulia = '"+compat+"'\n"), plan.Options{})
		checkError(t, err)
		if text, fails := strings.CutPrefix(want, "!"); fails {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%q: error %v, want one with %q", compat, err, text)
			}
			continue
		}
		if err != nil || p.Variables["JULIA_VERSION"] != want {
			t.Errorf("%q: Julia %q, %v; want %q", compat, p.Variables["JULIA_VERSION"], err, want)
		}
	}
}

func TestRVersion(t *testing.T) {
	for _, tt := range []struct{ runtime, base, version, want string }{ // want: base, or part of the error after "!"
		{"r-2024-01-31", "", "4.2.2", "debian:bookworm"},
		{"r-4.2-2024-01-31", "debian:trixie", "4.2.2", "debian:bookworm"},
		{"r-4.2.2-2024-01-31", "", "4.2.2", "debian:bookworm"},
		{"r-4.2.3-2024-01-31", "", "4.2.3", "debian:bookworm"}, // Debian's is not that one
		{"r-4.5-2025-08-01", "", "4.5.0", "debian:trixie"},
		{"r-4.0-2021-08-01", "", "4.0.4", "debian:bullseye"},
		{"r-4.4-2024-08-01", "", "4.4.2", "debian:bookworm"},
		{"r-4.4.1-2024-08-01", "", "4.4.1", "debian:bookworm"},
		{"r-3.6-2019-08-01", "", "3.6.3", "debian:bookworm"},
		{"r-4-2024-08-01", "", "4.2.2", "debian:bookworm"}, // any R 4
		{"r-2.1-2024-08-01", "", "", "!there is no R 2.1"},
		{"r-4.2-2018-12-06", "", "", "!not kept anywhere"},
		{"r-4.2-2018-12-07", "", "4.2.2", "debian:bookworm"},
		{"r-2024-01-31", "x/y:1", "", "x/y:1"},
	} {
		p, err := plan.Detect(repo("runtime.txt", tt.runtime), plan.Options{Base: tt.base})
		checkError(t, err)
		if text, fails := strings.CutPrefix(tt.want, "!"); fails {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%s: error %v, want one with %q", tt.runtime, err, text)
			}
			continue
		}
		if err != nil || p.Base != tt.want || len(p.Env) != 1 || p.Env[0].Version != tt.version {
			t.Errorf("%s: %+v on %s, %v; want R %s on %s", tt.runtime, p.Env, p.Base, err, tt.version, tt.want)
		}
		if fromDebian := slices.Contains(p.Apt, "r-base"); fromDebian == (len(p.Env) == 1 && slices.Contains(p.Env[0].Args, "build")) {
			t.Errorf("%s: R comes from two places, or from none: %v", tt.runtime, p.Apt)
		}
	}
}

// R has to be one that the repository's own package accepts, and it decides on Debian before Python does.
func TestRDecides(t *testing.T) {
	const trixie, bookworm = "debian:trixie", "debian:bookworm"
	for _, tt := range []struct{ runtime, depends, requires, base, version, python, want string }{ // want: base, or part of the error after "!"
		{"", "R (>= 3.5)", "", "", "4.2.2", "3.11", bookworm},
		{"", "R (>= 4.4)", "", "", "4.5.0", "3.13", trixie},
		{"", "a, R(>=4.4.0),\n b", "", "", "4.5.0", "3.13", trixie},
		{"", "R (< 4.1)", "", "", "4.0.4", "3.9", "debian:bullseye"},
		{"", "R (>= 4.1), R (< 4.2)", "", "", "4.1.3", "3.11", bookworm}, // Debian has none of these
		{"", "R (>= 4.6.0)", "", "", "4.6.1", "3.11", bookworm},
		{"", "R (> 4.2-2)", "", "", "4.5.0", "3.13", trixie},
		{"", "R (>= 5)", "", "", "", "", "!DESCRIPTION, line 2: there is no R that fits \">= 5\""},
		{"", "R (whatever)", "", "", "4.2.2", "3.11", bookworm}, // R will say what it thinks of that
		{"", "R (>= 4.4)", "", "x/y:1", "", "", "x/y:1"},
		{"r-2024-01-31", "R (>= 4.4)", "", "", "4.5.0", "3.13", trixie},
		{"r-4-2024-01-31", "R (>= 4.4)", "", "", "4.5.0", "3.13", trixie},
		{"r-4.2-2024-01-31", "R (>= 4.2.3)", "", "", "4.2.3", "3.11", bookworm},
		{"r-4.2-2024-01-31", "R (>= 4.4)", "", "", "", "", "!runtime.txt asks for R 4.2, which DESCRIPTION, line 2 (R >= 4.4) does not accept"},
		{"r-4.3.1-2024-01-31", "R (>= 4.4)", "", "", "", "", "!runtime.txt asks for R 4.3.1, which DESCRIPTION"},
		{"r-2.1-2024-01-31", "R (>= 4.4)", "", "", "", "", "!there is no R 2.1"},

		{"r-4.2-2024-01-31", "", ">=3.12", "", "4.2.2", "3.14", bookworm},
		{"r-4.0-2024-01-31", "", ">=3.13", "", "4.0.4", "3.14", "debian:bullseye"},
		{"r-4-2024-01-31", "", "==3.13.*", "", "4.5.0", "3.13", trixie},
		{"r-4.4-2024-01-31", "", ">=3.12", "", "4.4.2", "3.14", bookworm}, // there are builds for releases only
		{"r-4.4-2024-01-31", "", "==3.13.*", "", "4.4.2", "3.13", trixie},
		{"r-2024-01-31", "", ">=3.12", "", "", "3.14", "debian:forky"}, // any R
		{"", "R (>= 4.4)", "<3.10", "", "4.5.0", "3.9", trixie},
		{"", "R (>= 4.1)", "<3.10", "", "4.2.2", "3.9", bookworm}, // bullseye has that Python, and R 4.0
	} {
		files := repo("a", "")
		for name, text := range map[string]string{
			"runtime.txt": tt.runtime, "DESCRIPTION": strings.ReplaceAll("Package: x\nDepends: %", "%", tt.depends),
			"pyproject.toml": "[project]\nname='x'\nrequires-python='" + tt.requires + "'\n",
		} {
			if text != "" && (name != "DESCRIPTION" || tt.depends != "") {
				files[name] = &fstest.MapFile{Data: []byte(text)}
			}
		}
		p, err := plan.Detect(files, plan.Options{Base: tt.base})
		checkError(t, err)
		if text, fails := strings.CutPrefix(tt.want, "!"); fails {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%q: error %v, want one with %q", tt, err, text)
			}
			continue
		}
		if err != nil || p.Base != tt.want || p.Python != tt.python || len(p.Env) == 0 || p.Env[0].Version != tt.version {
			t.Errorf("%q: %+v, Python %s on %s, %v", tt, p.Env, p.Python, p.Base, err)
		}
	}
}

func TestInstallR(t *testing.T) {
	for _, tt := range []struct {
		script         string
		extra          []string
		content, mixed bool
	}{
		{`install.packages("digest")`, []string{"r-cran-digest"}, false, false},
		{`install.packages(c("A3", 'jsonlite'), repos = "https://x.example")`, []string{"r-cran-a3", "r-cran-jsonlite"}, false, false},
		{"pkgs <- c('Rcpp',\n 'digest')\ninstall.packages(pkgs)", []string{"r-cran-digest", "r-cran-rcpp"}, false, false},
		{"# install.packages('old')\ninstall.packages('digest') # not 'this'", []string{"r-cran-digest"}, false, false},
		{`remotes::install_version("digest", "0.6.1")`, nil, false, false}, // an exact version is not Debian's to give
		{`devtools::install_github("o/r")`, nil, false, false},
		{`install.packages("x; touch y")`, nil, false, false},
		{`source("more.R")`, nil, true, false},
		{`install.packages("./mine", repos = NULL)`, nil, true, false},
		{`devtools::install_local("mine")`, nil, true, false},
		{`reticulate::py_install("x")`, nil, false, true},
		{`IRkernel::installspec()`, nil, false, true},
		{`install.packages(`, nil, false, false},
	} {
		p, err := plan.Detect(repo("runtime.txt", "r-4.2-2024-01-31", "install.R", tt.script), plan.Options{})
		if err != nil {
			t.Errorf("%s: %v", tt.script, err)
			continue
		}
		if diff := cmp.Diff(tt.extra, p.AptExtra); diff != "" {
			t.Errorf("%s: %s", tt.script, diff)
		}
		if got := len(p.Content) == 1; got != tt.content {
			t.Errorf("%s: waits for the repository: %v", tt.script, got)
		}
		for _, in := range p.Env {
			if mixed := in.Prefix == ""; mixed != tt.mixed {
				t.Errorf("%s: has an order of its own: %v (%+v)", tt.script, !mixed, in)
			}
		}
	}
}

// npm's own settings decide what a lock file comes to, so they are there when it is installed, and in the key.
func TestNodeSettings(t *testing.T) {
	registry := `{"lockfileVersion":3,"packages":{"node_modules/a":{"resolved":"https://registry.npmjs.org/a/-/a-1.0.0.tgz"}}}`
	workspace := `{"lockfileVersion":3,"packages":{"node_modules/a":{"resolved":"a","link":true}}}`
	for _, tt := range []struct {
		dir, npmrc, lock string
		includes         []string
		content          bool
	}{
		{"", ".npmrc", registry, []string{"package.json", ".npmrc"}, false},
		{"", "", registry, []string{"package.json"}, false},
		{"binder/", "binder/.npmrc", registry, []string{"binder/package.json", "binder/.npmrc"}, false},
		{"binder/", ".npmrc", registry, []string{"binder/package.json"}, false},
		{"", ".npmrc", workspace, []string{"package.json"}, true}, // with all files in place
	} {
		files := repo(tt.dir+"package.json", "{}", tt.dir+"package-lock.json", tt.lock)
		if tt.npmrc != "" {
			files = repo(tt.dir+"package.json", "{}", tt.dir+"package-lock.json", tt.lock, tt.npmrc, "legacy-peer-deps=true\n")
		}
		p, err := plan.Detect(files, plan.Options{})
		if err != nil {
			t.Fatal(err)
		}
		installs := p.Env
		if tt.content {
			installs = p.Content
		}
		if len(installs) != 1 || cmp.Diff(tt.includes, installs[0].Includes) != "" {
			t.Errorf("%s, %s: %+v, want one with %q", tt.dir, tt.npmrc, installs, tt.includes)
		}
		if own := tt.npmrc != "" && slices.Contains(tt.includes, tt.npmrc); slices.Contains(p.Reads, tt.npmrc) != (own && !tt.content) {
			t.Errorf("%s, %s: reads %q", tt.dir, tt.npmrc, p.Reads)
		}
	}
}

func TestNixPaths(t *testing.T) {
	for text, local := range map[string]bool{
		"with import <nixpkgs> { };\nmkShell { }":                   false,
		`import (fetchTarball "https://github.com/x/y.tar.gz") { }`: false,
		"# ./comment\n/* ../too */ { }":                             false,
		"import ./pinned.nix":                                       true,
		"callPackage ../x { }":                                      true,
		"{ src = ./.; }":                                            true,
		"[ ./a.patch ]":                                             true,
		"(import ./x.nix)":                                          true,
		`{ shellHook = "export PATH=bin/x:$PATH"; }`:                false,
		"callPackage nix/x.nix { }":                                 true,
		"{ src=a/b; }":                                              true,
		"{ x }:nix/x.nix":                                           true,
		"[ overlays/one.nix ]":                                      true,
		`{ a = "b#c"; d = nix/x.nix; }`:                             true,
		`{ a = "b \" c"; d = nix/x.nix; }`:                          true,
		`{ a = "${"\""}"; d = nix/x.nix; }`:                         true,
		`{ a = ''b ''' " ''${c''; d = nix/x.nix; }`:                 true,
		`{ shellHook = ''export X=${nix/x.sh}''; }`:                 true,
		`{ shellHook = "$${no/path}"; }`:                            false,
		`{ shellHook = ''. ./env.sh''; }`:                           true, // it runs when the environment is made
		`{ shellHook = '' ''${no/path} ''\n ${a.b} c/d''; }`:        false,
		`{ a = "b"; /* nix/x.nix */ } # nix/y.nix`:                  false,
		"import <nixpkgs/nixos>":                                    false,
		"a // b":                                                    false,
		"fetchTarball https://github.com/x/y.tar.gz":                false,
		"{ a = 6 / 3; }":                                            false,
	} {
		p, err := plan.Detect(repo("default.nix", text), plan.Options{})
		if err != nil || (len(p.Content) == 1) != local || len(p.Env)+len(p.Content) != 2 {
			t.Errorf("%q: %+v, %v", text, p.Content, err)
		}
	}
}

// No text of any of these languages' files makes the planner panic, or an error that is not the author's.
func FuzzLanguages(f *testing.F) {
	f.Add("install.packages(c('a', \"b\"))", "Imports: a, b (>= 1)", `{"R":{"Version":"4.2"},"Packages":{"x":{"Package":"x","Version":"1.0","Source":"Repository"}}}`, "[compat]\njulia='1.6'", "import ./x")
	f.Fuzz(func(t *testing.T, install, description, lock, project, nix string) {
		for _, files := range [][]string{
			{"runtime.txt", "r-4.2-2024-01-31", "install.R", install, "DESCRIPTION", description, "renv.lock", lock},
			{"renv.lock", lock}, {"Project.toml", project, "Manifest.toml", lock}, {"Project.toml", project, "Manifest.toml", project}, {"default.nix", nix},
		} {
			p, err := plan.Detect(repo(files...), plan.Options{})
			checkError(t, err)
			for _, name := range p.AptExtra {
				if !strings.HasPrefix(name, "r-cran-") || strings.ContainsAny(name, " ;|&$`<>()'\"\\*?[]{}!\n\x00") {
					t.Errorf("apt would be asked for %q", name)
				}
			}
			for k, v := range p.Variables {
				if strings.ContainsAny(k+v, " \n\x00;$`") {
					t.Errorf("variable %s=%q", k, v)
				}
			}
		}
	})
}
