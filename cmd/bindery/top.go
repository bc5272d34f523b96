package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

type topCmd struct {
	hubFlags
	By    string        `help:"Count launches by repo, origin, provider or class." enum:"repo,origin,provider,class" default:"repo" placeholder:"WHAT"`
	Every time.Duration `help:"How often a terminal is drawn anew." default:"2s" placeholder:"TIME"`
	JSON  bool          `help:"Print a JSON object, once."`
}

// topFor is how far back rates look.
const topFor = 10 * time.Minute

// A topLaunch is what of a line of the archive is counted.
type topLaunch struct {
	Timestamp time.Time      `json:"timestamp"`
	Status    string         `json:"status"`
	Provider  string         `json:"provider"`
	Repo      string         `json:"repo"`
	Origin    string         `json:"request_origin"`
	Class     bindery.Class  `json:"class"`
	Built     float64        `json:"built_seconds"`
	Started   float64        `json:"started_seconds"`
	Err       *bindery.Error `json:"error"`
}

// A topView is what is shown, at one moment.
type topView struct {
	Queue    bindery.Queue        `json:"queue"`
	Workers  []bindery.WorkerView `json:"workers"`
	Sessions map[string]int       `json:"sessions"`           // by repository
	Minutes  float64              `json:"minutes"`            // that what follows is about
	Launches int                  `json:"launches"`           // requests that ended
	Good     int                  `json:"launches_succeeded"` // of them
	Ours     int                  `json:"launches_failed_by_us"`
	Median   float64              `json:"ready_seconds_median"`
	Most     float64              `json:"ready_seconds_90"`
	Top      []topCount           `json:"top"`
	Blind    string               `json:"blind,omitempty"` // why nothing is known of launches
}

type topCount struct {
	Name     string `json:"name"`
	Launches int    `json:"launches"`
	Failed   int    `json:"failed"`
	Sessions int    `json:"sessions"`
}

// Run prints once into a pipe, and goes on at a terminal.
func (c *topCmd) Run(ctx context.Context, a *app) error {
	if c.Every < 100*time.Millisecond {
		return usagef("--every is at least 100ms")
	}
	client, err := c.running(a)
	if err != nil {
		return err
	}
	t := &top{by: c.By, client: client}
	once := c.JSON || !isTerminal(a.stdout)
	for {
		v, err := t.look(ctx, time.Now())
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case once && err != nil:
			return err
		case c.JSON:
			return printJSON(a.stdout, v)
		case once:
			_, err := io.WriteString(a.stdout, strings.Join(v.lines(200), "\n")+"\n")
			return err
		}
		drawTop(a.stdout, v, err)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(c.Every):
		}
	}
}

// drawTop fills the terminal with as much as it has room for, by one write.
func drawTop(w io.Writer, v topView, err error) {
	width, height := 80, 24
	if f, ok := w.(*os.File); ok {
		width, height = terminalSize(f)
	}
	lines := v.lines(width)
	if err != nil {
		lines = []string{"The hub does not answer: " + fit(clean(err.Error()), width-26)}
	}
	if len(lines) > height-1 {
		lines = append(lines[:height-2], fmt.Sprintf("… %d more lines", len(lines)-height+2))
	}
	var out strings.Builder
	out.WriteString("\x1b[H")
	for _, l := range lines {
		out.WriteString(fit(l, width-1) + "\x1b[K\r\n")
	}
	out.WriteString("\x1b[J")
	_, _ = io.WriteString(w, out.String()) // a terminal that has gone ends the program by itself
}

// A top remembers the launches of the last minutes, so that each look reads the new ones only.
type top struct {
	by       string
	client   *api.Client
	launches []topLaunch
	read     time.Time // until when
}

func (t *top) look(ctx context.Context, now time.Time) (v topView, err error) {
	if v.Queue, err = t.client.Queue(ctx); err != nil {
		return v, err
	}
	if v.Workers, err = t.client.Workers(ctx); err != nil {
		return v, err
	}
	sessions, err := t.client.Sessions(ctx)
	if err != nil {
		return v, err
	}
	v.Sessions = map[string]int{}
	for _, s := range sessions {
		v.Sessions[topName(s.Source.URL)]++
	}
	if err := t.readOn(ctx, now); err != nil {
		if !errors.Is(err, bindery.ErrNotAllowed) {
			return v, err
		}
		v.Blind = "launches are told to tokens with the scope admin only"
	}
	v.count(t.launches, t.by)
	return v, nil
}

// topName is a repository in as few letters as it can be told by.
func topName(url string) string {
	return clean(strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(url, "https://"), "http://"), ".git"))
}

func (t *top) readOn(ctx context.Context, now time.Time) error {
	since := t.read
	if old := now.Add(-topFor); since.Before(old) {
		since = old
	}
	err := eachEvent(ctx, t.client, "requests", since, now, func(line []byte) error {
		var l topLaunch
		err := json.Unmarshal(line, &l)
		t.launches = append(t.launches, l)
		return err
	})
	if err != nil {
		return err
	}
	t.read = now
	t.launches = slices.DeleteFunc(t.launches, func(l topLaunch) bool { return now.Sub(l.Timestamp) > topFor })
	return nil
}

