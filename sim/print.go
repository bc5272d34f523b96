package sim

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// Print writes the report as a table for people: a column for each policy.
func (rep *Report) Print(w io.Writer) error {
	fmt.Fprintf(w, "%s from %s for %s: %d slots, seed %d\n\n", rep.Workload, rep.From.Format(time.RFC3339), hours(rep.Length), rep.Slots, rep.Seed)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(title string, value func(r *Result) string) {
		fmt.Fprintf(t, "%s\t", title)
		for _, name := range rep.Order {
			fmt.Fprintf(t, "%s\t", value(rep.Policies[name]))
		}
		fmt.Fprintln(t)
	}
	fmt.Fprint(t, "\t")
	for _, name := range rep.Order {
		fmt.Fprintf(t, "%s\t", name)
	}
	fmt.Fprintln(t)
	rep.printCounts(row)
	rep.printWaits(row)
	rep.printShares(row)
	return t.Flush()
}

type rower func(title string, value func(r *Result) string)

func (rep *Report) printCounts(row rower) {
	count := func(title string, value func(r *Result) int) {
		row(title, func(r *Result) string { return fmt.Sprint(value(r)) })
	}
	row("specs served", func(r *Result) string { return fmt.Sprintf("%d of %d", r.Specs.Served, r.Specs.Asked) })
	row("could be served", func(r *Result) string { return fmt.Sprint(r.Specs.Possible) })
	row("of these missed", func(r *Result) string { return fmt.Sprint(len(r.Specs.Missed)) })
	row("launches served", func(r *Result) string { return fmt.Sprintf("%d of %d", r.Launches.Served, r.Launches.Asked) })
	count("gave up", func(r *Result) int { return r.Launches.GaveUp })
	count("still waiting", func(r *Result) int { return r.Launches.Waiting })
	count("builds started", func(r *Result) int { return r.Builds.Started })
	count("with an image", func(r *Result) int { return r.Builds.Finished })
	count("repeated", func(r *Result) int { return r.Builds.Repeated })
	count("killed for age", func(r *Result) int { return r.Builds.Killed })
	count("without space", func(r *Result) int { return r.Builds.NoSpace })
	count("most at once", func(r *Result) int { return r.Builds.MostRunning })
}

func (rep *Report) printWaits(row rower) {
	for _, class := range rep.classes() {
		row(class+" wait p50", func(r *Result) string { return span(r.Wait[class]["all"].P50) })
		row("p95", func(r *Result) string { return span(r.Wait[class]["all"].P95) })
		row("p99", func(r *Result) string { return span(r.Wait[class]["all"].P99) })
		row("max", func(r *Result) string { return span(r.Wait[class]["all"].Max) })
		for _, size := range []string{"small", "medium", "large", "all"} {
			row(size+" builds, slowdown p99", func(r *Result) string { return times(r.BuildSlowdown[class][size].P99) })
		}
	}
	row("other specs' first visitors, slowdown p99", func(r *Result) string { return times(r.Others.FirstVisitors.P99) })
	row("visitors after the first hour, slowdown p99", func(r *Result) string { return times(r.Others.AfterFirstHour.P99) })
}

func (rep *Report) printShares(row rower) {
	percent := func(x float64) string { return fmt.Sprintf("%.1f %%", 100*x) }
	jain := func(j Jain) string {
		if j.Windows == 0 {
			return "-"
		}
		return fmt.Sprintf("%.3f", j.Mean)
	}
	row("Jain index of owners", func(r *Result) string { return jain(r.Jain) })
	row("of requesters", func(r *Result) string { return jain(r.Requesters) })
	if slices.ContainsFunc(rep.Order, func(name string) bool { return rep.Policies[name].Sessions != nil }) {
		row("sessions, most at once", placed(func(s *Sessions) string { return fmt.Sprint(s.Most) }))
		row("waited for a place, refused", placed(func(s *Sessions) string { return fmt.Sprintf("%d, %d", s.Waited, s.Refused) }))
		row("wait for a place p95", placed(func(s *Sessions) string { return span(s.Wait.P95) }))
	}
	row("longest starvation", func(r *Result) string { return span(r.Starvation.Seconds) })
	row("slots used", func(r *Result) string { return percent(r.Utilisation) })
	row("of it for images", func(r *Result) string { return percent(r.Useful) })
	row("forecasts right", func(r *Result) string {
		if r.ETA.Samples == 0 {
			return "-"
		}
		return fmt.Sprintf("%s of %d", percent(r.ETA.Coverage), r.ETA.Samples)
	})
	misses := func(name string, of func(ETA) float64) {
		row(name, func(r *Result) string {
			if r.ETA.Samples == 0 {
				return "-"
			}
			return percent(of(r.ETA))
		})
	}
	misses("their median error", func(e ETA) float64 { return e.MedianOfAll })
	misses("of 2 min and more", func(e ETA) float64 { return e.LongError })
	misses("where a page names it", func(e ETA) float64 { return e.MedianError })
}

// placed is a cell about sessions, where places are counted.
func placed(cell func(*Sessions) string) func(*Result) string {
	return func(r *Result) string {
		if r.Sessions == nil {
			return "-"
		}
		return cell(r.Sessions)
	}
}

// classes lists the classes that some policy has met.
func (rep *Report) classes() (all []string) {
	for _, class := range []string{"attended", "unattended", "background"} {
		for _, name := range rep.Order {
			if r := rep.Policies[name]; r.Wait[class] != nil {
				all = append(all, class)
				break
			}
		}
	}
	return all
}

func span(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	if d < time.Minute {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

func times(x float64) string { return fmt.Sprintf("%.2f", x) }
