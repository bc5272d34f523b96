package buildkit_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/buildkit"
	"github.com/bindery-hub/bindery/internal/corpus"
	"github.com/bindery-hub/bindery/plan"
)

// wants asks for what one requirement file says.
func wants(t *testing.T, name string, files ...string) plan.Job {
	j := job(name, repo(t, files...))
	j.Plan.Env = []plan.Install{{Tool: plan.ToolPip, Files: []string{"requirements.txt"}}}
	for i := 2; i < len(files); i += 2 {
		j.Plan.Env[0].Includes = append(j.Plan.Env[0].Includes, files[i])
	}
	j.Plan.Reads = append([]string{"requirements.txt"}, j.Plan.Env[0].Includes...)
	return j
}

// What pip reads is installed: other encodings, included files, options that uv does not know, old names of the index.
func TestRequirementsThatPipReads(t *testing.T) {
	e := shared(t)
	text := "-i https://pypi.python.org/simple\r\n-r sub/more.txt\r\n-c sub/fixed.txt\r\nsix \\\r\n  ; python_version > '3' # caf\u00e9\r\n"
	utf16 := "\xff\xfe"
	for _, r := range text {
		utf16 += string([]byte{byte(r), byte(r >> 8)})
	}
	j := wants(t, "pip-reads", "requirements.txt", utf16, "sub/more.txt", "--extra-index-url http://pypi.python.org/pypi\npackaging\n", "sub/fixed.txt", "# l\xe4t\nsix==1.15.0\npackaging==23.0\n")
	made := solve(t, e, j)
	got := inside(t, e, made.Image.Name, "/srv/conda/envs/notebook/bin/python", "-c", "import six, packaging; print(six.__version__, packaging.__version__)")
	if got != "1.15.0 23.0\n" {
		t.Errorf("got %q", got)
	}
}

// What uv cannot read and pip can is installed by pip, and the log says so.
func TestPipTakesOver(t *testing.T) {
	e := shared(t)
	s := &story{t: t}
	made, err := e.Solve(t.Context(), wants(t, "pip-takes-over", "requirements.txt", "six==1.16.0\ntoolz==1.0.0 --config-settings=\"a=b\"\n"), s.emit)
	if err != nil || !strings.Contains(s.text(), "uv cannot read all of this, so pip installs it.") {
		t.Fatalf("%v\n%s", err, s.text())
	}
	if got := inside(t, e, made.Image.Name, "/srv/conda/envs/notebook/bin/python", "-c", "import six, toolz; print(six.__version__, toolz.__version__)"); got != "1.16.0 1.0.0\n" {
		t.Errorf("got %q", got)
	}
}

// A package may say what it needs in words that are no longer read by anybody.
func TestPackageThatNobodyReads(t *testing.T) {
	e := shared(t)
	_, err := e.Solve(t.Context(), wants(t, "nobody-reads", "requirements.txt", "six\n--find-links .\nstrict==1.0\n",
		"strict-1.0-py3-none-any.whl", string(wheel("strict", "pytz (>=2011k)"))), func(bindery.Event) {})
	be, ok := errors.AsType[*bindery.Error](err)
	if !ok || !errors.Is(err, bindery.ErrStep) || be.Fault != bindery.User || !strings.Contains(be.Msg, "requirements.txt, line 3: strict==1.0: neither uv nor pip can read what it needs") {
		t.Errorf("got %v", err)
	}
}

