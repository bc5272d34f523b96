package buildkit

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"slices"
)

// version goes into the generation: a change of the graph that no asset shows must change it.
const version = "4"

//go:embed assets/*
var assets embed.FS

// Generation names this builder: its scripts, its server environment, its base packages. Equal generations build
// the same from the same plan.
func Generation() string {
	h := sha256.New()
	for _, suite := range slices.Sorted(maps.Keys(suites())) {
		fmt.Fprintf(h, "%s %s %q\n", version, suite, basePackages(suite))
	}
	err := fs.WalkDir(assets, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := assets.ReadFile(p)
		fmt.Fprintf(h, "%s %d\n%s", p, len(b), b)
		return err
	})
	if err != nil {
		panic(err) // embedded files are always readable
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// asset returns an embedded file.
func asset(name string) []byte {
	b, err := assets.ReadFile("assets/" + name)
	if err != nil {
		panic(err) // a name in the source that is not embedded
	}
	return b
}
