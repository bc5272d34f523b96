package buildkit_test

import (
	"strings"
	"testing"
)

// startedQuietly starts a server where node and npm write down that they were asked, then imports JupyterLab as usual.
const startedQuietly = `mkdir /tmp/bin
for p in node npm; do printf '#!/bin/sh\necho "$0 $*" >>/tmp/asked\nexit 1\n' >/tmp/bin/$p; done
chmod 755 /tmp/bin/*
export PATH=/tmp/bin:$PATH
touch /tmp/asked /tmp/log
"$1" --ServerApp.sock=/tmp/sock --no-browser >/tmp/log 2>&1 &
n=0
until grep -q 'Skipped non-installed server' /tmp/log || [ $n = 600 ]; do sleep 0.1; n=$((n+1)); done
python -c 'import sys; exec(open(sys.argv[1]).read().split("\nfrom ")[0]); import os; print(os.environ["PATH"][:9])' "$(command -v "$1")"
grep -c 'is running at' /tmp/log || cat /tmp/log
kill $!
wait
cat /tmp/asked
python -c 'import jupyterlab.labapp' 2>/dev/null
cat /tmp/asked
`

// Servers ask neither node nor npm anything while people wait for them.
func TestServersStartWithoutNode(t *testing.T) {
	e := shared(t)
	made := solve(t, e, job("quick", repo(t, "notebook.ipynb", "{}")))
	for _, server := range []string{"jupyter-lab", "jupyter-notebook"} {
		got := inside(t, e, made.Image.Name, "/usr/sbin/chroot", "--userspec=1000:1000", "/", "/bin/bash", "-lc", startedQuietly, "sh", server)
		before, after, _ := strings.Cut(got, "/tmp/bin/node ")
		if before != "/tmp/bin:\n1\n" || !strings.Contains(after, "yarn.js config --json") {
			t.Errorf("%s: got %q, want nothing asked but by the import at the end", server, got)
		}
	}
}