// count makes rates of launches.
func (v *topView) count(all []topLaunch, by string) {
	v.Minutes, v.Launches, v.Top = topFor.Minutes(), len(all), []topCount{}
	of := map[string]*topCount{}
	var ready []float64
	for _, l := range all {
		name := map[string]string{"repo": topName(l.Repo), "origin": clean(l.Origin), "provider": clean(l.Provider), "class": string(l.Class)}[by]
		name = cmp.Or(name, "(unknown)")
		if of[name] == nil {
			of[name] = &topCount{Name: name}
		}
		of[name].Launches++
		switch {
		case l.Status == bindery.LaunchSucceeded:
			v.Good++
			ready = append(ready, l.Built+l.Started)
		case l.Status == bindery.LaunchFailed:
			of[name].Failed++
			if l.Err == nil || l.Err.Fault != bindery.User {
				v.Ours++
			}
		}
	}
	for name, n := range v.Sessions {
		if by == "repo" && of[name] == nil {
			of[name] = &topCount{Name: name}
		}
		if by == "repo" {
			of[name].Sessions = n
		}
	}
	for _, c := range of {
		v.Top = append(v.Top, *c)
	}
	slices.SortFunc(v.Top, func(a, b topCount) int {
		return cmp.Or(b.Launches-a.Launches, b.Sessions-a.Sessions, strings.Compare(a.Name, b.Name))
	})
	slices.Sort(ready)
	if n := len(ready); n > 0 {
		v.Median, v.Most = ready[n/2], ready[min(n-1, n*9/10)]
	}
}

// mostTop bounds each table: there is more to be seen elsewhere.
const mostTop = 10

// lines are what a terminal shows, the most important first.
func (v topView) lines(width int) []string {
	q := v.Queue
	watchers, oldest := 0, time.Duration(0)
	for _, b := range slices.Concat(q.Running, q.Waiting) {
		watchers += b.Watchers
	}
	for _, b := range q.Waiting {
		oldest = max(oldest, b.Age)
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%s  slots %d/%d  waiting %d", q.At.UTC().Format(time.TimeOnly), q.Taken, q.Slots, len(q.Waiting)+q.More)
	if oldest > 0 {
		fmt.Fprintf(&out, " (oldest %s)", seconds(oldest))
	}
	fmt.Fprintf(&out, "  watchers %d  sessions %d", watchers, q.Sessions)
	if len(q.Lobby) > 0 {
		fmt.Fprintf(&out, " (%d wait)", len(q.Lobby))
	}
	fmt.Fprintf(&out, "  rules %d\n", len(q.Rules))
	if v.Blind != "" {
		fmt.Fprintln(&out, v.Blind)
	} else {
		fmt.Fprintf(&out, "last %g min: %d launches (%.1f/min), %d well, %d failed by the hub", v.Minutes, v.Launches, float64(v.Launches)/v.Minutes, v.Good, v.Ours)
		if v.Good > 0 {
			fmt.Fprintf(&out, ", ready in %.1fs (median), %.1fs (90 %%)", v.Median, v.Most)
		}
		out.WriteString("\n")
	}
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nWORKER\tSTATE\tBUILDS\tSLOTS\tFREE\tWHY")
	for _, x := range v.Workers {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%s\n", clean(x.Name), x.State, x.Running, x.Slots, size(x.DiskFree), clean(x.Reason))
	}
	v.builds(w)
	if len(v.Top) > 0 {
		fmt.Fprintln(w, "\nLAUNCHES\tFAILED\tSESSIONS\tOF")
		for i, c := range v.Top {
			if i == mostTop {
				fmt.Fprintf(w, "\t\t\tand %d more\n", len(v.Top)-mostTop)
				break
			}
			fmt.Fprintf(w, "%d\t%d\t%d\t%s\n", c.Launches, c.Failed, c.Sessions, c.Name)
		}
	}
	_ = w.Flush() // to memory
	lines := strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
	for i, l := range lines {
		lines[i] = fit(l, width)
	}
	return lines
}

func (v topView) builds(w io.Writer) {
	if len(v.Queue.Running)+len(v.Queue.Waiting) == 0 {
		return
	}
	fmt.Fprintln(w, "\nBUILD\tSTATE\tWATCHERS\tSINCE\tLEFT\tREPOSITORY")
	for i, b := range v.Queue.Running {
		if i == mostTop {
			break
		}
		fmt.Fprintf(w, "%s\trunning\t%d\t%s\t%s\t%s\n", b.ID, b.Watchers, seconds(b.Age), seconds(max(b.Expected-b.Age, 0)), repoAt(b.Source))
	}
	for i, b := range v.Queue.Waiting {
		if i == mostTop {
			break
		}
		fmt.Fprintf(w, "%s\t%d. in line\t%d\t%s\t%s\t%s\n", b.ID, b.Standing.Position, b.Watchers, seconds(b.Age), startsIn(b.Standing, v.Queue.At), repoAt(b.Source))
	}
}

// eachEvent reads an export line by line.
func eachEvent(ctx context.Context, client *api.Client, kind string, since, until time.Time, do func(line []byte) error) error {
	body, err := client.Export(ctx, kind, since, until)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }() // it was only read
	in := bufio.NewReader(body)
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(strings.TrimSpace(string(line))) == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the hub's events: %w", err)
		}
		if err := do(line); err != nil {
			return fmt.Errorf("read the hub's events: %w", err)
		}
	}
}
