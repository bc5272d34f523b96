package metrics

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// A History knows what a store keeps: builds and sessions that have ended, and who did what.
type History interface {
	BuildsEnded(ctx context.Context, s bindery.Span) ([]bindery.Build, error)
	SessionsEnded(ctx context.Context, s bindery.Span) ([]bindery.Session, error)
	AuditOf(ctx context.Context, s bindery.Span) ([]bindery.Audit, error)
}

// Kinds of events that Export knows, beside "all".
var exports = [...]string{launchLines, requestLines, generationLines, canaryLines, poolLines, "builds", "sessions", "audit"}

// A dated event is one line of an export.
type dated struct {
	at   time.Time
	line []byte
	err  error
}

// Export yields what happened from since until before until, as JSON lines in order of time: launches as BinderHub's
// archive has them, and beside them requests, builds, sessions and the audit log in schemas of our own. kind is one of
// these words, or "all".
func (a *Archive) Export(ctx context.Context, h History, kind string, since, until time.Time) (iter.Seq2[[]byte, error], error) {
	if kind != "all" && !slices.Contains(exports[:], kind) {
		return nil, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Use launches, requests, builds, sessions, generations, canaries, pools, audit or all.", "%q is not a kind of events", bindery.Printable(kind))
	}
	var sources []iter.Seq[dated]
	add := func(name string, s iter.Seq[dated]) {
		if kind == "all" || kind == name {
			sources = append(sources, s)
		}
	}
	add(launchLines, a.lines(launchLines, since, until))
	add(requestLines, a.lines(requestLines, since, until))
	add(generationLines, a.lines(generationLines, since, until))
	add(canaryLines, a.lines(canaryLines, since, until))
	add(poolLines, a.lines(poolLines, since, until))
	add("builds", pages(ctx, h.BuildsEnded, buildLineOf, since, until))
	add("sessions", pages(ctx, h.SessionsEnded, sessionLineOf, since, until))
	add("audit", pages(ctx, h.AuditOf, auditLineOf, since, until))
	return merge(ctx, sources), nil
}

// merge yields the lines of all sources in order of time.
func merge(ctx context.Context, sources []iter.Seq[dated]) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		type head struct {
			next func() (dated, bool)
			dated
		}
		var heads []*head
		for _, s := range sources {
			next, stop := iter.Pull(s)
			defer stop()
			if first, ok := next(); ok {
				heads = append(heads, &head{next, first})
			}
		}
		for len(heads) > 0 {
			h := slices.MinFunc(heads, func(a, b *head) int { return a.at.Compare(b.at) })
			if err := cmp.Or(h.err, ctx.Err()); err != nil {
				yield(nil, err)
				return
			}
			if !yield(h.line, nil) {
				return
			}
			var ok bool
			if h.dated, ok = h.next(); !ok {
				heads = slices.DeleteFunc(heads, func(x *head) bool { return x == h })
			}
		}
	}
}

// pageSize is how much is read of a store at once.
const pageSize = 1000

// pages reads all of a span. lineOf also says how the next page begins.
func pages[T any](ctx context.Context, read func(context.Context, bindery.Span) ([]T, error), lineOf func(T) (any, bindery.Span), since, until time.Time) iter.Seq[dated] {
	return func(yield func(dated) bool) {
		span := bindery.Span{Since: since, Until: until, Limit: pageSize}
		for {
			page, err := read(ctx, span)
			if err != nil {
				yield(dated{err: err})
				return
			}
			for _, x := range page {
				line, last := lineOf(x)
				text, err := json.Marshal(line)
				if !yield(dated{last.Since, text, err}) {
					return
				}
				span = bindery.Span{Since: last.Since, Until: until, After: last.After, Number: last.Number, Limit: pageSize}
			}
			if len(page) < pageSize {
				return
			}
		}
	}
}

// lines reads the archive's files of one kind.
func (a *Archive) lines(kind string, since, until time.Time) iter.Seq[dated] {
	return func(yield func(dated) bool) {
		names, _ := fs.Glob(os.DirFS(a.cfg.Dir), kind+"-????-??-??.jsonl") // the pattern is right
		slices.Sort(names)
		first, last := kind+"-"+since.UTC().Format(time.DateOnly), kind+"-"+until.UTC().Format(time.DateOnly)+".jsonl"
		for _, name := range names {
			if name < first || name > last {
				continue
			}
			for d := range fileLines(filepath.Join(a.cfg.Dir, name)) {
				if d.err == nil && (d.at.Before(since) || !d.at.Before(until)) {
					continue
				}
				if !yield(d) {
					return
				}
			}
		}
	}
}

