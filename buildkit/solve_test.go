package buildkit_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/plan"
)

func TestDefaultEnvironment(t *testing.T) {
	e := shared(t)
	made := solve(t, e, job("default", repo(t, "notebook.ipynb", "{}", "ünï cödé.txt", "x")))
	got := inside(t, e, made.Image.Name, "/bin/bash", "-lc", "jupyter --version; node --version; npm --version; npm prefix -g; ls -ln /home/jovyan; id jovyan; locale")
	for _, want := range []string{"jupyterlab       : 4.", "notebook         : 7.", "v20.", "/srv/npm", "1000 1000 ", "ünï cödé.txt", "uid=1000(jovyan) gid=1000(jovyan)", "LC_ALL=en_US.UTF-8"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

// One image in which most things happen, since each build costs seconds.
func TestPythonRepository(t *testing.T) {
	e := shared(t)
	dir := repo(t,
		"binder/requirements.txt", "-r more.txt\nsix==1.16.0\n", "binder/more.txt", "packaging\n",
		"binder/postBuild", "id -un > built-by\nsix=$(python -c 'import six; print(six.__version__)')\necho $six > six-version\npwd > where\n",
		"binder/start", "#!/bin/bash\nexport STARTED=yes\nexec \"$@\"\n",
		"package/__init__.py", "", "setup.py", "from setuptools import setup\nsetup(name='mine', version='1.0', packages=['package'])\n", ".git/HEAD", "ref: refs/heads/main\n")
	j := job("python", dir)
	j.GitDir = filepath.Join(dir, ".git")
	j.Plan.Apt = []string{"cowsay"}
	j.Plan.Env = []plan.Install{{Tool: "pip", Files: []string{"binder/requirements.txt"}, Includes: []string{"binder/more.txt"}}}
	j.Plan.Content = []plan.Install{{Tool: "pip", Args: []string{"."}}}
	j.Plan.PostBuild, j.Plan.Start = "binder/postBuild", "binder/start"
	made := solve(t, e, j)
	for cmd, want := range map[string]string{
		"cat built-by six-version where":                   "jovyan\n1.16.0\n/home/jovyan\n",
		"echo $STARTED":                                    "yes\n",
		"python -c 'import package, six; print(\"fine\")'": "fine\n",
		"python -v -c 'import six, jupyter_server.serverapp' 2>&1 | grep -e 'six.*matches' -e stale -e '^# wrote' | wc -l": "1\n",
		"/usr/games/cowsay -l | head -c 3":             "Cow",
		"stat -c '%u:%g %n' .git/HEAD .":               "1000:1000 .git/HEAD\n1000:1000 .\n",
		"echo $PATH":                                   "/home/jovyan/.local/bin:/home/jovyan/.local/bin:/srv/conda/envs/notebook/bin:/srv/conda/bin:/srv/npm/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n",
		"echo $CONDA_PREFIX; which python pip jupyter": "/srv/conda/envs/notebook\n/srv/conda/envs/notebook/bin/python\n/srv/conda/envs/notebook/bin/pip\n/srv/conda/envs/notebook/bin/jupyter\n",
		"exit 7": "!exit status 7",
	} {
		got, err := tryInside(t, e, made.Image.Name, "/usr/sbin/chroot", "--userspec=1000:1000", "/", "/bin/sh", "-c", `cd /home/jovyan && exec "$@"`, "sh", "/usr/local/bin/repo2docker-entrypoint", "/bin/bash", "-c", cmd)
		if err != nil {
			got = "!" + err.Error()
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", cmd, got, want)
		}
	}
	compiled := inside(t, e, made.Image.Name, "/bin/sh", "-c", "ls /srv/conda/envs/notebook/lib/python3.11/site-packages/__pycache__ | grep -c '^six'; ls -A /srv/conda/envs/notebook | grep -c bindery; true")
	if compiled != "1\n0\n" {
		t.Errorf("compiled and left over: %q", compiled)
	}
	t.Run("the same again", func(t *testing.T) {
		if again := solve(t, e, j); again.Steps.Run != 0 {
			t.Errorf("steps %+v, want none run", again.Steps)
		}
	})
	t.Run("a changed notebook", func(t *testing.T) {
		plain := j
		plain.Plan.PostBuild, plain.Plan.Content = "", nil
		solve(t, e, plain)
		if err := os.WriteFile(filepath.Join(dir, "new.ipynb"), []byte("{}"), 0o644); err != nil {
			t.Fatal(err)
		}
		if again := solve(t, e, plain); again.Steps.Run != 0 {
			t.Errorf("steps %+v, want none run", again.Steps)
		}
	})
	t.Run("leaves no caches and no trust store", func(t *testing.T) { checkClean(t, e, made) })
}

func TestFailures(t *testing.T) {
	e := shared(t)
	tests := []struct {
		name  string
		files []string
		edit  func(*plan.Job)
		kind  error
		fault bindery.Fault
		says  string
	}{
		{"requirement that does not exist", []string{"requirements.txt", "no-such-package-bindery==1\n"}, func(j *plan.Job) {
			j.Plan.Env = []plan.Install{{Tool: "pip", Files: []string{"requirements.txt"}}}
		}, bindery.ErrStep, bindery.User, "no-such-package-bindery"},
		{"postBuild that fails", []string{"postBuild", "echo before; exit 3\n"}, func(j *plan.Job) { j.Plan.PostBuild = "postBuild" },
			bindery.ErrStep, bindery.User, "exit code 3"},
		{"apt package that does not exist", []string{"apt.txt", "x"}, func(j *plan.Job) {
			j.Plan.Apt, j.Plan.AptLines = []string{"git=1:0.1", "no-such-package-bindery"}, map[string]int{"git=1:0.1": 2, "no-such-package-bindery": 3}
		},
			bindery.ErrStep, bindery.User, "apt.txt, line 2: Debian bookworm has no package git=1:0.1.\napt.txt, line 3: Debian bookworm has no package no-such-package-bindery."},
		{"Dockerfile that fails", []string{"Dockerfile", "FROM debian:bookworm\nRUN echo about to fail && exit 5\n"}, func(j *plan.Job) { j.Plan = plan.Plan{Pack: plan.PackDockerfile, Docker: "Dockerfile"} },
			bindery.ErrStep, bindery.User, `Dockerfile, line 2: "[1/2] RUN echo about to fail && exit 5" failed with exit code 5`},
		{"Dockerfile that fails with a cache from the image it builds on", []string{"Dockerfile", cachedDockerfile("exit 3")}, func(j *plan.Job) { j.Plan = plan.Plan{Pack: plan.PackDockerfile, Docker: "Dockerfile"} },
			bindery.ErrStep, bindery.User, "Dockerfile, line 3: \"[stage-1 1/1] RUN --mount=type=cache,id=kept,from=base,source=/srv,target=/cache exit 3\" failed with exit code 3"},
		{"Dockerfile that mounts what its image lacks twice", []string{"Dockerfile", "FROM debian:bookworm AS base\nFROM base\nRUN --mount=from=base,source=/lacking,target=/x true\n"}, func(j *plan.Job) { j.Plan = plan.Plan{Pack: plan.PackDockerfile, Docker: "Dockerfile"} },
			bindery.ErrStep, bindery.User, "/lacking"},
		{"Dockerfile that is none", []string{"Dockerfile", "FROM debian:bookworm\nFETCH it\n"}, func(j *plan.Job) { j.Plan = plan.Plan{Pack: plan.PackDockerfile, Docker: "Dockerfile"} },
			bindery.ErrStep, bindery.User, "Dockerfile, line 2: unknown instruction: FETCH"},
		{"Dockerfile that copies nothing", []string{"binder/Dockerfile", "FROM debian:bookworm\nCOPY nothing /\n"}, func(j *plan.Job) { j.Plan = plan.Plan{Pack: plan.PackDockerfile, Docker: "binder/Dockerfile"} },
			bindery.ErrStep, bindery.User, `binder/Dockerfile, line 2: "/nothing": not found`},
		{"Dockerfile from a closed registry", []string{"Dockerfile", "FROM 127.0.0.1:1/some/image\n"}, func(j *plan.Job) { j.Plan = plan.Plan{Pack: plan.PackDockerfile, Docker: "Dockerfile"} },
			bindery.ErrNotAllowed, bindery.User, "not public"},
		{"Dockerfile that adds from a closed address", []string{"Dockerfile", "FROM scratch\nADD http://127.0.0.1:1/x /\n"}, func(j *plan.Job) { j.Plan = plan.Plan{Pack: plan.PackDockerfile, Docker: "Dockerfile"} },
			bindery.ErrNotAllowed, bindery.User, "not public"},
		{"Dockerfile from a registry that is away", []string{"Dockerfile", "FROM no-such-host.invalid/some/image\n"}, func(j *plan.Job) { j.Plan = plan.Plan{Pack: plan.PackDockerfile, Docker: "Dockerfile"} },
			bindery.ErrUnreachable, bindery.Transient, "Dockerfile, line 1: The server no-such-host.invalid, which the build needs, could not be reached"},
		{"Dockerfile that adds from a server that is away", []string{"Dockerfile", "FROM scratch\nADD https://no-such-host.invalid/x /\n"}, func(j *plan.Job) { j.Plan = plan.Plan{Pack: plan.PackDockerfile, Docker: "Dockerfile"} },
			bindery.ErrUnreachable, bindery.Transient, "could not be reached"},
		{"Dockerfile that adds a repository", []string{"Dockerfile", "FROM scratch\nADD https://git.example/x.git /\n"}, func(j *plan.Job) { j.Plan = plan.Plan{Pack: plan.PackDockerfile, Docker: "Dockerfile"} },
			bindery.ErrStep, bindery.User, "not supported"},
		{"Dockerfile that asks for the host's network", []string{"Dockerfile", "FROM debian:bookworm\nRUN --network=host true\n"}, func(j *plan.Job) { j.Plan = plan.Plan{Pack: plan.PackDockerfile, Docker: "Dockerfile"} },
			bindery.ErrStep, bindery.User, "network.host is not allowed"},
		{"disk that is not full", []string{"postBuild", "echo write: No space left on device; exit 1\n"}, func(j *plan.Job) { j.Plan.PostBuild = "postBuild" },
			bindery.ErrStep, bindery.User, "exit code 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j := job("failure", repo(t, tt.files...))
			tt.edit(&j)
			s := &story{t: t}
			_, err := e.Solve(t.Context(), j, s.emit)
			be, ok := errors.AsType[*bindery.Error](err)
			if !ok || !errors.Is(err, tt.kind) || be.Fault != tt.fault || !strings.Contains(be.Msg, tt.says) || be.Remedy == "" {
				t.Fatalf("got %#v (%v), want kind %v, fault %v and %q", be, err, tt.kind, tt.fault, tt.says)
			}
			t.Log(be.Msg)
		})
	}
}

func TestDockerfile(t *testing.T) {
	e := shared(t)
	j := job("dockerfile", repo(t, "binder/Dockerfile", "# syntax=docker/dockerfile:1\nFROM debian:bookworm\nARG NB_USER\nARG NB_UID\nENV A=b\nCOPY data /data\nRUN echo $NB_USER $NB_UID > /who && useradd -u $NB_UID $NB_USER\nUSER ${NB_USER}\n",
		"data/in", "yes", "data/out", "no", ".dockerignore", "data/out\n"))
	j.Plan = plan.Plan{Pack: plan.PackDockerfile, Docker: "binder/Dockerfile"}
	made := solve(t, e, j)
	if got := inside(t, e, made.Image.Name, "/bin/sh", "-c", "cat /who; ls /data"); got != "jovyan 1000\nin\n" {
		t.Errorf("got %q", got)
	}
	c := made.Image.Config
	if c.User != "jovyan" || len(c.Entrypoint) != 0 || c.Labels["repo2docker.repo"] != "local" {
		t.Errorf("config %+v", c)
	}
	if made.Steps.Run != 1 {
		t.Errorf("steps %+v, want one run", made.Steps)
	}
}

// What uv cannot read goes to pip; what is no wheel is built, with a cache of the repository's own.
func TestRequirementsThatAreNoWheels(t *testing.T) {
	e := shared(t)
	j := job("sdist", repo(t, "requirements.txt", "docopt==0.6.2\nsix\n"))
	j.Plan.Env = []plan.Install{{Tool: "pip", Files: []string{"requirements.txt"}}}
	made := solve(t, e, j)
	got := inside(t, e, made.Image.Name, "/srv/conda/envs/notebook/bin/python", "-c", "import docopt; print(docopt.__version__)")
	if got != "0.6.2\n" {
		t.Errorf("got %q", got)
	}
}
