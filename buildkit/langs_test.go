package buildkit_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/plan"
)

// aTar packs files, given as name and text, into a compressed tar; all are executable.
func aTar(t testing.TB, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for i := 0; i < len(files); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: files[i], Mode: 0o755, Size: int64(len(files[i+1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(files[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// served serves each body at its path.
func served(t testing.TB, bodies map[string][]byte) string {
	t.Helper()
	mux := http.NewServeMux()
	for path, body := range bodies {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })
	}
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv.URL
}

// juliaStandIn takes the place of the program that no test can fetch. It notes what it was asked, and where.
const juliaStandIn = `#!/bin/bash
echo "julia in $PWD as $(id -un), project ${JULIA_PROJECT:-none}: $*" >>"$JULIA_DEPOT_PATH/asked"
case $* in *IJulia*) mkdir -p "$JUPYTER_DATA_DIR/kernels/julia-1.10" && echo '{}' >"$JUPYTER_DATA_DIR/kernels/julia-1.10/kernel.json" ;; esac
`

// The way to Julia: its tarball from the mirror, checked, unpacked; its kernel; the project's packages. Julia itself is a
// stand-in.
func TestJuliaSteps(t *testing.T) {
	e := shared(t)
	dir := repo(t, "Project.toml", "[deps]\n\n[compat]\njulia = \"=1.10.4\"\n", "notebook.ipynb", "{}")
	tarball := aTar(t, "julia-1.10.4/bin/julia", juliaStandIn)
	const file = "julia-1.10.4-linux-x86_64.tar.gz"
	sums := fmt.Sprintf("%x  julia-1.10.4-linux-aarch64.tar.gz\n%x  %s\n", sha256.Sum256(nil), sha256.Sum256(tarball), file)
	at := map[string][]byte{"/bin/linux/x64/1.10/" + file: tarball, "/bin/checksums/julia-1.10.4.sha256": []byte(sums)}
	j := planned(t, "julia", dir, "BINDERY_JULIA_MIRROR", served(t, at))
	made := solve(t, e, j)
	got := inside(t, e, made.Image.Name, "/bin/bash", "-lc", `cat $JULIA_DEPOT_PATH/asked; which julia; stat -c %U /srv/julia /srv/julia/pkg; jupyter kernelspec list 2>/dev/null; echo $JULIA_ARCH`)
	for _, want := range []string{
		`as jovyan, project none: -e using Pkg; Pkg.add("IJulia"); using IJulia; installkernel`, " * ARGS[1]) /home/jovyan\n",
		"julia in /home/jovyan as jovyan, project /home/jovyan: --project=/home/jovyan -e using Pkg; Pkg.instantiate();",
		"/srv/julia/bin/julia\nroot\njovyan\n", "julia-1.10 ", "x86_64",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	// Branches stand side by side: what changes one runs nothing of the other, and content runs nothing at all.
	mirror := j.Plan.Env[0].Env["BINDERY_JULIA_MIRROR"]
	with := func(files ...string) plan.Job {
		dir := repo(t, append([]string{"Project.toml", "[deps]\n\n[compat]\njulia = \"=1.10.4\"\n"}, files...)...)
		return planned(t, "julia", dir, "BINDERY_JULIA_MIRROR", mirror)
	}
	t.Run("a changed notebook", func(t *testing.T) {
		began := time.Now()
		if made := solve(t, e, with("notebook.ipynb", "{\"changed\": 1}")); made.Steps.Run != 0 {
			t.Errorf("steps %+v, want none run", made.Steps)
		}
		t.Logf("%.3f s", time.Since(began).Seconds())
	})
	t.Run("one requirement", func(t *testing.T) {
		for _, requirements := range []string{"six==1.16.0\n", "six==1.16.0\ntoolz==1.0.0\n"} {
			if made := solve(t, e, with("requirements.txt", requirements)); made.Steps.Run != 2 { // uv's two
				t.Errorf("%q: steps %+v, want two run", requirements, made.Steps)
			}
		}
	})
	t.Run("a tarball that was changed on its way", func(t *testing.T) {
		at["/bin/checksums/julia-1.10.4.sha256"] = []byte(strings.Repeat("0", 64) + "  " + file + "\n")
		j := planned(t, "julia-changed", dir, "BINDERY_JULIA_MIRROR", served(t, at))
		if _, err := e.Solve(t.Context(), j, func(bindery.Event) {}); err == nil || !strings.Contains(bindery.AsError(err).Msg, "Install Julia") {
			t.Errorf("got %v", err)
		}
	})
}

// nixpkgs is a channel with the two things that nix-shell itself needs. Real ones are not reached by tests; Nix is real.
const nixpkgs = `{ ... }: rec {
  system = builtins.currentSystem;
  stdenv = derivation { name = "stdenv"; inherit system; builder = "/bin/sh"; args = [ "-c" "/bin/mkdir $out; echo export FROM_NIX=yes >$out/setup" ]; };
  bashInteractive = derivation { name = "bash"; inherit system; builder = "/bin/sh"; args = [ "-c" "/bin/mkdir -p $out/bin; /bin/ln -s /bin/bash $out/bin/bash" ]; };
  mkShell = args: derivation ({ name = "shell"; inherit system stdenv; builder = "/bin/sh"; args = [ "-c" "echo >$out" ]; } // args);
}
`

// A Nix environment is made by Nix from its channel, and everything runs inside of it, by way of start.
func TestNix(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: another release of Debian")
	}
	e := shared(t)
	dir := repo(t, "binder/default.nix", "with import <nixpkgs> { };\nmkShell { TOLD = \"yes\"; }\n", "binder/start", "#!/bin/bash\nexport STARTED=yes\nexec \"$@\"\n", "default.nix", "broken")
	channel := served(t, map[string][]byte{"/channels/of-tests": nil, "/channels/of-tests/nixexprs.tar.xz": aTar(t, "nixpkgs/default.nix", nixpkgs)}) // Nix looks at the contents
	j := planned(t, "nix", dir, "BINDERY_NIX_CHANNEL", channel+"/channels/of-tests", "NIX_CONFIG", "substituters =")
	made := solve(t, e, j)
	got := inside(t, e, made.Image.Name, "/usr/sbin/chroot", "--userspec=1000:1000", "/", "/bin/sh", "-c", `cd /home/jovyan && exec "$@"`, "sh",
		"/usr/local/bin/repo2docker-entrypoint", "/bin/bash", "-c", `echo "told $TOLD, started $STARTED, from nix $FROM_NIX"; cat ~/.nix-channels`)
	for _, want := range []string{"told yes, started yes, from nix yes\n", "https://nixos.org/channels/nixos-unstable nixpkgs\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	// Two variables of repo2docker's contract name certificates: the image's own, not this machine's.
	made.Image.Config.Env = slices.DeleteFunc(made.Image.Config.Env, func(kv string) bool { return strings.HasSuffix(kv, "=/etc/ssl/certs/ca-certificates.crt") })
	t.Run("leaves no caches and no trust store", func(t *testing.T) { checkClean(t, e, made) })
}

// The operator's appendix is built onto what the plan makes: as the user, in the repository, with the image's variables;
// and the image keeps its own configuration but for what the appendix changes.
func TestAppendix(t *testing.T) {
	e := shared(t)
	j := job("appendix", repo(t, "notebook.ipynb", "{}"))
	j.Labels = map[string]string{"kept": "yes"}
	j.Appendix = "RUN echo \"appendix by $(id -un) in $PWD with $CONDA_DIR, $(ls)\" > /tmp/appendix\nUSER root\nRUN touch /etc/by-root\nENV ADDED=1\nUSER jovyan"
	made := solve(t, e, j)
	if got := inside(t, e, made.Image.Name, "/bin/cat", "/tmp/appendix", "/etc/by-root"); got != "appendix by jovyan in /home/jovyan with /srv/conda, notebook.ipynb\n" {
		t.Errorf("got %q", got)
	}
	c := made.Image.Config
	if c.User != "jovyan" || c.WorkingDir != "/home/jovyan" || c.Labels["kept"] != "yes" || len(c.Entrypoint) != 1 || !slices.Contains(c.Env, "ADDED=1") || !slices.Contains(c.Env, "APP_BASE=/srv") {
		t.Errorf("config %+v", c)
	}
	if again := solve(t, e, j); again.Steps.Run != 0 {
		t.Errorf("steps %+v, want none run", again.Steps)
	}
}
