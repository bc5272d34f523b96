package admin

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

type rulesBody struct {
	Rules   []api.Rule
	Kinds   [][2]string
	Kind    string // the rest is what the form is filled with
	Pattern string
	Value   string
	Reason  string
	Message string
	From    string
	For     string
	Build   string // links to prebuild
	Preview *api.RulePreview
	Problem string
	Remedy  string
	Now     time.Time
}

// kinds are what rules do, in words.
func kinds() [][2]string {
	return [][2]string{
		{bindery.RuleBan, "Ban: refuse it, drop what waits, stop what runs"},
		{bindery.RuleHold, "Hold builds: they wait; what runs goes on"},
		{bindery.RuleHoldLaunches, "Hold launches: they wait; builds and sessions go on"},
		{bindery.RuleUntilBuilt, "Hold until it is built, aside from all others"},
		{bindery.RuleQuota, "Quota: so many sessions at once"},
		{bindery.RuleWeight, "Weight: so many times everybody's share of the slots"},
	}
}

// rulesPage lists rules. With a pattern in its address it says what a rule of it would be about: nothing is made by
// that.
func rulesPage(v *visit) error {
	q := v.r.URL.Query()
	b := rulesBody{
		Kind: q.Get("kind"), Pattern: q.Get("pattern"), Value: q.Get("value"), Reason: q.Get("reason"), Message: q.Get("message"),
		From: q.Get("from"), For: q.Get("for"), Build: q.Get("prebuild"),
	}
	return showRules(v, b)
}

func showRules(v *visit, b rulesBody) error {
	all, err := v.hub.Rules(v.r.Context())
	if err != nil {
		return err
	}
	b.Rules, b.Kinds, b.Now = all, kinds(), v.s.cfg.Now()
	if b.Pattern != "" {
		p, err := v.hub.PreviewRule(v.r.Context(), b.Pattern)
		switch {
		case err == nil:
			b.Preview = &p
		case b.Problem == "":
			b.Problem, b.Remedy = bindery.AsError(err).Msg, bindery.AsError(err).Remedy
		}
	}
	return v.show("rules", data{Title: "Rules", Here: "/admin/rules", Body: b})
}

// addRule makes a rule, or shows the form again with what is wrong.
func addRule(v *visit) error {
	f := v.r.PostForm
	b := rulesBody{
		Kind: f.Get("kind"), Pattern: strings.TrimSpace(f.Get("pattern")), Value: strings.TrimSpace(f.Get("value")), Reason: f.Get("reason"),
		Message: f.Get("message"), From: strings.TrimSpace(f.Get("from")), For: strings.TrimSpace(f.Get("for")), Build: f.Get("prebuild"),
	}
	in, err := b.rule(v.s.cfg.Now())
	if err == nil {
		_, err = v.hub.AddRule(v.r.Context(), in)
	}
	if err == nil {
		return v.redirect("/admin/rules", "rule")
	}
	e := bindery.AsError(err)
	if e.Fault != bindery.User {
		return err
	}
	b.Problem, b.Remedy = e.Msg, e.Remedy
	return showRules(v, b)
}

// rule reads the form.
func (b rulesBody) rule(now time.Time) (in api.NewRule, err error) {
	in = api.NewRule{Kind: b.Kind, Pattern: b.Pattern, Reason: b.Reason, Message: b.Message, Prebuild: strings.Fields(b.Build)}
	if in.Kind == bindery.RuleQuota || in.Kind == bindery.RuleWeight {
		if in.Value, err = strconv.ParseFloat(b.Value, 64); err != nil {
			return in, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Give how many sessions, or how many times everybody's share.", "%q is no number", bindery.Printable(b.Value))
		}
	}
	if in.From, err = moment(b.From); err != nil || b.For == "" {
		return in, err
	}
	d, err := time.ParseDuration(b.For)
	if err != nil || d <= 0 {
		return in, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Write it as 30m or 48h.", "%q is not how long something lasts", bindery.Printable(b.For))
	}
	begin := now
	if !in.From.IsZero() {
		begin = in.From
	}
	in.Until = begin.Add(d).UTC()
	return in, nil
}

// moment reads a time of the form, in UTC where it names no zone, as all times of these pages are.
func moment(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02 15:04:05", time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Write it as 2026-12-01 09:00 (UTC).", "%q is no time", bindery.Printable(text))
}

func liftRule(v *visit) error {
	if err := v.hub.LiftRule(v.r.Context(), v.r.PathValue("id"), v.reason()); err != nil {
		return err
	}
	return v.redirect("/admin/rules", "lift")
}

func atoi(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// exportAudit sends all lines that the page's form chooses, one JSON object each.
func exportAudit(v *visit) error {
	q, problem := auditQuery(v.r, v.s.cfg.Now())
	if problem != "" {
		return bindery.Errorf(bindery.ErrInvalid, bindery.User, "Go back and mend it.", "%s", problem)
	}
	enc := json.NewEncoder(v.w)
	began := false
	for l, err := range v.hub.AllAudit(v.r.Context(), q) {
		if err != nil {
			if began {
				panic(http.ErrAbortHandler) // whoever downloads it must not take it for all
			}
			return err
		}
		if !began {
			began = true
			v.exportHead()
		}
		if enc.Encode(l) != nil {
			return nil // the reader has gone
		}
	}
	if !began {
		v.exportHead()
	}
	return nil
}

func (v *visit) exportHead() {
	v.w.Header().Set("Content-Type", "application/jsonl; charset=utf-8")
	name := "bindery-audit-" + v.s.cfg.Now().UTC().Format("20060102-150405") + ".jsonl"
	v.w.Header().Set("Content-Disposition", "attachment; filename="+url.PathEscape(name))
}
