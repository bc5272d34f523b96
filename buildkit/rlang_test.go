package buildkit_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/bindery-hub/bindery/plan"
)

// cran serves a repository of R packages as CRAN is laid out: src/contrib/PACKAGES and sources. Of zzgamma there is an
// old version too, in the archive; zzalpha has code to compile.
func cran(t testing.TB) string {
	t.Helper()
	mux := http.NewServeMux()
	var index strings.Builder
	serve := func(path string, body []byte) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })
	}
	for _, p := range []struct{ name, version, imports, at string }{
		{"zzalpha", "1.2.0", "zzbeta", ""}, {"zzbeta", "0.3.1", "", ""}, {"zzgamma", "2.0.0", "", ""}, {"zzgamma", "1.0.0", "", "Archive/zzgamma/"},
	} {
		description := fmt.Sprintf("Package: %s\nVersion: %s\nTitle: A Sample\nDescription: For tests.\nAuthor: Ann\nMaintainer: Ann <ann@example.org>\nLicense: MIT\n", p.name, p.version)
		if p.imports != "" {
			description += "Imports: " + p.imports + "\n"
		}
		files := map[string]string{
			"DESCRIPTION":  description,
			"NAMESPACE":    "export(hello)\n",
			"R/hello.R":    fmt.Sprintf("hello <- function() cat(\"%s %s\\n\")\n", p.name, p.version),
			"man/hello.Rd": helpPage("hello"),
		}
		if p.name == "zzalpha" {
			files["NAMESPACE"] += "export(same)\nuseDynLib(zzalpha)\n"
			files["R/same.R"] = "same <- function(x) .Call('minusOne', .Fortran('half', x = .Call('twiceAndTwo', x))$x)\n"
			files["src/twice.c"] = "#include <Rinternals.h>\nSEXP twiceAndTwo(SEXP x) { return Rf_ScalarReal(2 * Rf_asReal(x) + 2); }\n"
			files["src/half.f"] = "      subroutine half(x)\n      double precision x\n      x = x / 2\n      end\n"
			files["src/minus.cpp"] = "#include <functional>\n#include <Rinternals.h>\nnamespace { std::function<double(double)> minus = [](double x) { return x - 1; }; }\n" +
				"extern \"C\" SEXP minusOne(SEXP x) { return Rf_ScalarReal(minus(Rf_asReal(x))); }\n"
		}
		serve(fmt.Sprintf("/src/contrib/%s%s_%s.tar.gz", p.at, p.name, p.version), tarball(t, p.name, files))
		if p.at == "" {
			index.WriteString(description + "\n")
		}
	}
	serve("/src/contrib/PACKAGES", []byte(index.String()))
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv.URL
}

// helpPage is R's documentation of one function, with an expression that is evaluated when the page is made.
func helpPage(name string) string {
	return fmt.Sprintf("\\name{%[1]s}\n\\alias{%[1]s}\n\\title{It}\n\\description{Does it \\Sexpr[stage=build]{1 + 1} times.}\n\\usage{%[1]s()}\n", name)
}

