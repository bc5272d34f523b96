package buildkit_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/internal/condatest"
	"github.com/bindery-hub/bindery/plan"
)

// channelDir makes the channel of all tests when the first of them asks for something of it: packing an interpreter
// takes seconds.
var channelDir = sync.OnceValues(func() (string, error) {
	dir, err := mkdir("channel")
	if err != nil {
		return "", err
	}
	all, err := condatest.Sample(context.Background(), "3.10")
	if err != nil {
		return "", err
	}
	return dir, condatest.Write(context.Background(), dir, all...)
})

// oldChannelDir makes a channel with a Python that the servers do not run on, and conda itself, which no machine here can
// reach: it says its name, and it is the way to it that is tested.
var oldChannelDir = sync.OnceValues(func() (string, error) {
	main, err := channelDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(main, "old")
	python, kernel, err := condatest.OldKernel(context.Background())
	if err != nil {
		return "", err
	}
	program := func(name string) map[string]condatest.File {
		return map[string]condatest.File{"bin/" + name: {Data: []byte("#!/bin/sh\necho " + name + " of the channel\n"), Executable: true}}
	}
	return dir, condatest.Write(context.Background(), dir, python, kernel,
		condatest.Package{Name: "pip", Version: "24", Noarch: "generic"},
		condatest.Package{Name: "conda", Version: "26.3.2", Files: program("conda")}, condatest.Package{Name: "mamba", Version: "2.8.1", Files: program("mamba")})
})

// serveChannel serves the channel at /forge, and at /private for those who have the token.
func serveChannel() (url string, stop func()) {
	serve := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		dir, err := channelDir()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		http.FileServer(http.Dir(dir)).ServeHTTP(w, r)
	})
	mux := http.NewServeMux()
	mux.Handle("/forge/", http.StripPrefix("/forge", serve))
	mux.Handle("/private/", http.StripPrefix("/private", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer let-me-in" {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		serve(w, r)
	})))
	mux.Handle("/old/", http.StripPrefix("/old", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		dir, err := oldChannelDir()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		http.FileServer(http.Dir(dir)).ServeHTTP(w, r)
	})))
	s := httptest.NewServer(mux)
	channelURL = s.URL
	return s.URL, s.Close
}

var channelURL string // set by serveChannel