// fileLines reads a file. A last line that was cut off when the machine died is left out.
func fileLines(path string) iter.Seq[dated] {
	return func(yield func(dated) bool) {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) { // its days were over just now
			return
		}
		if err != nil {
			yield(dated{err: err})
			return
		}
		defer func() { _ = f.Close() }() // it was only read
		in := bufio.NewReader(f)
		for {
			line, err := in.ReadBytes('\n')
			if err != nil {
				return
			}
			var l struct {
				Timestamp time.Time `json:"timestamp"`
			}
			if json.Unmarshal(line, &l) != nil {
				continue
			}
			if !yield(dated{at: l.Timestamp, line: bytes.TrimSpace(line)}) {
				return
			}
		}
	}
}

// What every line of our own schemas begins with.
type eventLine struct {
	Timestamp string `json:"timestamp"`
	Schema    string `json:"schema"`
	Version   int    `json:"version"`
}

func eventAt(at time.Time, schema string) eventLine {
	return eventLine{at.UTC().Format(stamp), "bindery/" + schema, 1}
}

type buildLine struct {
	eventLine
	Build      string             `json:"build"`
	Provider   string             `json:"provider"`
	Repo       string             `json:"repo"`
	Asked      string             `json:"asked_ref,omitempty"`
	Ref        string             `json:"ref"`
	Subdir     string             `json:"subdir,omitempty"`
	Class      bindery.Class      `json:"class"`
	Evidence   string             `json:"evidence,omitempty"`
	Status     bindery.BuildState `json:"status"`
	Generation string             `json:"generation,omitempty"`
	Worker     string             `json:"worker,omitempty"`
	Attempts   int                `json:"attempts"`
	Kind       string             `json:"kind,omitempty"`
	Quick      bool               `json:"quick,omitempty"`
	Queued     float64            `json:"queue_seconds"`
	Duration   float64            `json:"duration_seconds"`
	Stages     map[string]float64 `json:"stage_seconds,omitempty"`
	Disk       int64              `json:"disk_bytes,omitempty"`
	Err        *bindery.Error     `json:"error,omitempty"`
}

func buildLineOf(b bindery.Build) (any, bindery.Span) {
	l := buildLine{
		eventLine: eventAt(b.Ended, "build"), Build: b.ID, Provider: NameOf(b.Source.Provider), Repo: b.Source.URL, Asked: b.Source.Ref, Ref: b.Source.Commit,
		Subdir: b.Source.Subdir, Class: b.Class, Evidence: b.Evidence, Status: b.State, Worker: b.Worker, Attempts: b.Attempt, Kind: b.Kind, Quick: b.Quick,
		Disk: b.Disk, Err: b.Err,
	}
	began := b.Started
	if began.IsZero() { // it never started
		began = b.Ended
	}
	l.Queued, l.Duration = began.Sub(b.Created).Seconds(), b.Ended.Sub(began).Seconds()
	if b.Result != nil {
		l.Generation, l.Stages = b.Result.Generation, b.Result.Seconds
	}
	return l, bindery.Span{Since: b.Ended, After: b.ID}
}

type sessionLine struct {
	eventLine
	Session     string  `json:"session"`
	Build       string  `json:"build,omitempty"`
	Image       string  `json:"image"`
	Repo        string  `json:"repo"`
	Ref         string  `json:"ref"`
	Started     float64 `json:"started_seconds"` // until it answered; 0: it never did
	Lived       float64 `json:"lived_seconds"`
	Reason      string  `json:"reason,omitempty"`
	Exit        *int    `json:"exit_code,omitempty"`
	OutOfMemory bool    `json:"out_of_memory,omitempty"`
}

func sessionLineOf(s bindery.Session) (any, bindery.Span) {
	l := sessionLine{
		eventLine: eventAt(s.Ended, "session"), Session: s.ID, Build: s.Build, Image: s.Image, Repo: s.Source.URL, Ref: s.Source.Commit,
		Lived: s.Ended.Sub(s.Created).Seconds(), Reason: s.Reason,
	}
	if !s.Ready.IsZero() {
		l.Started = s.Ready.Sub(s.Created).Seconds()
	}
	if s.Exit != nil {
		l.Exit, l.OutOfMemory = &s.Exit.Code, s.Exit.OutOfMemory
	}
	return l, bindery.Span{Since: s.Ended, After: s.ID}
}

type auditLine struct {
	eventLine
	Who    string `json:"who"`
	Did    string `json:"did"`
	What   string `json:"what"`
	Reason string `json:"reason,omitempty"`
}

func auditLineOf(a bindery.Audit) (any, bindery.Span) {
	return auditLine{eventAt(a.Time, "audit"), a.Who, a.Did, a.What, a.Reason}, bindery.Span{Since: a.Time, Number: a.ID}
}