func TestRequirementsThatFail(t *testing.T) {
	e := shared(t)
	for name, tt := range map[string]struct {
		text  string
		kind  error
		fault bindery.Fault
		says  string
	}{
		"no build for this Python": {"six\n\n# old\ntensorflow==1.15\n", bindery.ErrStep, bindery.User, "requirements.txt, line 4: tensorflow==1.15"},
		"no such package":          {"six\nno-such-package-bindery\n", bindery.ErrStep, bindery.User, "requirements.txt, line 2: no-such-package-bindery: the index has no such package"},
		"no such version":          {"six\nsix-==99\npackaging==0.0.1\n", bindery.ErrStep, bindery.User, "requirements.txt, line"},
		"version that was never one": {"six\npytz (>=2011k)\n", bindery.ErrStep, bindery.User,
			"requirements.txt, line 2"},
		"one equals sign": {"six=1.16\n", bindery.ErrStep, bindery.User, "requirements.txt, line 1"},
		"two versions":    {"six==1.16.0\nsix==1.15.0\n", bindery.ErrStep, bindery.User, "requirements.txt, line 1: six==1.16.0: two lines"},
		"index that is away": {"--index-url http://127.0.0.1:1/simple\ntoolz\n", bindery.ErrUnreachable, bindery.Transient,
			"requirements.txt, line 1: The server 127.0.0.1, which the build needs, could not be reached"},
		"repository that is away": {"mine @ git+https://127.0.0.1:1/o/r\n", bindery.ErrUnreachable, bindery.Transient,
			"requirements.txt, line 1: The server 127.0.0.1, which the build needs, could not be reached"},
		"wheel that is away": {"six\nmine @ https://no-such-host.invalid/mine-1.0-py3-none-any.whl\n", bindery.ErrUnreachable, bindery.Transient,
			"requirements.txt, line 2: The server no-such-host.invalid, which the build needs, could not be reached"},
		"repository by a protocol that is gone": {"mine @ git+git://no-such-host.invalid/o/r\n", bindery.ErrUnreachable, bindery.Transient,
			"requirements.txt, line 1: The server no-such-host.invalid, which the build needs, could not be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &story{t: t}
			_, err := e.Solve(t.Context(), wants(t, "fails", "requirements.txt", tt.text), s.emit)
			be, ok := errors.AsType[*bindery.Error](err)
			if !ok || !errors.Is(err, tt.kind) || be.Fault != tt.fault || !strings.Contains(be.Msg, tt.says) {
				t.Fatalf("got %v, want kind %v, fault %v and %q\n%s", err, tt.kind, tt.fault, tt.says, s.text())
			}
		})
	}
}

// Some sample repositories of Python (the end-to-end tests have them all), planned, built, and verified in the image; then once more, which runs nothing.
// uv brings the interpreters of requires-python and runtime-3.10.
func TestPythonSamples(t *testing.T) {
	e := shared(t)
	for _, name := range []string{"node", "pipfile-lock", "requirement-syntax", "requires-python", "runtime-3.10", "uv-workspace"} {
		t.Run(name, func(t *testing.T) {
			j := sample(t, name)
			made := solve(t, e, j)
			verify(t, e, made)
			if again := solve(t, e, j); again.Steps.Run != 0 {
				t.Errorf("the second time: %+v", again.Steps)
			}
			if name != "node" {
				checkClean(t, e, made)
				return
			}
			// One more requirement: Node's branch has nothing to do.
			if err := os.WriteFile(filepath.Join(j.Dir, "requirements.txt"), []byte("toolz==1.0.0\npackaging\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			s := &story{t: t}
			if _, err := e.Solve(t.Context(), j, s.emit); err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{"Install package-lock.json (cached)", "Install requirements.txt\n"} {
				if !strings.Contains(s.text(), want) {
					t.Errorf("no %q in\n%s", want, s.text())
				}
			}
		})
	}
}

// sample writes a repository of testdata/repos and plans it.
func sample(t *testing.T, name string) plan.Job {
	t.Helper()
	s, err := corpus.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	j := job(name, tempDir(t))
	if err := s.Write(j.Dir); err != nil {
		t.Fatal(err)
	}
	if j.Plan, err = plan.Detect(os.DirFS(j.Dir), plan.Options{}); err != nil {
		t.Fatal(err)
	}
	return j
}

// verify runs a sample's own ./verify in the image, as its user, through its entrypoint.
func verify(t *testing.T, e *buildkit.Engine, made plan.Made) {
	t.Helper()
	out, err := tryInside(t, e, made.Image.Name, "/usr/sbin/chroot", "--userspec=1000:1000", "/", "/bin/sh", "-c", `cd "$REPO_DIR" && exec "$@"`,
		"sh", "/usr/local/bin/repo2docker-entrypoint", "./verify")
	if err != nil {
		t.Errorf("./verify: %v\n%s", err, out)
	}
}