// condaJob plans the files of dir, and makes a job of them.
func condaJob(t *testing.T, name, dir string) plan.Job {
	t.Helper()
	j := job(name, dir)
	got, err := plan.Detect(os.DirFS(dir), plan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	j.Plan = got
	if j.EnvKey, err = got.EnvKey("g", os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	j.ImageKey = fmt.Sprint("image-", name, time.Now().UnixNano())
	return j
}

// scienceYML is an environment with a bit of everything, and a requirement in line 10.
func scienceYML(requirement string) string {
	return "name: other\ndependencies:\n- python>=3.9\n- greet=2\n- libgreet\n- postgreet\n- oldgreet\n- pip\n- pip:\n  - " + requirement + "\nvariables:\n  GREETING: good 'day'\n"
}

func TestCondaEnvironment(t *testing.T) {
	e := shared(t)
	dir := repo(t,
		"environment.yml", scienceYML("six==1.16.0"),
		"notebook.ipynb", "{}",
		"postBuild", "conda run -n notebook greet > greeted\nmamba list > listed\nwhich conda mamba > which\nconda env list > envs\n",
	)
	j := condaJob(t, "conda", dir)
	began := time.Now()
	made := solve(t, e, j)
	t.Logf("cold: %.1f s, %+v", time.Since(began).Seconds(), made.Steps)
	got := inside(t, e, made.Image.Name, "/bin/bash", "-lc", `mount -t proc proc /proc; trap "umount /proc" EXIT; cd /home/jovyan
cat greeted listed which envs
echo "GREETING=$GREETING GREET_HOME=$GREET_HOME CONDA_PREFIX=$CONDA_PREFIX"
python --version; python -c 'import six; print("six", six.__version__)'; greet; greet-where; cat $NB_PYTHON_PREFIX/share/postgreet
conda activate base; echo "now $CONDA_PREFIX"; conda activate notebook; echo "then $CONDA_PREFIX"
conda frobnicate; echo "code $?"; conda install --frobnicate x; echo "code $?"; (set -o | grep errexit)
jupyter lab --version; jupyter server --version; ls -a; head -c 1000 $NB_PYTHON_PREFIX/conda-meta/greet*.json | grep url; grep -r 127.0.0.1 $NB_PYTHON_PREFIX/conda-meta /srv/conda/bin/conda | head`)
	t.Log(got)
	for _, want := range []string{
		"hello from 2.1 in /srv/conda/envs/notebook", "libgreet                 3.1", "/srv/conda/bin/conda\n/srv/conda/bin/mamba\n", "notebook             ",
		"GREETING=good 'day' GREET_HOME=/srv/conda/envs/notebook/share CONDA_PREFIX=/srv/conda/envs/notebook",
		"does not know frobnicate.\ncode 2\n", "does not know the option --frobnicate.\ncode 2\n", "errexit        \toff",
		"Python 3.10.16", "six 1.16.0", "linked", "now /srv/conda\n", "then /srv/conda/envs/notebook\n", `"url": "https://conda.anaconda.org/conda-forge/noarch/greet-2.1-py_0.conda"`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q", want)
		}
	}
	if strings.Contains(got, "127.0.0.1") {
		t.Error("the image knows the mirror")
	}
	checkClean(t, e, made)

	began = time.Now()
	again := solve(t, e, j)
	t.Logf("again: %.2f s", time.Since(began).Seconds())
	if again.Steps.Run != 0 {
		t.Errorf("the second build ran %d steps", again.Steps.Run)
	}
	j = condaJob(t, "conda-notebook", repo(t, "environment.yml", "# a comment\n"+scienceYML("six==1.16.0"), "notebook.ipynb", "{\"a\": 1}"))
	j.Source = bindery.Source{Provider: bindery.ProviderLocal, URL: "/test/conda"}
	if changed := solve(t, e, j); changed.Steps.Run != 0 {
		t.Errorf("another notebook and a comment: %d steps ran", changed.Steps.Run)
	}
}

func TestCondaFaults(t *testing.T) {
	e := shared(t)
	for name, tt := range map[string]struct {
		text  string
		says  string
		kind  bindery.Kind
		fault bindery.Fault
	}{
		"no such package":     {"dependencies:\n- greet\n- nosuch>=2\n", `environment.yml, line 3: There is no package for "nosuch>=2"`, bindery.ErrStep, bindery.User},
		"no such version":     {"dependencies:\n- greet=9\n", `environment.yml, line 2: No version of the package fits "greet=9"; the channels (conda-forge) have 2.1, 2.0, 1.0.`, bindery.ErrStep, bindery.User},
		"no solution":         {"dependencies:\n- greet=2.1\n- only-old\n", "environment.yml, line 2 and line 3: The environment has no solution", bindery.ErrStep, bindery.User},
		"not a spec":          {"dependencies:\n- 'gr!!=x='\n", "environment.yml, line 2: \"gr!!=x=\" is not a dependency", bindery.ErrStep, bindery.User},
		"no such channel":     {"channels: ['" + channelURL + "/none', nodefaults]\ndependencies: [greet]\n", "A channel does not have what it should", bindery.ErrStep, bindery.User},
		"channel is away":     {"channels: ['http://127.0.0.1:1/x', nodefaults]\ndependencies: [greet]\n", "environment.yml, line 1: The channel http://127.0.0.1:1/x could not be reached", bindery.ErrUnreachable, bindery.Transient},
		"no such requirement": {scienceYML("bindery-has-no-such-package==1.0"), "environment.yml, line 10", bindery.ErrStep, bindery.User},
		"channel forbids":     {"channels: ['" + strings.Replace(channelURL, "127.0.0.1", "localhost", 1) + "/private', nodefaults]\ndependencies: [greet]\n", "A channel does not have what it should", bindery.ErrStep, bindery.User},
	} {
		t.Run(name, func(t *testing.T) {
			s := &story{t: t}
			_, err := e.Solve(t.Context(), condaJob(t, "conda-fault", repo(t, "environment.yml", tt.text)), s.emit)
			got, ok := errors.AsType[*bindery.Error](err)
			if !ok || got.Kind != tt.kind || got.Fault != tt.fault || !strings.Contains(got.Msg, tt.says) || got.Remedy == "" {
				t.Errorf("got %#v\n%v\n%s", got, err, s.text())
			}
		})
	}
}

// lockOf is a conda-lock.yml with packages of the tests' channel, under the name that the world has for it.
func lockOf(t *testing.T, files ...string) string {
	t.Helper()
	dir, err := channelDir()
	if err != nil {
		t.Fatal(err)
	}
	text := "version: 1\nmetadata: {channels: [{url: conda-forge}]}\npackage:\n"
	for _, file := range files {
		data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(file)))
		if err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf("- {name: x, version: '1', manager: conda, platform: linux-64, url: 'https://conda.anaconda.org/conda-forge/%s', hash: {sha256: %x}}\n", file, sha256.Sum256(data))
	}
	return text
}

