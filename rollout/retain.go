package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// Judge says what each image is for: the States of records. order lists the generations in which images are looked for,
// the newest that serves first; withdrawn are those of them that serve only what no other can.
func Judge(images []bindery.ImageRecord, order []string, withdrawn map[string]bool) {
	rank := map[string]int{}
	for i, g := range order {
		rank[g] = i + 1
	}
	better := func(a, b bindery.ImageRecord) bool {
		if withdrawn[a.Generation] != withdrawn[b.Generation] {
			return withdrawn[b.Generation]
		}
		if a.Proven.IsZero() != b.Proven.IsZero() {
			return !a.Proven.IsZero()
		}
		return cmp.Or(rank[a.Generation], len(order)+1) < cmp.Or(rank[b.Generation], len(order)+1)
	}
	best := map[string]int{}
	for i, r := range images {
		if r.Key == "" {
			continue
		}
		if j, ok := best[r.Source.Spec()]; !ok || better(r, images[j]) {
			best[r.Source.Spec()] = i
		}
	}
	for i := range images {
		r := &images[i]
		switch {
		case r.Key == "":
			r.State = StateUnlisted
		case best[r.Source.Spec()] == i:
			r.State = StateServing
		case withdrawn[r.Generation]:
			r.State = StateWithdrawn
		case r.Proven.IsZero():
			r.State = StateUnproven
		default:
			r.State = StateSuperseded
		}
	}
	rankByLaunches(images)
}

// What an image is for.
const (
	StateServing    = "serving"    // visitors get it
	StateSuperseded = "superseded" // a newer generation's is proven
	StateUnproven   = "unproven"   // it was built and has not answered yet: another one serves
	StateWithdrawn  = "withdrawn"  // of a generation that was rolled back
	StateUnlisted   = "unlisted"   // of `bindery run` or `bindery build`: no visitor gets it
)

func rankByLaunches(images []bindery.ImageRecord) {
	n := map[string]int{}
	for _, r := range images {
		if r.Key != "" {
			n[r.Source.Spec()] = r.Launches
		}
	}
	specs := make([]string, 0, len(n))
	for s := range n {
		specs = append(specs, s)
	}
	slices.SortFunc(specs, func(a, b string) int { return cmp.Or(cmp.Compare(n[b], n[a]), cmp.Compare(a, b)) })
	for i, s := range specs {
		n[s] = i + 1
	}
	for i := range images {
		if images[i].Key != "" {
			images[i].Rank = n[images[i].Source.Spec()]
		}
	}
}

// Retain says what goes by a rule of retention: the images, with Why filled in for those that go and those that stay
// although they are old. Images of one name go together or not at all. The images must have been judged; order lists the
// generations, the newest first.
func Retain(images []bindery.ImageRecord, r bindery.Retention, order []string, now time.Time) (remove []bindery.ImageRecord) {
	r = withDefaults(r)
	kept := map[string]bool{}
	for _, g := range order[min(1, len(order)):min(1+r.Generations, len(order))] {
		kept[g] = true
	}
	since := supersededSince(images)
	stays := map[string]bool{}
	for i := range images {
		x := &images[i]
		why, goes := verdict(*x, r, kept, since[x.Source.Spec()], now)
		x.Why = cmp.Or(why, x.Why)
		if !goes {
			stays[x.Image] = true
		}
	}
	stayWithOlder(images, stays)
	for _, x := range images {
		if !stays[x.Image] {
			remove = append(remove, x)
		}
	}
	return remove
}

// stayWithOlder keeps what serves a commit as long as an older image of it stays: that one would serve in its place.
func stayWithOlder(images []bindery.ImageRecord, stays map[string]bool) {
	for more := true; more; {
		more = false
		kept := map[string]bool{}
		for _, x := range images {
			kept[x.Source.Spec()] = kept[x.Source.Spec()] || stays[x.Image] && x.Key != ""
		}
		for i := range images {
			if x := &images[i]; x.State == StateServing && !stays[x.Image] && kept[x.Source.Spec()] {
				stays[x.Image], x.Why, more = true, "an older image of it stays", true
			}
		}
	}
}

func withDefaults(r bindery.Retention) bindery.Retention {
	r.Superseded = cmp.Or(r.Superseded, 7*24*time.Hour)
	r.Top = cmp.Or(r.Top, 100)
	return r
}

// supersededSince is when the image that serves a commit was proven.
func supersededSince(images []bindery.ImageRecord) map[string]time.Time {
	out := map[string]time.Time{}
	for _, x := range images {
		if x.State == StateServing && !x.Proven.IsZero() {
			out[x.Source.Spec()] = x.Proven
		}
	}
	return out
}

// verdict is about one image.
func verdict(x bindery.ImageRecord, r bindery.Retention, kept map[string]bool, served, now time.Time) (why string, goes bool) {
	used := x.Created
	if x.Used.After(used) {
		used = x.Used
	}
	idle := now.Sub(used)
	switch {
	case x.Sessions > 0:
		return fmt.Sprintf("%d sessions run on it", x.Sessions), false
	case x.State == StateUnlisted:
		return "", false
	case x.State == StateServing && r.Unused <= 0:
		return "", false
	case x.State == StateServing && x.Rank <= r.Top && x.Launches > 0:
		return "", false
	case x.State == StateServing:
		if idle > r.Unused {
			return "nobody has launched it for " + days(idle), true
		}
		return "", false
	case kept[x.Generation]:
		return "its generation is kept", false
	case served.IsZero(): // what serves has not answered yet either
		return "nothing else is proven", false
	}
	old := now.Sub(served)
	if at := now.Sub(used); at < old { // somebody took it after that: it was served again
		old = at
	}
	if old > r.Superseded {
		return fmt.Sprintf("it is %s, for %s", x.State, days(old)), true
	}
	return "", false
}

func days(d time.Duration) string {
	if d < 48*time.Hour {
		return fmt.Sprintf("%.0f hours", d.Hours())
	}
	return fmt.Sprintf("%.0f days", d.Hours()/24)
}
