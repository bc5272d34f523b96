package inventory_test

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/bindery-hub/bindery/inventory"
)

const site = "srv/conda/envs/notebook/lib/python3.11/site-packages/"

// image is a root file system with a record of every ecosystem, and with records that lie.
func image() fstest.MapFS {
	m := fstest.MapFS{}
	for name, text := range map[string]string{
		"etc/os-release":                                                                    "PRETTY_NAME=\"Debian GNU/Linux 12\"\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\nID=debian\n",
		"var/lib/dpkg/status":                                                               "Package: git\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:2.39.5-0+deb12u2\nDescription: fast\n Package: fake\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n\nPackage: x;y\nStatus: install ok installed\nVersion: 1\n",
		site + "six-1.16.0.dist-info/METADATA":                                              "Metadata-Version: 2.1\nName: six\nVersion: 1.16.0\n\nName: not-me\n",
		site + "mine-1.0.dist-info/METADATA":                                                "Name: mine\nVersion: 1.0\n",
		site + "mine-1.0.dist-info/direct_url.json":                                         `{"url":"file:///home/jovyan","dir_info":{}}`,
		site + "tool-2.0.dist-info/METADATA":                                                "Name: tool\nVersion: 2.0\n",
		site + "tool-2.0.dist-info/direct_url.json":                                         `{"url":"https://git.example/ann/tool","vcs_info":{"vcs":"git","commit_id":"abcdef"}}`,
		site + "wheel_x-3.0.dist-info/METADATA":                                             "Name: wheel_x\nVersion: 3.0\n",
		site + "wheel_x-3.0.dist-info/direct_url.json":                                      `{"url":"https://h.example/wheel_x.whl","archive_info":{"hash":"sha256=ff"}}`,
		site + "evil-1.dist-info/METADATA":                                                  "Name: ../../evil\nVersion: 1\n",
		site + "evil-2.dist-info/METADATA":                                                  "Name: evil\nVersion: 1 --index-url=http://evil\n",
		site + "numpy-1.26.4.dist-info/METADATA":                                            "Name: numpy\nVersion: 1.26.4\n",
		"srv/conda/envs/notebook/conda-meta/numpy-1.26.4-py311_0.json":                      `{"name":"numpy","version":"1.26.4","build":"py311_0","url":"https://c.example/linux-64/numpy-1.26.4-py311_0.conda","md5":"aa"}`,
		"srv/conda/envs/kernel/conda-meta/python-3.6.15-0.json":                             `{"name":"python","version":"3.6.15","build":"0","url":"https://c.example/linux-64/python-3.6.15-0.conda","md5":"bb"}`,
		"srv/conda/envs/kernel/lib/python3.6/site-packages/attrs-22.1.0.dist-info/METADATA": "Name: attrs\nVersion: 22.1.0\n",
		"srv/conda/envs/notebook/conda-meta/history":                                        "",
		"srv/rlibs/digest/DESCRIPTION":                                                      "Package: digest\nVersion: 0.6.35\nRepository: CRAN\n",
		"usr/lib/R/site-library/digest/DESCRIPTION":                                         "Package: digest\nVersion: 0.6.31\n",
		"usr/lib/R/library/base/DESCRIPTION":                                                "Package: base\nVersion: 4.2.2\nPriority: base\n",
		"srv/npm/lib/node_modules/configurable-http-proxy/package.json":                     `{"name":"configurable-http-proxy","version":"4.6.2"}`,
		"srv/npm/lib/node_modules/@scope/tool/package.json":                                 `{"name":"@scope/tool","version":"1.0.0"}`,
		"home/jovyan/binder/package-lock.json":                                              lock,
		"home/jovyan/binder/node_modules/.package-lock.json":                                `{"packages":{"node_modules/left-pad":{"version":"1.3.0","resolved":"https://n.example/left-pad-1.3.0.tgz","integrity":"sha512-/w=="},"node_modules/a/node_modules/@s/b":{"version":"2.0.0"},"node_modules/own":{"resolved":"own","link":true},"own":{"version":"0.1.0"}}}`,
		"srv/julia/bin/julia":                                                               "",
		"home/jovyan/Manifest.toml":                                                         "julia_version = \"1.10.4\"\n[[deps.Example]]\ngit-tree-sha1 = \"46e4\"\nversion = \"0.5.5\"\n",
	} {
		m[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	}
	return m
}

// lock is what the repository's node_modules was made from.
const lock = `{"lockfileVersion":3,"packages":{"node_modules/left-pad":{"version":"1.3.0"}}}`

func TestLocks(t *testing.T) {
	inv, err := inventory.Read(image())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, l := range inv.Locks() {
		got[l.Name] = l.Text
	}
	for name, want := range map[string]string{
		"apt.txt":    "git=1:2.39.5-0+deb12u2\n",
		"conda.lock": "@EXPLICIT\nhttps://c.example/linux-64/numpy-1.26.4-py311_0.conda#aa\n",
		"requirements.txt": "# mine==1.0 came with the repository\nsix==1.16.0\ntool @ git+https://git.example/ann/tool@abcdef\n" +
			"wheel_x @ https://h.example/wheel_x.whl#sha256=ff\n",
		"kernel.conda.lock":       "@EXPLICIT\nhttps://c.example/linux-64/python-3.6.15-0.conda#bb\n",
		"kernel.requirements.txt": "attrs==22.1.0\n",
		"package.json":            "{\n  \"dependencies\": {\n    \"@scope/tool\": \"1.0.0\",\n    \"configurable-http-proxy\": \"4.6.2\"\n  },\n  \"private\": true\n}\n",
		"package-lock.json":       lock,
		"Manifest.toml":           "julia_version = \"1.10.4\"\n[[deps.Example]]\ngit-tree-sha1 = \"46e4\"\nversion = \"0.5.5\"\n",
	} {
		if diff := cmp.Diff(want, got[name]); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	var renv struct {
		R        struct{ Version string }
		Packages map[string]struct{ Version string }
	}
	if err := json.Unmarshal([]byte(got["renv.lock"]), &renv); err != nil || renv.R.Version != "4.2.2" || renv.Packages["digest"].Version != "0.6.35" || len(renv.Packages) != 1 {
		t.Errorf("renv.lock: %v\n%s", err, got["renv.lock"])
	}
}

func TestSPDX(t *testing.T) {
	inv, err := inventory.Read(image())
	if err != nil {
		t.Fatal(err)
	}
	text := string(inv.SPDX("bindery/x", "test"))
	for _, want := range []string{
		"pkg:deb/debian/git@1%3A2.39.5-0%2Bdeb12u2?arch=amd64&distro=bookworm", "pkg:pypi/wheel-x@3.0", "pkg:conda/numpy@1.26.4?build=py311_0",
		"pkg:cran/digest@0.6.35", "pkg:npm/%40scope/tool@1.0.0", "pkg:npm/%40s/b@2.0.0", "https://n.example/left-pad-1.3.0.tgz", "pkg:julia/Example@0.5.5",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
	if again := string(inv.SPDX("bindery/x", "test")); again != text {
		t.Error("two documents of one image differ")
	}
	if !json.Valid([]byte(text)) {
		t.Error("it is not JSON")
	}
}

// What an image says of itself is a stranger's word: nothing of it may pass for an option, a path, or a second line.
func FuzzRead(f *testing.F) {
	f.Add("Name: a\nVersion: 1\n", `{"url":"x y"}`, "Package: p\nVersion: 1\nStatus: i o installed\n")
	f.Add("", `{"packages":{"node_modules/-x":{"version":"1"},"node_modules/../y":{"version":"1\n2","integrity":"sha1-"}}}`, "")
	f.Fuzz(func(t *testing.T, metadata, direct, status string) {
		inv, err := inventory.Read(fstest.MapFS{
			site + "a.dist-info/METADATA":                 {Data: []byte(metadata)},
			site + "a.dist-info/direct_url.json":          {Data: []byte(direct)},
			"var/lib/dpkg/status":                         {Data: []byte(status)},
			"srv/conda/conda-meta/x.json":                 {Data: []byte(direct)},
			"srv/rlibs/a/DESCRIPTION":                     {Data: []byte(metadata)},
			"home/jovyan/node_modules/.package-lock.json": {Data: []byte(direct)},
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range inv.Packages {
			if strings.HasPrefix(p.Name, "-") || strings.ContainsAny(p.Name+p.Version+p.Source, " \n\r\x1b") || strings.Contains(p.Name, "..") {
				t.Errorf("taken for a package: %+v", p)
			}
		}
		inv.Locks()
		inv.SPDX("x", "y")
	})
}
