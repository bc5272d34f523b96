package admin

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

// A part is one piece of a roll-out's bar.
type part struct {
	Name, Class string
	N           int
	X, Width    float64 // in hundredths of the bar
}

// A rolled generation is one with its roll-out drawn.
type rolled struct {
	bindery.RolloutStatus
	Parts []part
	All   int
	Share float64 // of the images to replace, that are
	Held  []bindery.Held
	Rest  int // that are held, and not shown
}

type generationsBody struct{ Generations []rolled }

func generationsPage(v *visit) error {
	all, err := v.hub.Generations(v.r.Context())
	if err != nil {
		return err
	}
	return v.show("generations", data{Title: "Generations", Here: "/admin/generations", Live: true, Body: drawn(all)})
}

// drawn makes a bar of each roll-out: what is proven, under way, waiting, held and left alone adds up to the whole.
func drawn(all []bindery.RolloutStatus) (b generationsBody) {
	const mostHeld = 50
	for _, g := range all {
		r := rolled{RolloutStatus: g, Held: g.Held}
		if n := len(r.Held) - mostHeld; n > 0 {
			r.Held, r.Rest = r.Held[:mostHeld], n
		}
		if g.Rollout != nil {
			r.Parts = []part{
				{Name: "proven: built, and a session answered", Class: "proven", N: g.Proven}, {Name: "starting its first session", Class: "starting", N: g.Starting},
				{Name: "being built", Class: "building", N: g.Building}, {Name: "waiting", Class: "waiting", N: g.Waiting},
				{Name: "held on the old image", Class: "held", N: len(g.Held)}, {Name: "left alone, unused for long", Class: "skipped", N: g.Rollout.Skipped},
			}
			for _, p := range r.Parts {
				r.All += p.N
			}
			r.Share = float64(g.Proven) / float64(max(g.Rollout.Total, 1))
			x := 0.0
			for i := range r.Parts {
				r.Parts[i].X, r.Parts[i].Width = x, 100*float64(r.Parts[i].N)/float64(max(r.All, 1))
				x += r.Parts[i].Width
			}
		}
		b.Generations = append(b.Generations, r)
	}
	return b
}

type planBody struct {
	Name   string
	Plan   bindery.RolloutPlan
	Fields map[string]string // what it is reckoned by, as that was written
}

// planPage says what a roll-out would cost before it is begun. It begins nothing.
func planPage(v *visit) error {
	name, q := v.r.PathValue("id"), v.r.URL.Query()
	opt, err := optionsOf(q)
	if err != nil {
		return err
	}
	plan, err := v.hub.PlanRollout(v.r.Context(), name, opt, 0)
	if err != nil {
		return err
	}
	b := planBody{name, plan, map[string]string{}}
	for _, field := range []string{"canary", "pace", "at_once", "since"} {
		b.Fields[field] = strings.TrimSpace(q.Get(field))
	}
	return v.show("plan", data{Title: "Plan of " + plan.To, Here: "/admin/generations", Body: b})
}

// generationAction starts, pauses, resumes or rolls back.
func generationAction(v *visit) error {
	id, act := v.r.PathValue("id"), v.r.PathValue("act")
	said := act
	var err error
	switch act {
	case "start":
		in := api.StartRollout{Reason: v.reason()}
		if in.Options, err = optionsOf(v.r.PostForm); err == nil {
			_, err = v.hub.StartRollout(v.r.Context(), id, in)
		}
	case "pause", "rollback":
		_, err = v.hub.ChangeRollout(v.r.Context(), id, act, v.reason())
	case "resume":
		said = "goon"
		_, err = v.hub.ChangeRollout(v.r.Context(), id, act, v.reason())
	default:
		err = bindery.Errorf(bindery.ErrNotFound, bindery.User, "Use the page.", "Nothing of that name can be done with a generation")
	}
	if err != nil {
		return err
	}
	return v.redirect("/admin/generations", said)
}

// optionsOf reads the forms that plan and begin a roll-out. Shares are written in per cent.
func optionsOf(q url.Values) (opt bindery.RolloutOptions, err error) {
	share := func(name string) float64 {
		text := strings.TrimSpace(q.Get(name))
		x, parseErr := strconv.ParseFloat(cmp.Or(text, "0"), 64)
		if parseErr != nil && err == nil {
			err = bindery.Errorf(bindery.ErrInvalid, bindery.User, "Give a number, such as 5.", "%q is no number", bindery.Printable(text))
		}
		return x
	}
	opt.Canary, opt.Threshold = share("canary")/100, share("threshold")/100
	opt.Pace, opt.AtOnce = int(share("pace")), int(share("at_once"))
	if text := strings.TrimSpace(q.Get("since")); text != "" && err == nil {
		if opt.Since, err = time.ParseDuration(text); err != nil {
			err = bindery.Errorf(bindery.ErrInvalid, bindery.User, "Write it as 720h.", "%q is not how long something lasts", bindery.Printable(text))
		}
	}
	return opt, err
}

type imagesBody struct {
	bindery.Library
	Text          string
	Found, Looked int
	Disk          []part
	Total         int64
	Choice        choice
	Silent        string
}

func foundImages(lib bindery.Library, text string) imagesBody {
	b := imagesBody{Text: text, Looked: len(lib.Images) + lib.More}
	b.More = lib.More
	words := strings.Fields(strings.ToLower(text))
	for _, x := range lib.Images {
		hay := strings.ToLower(strings.Join([]string{x.Image, specOf(x.Source), x.Source.Commit, x.Generation, x.State, strings.Join(x.Workers, " ")}, " "))
		if slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(hay, w) }) {
			continue
		}
		if b.Found++; len(b.Images) < mostRows {
			b.Images = append(b.Images, x)
		}
	}
	if d := lib.Disk; d != nil && d.Total > 0 {
		b.Total, b.Silent = d.Total, strings.Join(d.Silent, ", ")
		x := 0.0
		for _, p := range []struct {
			name, class string
			n           int64
		}{
			{"images, each its own", "building", d.Images}, {"layers that images share", "starting", d.Shared}, {"sessions", "proven", d.Sessions},
			{"build cache", "waiting", d.Cache}, {"all else", "skipped", d.Other},
		} {
			w := 100 * float64(p.n) / float64(d.Total)
			b.Disk = append(b.Disk, part{Name: p.name + ": " + bytesText(p.n), Class: p.class, X: x, Width: w})
			x += w
		}
	}
	return b
}
