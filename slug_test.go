package bindery_test

import (
	"testing"

	bindery "github.com/bindery-hub/bindery"
)

// TestSlugsAreNobodysKey: BinderHub's names take two repositories for one, and one for two. Ours are only told.
func TestSlugsAreNobodysKey(t *testing.T) {
	const sha = "50533eb470ee6c24e872043d30b2fee463d6943f"
	at := func(id, raw string) (slug, key string) {
		p := provider(t, id)
		src, err := p.ParseSpec(raw)
		if err != nil {
			t.Fatal(err)
		}
		src.Commit = sha
		return p.Slug(src), bindery.BuildKey(src, "g")
	}
	hyphen, key := at("gh", "a-b/c/main")
	for _, c := range [][2]string{{"gh", "a/b-c/main"}, {"gl", "a%2Fb%2Fc/main"}} {
		if slug, other := at(c[0], c[1]); slug != hyphen || other == key {
			t.Errorf("%s/%s has the name %s, and the key of a-b/c: %v", c[0], c[1], slug, other == key)
		}
	}
	large, one := at("gh", "Org/Repo/main")
	small, two := at("gh", "org/repo/main")
	if large == small || one != two {
		t.Errorf("%s and %s are two builds: %v", large, small, one != two)
	}
}
