package plan_test

import (
	"strings"
	"testing"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/plan"
)

// The mistakes that people make most are said before anything is built, with the line and what to write in its place.
func TestCommonMistakes(t *testing.T) {
	conda := func(text string) []string { return []string{"environment.yml", text} }
	pip := func(text string) []string { return []string{"requirements.txt", text} }
	for name, tt := range map[string]struct {
		files        []string
		want, remedy string // of the error; without a remedy it is said among the decisions
	}{
		"no second quote":       {conda("channels: [x]\ndependencies:\n- \"python=3.10\n- numpy\n"), "environment.yml: line 3: it has a quotation mark without the other", "Mend the file"},
		"another quote":         {conda("name: 'x\ndependencies:\n- 'numpy'\n"), "environment.yml: line 1: it has a quotation mark", "Mend the file"},
		"an apostrophe":         {conda("name: Ann's # it's\ndependencies:\n- 'numpy\n"), "environment.yml: line 3: it has a quotation mark", "Mend the file"},
		"a tab":                 {conda("dependencies:\n\t- numpy\n"), "environment.yml: line 2: it begins with a tab", "Mend the file"},
		"a tab below":           {conda("dependencies:\n  - numpy\n\n\t- scipy\n"), "environment.yml: line 4: it begins with a tab", "Mend the file"},
		"another indent":        {conda("dependencies:\n  - numpy\n   - scipy\n"), `environment.yml: line 2: "numpy - scipy" is one item`, "Mend the file"},
		"indent of pip":         {conda("dependencies:\n  - pip:\n    - numpy\n      - scipy\n"), `environment.yml: line 3: "numpy - scipy" is one item`, "Mend the file"},
		"a colon":               {conda("dependencies:\n- python: 3.9\n"), "environment.yml: line 2: a dependency is written with =, as python=3.9", "Mend the file"},
		"no space":              {conda("dependencies:\n  -numpy\n"), "environment.yml: line 2: dependencies should be a list, with - and a space", "Mend the file"},
		"for pip":               {conda("dependencies:\n- numpy\n- -r requirements.txt\n"), `environment.yml: line 3: "-r requirements.txt" is for pip`, "Mend the file"},
		"from Git":              {conda("dependencies:\n- git+https://h/x\n"), `environment.yml: line 2: "git+https://h/x" is for pip`, "Mend the file"},
		"pip beside":            {conda("dependencies:\n- numpy\npip:\n- six\n"), "environment.yml: line 3: pip has no effect there: it is one of the dependencies", ""},
		"of Windows":            {conda("dependencies:\n- numpy\n- vs2015_runtime=14.27=h5e5\n"), "environment.yml, line 3: vs2015_runtime is for Windows only", "--from-history"},
		"of macOS":              {conda("dependencies:\n- python.app\n"), "environment.yml, line 2: python.app is for macOS only", "--from-history"},
		"pip of Windows":        {conda("dependencies:\n- pip:\n  - six\n  - pywin32==303\n"), "environment.yml, line 4: pywin32 is for Windows only", "win32"},
		"built by conda":        {pip("six\nanyio @ file:///tmp/build/80754af9/anyio_1617783275907/work/dist\n"), "requirements.txt, line 2: conda installed anyio", "pip list --format=freeze"},
		"and elsewhere":         {pip("idna @ file:///C:/ci/idna/work\n"), "requirements.txt, line 1: conda installed idna", "pip list --format=freeze"},
		"frozen on Windows":     {pip("six\nPyWin32==303\n"), "requirements.txt, line 2: PyWin32 is for Windows only", `; sys_platform == "win32"`},
		"frozen on macOS":       {pip("pyobjc-core==9.2\n"), "requirements.txt, line 1: pyobjc-core is for macOS only", `; sys_platform == "darwin"`},
		"included":              {[]string{"requirements.txt", "-r more.txt\n", "more.txt", "\nsklearn\n"}, "more.txt, line 2: the package sklearn", "scikit-learn"},
		"old Python":            {[]string{"runtime.txt", "python-3.6"}, "runtime.txt asks for Python 3.6", "python=3.6 in an environment.yml"},
		"no Python":             {[]string{"runtime.txt", "python-3.4"}, "runtime.txt asks for Python 3.4", "or write a Dockerfile"},
		"large letters":         {[]string{"runtime.txt", "Python-3.9"}, "runtime.txt: names count exactly: it would have to be python", ""},
		"large R":               {[]string{"runtime.txt", "R-4.2-2024-01-31"}, "runtime.txt: names count exactly: it would have to be r", ""},
		"misspelt":              {[]string{"requirement.txt", "x"}, "requirement.txt: file names count exactly: it would have to be requirements.txt", ""},
		"another ending":        {[]string{"postBuild.sh", "x"}, "postBuild.sh: file names count exactly: it would have to be postBuild", ""},
		"hidden ending":         {[]string{"environment.yml.txt", "x"}, "environment.yml.txt: file names count exactly: it would have to be environment.yml", ""},
		"Poetry's":              {[]string{"pyproject.toml", "[tool.poetry]\nname='x'\n[build-system]\nrequires=[]\n"}, "pyproject.toml: it is Poetry's", ""},
		"postBuild of Windows":  {[]string{"postBuild", "#!/bin/bash\r\necho\r\n"}, "its interpreter will not be found: save it with line ends of Unix", ""},
		"without interpreter":   {[]string{"postBuild", "cd x\r\necho\r\n"}, "a shell takes for part of the commands", ""},
		"start without exec":    {[]string{"start", "#!/bin/bash\nexport A=b\n"}, `start: runs at the start of every session, before the server; beware: it does not end in exec "$@"`, ""},
		"Dockerfile's root":     {[]string{"Dockerfile", "FROM x\nUSER me\nFROM y\nuser root:me\n"}, "its last USER, line 4, is root", ""},
		"Dockerfile's no user":  {[]string{"Dockerfile", "FROM x\nUSER me\nFROM y\n"}, "it has no USER", ""},
		"Dockerfile's other":    {[]string{"Dockerfile", "FROM x\nUSER 0\nRUN y\nUSER ${NB_UID}\n"}, "no other file counts\n", ""},
		"start that does exec":  {[]string{"start", "#!/bin/sh\nexec \"${@}\"\n"}, "before the server\n", ""},
		"start of Python":       {[]string{"start", "#!/usr/bin/env python3\n"}, "before the server\n", ""},
		"a marker":              {pip("pywin32==303; sys_platform == 'win32'\n"), "requirements.txt: Python packages to install\n", ""},
		"what may be":           {pip("-c limits.txt\nsklearn==0.0\nappnope\nx @ file:///home/jovyan/x\npywin32 @ https://h/x.whl\n"), "installed once the repository is in place", ""},
		"what conda may bring":  {conda("# it's\ndependencies:\n- libcxx\n- appnope\n- \"a - b\"\n"), "a conda environment, from conda-forge\n", ""},
		"a section of no value": {conda("dependencies:\n- foo:\n"), "only pip is known, foo has no effect", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := plan.Detect(repo(append(tt.files, "limits.txt", "pywin32<1\nsklearn\n")...), plan.Options{})
			checkError(t, err)
			if tt.remedy != "" {
				if e := bindery.AsError(err); err == nil || !strings.Contains(e.Msg, tt.want) || !strings.Contains(e.Remedy, tt.remedy) {
					t.Errorf("got %v, want %q with the remedy %q", err, tt.want, tt.remedy)
				}
				return
			}
			said := ignoredText(got)
			for _, w := range got.Why {
				said += w.File + ": " + w.Text + "\n"
			}
			if err != nil || !strings.Contains(said, tt.want) {
				t.Errorf("no %q in\n%s%v", tt.want, said, err)
			}
		})
	}
}