func TestCondaLock(t *testing.T) {
	e := shared(t)
	lock := lockOf(t, "linux-64/python-3.10.16-0_cpython.conda", "noarch/greet-2.0-py_0.conda", "linux-64/oldgreet-0.9-0.tar.bz2")
	lock += "- {name: six, version: 1.16.0, manager: pip, platform: linux-64, url: 'https://files.pythonhosted.org/packages/d9/5a/e7c31adbe875f2abbb91bd84cf2dc52d792b5a01506781dbcf25c91daf11/six-1.16.0-py2.py3-none-any.whl', hash: {sha256: 8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254}}\n"
	dir := repo(t, "conda-lock.yml", lock, "postBuild", "set -e\nconda install -y libgreet 'greet<2'\nconda list --json > after\n")
	made := solve(t, e, condaJob(t, "conda-lock", dir))
	got := inside(t, e, made.Image.Name, "/bin/bash", "-lc", `mount -t proc proc /proc; trap "umount /proc" EXIT
greet; python -c 'import six; print("six", six.__version__)'; cat $NB_PYTHON_PREFIX/share/oldgreet ~/after; greet-where; ls /tmp /srv/conda
grep -A3 '"depends"' $NB_PYTHON_PREFIX/conda-meta/greet-*.json; cat $NB_PYTHON_PREFIX/conda-meta/oldgreet-*.json | head -20`)
	t.Log(got)
	for _, want := range []string{"hello from 1.0 in /srv/conda/envs/notebook", "six 1.16.0", "old", `"name": "libgreet"`, `"python >=3.9"`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q", want)
		}
	}

	lied := strings.Replace(lock, "{sha256: ", "{sha256: 00", 1)
	lied = lied[:strings.Index(lied, "sha256: 00")+len("sha256: ")+64] + lied[strings.Index(lied, "sha256: 00")+len("sha256: ")+66:]
	s := &story{t: t}
	_, err := e.Solve(t.Context(), condaJob(t, "conda-lied", repo(t, "conda-lock.yml", lied)), s.emit)
	if got, ok := errors.AsType[*bindery.Error](err); !ok || got.Fault != bindery.User || !strings.Contains(got.Msg, "conda-lock.yml: A package is not the one that the lock file names by its hash: https://conda.anaconda.org/conda-forge/linux-64/python") {
		t.Errorf("a package with another hash than the lock file's: %v\n%s", err, s.text())
	} else {
		t.Log(got.Msg)
	}
}

// A pixi.lock is installed as it is: another version than the manifest would be solved to, and the wheel that it names. What
// the manifest says beside it counts.
func TestPixiLock(t *testing.T) {
	e := shared(t)
	channel, err := channelDir()
	if err != nil {
		t.Fatal(err)
	}
	var used, packages string
	for _, file := range []string{"linux-64/python-3.10.16-0_cpython.conda", "noarch/greet-2.0-py_0.conda", "linux-64/libgreet-3.1-0.conda"} {
		data, err := os.ReadFile(filepath.Join(channel, filepath.FromSlash(file)))
		if err != nil {
			t.Fatal(err)
		}
		used += "      - conda: https://conda.anaconda.org/conda-forge/" + file + "\n"
		packages += fmt.Sprintf("- conda: https://conda.anaconda.org/conda-forge/%s\n  sha256: %x\n", file, sha256.Sum256(data))
	}
	const wheel = "https://files.pythonhosted.org/packages/d9/5a/e7c31adbe875f2abbb91bd84cf2dc52d792b5a01506781dbcf25c91daf11/six-1.16.0-py2.py3-none-any.whl"
	lock := "version: 6\nenvironments:\n  default:\n    channels:\n    - url: https://conda.anaconda.org/conda-forge/\n    indexes:\n    - https://pypi.org/simple\n    packages:\n      linux-64:\n" +
		used + "      - pypi: " + wheel + "\npackages:\n" + packages +
		"- pypi: " + wheel + "\n  name: six\n  version: 1.16.0\n  sha256: 8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254\n"
	dir := repo(t, "pixi.lock", lock, "pixi.toml",
		"[workspace]\nname = 'x'\nchannels = ['conda-forge']\nplatforms = ['linux-64']\n[dependencies]\npython = '>=3.10'\ngreet = '2.*'\n[pypi-dependencies]\nsix = '*'\n[activation.env]\nGREETING = 'good day'\n")
	j := condaJob(t, "pixi-lock", dir)
	made := solve(t, e, j)
	got := inside(t, e, made.Image.Name, "/bin/bash", "-lc", `mount -t proc proc /proc; trap "umount /proc" EXIT
greet; python -c 'import six; print("six", six.__version__)'; greet-where; echo "$GREETING"; jupyter lab --version`)
	for _, want := range []string{"hello from 2.0 in /srv/conda/envs/notebook\n", "six 1.16.0\n", "\n/srv/conda/envs/notebook\n", "good day\n4."} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
	checkClean(t, e, made)
	if again := solve(t, e, j); again.Steps.Run != 0 {
		t.Errorf("the second build ran %d steps", again.Steps.Run)
	}
}

