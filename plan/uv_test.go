package plan_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bindery-hub/bindery/plan"
)

// What uv installs of a workspace: the root and what it needs, or all members where the root is no project.
func TestWorkspaces(t *testing.T) {
	const (
		head    = "version = 1\nrequires-python = '>=3.12'\n[manifest]\nmembers = ['a', 'b']\n"
		members = "[[package]]\nname='a'\nsource={editable='a'}\ndependencies=[{name='c'}]\n" +
			"[[package]]\nname='b'\nsource={virtual='libs/b'}\n[package.dev-dependencies]\ndev=[{name='d'}]\n" +
			"[[package]]\nname='c'\nsource={directory='c'}\n[[package]]\nname='d'\nsource={directory='d'}\n[[package]]\nname='e'\nsource={directory='e'}\n"
		root      = "[[package]]\nname='x'\nsource={virtual='.'}\ndependencies=[{name='c'}]\n"
		group     = "[manifest.dependency-groups]\ndev=[{name='e'}]\n"
		workspace = "[tool.uv.workspace]\nmembers=['a','libs/*']\n"
	)
	for name, tt := range map[string]struct {
		pyproject, lock string
		local           []string // nil: the lock does not count
		python          string
	}{
		"no root":          {workspace, head + members, []string{"-e ./a", "./c", "./d"}, "3.14"},
		"no root, a group": {workspace, head + group + members, []string{"-e ./a", "./c", "./d", "./e"}, "3.14"},
		"root":             {workspace + "[project]\nname='x'\n", head + root + members, []string{"./c"}, "3.14"},
		"another root":     {workspace + "[project]\nname='x'\n", head + members, nil, "3.11"},
		"no workspace":     {"[tool.x]\n", head + members, nil, "3.11"},
		"any Python":       {workspace, members, []string{"-e ./a", "./c", "./d"}, "3.11"},
	} {
		p, err := plan.Detect(repo("pyproject.toml", tt.pyproject, "uv.lock", tt.lock, "a/pyproject.toml", "", "libs/b/pyproject.toml", ""), plan.Options{})
		if err != nil || p.Python != tt.python {
			t.Errorf("%s: Python %s, %v; want %s", name, p.Python, err, tt.python)
			continue
		}
		if tt.local == nil {
			if len(p.Env)+len(p.Content) > 0 || len(p.Ignored) == 0 {
				t.Errorf("%s: %+v, %+v, ignored %+v", name, p.Env, p.Content, p.Ignored)
			}
			continue
		}
		wantEnv := []plan.Install{{Tool: plan.ToolUV, Files: []string{"uv.lock"}, Includes: []string{"pyproject.toml", "a/pyproject.toml", "libs/b/pyproject.toml"}}}
		if diff := cmp.Diff(wantEnv, p.Env); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if len(p.Content) != 1 || cmp.Diff(tt.local, p.Content[0].Lines) != "" {
			t.Errorf("%s: %+v, want %q", name, p.Content, tt.local)
		}
	}
}

func TestLockErrors(t *testing.T) {
	const root = "[[package]]\nname='x'\nsource={virtual='.'}\n"
	for _, tt := range []struct{ pyproject, lock, runtime, want string }{
		{"", root + "[[package]]\nname = \"y\"\nsource = { editable = \"../y\" }\n", "", `uv.lock, line 6: package "y" is at "../y", outside the repository`},
		{"", "requires-python = \">=3.12\"\n" + root, "python-3.11", `runtime.txt asks for Python 3.11, which uv.lock (requires-python ">=3.12") does not accept`},
		{"requires-python = '>=3.10'\n", "requires-python = \">=3.12\"\n" + root, "python-3.11", `runtime.txt asks for Python 3.11, which uv.lock (requires-python ">=3.12") does not accept`},
		{"", "\nrequires-python = \">=3.20\"\n" + root, "", `uv.lock: requires-python is ">=3.20", and there is only`},
		{"", "requires-python = \"^3\"\n" + root, "", "uv.lock: requires-python: "},
	} {
		files := repo("pyproject.toml", "[project]\nname='x'\n"+tt.pyproject, "uv.lock", tt.lock)
		if tt.runtime != "" {
			files = repo("pyproject.toml", "[project]\nname='x'\n"+tt.pyproject, "uv.lock", tt.lock, "runtime.txt", tt.runtime)
		}
		_, err := plan.Detect(files, plan.Options{})
		checkError(t, err)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("error %v, want one with %q", err, tt.want)
		}
	}
}
