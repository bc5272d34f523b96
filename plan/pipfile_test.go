package plan_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bindery-hub/bindery/plan"
)

func TestPipfile(t *testing.T) {
	got, err := plan.Detect(repo("Pipfile", `[[source]]
url = "https://pypi.org/simple"
[[source]]
url = "https://${USER}:${PASSWORD}@h.example/simple"
[packages]
six = "*"
numpy = ">=1.20, <2"
old = {version = "==1.0", markers = "python_version < '3.9'", extras = ["a", "b"]}
win = {version = "*", sys_platform = "== 'win32'", platform_machine = "!= 'arm64'"}
mine = {path = ".", editable = true}
"other.pkg" = {path = "./libs/other"}
repo = {git = "https://github.com/o/r.git", ref = "v1", subdirectory = "sub"}
ssh = {git = "git@github.com:o/r.git", editable = true}
wheel = {file = "https://h.example/w-1.whl"}
[dev-packages]
pytest = "7.0"
six = "*"
[requires]
python_version = "3.13"
`, "requirements.txt", "numpy", "setup.py", ""), plan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"--index-url https://pypi.org/simple", "--extra-index-url https://${USER}:${PASSWORD}@h.example/simple",
		"numpy>=1.20, <2 # Pipfile, line 7",
		"old[a,b]==1.0 ; python_version < '3.9' # Pipfile, line 8",
		"repo @ git+https://github.com/o/r.git@v1#subdirectory=sub # Pipfile, line 12",
		"six # Pipfile, line 6",
		"ssh @ git+ssh://git@github.com/o/r.git # Pipfile, line 13",
		"wheel @ https://h.example/w-1.whl # Pipfile, line 14",
		"win ; (platform_machine != 'arm64') and (sys_platform == 'win32') # Pipfile, line 9",
		"pytest==7.0 # Pipfile, line 16",
	}
	if diff := cmp.Diff(want, got.Env[0].Lines); diff != "" {
		t.Error(diff)
	}
	local := []string{want[0], want[1], "-e ./. # Pipfile, line 10", "./libs/other # Pipfile, line 11"}
	if diff := cmp.Diff(local, got.Content[0].Lines); diff != "" {
		t.Error(diff)
	}
	if got.Python != "3.13" || got.Base != "debian:trixie" || len(got.Ignored) != 2 {
		t.Errorf("Python %s on %s, ignored %v", got.Python, got.Base, got.Ignored)
	}
}

func TestPipfileLock(t *testing.T) {
	lock := `{
  "_meta": {"requires": {"python_version": "3"}, "sources": [{"name": "pypi", "url": "https://pypi.python.org/simple"}]},
  "default": {
    "six": {"version": "==1.16.0", "hashes": ["sha256:aa", "sha256:bb"], "index": "pypi"},
    "odd": {"git": "https://h.example/o/r", "ref": "abc"},
    "mine": {"editable": true, "path": "."}
  },
  "develop": {
    "pytest": {"hashes": ["sha256:cc"], "version": "==7.0", "markers": "python_version >= '3.7'"}
  }
}`
	got, err := plan.Detect(repo("binder/Pipfile.lock", lock, "binder/Pipfile", "[requires]\npython_full_version='3.9.1'\n"), plan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	index := "--index-url https://pypi.python.org/simple"
	want := [][]string{
		{index, "six==1.16.0 --hash=sha256:aa --hash=sha256:bb # binder/Pipfile.lock, line 4", "pytest==7.0 ; python_version >= '3.7' --hash=sha256:cc # binder/Pipfile.lock, line 9"},
		{index, "odd @ git+https://h.example/o/r@abc # binder/Pipfile.lock, line 5"},
	}
	for i, in := range got.Env {
		if diff := cmp.Diff(want[i], in.Lines); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"--no-deps"}, in.Args); diff != "" {
			t.Error(diff)
		}
	}
	if r := got.Content[0].Lines; r[1] != "-e ./binder # binder/Pipfile.lock, line 6" || got.Python != "3.9" {
		t.Errorf("%q, Python %s", r, got.Python)
	}
}

// A Pipfile is a stranger's: nothing of it may become an option, a second line or a path outside.
func TestPipfileIsHostile(t *testing.T) {
	for _, entry := range []string{
		`"-r" = "*"`, `"a b" = "*"`, `"a\n--index-url x" = "*"`, `a = "==1\n-r x"`, `a = "==1 --hash=x"`, `a = "; rm"`, `a = {extras = ["x]\n-r y"]}`,
		`a = {path = "../x"}`, `a = {path = "/etc"}`, `a = {path = "x y"}`, `a = {path = "x\n-r y"}`, `a = {git = "--upload-pack=x"}`, `a = {git = "https://h/x y"}`,
		`a = {git = "https://h/x", ref = "-x"}`, `a = {git = "https://h/x", ref = "a b"}`, `a = {git = "https://h/x", subdirectory = "a&egg=b"}`,
		`a = {markers = "x # y"}`, `a = {markers = "x\n-r y"}`, `a = {file = "http://h/\n-r x"}`, `a = 3`, `a = ["x"]`, `a = {git="ext::sh -c x"}`,
	} {
		got, err := plan.Detect(repo("Pipfile", "[packages]\n"+entry+"\n"), plan.Options{})
		checkError(t, err)
		if err == nil {
			text, _ := json.Marshal(got.Env)
			t.Errorf("%s: no error but %s", entry, text)
		} else if !strings.Contains(err.Error(), "Pipfile, line ") {
			t.Errorf("%s: %v", entry, err)
		}
	}
	for _, source := range []string{`url = "-r x"`, `url = "file:///x"`, `url = "http://h/ --pre"`, `name = "x"`} {
		_, err := plan.Detect(repo("Pipfile", "[[source]]\n"+source+"\n[packages]\n"), plan.Options{})
		checkError(t, err)
		if err == nil {
			t.Errorf("%s: no error", source)
		}
	}
}
