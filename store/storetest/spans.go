package storetest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// A historian is a Store that says what happened in a time. Every store of ours does.
type historian interface {
	BuildsEnded(ctx context.Context, s bindery.Span) ([]bindery.Build, error)
	SessionsEnded(ctx context.Context, s bindery.Span) ([]bindery.Session, error)
	AuditOf(ctx context.Context, s bindery.Span) ([]bindery.Audit, error)
}

// spans has several things at one moment, pages of two, and neighbours on both sides.
func spans(t *testing.T, s Store) {
	h, ok := s.(historian)
	if !ok {
		t.Fatal("it does not know what happened in a time")
	}
	var c bindery.Changes
	for i, after := range []time.Duration{-time.Microsecond, 0, 0, 0, time.Second, time.Minute} {
		id := fmt.Sprint(i)
		b := Build(id, id)
		b.State, b.Ended, b.Err = bindery.BuildFailed, At.Add(after), bindery.Errorf(bindery.ErrStep, bindery.User, "", "no")
		ses := Session(id, bindery.SessionEnded)
		ses.Ended = At.Add(after)
		c.Builds, c.Sessions = append(c.Builds, b), append(c.Sessions, ses)
		c.Audit = append(c.Audit, bindery.Audit{Time: At.Add(after), Who: id, Did: "something"})
	}
	c.Builds = append(c.Builds, Build("living", "living"))
	c.Sessions = append(c.Sessions, Session("living", bindery.SessionReady))
	commit(t, s, c)
	got := map[string][]string{
		"builds": inPages(t, h.BuildsEnded, func(s *bindery.Span, b bindery.Build) string { s.Since, s.After = b.Ended, b.ID; return b.ID }),
		"sessions": inPages(t, h.SessionsEnded, func(s *bindery.Span, x bindery.Session) string {
			if x.Token != "" {
				t.Error("a token is told")
			}
			s.Since, s.After = x.Ended, x.ID
			return x.ID
		}),
		"audit lines": inPages(t, h.AuditOf, func(s *bindery.Span, x bindery.Audit) string { s.Since, s.Number = x.Time, x.ID; return x.Who }),
	}
	for what, ids := range got {
		if strings.Join(ids, " ") != "1 2 3 4" {
			t.Errorf("%s: %v", what, ids)
		}
	}
}

// inPages reads the minute from At two rows at a time. pass names a row and moves the span behind it.
func inPages[T any](t *testing.T, read func(context.Context, bindery.Span) ([]T, error), pass func(*bindery.Span, T) string) (names []string) {
	t.Helper()
	for span := (bindery.Span{Since: At, Until: At.Add(time.Minute), Limit: 2}); ; {
		page, err := read(t.Context(), span)
		if err != nil || len(page) > 2 {
			t.Fatal(len(page), err)
		}
		if len(page) == 0 {
			return names
		}
		for _, row := range page {
			names = append(names, pass(&span, row))
		}
	}
}
