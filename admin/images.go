package admin

import (
	"cmp"
	"net/url"
	"strconv"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

// A choice of images is what the forms below their list are filled with, and what comes of that. First it is shown what
// it costs; what then is sent does it.
type choice struct {
	Do      string // anew, drop or prune; empty: nothing was asked yet
	Select  string
	Rule    bindery.Retention
	Fields  map[string]string // of the rule, as they were written
	Cost    *bindery.Invalidation
	Pruned  *bindery.Pruned
	Shown   []bindery.ImageRecord // that would be removed; the first ones
	Problem string
	Remedy  string
}

// choose reads a choice from an address or a form.
func choose(q url.Values) (c choice, err error) {
	c = choice{Do: q.Get("do"), Select: strings.TrimSpace(q.Get("selector")), Fields: map[string]string{}}
	for _, name := range []string{"superseded", "unused", "top", "generations"} {
		c.Fields[name] = strings.TrimSpace(q.Get(name))
	}
	period := func(name string) (d time.Duration) {
		if text := c.Fields[name]; text != "" && err == nil {
			if d, err = time.ParseDuration(text); err != nil {
				err = bindery.Errorf(bindery.ErrInvalid, bindery.User, "Write it as 72h.", "%q is not how long something lasts", bindery.Printable(text))
			}
		}
		return d
	}
	count := func(name string) (n int) {
		if text := c.Fields[name]; text != "" && err == nil {
			if n, err = strconv.Atoi(text); err != nil {
				err = bindery.Errorf(bindery.ErrInvalid, bindery.User, "Give a number, such as 100.", "%q is no number", bindery.Printable(text))
			}
		}
		return n
	}
	c.Rule = bindery.Retention{Superseded: period("superseded"), Unused: period("unused"), Top: count("top"), Generations: count("generations")}
	return c, err
}

// carry does what a choice says, or only finds what that costs.
func (c *choice) carry(v *visit, dryRun bool, reason string) error {
	const mostShown = 20
	switch c.Do {
	case "anew", "drop":
		cost, err := v.hub.Invalidate(v.r.Context(), api.InvalidateImages{Selector: c.Select, Force: c.Do == "drop", DryRun: dryRun, Reason: reason})
		c.Cost = &cost
		return err
	case "prune":
		pruned, err := v.hub.PruneImages(v.r.Context(), api.PruneImages{Rule: c.Rule, DryRun: dryRun, Reason: reason})
		c.Pruned, c.Shown = &pruned, pruned.Removed[:min(len(pruned.Removed), mostShown)]
		return err
	}
	return bindery.Errorf(bindery.ErrInvalid, bindery.User, "Use the page.", "Nothing of that name can be done with images")
}

func imagesPage(v *visit) error {
	q := v.r.URL.Query()
	c, err := choose(q)
	if err == nil && c.Do != "" {
		err = c.carry(v, true, "")
	}
	return showImages(v, c, q.Get("q"), err)
}

// showImages lists images with the forms below them, and what is wrong with what was asked for.
func showImages(v *visit, c choice, text string, wrong error) error {
	if wrong != nil {
		e := bindery.AsError(wrong)
		if e.Fault != bindery.User {
			return wrong
		}
		c.Problem, c.Remedy, c.Cost, c.Pruned = e.Msg, e.Remedy, nil, nil
	}
	lib, err := v.hub.Images(v.r.Context(), 1000)
	if err != nil {
		return err
	}
	b := foundImages(lib, text)
	b.Choice = c
	return v.show("images", data{Title: "Images", Here: "/admin/images", Body: b})
}

// changeImages does what was chosen, or shows the form again with what is wrong.
func changeImages(v *visit) error {
	c, err := choose(v.r.PostForm)
	if err == nil {
		err = c.carry(v, false, v.reason())
	}
	if err != nil {
		return showImages(v, c, "", err)
	}
	return v.redirect("/admin/images", cmp.Or(map[string]string{"drop": "dropped", "prune": "pruned"}[c.Do], "anew"))
}

func removeImage(v *visit) error {
	if err := v.hub.RemoveImage(v.r.Context(), v.r.PathValue("id"), v.reason()); err != nil {
		return err
	}
	return v.redirect("/admin/images", "remove")
}
