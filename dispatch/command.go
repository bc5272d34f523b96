package dispatch

import (
	"strconv"

	bindery "github.com/bindery-hub/bindery"
)

// startJupyter runs JupyterLab, or the classic notebook where an image has nothing newer. Its arguments are the flags;
// nothing in it comes from a visitor.
const startJupyter = `if command -v jupyter-lab >/dev/null 2>&1; then exec jupyter-lab "$@"; fi
exec jupyter notebook "$@" --NotebookApp.base_url="$BINDERY_BASE_URL" --NotebookApp.allow_origin='*' --NotebookApp.trust_xheaders=True --NotebookApp.allow_remote_access=True`

// Command returns what the entrypoint of a session's image is to run, listening on port, and its environment as K=V.
// The token is in the environment rather than in the arguments, which every process of the machine may read. told is
// what the ask says of the link; without it there is no link.
func Command(s bindery.Session, port int, told []string) (args, env []string) {
	args = []string{
		"/bin/sh", "-c", startJupyter, "jupyter",
		"--ip=0.0.0.0", "--port=" + strconv.Itoa(port), "--no-browser",
		"--ServerApp.base_url=" + s.BasePath(),
		"--ServerApp.default_url=/lab",
		"--ServerApp.allow_origin=*",
		"--ServerApp.allow_remote_access=True",
		"--ServerApp.trust_xheaders=True",
	}
	env = []string{
		"JUPYTER_TOKEN=" + s.Token,
		"BINDERY_BASE_URL=" + s.BasePath(),
	}
	if len(told) == 0 {
		told = []string{"BINDER_REPO_URL=" + s.Source.URL, "BINDER_REF_URL=" + s.Source.URL}
	}
	return args, append(env, told...)
}
