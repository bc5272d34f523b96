package corpus

import bindery "github.com/bindery-hub/bindery"

// pythonSamples are those about Python's own forms of saying what to install.
func pythonSamples() []Sample {
	return []Sample{
		{Name: "runtime", Built: true},
		{Name: "runtime-3.10", Built: true, Slow: true},   // uv brings it
		{Name: "runtime-trixie", Built: true, Slow: true}, // another base to bootstrap
		{Name: "runtime-testing", Slow: true},             // the same
		{Name: "runtime-missing", Fails: bindery.ErrPlan, Says: "Python 3.7"},
		{Name: "runtime-other"},
		{Name: "runtime-patch"},
		{Name: "runtime-date"},
		{Name: "runtime-lines", Fails: bindery.ErrPlan, Says: "more than one line"},
		{Name: "runtime-bad-date", Fails: bindery.ErrPlan, Says: "is not a date"},
		{Name: "runtime-bare", Fails: bindery.ErrPlan, Says: "is not NAME-VERSION"},
		{Name: "runtime-2", Fails: bindery.ErrPlan, Says: "Python 2.7"},
		{Name: "runtime-3"},
		{Name: "requires-python-impossible", Fails: bindery.ErrPlan, Says: "there is only Python"},
		{Name: "requirement-local-forms"},
		{Name: "pipfile-other-runtime"},
		{Name: "pipfile-and-conda"},
		{Name: "pipfile-binder-dir", Built: true},
		{Name: "binder-dir-hides"},
		{Name: "setup-py", Built: true},
		{Name: "setup-and-requirements"},
		{Name: "dynamic-dependencies"},
		{Name: "pyproject-invalid", Fails: bindery.ErrPlan, Says: "pyproject.toml: line 1 is not TOML"},
		{Name: "pipfile-invalid", Fails: bindery.ErrPlan, Says: "Pipfile, line 3"},
		{Name: "pipfile-old", Fails: bindery.ErrPlan, Says: "Python 3.6"},
		{Name: "requirements3"},
		{Name: "uv-lock-beside-requirements"},
		{Name: "pipfile", Built: true},
		{Name: "pipfile-lock", Built: true},
		{Name: "requirement-hashes", Built: true},
		{Name: "node", Built: true},
		{Name: "node-workspace", Built: true},
		{Name: "node-no-lock"},
		{Name: "node-broken", Fails: bindery.ErrPlan, Says: "package.json"},
		{Name: "uv-lock", Built: true},
		{Name: "uv-workspace", Built: true},
		{Name: "requires-python", Built: true},
		{Name: "requires-python-conflict", Fails: bindery.ErrPlan, Says: "does not accept"},
		{Name: "pyproject-tool-only"},
		{Name: "requirement-syntax", Built: true},
		{Name: "requirement-not-for-python", Fails: bindery.ErrStep, Says: "requirements.txt, line 3"},
		{Name: "requirement-unreadable", Fails: bindery.ErrStep, Says: "requirements.txt, line 2"},
	}
}
