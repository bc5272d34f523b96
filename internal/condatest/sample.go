package condatest

import (
	"context"
	"fmt"
	"strings"
)

// Sample returns the packages that the sample repositories ask for: two interpreters, a pure Python package with a
// command, files that name their prefix, a script that runs after linking, packages that exclude each other.
func Sample(ctx context.Context, pythons ...string) ([]Package, error) {
	all := []Package{
		greet("1.0"), greet("2.0"), greet("2.1"),
		{
			Name: "libgreet", Version: "3.1", Files: map[string]File{
				"etc/greet.conf":             {Data: []byte("home = " + Prefix + "/share\n"), Placeholder: "text"},
				"lib/libgreet.bin":           {Data: []byte("\x7fbin\x00" + Prefix + "/lib\x00after\x00"), Placeholder: "binary"},
				"bin/greet-where":            {Data: []byte("#!/bin/sh\necho " + Prefix + "\n"), Placeholder: "text", Executable: true},
				"bin/greet-link":             {Link: "greet-where"},
				"etc/conda/activate.d/gr.sh": {Data: []byte("export GREET_HOME=$CONDA_PREFIX/share\n")},
			},
		},
		{Name: "oldgreet", Version: "0.9", Bzip2: true, Files: map[string]File{"share/oldgreet": {Data: []byte("old\n")}}},
		{Name: "postgreet", Version: "1", PostLink: "#!/bin/sh\nmkdir -p $PREFIX/share\necho linked >$PREFIX/share/postgreet\n",
			Files: map[string]File{"share/post": {Data: []byte("x")}}},
		{Name: "greet-a", Version: "1", Depends: []string{"libgreet >=4"}},
		{Name: "pip", Version: "24.0", Noarch: "generic"}, // environment files name it; the servers bring a real one
		{Name: "only-old", Version: "1", Depends: []string{"greet <2"}, Noarch: "generic"},
	}
	for _, xy := range pythons {
		p, err := Python(ctx, xy)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// greet is a pure Python package with a command and the metadata by which pip knows it.
func greet(version string) Package {
	info := fmt.Sprintf("site-packages/greet-%s.dist-info/", version)
	return Package{
		Name: "greet", Version: version, Noarch: "python", Build: "py_0", Depends: []string{"python >=3.9"},
		EntryPoints: []string{"greet = greet:main"},
		Files: map[string]File{
			"site-packages/greet/__init__.py": {Data: []byte("import sys\n__version__ = '" + version + "'\ndef main():\n    print('hello from', __version__, 'in', sys.prefix)\n")},
			info + "METADATA":                 {Data: []byte("Metadata-Version: 2.1\nName: greet\nVersion: " + version + "\n")},
			info + "INSTALLER":                {Data: []byte("conda\n")},
			info + "RECORD":                   {Data: []byte(strings.Join([]string{"greet/__init__.py,,", "greet-" + version + ".dist-info/METADATA,,", ""}, "\n"))},
			info + "entry_points.txt":         {Data: []byte("[console_scripts]\ngreet = greet:main\n")},
		},
	}
}
