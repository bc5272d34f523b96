package plan_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/bindery-hub/bindery/plan"
)

// numbers are n lines of a format that takes the number of the line.
func numbers(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format+"\n", i)
	}
	return b.String()
}

// Whatever is in a file of the size that is allowed, it occupies the planner for a moment only. All of these together
// would take hours if something were looked for in a whole file again for each line of it.
func TestLargeFiles(t *testing.T) {
	const pyproject = "[project]\nname = 'x'\ndependencies = [\n%s]\n[build-system]\nrequires = []\n"
	const pixi = "[workspace]\nchannels = ['a']\n[dependencies]\n"
	const pixiFeature = "[workspace]\nchannels = ['a']\n[feature.f.dependencies]\n%s[environments]\ndefault = [%s]\n"
	const locked = `- {name: k%[1]d, version: "1", manager: conda, platform: linux-64, url: "https://h.example/k%[1]d-1-0.conda", hash: {md5: ` + md5 + `}}`
	var calls strings.Builder
	for i := range 100 {
		calls.WriteString("install.packages(" + strings.ReplaceAll(numbers(20, fmt.Sprintf("v%d_%%d,", i)), "\n", " ") + "'digest')\n")
	}
	for name, tt := range map[string]struct {
		files []string
		want  string // part of the error; none if empty
	}{
		"a line that goes on":     {[]string{"requirements.txt", strings.Repeat("a\\\n", 500_000)}, ""},
		"a section that goes on":  {[]string{"environment.yml", "dependencies:\n- pip:\n  - |\n" + strings.Repeat("    a\\\n", 300_000)}, ""},
		"entries of Pipenv":       {[]string{"Pipfile.lock", "{\"default\": {\n" + numbers(50_000, `"k%d": {"version": "==1"},`) + `"z": "*"}}`}, ""},
		"dependencies of pixi":    {[]string{"pixi.toml", pixi + numbers(5_000, "k%d = '*'")}, ""},
		"more of pixi":            {[]string{"pixi.toml", pixi + numbers(5_001, "k%d = '*'")}, "there are more than 5000 dependencies"},
		"a feature many times":    {[]string{"pixi.toml", fmt.Sprintf(pixiFeature, numbers(5_000, "k%d = '*'"), strings.Repeat("'f',", 100_000))}, "there are more than 5000 dependencies"},
		"dependencies":            {[]string{"pyproject.toml", fmt.Sprintf(pyproject, numbers(50_000, "'k%d',"))}, ""},
		"similar dependencies":    {[]string{"pyproject.toml", "# " + strings.Repeat("x", 1<<20) + "\n" + fmt.Sprintf(pyproject, numbers(50_000, "'xxx%d',"))}, ""},
		"vectors of R":            {[]string{"install.R", calls.String() + strings.Repeat("y <- z(1)\n", 100_000), "DESCRIPTION", "", "runtime.txt", "r-4.2-2024-01-31"}, ""},
		"comments of Nix":         {[]string{"default.nix", strings.Repeat("/*\n#\n", 300_000)}, ""},
		"channels":                {[]string{"environment.yml", "channels:\n" + numbers(100_000, "- c%d")}, "line 102: there are more than 100 channels"},
		"aliases of sections":     {[]string{"environment.yml", "x: &a {pip: [" + strings.Repeat("x, ", 4_000) + "]}\ndependencies:\n" + strings.Repeat("- *a\n", 50_000)}, "there are more than 5000 dependencies"},
		"aliases of channels":     {[]string{"environment.yml", "channels: &a [" + strings.Repeat("x, ", 20_000) + "]\n" + strings.Repeat("channels: *a\n", 20_000)}, "with its aliases written out, the file is too large"},
		"aliases of a long line":  {[]string{"environment.yml", "dependencies:\n- &a " + strings.Repeat("x", 1<<20) + "\n" + strings.Repeat("- *a\n", 5_000)}, "with its aliases written out, the file is too large"},
		"versions of Python":      {[]string{"environment.yml", "dependencies:\n" + strings.Repeat("- python>=3.0"+strings.Repeat(",>=3.0", 100)+"\n", 2_000)}, "more is asked of Python"},
		"keys of a lock file":     {[]string{"conda-lock.yml", condaLock + numbers(100_000, "k%d: 1")}, "there are more than 1000 keys"},
		"packages of a lock file": {[]string{"conda-lock.yml", condaLock + numbers(10_000, locked), "environment.yml", "dependencies:\n" + numbers(5_000, "- k%d")}, ""},
		"keys":                    {[]string{"pyproject.toml", numbers(400_000, "k%d = 1")}, "has too many keys"},
		"tables":                  {[]string{"pixi.toml", numbers(200_000, "[a.k%d]")}, "has too many keys"},
		"arrays of tables":        {[]string{"Project.toml", numbers(200_000, "[[k%d]]")}, "has too many keys"},
		"keys on a line":          {[]string{"Pipfile", "a = {" + strings.ReplaceAll(numbers(200_000, "k%d = 1,"), "\n", " ") + "z = 1}\n"}, "has too many keys"},
		"keys behind a package":   {[]string{"pixi.toml", numbers(100_000, "k%d = '''\n[[package]]\n'''")}, "has too many keys"},
		"packages of uv":          {[]string{"uv.lock", "[[package]]\nname = 'x'\nsource = {virtual = '.'}\n" + numbers(100_000, "[[package]]\nsource = {registry = 'https://h.example/%d'}"), "pyproject.toml", ""}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := plan.Detect(repo(tt.files...), plan.Options{})
			checkError(t, err)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %.300v, want %q", err, tt.want)
			}
		})
	}
}