func tarball(t testing.TB, dir string, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		text := files[name]
		if err := w.WriteHeader(&tar.Header{Name: dir + "/" + name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// planned is the job of what plan finds in a directory. Variables are for its installs' steps.
func planned(t testing.TB, name, dir string, env ...string) plan.Job {
	t.Helper()
	p, err := plan.Detect(os.DirFS(dir), plan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range [][]plan.Install{p.Env, p.Content} {
		for i := range list {
			own := map[string]string{}
			for k, v := range list[i].Env {
				own[k] = v
			}
			for j := 0; j < len(env); j += 2 {
				own[env[j]] = env[j+1]
			}
			list[i].Env = own
		}
	}
	j := job(name, dir)
	j.Plan = p
	return j
}

// rRepository has R in all its forms. more ends its install.R.
func rRepository(t testing.TB, more string) string {
	t.Helper()
	return repo(t,
		"runtime.txt", "r-4.2-2024-01-31\n",
		"install.R", "install.packages(c('digest', 'zzalpha'))\n"+more,
		"renv.lock", `{"R": {"Version": "4.2.2", "Repositories": [{"Name": "CRAN", "URL": "https://cran.example"}]}, "Packages": {"zzgamma": {"Package": "zzgamma", "Version": "1.0.0", "Source": "Repository", "Repository": "CRAN"}}}`,
		"DESCRIPTION", "Package: sample\nVersion: 0.1\nTitle: Mine\nDescription: Of the repository.\nAuthor: Ann\nMaintainer: Ann <ann@example.org>\nLicense: MIT\nImports: zzbeta, jsonlite\n",
		"NAMESPACE", "export(mine)\n", "R/mine.R", "mine <- function() cat('mine\\n')\n", "man/mine.Rd", helpPage("mine"))
}

// fromGit makes a Git repository with a package in a directory, that needs one of a repository like CRAN and is needed by
// another, and has /tmp/restore.R install its first commit with these, then one from a repository that is not there.
const fromGit = `
package() {
	mkdir -p "$2/R"
	printf 'Package: %s\nVersion: 1.0\nTitle: A\nDescription: B.\nAuthor: Ann\nMaintainer: Ann <ann@example.org>\nLicense: MIT\nImports: %s\n' "$1" "$3" >"$2/DESCRIPTION"
	printf 'export(hello)\nimport(%s)\n' "$3" >"$2/NAMESPACE"
	echo "hello <- function() cat('$1\n')" >"$2/R/hello.R"
}
package zzneed /tmp/need utils
package zzafter /tmp/after zzgit
package zzgit /tmp/git/sub zzneed
mkdir -p /tmp/cran/src/contrib; cd /tmp/cran/src/contrib
R CMD build --no-manual /tmp/need /tmp/after >/dev/null
cd /tmp/git; git init -q .
keep() { echo "hello <- function() cat('$1\n')" >sub/R/hello.R; git add .; git -c user.name=Ann -c user.email=ann@example.org commit -qm "$1"; }
keep 'the locked one'
locked=$(git rev-parse HEAD)
keep 'a later one'
mkdir /tmp/lock; cd /tmp/lock
lock() {
	printf '{\n  "R": {"Repositories": [{"Name": "Here", "URL": "file:///tmp/cran"}]}, "Packages": {\n    "%s": {"Package": "%s", "Version": "1.0", "Source": "git", "RemoteType": "git",\n' "$1" "$1"
	printf '      "RemoteUrl": "file://%s", "RemoteRef": "HEAD", "RemoteSha": "%s", "RemoteSubdir": "sub", "Requirements": ["R", "zzneed"]}' "$2" "$locked"
	for more in $3; do
		printf ',\n    "%s": {"Package": "%s", "Version": "1.0", "Source": "Repository", "Repository": "Here"}' "$more" "$more"
	done
	echo '}}'
}
lock zzgit /tmp/git 'zzafter zzneed' >renv.lock
Rscript /tmp/restore.R renv.lock 2>&1
Rscript -e 'zzneed::hello(); zzgit::hello(); zzafter::hello()'
lock zzgone /tmp/gone >renv.lock
Rscript /tmp/restore.R renv.lock 2>&1 || true
`

// R in all its forms at once: Debian's R with its kernel, a script, a lock, a package, and what comes from Debian in
// place of CRAN.
func TestR(t *testing.T) {
	e := shared(t)
	dir := rRepository(t, "stop('half way')\n")
	j := planned(t, "r", dir, "BINDERY_R_CRAN", cran(t))
	s := &story{t: t}
	made, err := e.Solve(t.Context(), j, s.emit)
	if err != nil {
		t.Fatalf("%v\n%s", err, s.text())
	}
	for _, want := range []string{"Here already, as Debian's packages: digest", "ended with exit code 1. The build goes on"} {
		if !strings.Contains(s.text(), want) {
			t.Errorf("it does not say %q:\n%s", want, s.text())
		}
	}
	got := inside(t, e, made.Image.Name, "/bin/bash", "-lc", `cd /home/jovyan; Rscript -e 'zzalpha::hello(); zzbeta::hello(); zzgamma::hello(); sample::mine(); cat(zzalpha::same(42), "\n"); cat(find.package("digest"), getOption("repos"), Sys.getenv("R_LIBS_USER"), "\n")'; jupyter kernelspec list 2>/dev/null; stat -c %U /srv/rlibs`)
	for _, want := range []string{
		"zzalpha 1.2.0\nzzbeta 0.3.1\nzzgamma 1.0.0\nmine\n42 \n", "/usr/lib/R/site-library/digest",
		"https://packagemanager.posit.co/cran/__linux__/bookworm/2024-01-31 /srv/rlibs", "/srv/conda/envs/notebook/share/jupyter/kernels/ir\n", "\njovyan\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if testing.Verbose() {
		t.Log(s.text())
	}
	t.Run("takes packages of a lock from Git", func(t *testing.T) {
		restore, err := os.ReadFile("assets/restore.R")
		if err != nil {
			t.Fatal(err)
		}
		got := inside(t, e, made.Image.Name, "/bin/bash", "-lc", "cat >/tmp/restore.R <<'END'\n"+string(restore)+"END\n"+fromGit)
		for _, want := range []string{"zzneed\nthe locked one\nzzafter\n", "renv.lock, line 3: zzgone 1.0: "} {
			if !strings.Contains(got, want) {
				t.Errorf("no %q in\n%s", want, got)
			}
		}
	})
	t.Run("leaves no caches and no trust store", func(t *testing.T) { checkClean(t, e, made) })
	t.Run("the same again", func(t *testing.T) {
		if again := solve(t, e, j); again.Steps.Run != 0 {
			t.Errorf("steps %+v, want none run", again.Steps)
		}
	})
}
