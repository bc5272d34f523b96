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
	var builds, sessions, audit []string
	for span := (bindery.Span{Since: At, Until: At.Add(time.Minute), Limit: 2}); ; {
		page, err := h.BuildsEnded(t.Context(), span)
		if err != nil || len(page) > 2 {
			t.Fatal(len(page), err)
		}
		for _, b := range page {
			builds, span.Since, span.After = append(builds, b.ID), b.Ended, b.ID
		}
		if len(page) == 0 {
			break
		}
	}
	for span := (bindery.Span{Since: At, Until: At.Add(time.Minute), Limit: 2}); ; {
		page, err := h.SessionsEnded(t.Context(), span)
		if err != nil || len(page) > 2 {
			t.Fatal(len(page), err)
		}
		for _, x := range page {
			if x.Token != "" {
				t.Error("a token is told")
			}
			sessions, span.Since, span.After = append(sessions, x.ID), x.Ended, x.ID
		}
		if len(page) == 0 {
			break
		}
	}
	for span := (bindery.Span{Since: At, Until: At.Add(time.Minute), Limit: 2}); ; {
		page, err := h.AuditOf(t.Context(), span)
		if err != nil || len(page) > 2 {
			t.Fatal(len(page), err)
		}
		for _, x := range page {
			audit, span.Since, span.Number = append(audit, x.Who), x.Time, x.ID
		}
		if len(page) == 0 {
			break
		}
	}
	for what, got := range map[string][]string{"builds": builds, "sessions": sessions, "audit lines": audit} {
		if strings.Join(got, " ") != "1 2 3 4" {
			t.Errorf("%s: %v", what, got)
		}
	}
}