func TestCondaPrivateChannel(t *testing.T) {
	e := shared(t)
	dir := repo(t, "environment.yml", "channels: ['"+channelURL+"/private', ./lab, nodefaults]\ndependencies: [greet=1.0, python=3.10, ours]\n", "postBuild", "cat /run/bindery-conda/auth.json > stolen || echo nothing > stolen\nenv > env\n")
	ours := condatest.Package{Name: "ours", Version: "1", Noarch: "generic", Files: map[string]condatest.File{"share/ours": {Data: []byte("of the repository's own channel")}}}
	if err := condatest.Write(t.Context(), filepath.Join(dir, "lab"), ours); err != nil {
		t.Fatal(err)
	}
	j := condaJob(t, "conda-private", dir)
	s := &story{t: t}
	made, err := e.Solve(t.Context(), j, s.emit)
	if err != nil {
		t.Fatalf("%v\n%s", err, s.text())
	}
	got := inside(t, e, made.Image.Name, "/bin/sh", "-c", "cat /srv/conda/envs/notebook/share/ours; grep url /srv/conda/envs/notebook/conda-meta/ours*; ls -ld /home/jovyan/lab; cat /home/jovyan/stolen /home/jovyan/env; ls -R /run; grep -rl let-me-in /srv /home /etc /run || echo clean")
	if strings.Contains(got+s.text(), "let-me-in") || !strings.Contains(got, "nothing") || !strings.Contains(got, "clean") || !strings.Contains(got, "of the repository's own channel") {
		t.Errorf("the token is to be found:\n%s", got)
	}
}

// The servers do not run on every Python: such an environment is the kernel's only, and cells run in it. And conda is the
// channel's own where it has one.
func TestCondaKernel(t *testing.T) {
	e := shared(t)
	dir := repo(t, "environment.yml", "channels: ['"+channelURL+"/old', nodefaults]\ndependencies: [python=3.7]\n", "postBuild", "conda > said\nmamba >> said\nenv > env\n")
	made := solve(t, e, condaJob(t, "conda-kernel", dir))
	got := inside(t, e, made.Image.Name, "/bin/bash", "-lc", `mount -t proc proc /proc; trap "umount /proc" EXIT; cd
cat said; grep -E "^(KERNEL_PYTHON_PREFIX|CONDA_DEFAULT_ENV)=" env; which python3; cat $NB_PYTHON_PREFIX/share/jupyter/kernels/python3/kernel.json
$KERNEL_PYTHON_PREFIX/bin/python -c 'import sys; print("kernel", sys.prefix)'; jupyter lab --version; ls /srv/conda/conda-meta; echo $CONDA_PREFIX
echo 'import sys; print("a cell in", sys.version_info[:2])' > cell.py; jupyter run --kernel=python3 cell.py`)
	t.Log(got)
	for _, want := range []string{
		"a cell in (3, 7)\n",
		"conda of the channel\nmamba of the channel\n", "KERNEL_PYTHON_PREFIX=/srv/conda/envs/kernel", "CONDA_DEFAULT_ENV=/srv/conda/envs/kernel",
		"/srv/conda/envs/notebook/bin/python3\n", "\n  \"/srv/conda/envs/kernel/bin/python\",\n", "kernel /srv/conda/envs/kernel", "conda-26.3.2-0.json",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q", want)
		}
	}
}
