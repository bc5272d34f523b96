package rollout_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/rollout"
)

var order = []string{"g3", "g2", "g1", "gx"} // as they are looked through; gx was withdrawn

// TestRetain prunes any library by any rule, and checks what may never go, what must, and that nothing is left to a
// second time.
func TestRetain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		images, rule := anyLibrary(t), anyRule(t)
		rollout.Judge(images, order, map[string]bool{"gx": true})
		checkJudged(t, images)
		gone := map[string]bool{}
		for _, x := range rollout.Retain(images, rule, order, begin) {
			gone[x.Image] = true
		}
		serves := map[string]bindery.ImageRecord{}
		for _, x := range images {
			if x.State == rollout.StateServing {
				serves[x.Source.Spec()] = x
			}
		}
		for _, x := range images {
			if why := stays(x, rule, serves[x.Source.Spec()]); why != "" && gone[x.Image] {
				t.Fatalf("%s goes, though %s: %+v", x.Image, why, x)
			}
		}
		older := map[string]bool{} // commits of which an image stays that does not serve
		for _, x := range images {
			if x.State != rollout.StateServing && x.Key != "" && !gone[x.Image] {
				older[x.Source.Spec()] = true
			}
		}
		for spec, x := range serves {
			if gone[x.Image] && older[spec] {
				t.Fatalf("%s goes, and an older image serves in its place", x.Image)
			}
		}
		// What stays is old by no rule, serves beside what stays, or is one image with such: a name may have several keys.
		young := map[string]bool{}
		for _, x := range images {
			spec := x.Source.Spec()
			young[x.Image] = young[x.Image] || !old(x, rule, serves[spec]) || x.State == rollout.StateServing && older[spec]
		}
		for _, x := range images {
			if !gone[x.Image] && !young[x.Image] {
				t.Fatalf("%s stays, though nothing speaks for it: %+v", x.Image, x)
			}
		}
		left := slices.DeleteFunc(slices.Clone(images), func(x bindery.ImageRecord) bool { return gone[x.Image] })
		rollout.Judge(left, order, map[string]bool{"gx": true})
		if again := rollout.Retain(left, rule, order, begin); len(again) > 0 {
			t.Fatalf("a second time %d more go, such as %+v", len(again), again[0])
		}
	})
}

// anyLibrary has images of a few commits by some generations, some of which share a name.
func anyLibrary(t *rapid.T) (out []bindery.ImageRecord) {
	hours := func(name string) time.Time {
		return begin.Add(-time.Duration(rapid.IntRange(0, 60*24).Draw(t, name)) * time.Hour)
	}
	for repo := range rapid.IntRange(0, 6).Draw(t, "repos") {
		src := bindery.Source{Provider: bindery.ProviderGit, URL: fmt.Sprint("https://example.org/o/r", repo), Commit: "1"}
		launches := rapid.SampledFrom([]int{0, 0, 1, 7}).Draw(t, "launches")
		for _, g := range order {
			if rapid.Bool().Draw(t, "has") {
				continue
			}
			x := bindery.ImageRecord{
				Key: bindery.BuildKey(src, g), Source: src, Generation: g, Image: fmt.Sprint("i", rapid.IntRange(0, 12).Draw(t, "name")), Launches: launches, Created: hours("created"),
				Sessions: rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(t, "sessions"),
			}
			if rapid.IntRange(0, 3).Draw(t, "proven") > 0 {
				x.Proven = x.Created
			}
			if rapid.Bool().Draw(t, "was used") {
				x.Used = hours("used")
			}
			out = append(out, x)
		}
	}
	if rapid.Bool().Draw(t, "unlisted") {
		out = append(out, bindery.ImageRecord{Image: "mine", Created: hours("created")})
	}
	return out
}

func anyRule(t *rapid.T) bindery.Retention {
	return bindery.Retention{
		Unused: rapid.SampledFrom([]time.Duration{0, time.Hour, 20 * 24 * time.Hour}).Draw(t, "unused"), Top: rapid.IntRange(0, 4).Draw(t, "top"),
		Superseded: rapid.SampledFrom([]time.Duration{0, time.Hour, 20 * 24 * time.Hour}).Draw(t, "superseded"), Generations: rapid.IntRange(0, 3).Draw(t, "generations"),
	}
}

// checkJudged wants one image of each commit to serve, a proven one where there is one that was not withdrawn.
func checkJudged(t *rapid.T, images []bindery.ImageRecord) {
	serving, proven := map[string]int{}, map[string]bool{}
	for _, x := range images {
		if x.State == rollout.StateServing {
			serving[x.Source.Spec()]++
			proven[x.Source.Spec()] = !x.Proven.IsZero() && x.Generation != "gx"
		}
	}
	for _, x := range images {
		if x.Key == "" {
			if x.State != rollout.StateUnlisted {
				t.Fatalf("what has no key is %s", x.State)
			}
			continue
		}
		if n := serving[x.Source.Spec()]; n != 1 {
			t.Fatalf("%d images serve %s", n, x.Source.Spec())
		}
		if !x.Proven.IsZero() && x.Generation != "gx" && !proven[x.Source.Spec()] {
			t.Fatalf("what serves %s is not proven, though %+v is", x.Source.Spec(), x)
		}
	}
}

// stays says why an image may not go; empty: it may.
func stays(x bindery.ImageRecord, r bindery.Retention, serves bindery.ImageRecord) string {
	switch {
	case x.Sessions > 0:
		return "sessions run on it"
	case x.Key == "":
		return "no visitor's launch says anything about it"
	case x.State == rollout.StateServing && r.Unused == 0:
		return "it serves"
	case x.State == rollout.StateServing && x.Launches > 0 && x.Rank <= top(r):
		return "it is popular"
	case x.State == rollout.StateServing && begin.Sub(last(x)) <= r.Unused:
		return "it was used of late"
	case x.State == rollout.StateServing:
		return ""
	case slices.Contains(order[1:1+min(r.Generations, 3)], x.Generation):
		return "its generation is kept"
	case serves.Proven.IsZero():
		return "nothing else is proven"
	}
	return ""
}

// old reports whether a rule lets an image go.
func old(x bindery.ImageRecord, r bindery.Retention, serves bindery.ImageRecord) bool {
	if stays(x, r, serves) != "" {
		return false
	}
	if x.State == rollout.StateServing {
		return true
	}
	superseded := r.Superseded
	if superseded == 0 {
		superseded = 7 * 24 * time.Hour
	}
	return begin.Sub(serves.Proven) > superseded && begin.Sub(last(x)) > superseded
}

func last(x bindery.ImageRecord) time.Time {
	if x.Used.After(x.Created) {
		return x.Used
	}
	return x.Created
}

func top(r bindery.Retention) int {
	if r.Top == 0 {
		return 100
	}
	return r.Top
}
